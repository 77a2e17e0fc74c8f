# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between GPUs and NICs: `nvidia-smi topo -m` and `nvidia-smi nvlink -s`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from .values import plain

_GPU = re.compile(r"GPU(\d+)\Z")
_CELL = re.compile(r"X|SYS|SOC|NODE|PHB|PXB|PIX|PIX2|C2C|NV\d{1,3}|N/A", re.ASCII)
_TAIL = ("CPU", "NUMA", "GPU")
"""First words of the columns behind the matrix: CPU Affinity, NUMA Affinity, GPU NUMA ID."""
_LONGEST_LINE = 16 * 1024
_MOST_DEVICES = 128


@dataclass(frozen=True)
class Topology:
    devices: tuple[str, ...] = ()
    matrix: tuple[tuple[str, ...], ...] = ()
    """Rows and columns in the order of devices: X, NV8, PIX ..."""
    nic_names: tuple[tuple[str, str], ...] = ()
    cpu_affinity: tuple[str, ...] = ()
    """A GPU each: "0-61"."""
    numa: tuple[str, ...] = ()
    whole: bool = False
    """Whether every device of the header has its row."""

    def gpu_cells(self) -> dict[tuple[int, int], str]:
        """What is between each two GPUs."""
        gpus = [
            (place, int(found.group(1)))
            for place, name in enumerate(self.devices)
            if (found := _GPU.match(name))
        ]
        return {
            (mine, other): self.matrix[row][column]
            for row, mine in gpus
            for column, other in gpus
            if mine != other
        }

    def gpu_links(self) -> int | None:
        """The widest NVLink bond between two GPUs; with NVSwitches all links of a GPU. None where rows are lost."""
        cells = self.gpu_cells().values()
        found = [int(cell[2:]) for cell in cells if cell.startswith("NV")]
        if not found:
            return 0 if self.whole and cells else None
        return max(found)

    def islands(self) -> list[list[int]]:
        """GPUs that NVLink joins, each group once; a GPU without a link is a group of its own."""
        cells = self.gpu_cells()
        left = sorted({gpu for pair in cells for gpu in pair})
        found = []
        while left:
            island = [left.pop(0)]
            for gpu in island:
                near = [other for other in left if cells.get((gpu, other), "").startswith("NV")]
                island += near
                left = [other for other in left if other not in near]
            found.append(sorted(island))
        return found

    def full(self) -> bool | None:
        """Whether NVLink joins every two GPUs; None where there is one GPU, or rows are lost."""
        cells = self.gpu_cells()
        if not cells or (not self.whole and all(cell.startswith("NV") for cell in cells.values())):
            return None
        return all(cell.startswith("NV") for cell in cells.values())


def _header(line: str) -> tuple[list[str], list[str]]:
    """(devices, labels behind them) of the first line of a matrix, with tabs or as it is pasted."""
    if "\t" in line:
        cells = [cell.strip() for cell in line.split("\t")]
        return [cell for cell in cells if cell and " " not in cell], [cell for cell in cells if " " in cell]
    words = line.split()
    end = next((place for place, word in enumerate(words) if word in _TAIL), len(words))
    rest = " ".join(words[end:])
    return words[:end], [label for label in ("CPU Affinity", "NUMA Affinity", "GPU NUMA ID") if label in rest]


def _row(line: str, count: int) -> tuple[list[str], list[str]]:
    """(cells, what stands behind them) of a row, without its name."""
    if "\t" in line:
        cells = [cell.strip() for cell in line.split("\t")][1:]
        return cells[:count], cells[count:]
    words = line.split()[1:]
    return words[:count], words[count:]


def parse_topology(output: str) -> Topology:
    """Any form: NIC0 with a legend, or the devices' own names as columns (mlx5_0); rows that are cut off are left out."""
    lines = [line for line in plain(output).splitlines() if line.strip() and len(line) < _LONGEST_LINE]
    devices: list[str] = []
    tail: list[str] = []
    rows: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    names: list[tuple[str, str]] = []
    for line in lines:
        name = (line.split() or [""])[0]
        if not devices:
            if line[:1].isspace() and _GPU.match(name):
                devices, tail = _header(line)
                if len(devices) > _MOST_DEVICES or len(set(devices)) < len(devices):
                    return Topology()
        elif name in devices and name not in rows:
            row, end = _row(line, len(devices))
            if len(row) == len(devices) and all(_CELL.fullmatch(cell) for cell in row):
                rows[name], ends[name] = row, end
        elif name.endswith(":") and re.fullmatch(r"NIC\d+:", name) and len(line.split()) == 2:
            names.append((name[:-1], line.split()[1]))
    known = [device for device in devices if device in rows]
    gpus = [device for device in known if _GPU.match(device)]

    def affinity(label: str) -> tuple[str, ...]:
        if label not in tail:
            return ()
        place = tail.index(label)
        return tuple(ends[gpu][place] if place < len(ends[gpu]) else "" for gpu in gpus)

    # In the older form a column is named after its device.
    own = [(name, name) for name in known if not _GPU.match(name) and not re.fullmatch(r"NIC\d+", name)]
    return Topology(
        devices=tuple(known),
        matrix=tuple(
            tuple(cell for device, cell in zip(devices, rows[row]) if device in rows) for row in known
        ),
        nic_names=(*names, *own),
        cpu_affinity=affinity("CPU Affinity"),
        numa=affinity("NUMA Affinity"),
        whole=bool(devices) and len(known) == len(devices) and _mirrored(known, devices, rows),
    )


def _mirrored(known: list[str], devices: list[str], rows: dict[str, list[str]]) -> bool:
    """A way leads back as it leads there, and from a device to itself there is none."""
    return all(
        (rows[one][column] == "X") == (one == other) and rows[one][column] == rows[other][devices.index(one)]
        for one in known
        for column, other in enumerate(devices)
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
    index: int | None = None
    speeds: list[float] = []
    inactive = 0

    def close() -> None:
        if index is not None:
            found.append(Links(index, len(speeds), inactive, max(speeds) if speeds else None))

    for line in plain(output).splitlines():
        head = re.match(r"GPU (\d{1,4}):", line)
        link = re.match(r"[ \t]{0,16}Link \d{1,4}: (.{1,80})\Z", line)
        if head:
            close()
            index, speeds, inactive = int(head.group(1)), [], 0
        elif link and index is not None:
            speed = re.match(r"(\d{1,6}(?:\.\d{1,6})?) GB/s", link.group(1))
            if speed:
                speeds.append(float(speed.group(1)))
            else:
                inactive += 1
    close()
    # A GPU with fewer lines than the others is where the output was cut.
    most = max((link.active + link.inactive for link in found), default=0)
    return [link for link in found if link.active + link.inactive in (0, most)]


def nvlink_facts(topology: Topology, links: list[Links], gpus: int) -> dict[str, Any]:
    """HostFacts.nvlink: {} where no source said anything; `links_per_gpu` only where it is known."""
    if len([name for name in topology.devices if _GPU.match(name)]) != gpus:
        topology = replace(topology, whole=False)
    counted = min((link.active for link in links), default=0)
    said = [count for count in (counted or None, topology.gpu_links()) if count is not None]
    facts: dict[str, Any] = {}
    if said:
        facts["links_per_gpu"] = said[0]
    full = topology.full()
    if full is not None:
        facts["full"] = full
        if not full:
            facts["islands"] = topology.islands()
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
