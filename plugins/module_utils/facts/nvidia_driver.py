# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel side and the user-space side of the NVIDIA driver, read apart."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .values import plain, same_version

XIDS: dict[int, tuple[str, str]] = {
    46: ("GPU stopped processing", "restart the host"),
    48: ("double-bit memory error", "reset the GPU; replace it if it comes back"),
    61: ("internal microcontroller breakpoint", "restart the host"),
    62: ("internal microcontroller halt", "restart the host"),
    64: ("row remapping failed", "replace the GPU if it comes back"),
    74: ("NVLink error", "check the NVLink bridge or baseboard, restart the host"),
    79: ("GPU has fallen off the bus", "restart the host; reseat or replace the GPU"),
    92: ("high rate of corrected memory errors", "watch it, replace the GPU if it goes on"),
    95: ("uncontained memory error", "restart the host"),
    109: ("context switch time-out", "restart the host"),
    110: ("security fault", "restart the host"),
    119: ("GPU system processor time-out", "restart the host, update the driver"),
    120: ("GPU system processor error", "restart the host, update the driver"),
    140: ("unrecovered memory error", "reset the GPU; replace it if it comes back"),
    143: ("GPU initialisation error", "restart the host"),
    145: ("NVLink error", "check the NVLink bridge or baseboard, restart the host"),
    149: ("NVLink netlist error", "restart the host"),
    154: ("GPU recovery needed", "reset the GPU or restart the host"),
}
"""Xids that speak of the GPU; those that a faulty program causes (13, 31, 43, 45) are left out."""


def parse_proc_version(text: str) -> tuple[str, str]:
    """Version and flavour out of /proc/driver/nvidia/version."""
    line = next((line for line in plain(text).splitlines() if line.startswith("NVRM version")), "")
    found = re.search(r"Kernel Module\b.*?\s(\d+(?:\.\d+)+)", line)
    if not found:
        return "", ""
    return found.group(1), "open" if "Open Kernel Module" in line else "proprietary"


def parse_modinfo(text: str) -> tuple[str, str]:
    """Version and flavour of the module on the disk (`modinfo nvidia`)."""
    labels = dict(re.findall(r"^(\w+):\s+(.*?)\s*$", plain(text), re.MULTILINE))
    version = labels.get("version", "")
    words = labels.get("license", "") + labels.get("filename", "")
    if "MIT/GPL" in words or "-open" in words:
        return version, "open"
    return version, "proprietary" if "NVIDIA" in labels.get("license", "") else ""


def library_version(names: Iterable[str]) -> str:
    """The version in names such as `libcuda.so.550.54.15`."""
    for name in names:
        found = re.search(r"lib(?:cuda|nvidia-ml)\.so\.(\d+(?:\.\d+)+)\Z", name)
        if found:
            return found.group(1)
    return ""


def mismatch(module: str, library: str) -> bool:
    return bool(module and library) and not same_version(module, library)


def parse_xids(kernel_log: str) -> dict[tuple[str, int], int]:
    """How often each (PCI address, Xid) of XIDS stands in a kernel log."""
    counts: dict[tuple[str, int], int] = {}
    found = re.findall(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d{1,4})\b", plain(kernel_log))
    for address, number in found:
        if int(number) in XIDS:
            counts[address.lower(), int(number)] = counts.get((address.lower(), int(number)), 0) + 1
    return counts
