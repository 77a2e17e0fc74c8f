# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room and file system of the directories that are written to."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from .faults import fault
from .host import HostIo
from .schema import Disk, Fault

REFLINK_ALWAYS = frozenset({"btrfs", "bcachefs", "ocfs2"})
NO_HARD_LINKS = frozenset(
    {"vfat", "msdos", "exfat", "fuseblk", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.rclone"}
)


@dataclass(frozen=True)
class Mount:
    point: str
    file_system: str
    options: frozenset[str]


def parse_mounts(text: str) -> list[Mount]:
    """/proc/self/mountinfo; a later mount on the same point hides an earlier one."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        cells, source = left.split(), right.split()
        if dash and len(cells) >= 6 and len(source) >= 1:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal.group(1), 8)), cells[4])
            options = frozenset(cells[5].split(",") + (source[2].split(",") if len(source) > 2 else []))
            found[point] = Mount(point, source[0], options)
    return list(found.values())


def mount_of(path: str, mounts: list[Mount]) -> Mount:
    """The mount that a path without links lies on."""
    holding = [
        mount for mount in mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
    ]
    return max(holding, key=lambda mount: len(mount.point), default=Mount("/", "", frozenset()))


def _reflink(io: HostIo, mount: Mount) -> bool:
    if mount.file_system == "xfs":
        return "reflink=1" in io.run(["xfs_info", mount.point]).out
    return mount.file_system in REFLINK_ALWAYS


def disks(io: HostIo, paths: list[str]) -> tuple[tuple[Disk, ...], list[Fault]]:
    mounts = parse_mounts(io.read("/proc/self/mountinfo") or io.read("/proc/1/mountinfo"))
    found: list[Disk] = []
    faults: list[Fault] = []
    for path in paths:
        existing = posixpath.normpath(path)
        while existing != "/" and not io.exists(existing):
            existing = posixpath.dirname(existing) or "/"
        space = io.space(existing)
        if space is None:
            faults.append(fault("probe-failed", path, detail=f"no disk numbers for {existing}"))
            continue
        mount = mount_of(io.real(existing), mounts)
        found.append(
            Disk(
                path=path,
                mount=mount.point,
                file_system=mount.file_system,
                total_gib=round(space.total_bytes / 2**30, 1),
                free_gib=round(space.free_bytes / 2**30, 1),
                hard_links=mount.file_system not in NO_HARD_LINKS,
                reflink=_reflink(io, mount),
            )
        )
        if "ro" in mount.options:
            faults.append(fault("mount-read-only", path, mount=mount.point))
        if "noexec" in mount.options and not path.startswith("/var/"):
            faults.append(fault("mount-noexec", path, mount=mount.point))
    return tuple(found), faults
