# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between GPUs and NICs: `nvidia-smi topo -m` and `nvidia-smi nvlink -s`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .values import plain

_DEVICE = re.compile(r"(?:GPU|NIC)\d+\Z|mlx\d+_\w+\Z|mlx5_bond_\d+\Z")
_CELL = re.compile(r"X|SYS|NODE|PHB|PXB|PIX|NV\d+|N/A")


@dataclass(frozen=True)
class Topology:
    devices: tuple[str, ...] = ()
    matrix: tuple[tuple[str, ...], ...] = ()
    """Rows and columns in the order of devices: X, NV8, PIX ..."""
    nic_names: tuple[tuple[str, str], ...] = ()
    cpu_affinity: tuple[str, ...] = ()
    """A GPU each: "0-61"."""
    numa: tuple[str, ...] = ()

    def gpu_links(self) -> int | None:
        """The widest NVLink bond between two GPUs; with NVSwitches all links of a GPU."""
        found = [int(cell[2:]) for row in self.matrix for cell in row if cell.startswith("NV")]
        return max(found) if found else None


def parse_topology(output: str) -> Topology:
    """Rows that are cut off are left out."""
    lines = plain(output).splitlines()
    devices: list[str] = []
    tail: list[str] = []
    rows: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split("\t")]
        if not devices and not cells[0] and len(cells) > 1 and _DEVICE.match(cells[1]):
            devices = [cell for cell in cells if _DEVICE.match(cell)]
            tail = [cell for cell in cells[1 + len(devices) :] if cell]
        elif devices and cells[0] in devices and len(cells) > len(devices):
            row = cells[1 : 1 + len(devices)]
            if all(_CELL.fullmatch(cell) for cell in row):
                rows[cells[0]] = row
                ends[cells[0]] = cells[1 + len(devices) :]
    known = [device for device in devices if device in rows]
    gpus = [device for device in known if device.startswith("GPU")]

    def affinity(label: str) -> tuple[str, ...]:
        if label not in tail:
            return ()
        place = tail.index(label)
        return tuple(ends[gpu][place] if place < len(ends[gpu]) else "" for gpu in gpus)

    names = re.findall(r"^\s*(NIC\d+): (\S+)\s*$", "\n".join(lines), re.MULTILINE)
    return Topology(
        devices=tuple(known),
        matrix=tuple(
            tuple(cell for device, cell in zip(devices, rows[row]) if device in rows) for row in known
        ),
        nic_names=tuple(names),
        cpu_affinity=affinity("CPU Affinity"),
        numa=affinity("NUMA Affinity"),
    )


@dataclass(frozen=True)
class Links:
    """The NVLinks of one GPU."""

    index: int
    active: int
    inactive: int
    gb_per_second: float | None


def parse_nvlink(output: str) -> list[Links]:
    found: list[Links] = []
    for block in re.split(r"(?m)^(?=GPU \d+:)", plain(output)):
        head = re.match(r"GPU (\d+):", block)
        if not head:
            continue
        states = re.findall(r"^\s*Link \d+: (.+?)\s*$", block, re.MULTILINE)
        speeds = [
            float(match.group(1)) for match in (re.match(r"(\d+(?:\.\d+)?) GB/s", s) for s in states) if match
        ]
        found.append(
            Links(int(head.group(1)), len(speeds), len(states) - len(speeds), max(speeds) if speeds else None)
        )
    return found


def nvlink_facts(topology: Topology, links: list[Links]) -> dict[str, Any]:
    """HostFacts.nvlink: {} where no source said anything."""
    counted = min((link.active for link in links), default=0)
    facts: dict[str, Any] = {}
    if topology.devices or links:
        facts["links_per_gpu"] = counted or topology.gpu_links() or 0
    speeds = [link.gb_per_second for link in links if link.gb_per_second]
    if speeds:
        facts["gb_per_second_per_link"] = min(speeds)
    if topology.devices:
        facts["devices"] = list(topology.devices)
        facts["topology"] = [list(row) for row in topology.matrix]
    if topology.nic_names:
        facts["nics"] = dict(topology.nic_names)
    if topology.cpu_affinity:
        facts["cpu_affinity"] = list(topology.cpu_affinity)
    if topology.numa:
        facts["numa"] = list(topology.numa)
    return facts
