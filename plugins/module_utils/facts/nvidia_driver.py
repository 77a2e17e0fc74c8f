# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel side and the user-space side of the NVIDIA driver, read apart."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .values import plain, same_version


def parse_proc_version(text: str) -> tuple[str, str]:
    """Version and flavour out of /proc/driver/nvidia/version."""
    line = next((line for line in plain(text).splitlines() if line.startswith("NVRM version")), "")
    words = line.partition("Kernel Module")[2].split()
    version = next((word for word in words if re.fullmatch(r"\d+(?:\.\d+)+", word)), "")
    if not version:
        return "", ""
    return version, "open" if "Open Kernel Module" in line else "proprietary"


def parse_modinfo(text: str) -> tuple[str, str]:
    """Version and flavour of the module on the disk (`modinfo nvidia`)."""
    labels: dict[str, str] = {}
    for line in plain(text).splitlines():
        label, colon, value = line.partition(":")
        if colon:
            labels.setdefault(label.strip(), value.strip())
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
