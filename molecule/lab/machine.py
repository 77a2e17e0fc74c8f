# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine is, and from that how a host is started and limited on it.

Reading the machine and deciding are apart, so that machines which are not here can be decided on too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LIMITERS = ("memory", "cpu", "pids")


@dataclass(frozen=True)
class CgroupMount:
    """One mounted control group hierarchy."""

    path: str
    version: int
    controllers: tuple[str, ...] = ()
    """Version 1: what is mounted here, `name=systemd` included. Version 2: what the kernel offers there."""


@dataclass(frozen=True)
class Machine:
    """The facts that decide how a host is started."""

    pid1: str
    cgroups: tuple[CgroupMount, ...]
    has_systemd_run: bool = False


@dataclass(frozen=True)
class Hosting:
    """How a host is started here."""

    starter: str
    """`systemd-run`: as a unit of this machine's manager, which alone may make groups. `direct`: by us."""
    groups: tuple[str, ...]
    """Direct only: the hierarchies in which each host gets a group of its own."""
    memory_limit: str | None
    """Where the limit is set: `unit`, the file's name in a group, or None when this machine has none."""
    cpu_limit: str | None
    hierarchy: int
    """The hierarchy that systemd-nspawn is told to mount: always unified (1), because Debian 13
    refuses another and both Debians are content with one that has no controllers."""


def decide(machine: Machine) -> Hosting:
    """Chooses between this machine's own systemd and control groups made by hand."""
    if machine.pid1 == "systemd" and machine.has_systemd_run:
        return Hosting("systemd-run", (), "unit", "unit", 1)
    v1 = {name: mount for mount in machine.cgroups if mount.version == 1 for name in mount.controllers}
    v2 = next((mount for mount in machine.cgroups if mount.version == 2), None)
    memory = cpu = None
    if "memory" in v1:
        memory = "memory.limit_in_bytes"
    elif v2 and "memory" in v2.controllers:
        memory = "memory.max"
    if "cpu" in v1:
        cpu = "cpu.cfs_quota_us"
    elif v2 and "cpu" in v2.controllers:
        cpu = "cpu.max"
    wanted = [v1[name].path for name in (*LIMITERS, "name=systemd") if name in v1]
    groups = dict.fromkeys([*wanted, *([v2.path] if v2 else [])])
    return Hosting("direct", tuple(groups), memory, cpu, 1)


def cgroup_mounts(mountinfo: str, offered: Mapping[str, str]) -> tuple[CgroupMount, ...]:
    """The hierarchies in a /proc/self/mountinfo; `offered` has each version 2 mount's cgroup.controllers."""
    mounts = []
    for line in mountinfo.splitlines():
        before, _unused, after = line.partition(" - ")
        path, (kind, _unused, options) = before.split()[4], after.split()[:3]
        if kind == "cgroup":
            named = [
                option for option in options.split(",") if option in LIMITERS or option.startswith("name=")
            ]
            mounts.append(CgroupMount(path, 1, tuple(named)))
        elif kind == "cgroup2":
            mounts.append(CgroupMount(path, 2, tuple(offered.get(path, "").split())))
    return tuple(mounts)


def read_machine() -> Machine:
    mountinfo = Path("/proc/self/mountinfo").read_text()
    offered = {}
    for mount in cgroup_mounts(mountinfo, {}):
        controllers = Path(mount.path, "cgroup.controllers")
        if mount.version == 2 and controllers.exists():
            offered[mount.path] = controllers.read_text()
    return Machine(
        pid1=Path("/proc/1/comm").read_text().strip(),
        cgroups=cgroup_mounts(mountinfo, offered),
        has_systemd_run=shutil.which("systemd-run") is not None and Path("/run/systemd/system").is_dir(),
    )


def is_debian_family(os_release: Iterable[str]) -> bool:
    """Whether the lines of an os-release file name Debian, Ubuntu or one made from them."""
    said = dict(line.strip().split("=", 1) for line in os_release if "=" in line)
    names = f"{said.get('ID', '')} {said.get('ID_LIKE', '')}".replace('"', "").split()
    return bool({"debian", "ubuntu"} & set(names))
