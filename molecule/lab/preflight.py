# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be true of this machine before the first thing is made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from .machine import is_debian_family
from .problems import LabError

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
GUEST_TOOLS = {"qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs"}
EMULATORS = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86"),
    "aarch64": ("qemu-system-aarch64", "qemu-system-arm"),
}
MEGABYTE = 1024**2
HOST_BYTES = 300 * MEGABYTE


def require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("The lab boots hosts and makes networks, which only root may. Run it again with sudo.")


def require_debian(os_release: Path = Path("/etc/os-release")) -> None:
    lines = os_release.read_text().splitlines() if os_release.exists() else []
    if not is_debian_family(lines):
        raise LabError(
            "The lab needs a machine with Debian or Ubuntu: elsewhere it cannot name the packages that it needs, "
            "and it builds the hosts' systems with apt. A virtual machine with Debian 12 will do."
        )


def require_tools(kinds: Iterable[str]) -> None:
    """One line to paste for everything that is missing."""
    wanted = dict(TOOLS)
    if "qemu" in kinds:
        wanted |= GUEST_TOOLS
        emulator, package = EMULATORS[os.uname().machine]
        wanted[emulator] = package
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [tool for tool in wanted if shutil.which(tool, path=path) is None]
    if missing:
        packages = sorted({wanted[tool] for tool in missing})
        raise LabError(
            f"Missing on this machine: {', '.join(missing)}. Paste:\n"
            f"  apt-get install --yes --no-install-recommends {' '.join(packages)}"
        )


def free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require_space(path: Path, needed: int, purpose: str) -> None:
    free = free_bytes(path)
    if free < needed:
        raise LabError(
            f"Too little space for {purpose} in {path}: {needed // MEGABYTE} MB are needed, {free // MEGABYTE} MB are free. "
            "Free some, or point BAREMETAL_CACHE (images) and BAREMETAL_LAB_DIR (hosts) at a larger disk."
        )
