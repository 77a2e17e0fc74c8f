# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared hardware against what the host really has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .schema import HostFacts

_ROUNDING = 0.02
_ROUNDING_GIB = 2.0
"""People declare memory in round numbers."""


@dataclass(frozen=True)
class Difference:
    field: str
    declared: Any
    gathered: Any
    changes_plan: bool


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _text(name: str, declared: Any, gathered: Any, changes_plan: bool = True) -> list[Difference]:
    """Nothing was declared where the declared value is empty."""
    if declared in ("", None) or declared == gathered:
        return []
    return [Difference(name, declared, gathered, changes_plan)]


def _gpus(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    if len(declared.gpus) != len(gathered.gpus):
        return [Difference("gpus", len(declared.gpus), len(gathered.gpus), True)]
    found: list[Difference] = []
    for want, have in zip(declared.gpus, gathered.gpus):
        name = f"gpus[{want.index}]"
        same_chip = want.model == have.model
        found += _text(f"{name}.model", want.model, have.model or have.product)
        if same_chip and want.memory_mib is not None:
            close = have.memory_mib is not None and abs(want.memory_mib - have.memory_mib) <= (
                want.memory_mib * _ROUNDING
            )
            # Drivers differ by some MiB in what they report of one part.
            found += [] if close else _text(f"{name}.memory_mib", want.memory_mib, have.memory_mib)
        if have.compute_capability:
            found += _text(f"{name}.compute_capability", want.compute_capability, have.compute_capability)
        found += _text(f"{name}.mig_enabled", want.mig_enabled, have.mig_enabled)
    return found


def _rdma(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    found: list[Difference] = []
    have = {(device.name, device.port): device for device in gathered.rdma}
    for want in declared.rdma:
        device = have.get((want.name, want.port))
        name = f"rdma.{want.name}"
        if device is None:
            found.append(Difference(name, want.name, "", True))
            continue
        for field in ("netdev", "state", "link_layer", "rate_gbps", "mtu", "pcie_width"):
            found += _text(f"{name}.{field}", getattr(want, field), getattr(device, field))
    return found


def _disks(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    have = {disk.path: disk for disk in gathered.disks}
    found: list[Difference] = []
    for want in declared.disks:
        disk = have.get(want.path)
        if disk is None or disk.free_gib < want.free_gib:
            free = None if disk is None else disk.free_gib
            # The planner measures what it needs against what is there now.
            found.append(Difference(f"disks.{want.path}.free_gib", want.free_gib, free, disk is None))
        if disk is not None:
            found += _text(f"disks.{want.path}.file_system", want.file_system, disk.file_system, False)
    return found


def _sizes(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    found = []
    for field in ("memory_gib", "swap_gib"):
        want, have = getattr(declared, field), getattr(gathered, field)
        if want is not None and (have is None or abs(want - have) > max(_ROUNDING_GIB, want * _ROUNDING)):
            found.append(Difference(field, want, have, field == "memory_gib"))
    return found


def _same_driver(field: str, declared: HostFacts, gathered: HostFacts) -> bool:
    """A CUDA level above the branch's own is a compatibility package in user space: the driver is as it was declared."""
    versions = [
        facts.driver.version.partition(".")[0] if facts.driver else "" for facts in (declared, gathered)
    ]
    return field == "cuda" and bool(versions[0]) and versions[0] == versions[1]


def with_declared(gathered: HostFacts, declared: HostFacts, differing: Iterable[str]) -> HostFacts:
    """The host as it was declared, and everything else as it was found; `differing`: fields of Difference."""
    names = {field.partition(".")[0].partition("[")[0] for field in differing}
    return replace(gathered, **{name: getattr(declared, name) for name in names if hasattr(declared, name)})


def compare(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    """Every declared value that the host contradicts; more than was declared is no contradiction."""
    found = _gpus(declared, gathered)
    for field in ("arch", "glibc"):
        found += _text(field, getattr(declared, field), getattr(gathered, field))
    for field in ("id", "version_id", "dgx"):
        found += _text(f"os.{field}", getattr(declared.os, field), getattr(gathered.os, field), field == "id")
    for field in ("version", "cuda", "flavour"):
        want = getattr(declared.driver, field) if declared.driver else ""
        have = getattr(gathered.driver, field) if gathered.driver else ""
        found += _text(
            f"driver.{field}", want, have, field != "flavour" and not _same_driver(field, declared, gathered)
        )
    minors = {_minor(python.version) for python in gathered.python}
    for python in declared.python:
        if _minor(python.version) not in minors:
            found.append(Difference("python", python.version, sorted(minors), True))
    for field in ("nvcc", "ptxas", "cxx", "ninja", "cuda_home"):
        found += _text(f"toolkit.{field}", getattr(declared.toolkit, field), getattr(gathered.toolkit, field))
    for field in ("kernel", "systemd", "cpu_model", "cpu_threads", "fabric_manager"):
        found += _text(field, getattr(declared, field), getattr(gathered, field), False)
    for name, value in declared.limits.items():
        found += _text(f"limits.{name}", value, gathered.limits.get(name, ""), False)
    return found + _sizes(declared, gathered) + _rdma(declared, gathered) + _disks(declared, gathered)


def contradictions(declared: HostFacts, gathered: HostFacts) -> list[Difference]:
    """Differences that may change a plan; a version that was declared shorter (12.8 for 12.8.93) is none."""
    return [
        item
        for item in compare(declared, gathered)
        if item.changes_plan and not str(item.gathered).startswith(f"{item.declared}.")
    ]
