# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups: each host in one of its own, which bounds it and finds every process of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from .machine import Hosting
from .problems import LabError

CPU_PERIOD = 100_000


def create(hosting: Hosting, unit: str, memory: int | None, cpus: float | None) -> list[Path]:
    """The host's group in every hierarchy, with its limits; the caller moves itself in."""
    made = []
    for hierarchy in hosting.groups:
        group = Path(hierarchy, unit)
        controllers = Path(hierarchy, "cgroup.subtree_control")
        if controllers.exists():
            _offer(controllers)
        group.mkdir(exist_ok=True)
        made.append(group)
    if memory is not None and hosting.memory_limit:
        _limit(made, hosting.memory_limit, str(memory))
    if cpus is not None and hosting.cpu_limit:
        quota = int(cpus * CPU_PERIOD)
        _limit(
            made, hosting.cpu_limit, f"{quota} {CPU_PERIOD}" if hosting.cpu_limit == "cpu.max" else str(quota)
        )
    return made


def _offer(controllers: Path) -> None:
    for name in ("memory", "cpu", "pids"):
        try:
            controllers.write_text(f"+{name}")
        except OSError:
            continue  # not this kernel's, or not ours to give: the host then runs without that limit


def _limit(groups: Iterable[Path], file: str, value: str) -> None:
    for group in groups:
        if (group / file).exists():
            (group / file).write_text(value)


def enter(groups: Iterable[Path]) -> None:
    for group in groups:
        (group / "cgroup.procs").write_text(str(os.getpid()))


def own(unit: str) -> list[Path]:
    """The groups that this process is in and that carry the host's name, as the machine's systemd made them."""
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _unused, after = line.partition(" - ")
        kind, _unused, options = after.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            mounts["" if kind == "cgroup2" else options.removeprefix("rw,")] = before.split()[4]
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _unused, controllers, path = line.split(":", 2)
        mount = mounts.get(controllers)
        if mount and unit in path:
            found.append(Path(mount + path[: path.index(unit)] + path[path.index(unit) :].split("/")[0]))
    return found


def processes(groups: Iterable[Path]) -> set[int]:
    found: set[int] = set()
    for group in groups:
        for directory, _unused, _unused in os.walk(group):
            try:
                found |= {int(pid) for pid in Path(directory, "cgroup.procs").read_text().split()}
            except OSError:
                continue  # the group ended while we looked
    return found


def leader(groups: Iterable[Path]) -> int | None:
    """The host's process 1, seen from here."""
    for pid in sorted(processes(groups)):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        if len(numbers) > len(_own_numbers()) and numbers[-1] == "1":
            return pid
    return None


def _own_numbers() -> list[str]:
    status = Path("/proc/self/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]


def kill(groups: list[Path], seconds: float = 20) -> None:
    """SIGKILL to every process of a host until none is left, as if its plug were pulled."""
    deadline = time.monotonic() + seconds
    while pids := processes(groups):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(
                f"processes {sorted(pids)} do not end though they were killed; they hold {groups[0]}"
            )
        time.sleep(0.02)


def remove(groups: Iterable[Path]) -> None:
    for group in groups:
        for directory, _unused, _unused in os.walk(group, topdown=False):
            for _unused in range(50):
                try:
                    Path(directory).rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)


def divide(groups: Iterable[Path]) -> list[Path]:
    """Version 2 lets a group hold processes or limit subgroups, not both: the supervisor steps into one
    leaf, and the host gets the other, which is returned."""
    leaves = []
    for group in groups:
        offered = group / "cgroup.controllers"
        if offered.exists() and offered.read_text().split():
            (group / "supervisor").mkdir(exist_ok=True)
            enter([group / "supervisor"])
            for controller in offered.read_text().split():
                try:
                    (group / "cgroup.subtree_control").write_text(f"+{controller}")
                except OSError:
                    continue
            leaves.append(group / "host")
    return leaves


def renew(leaves: Iterable[Path]) -> None:
    """Empty groups for a boot: nspawn divided those of the boot before, so nothing could enter them."""
    for leaf in leaves:
        remove([leaf])
        leaf.mkdir(exist_ok=True)
