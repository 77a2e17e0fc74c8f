# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flat outputs of nvidia-smi: `--query-gpu` as CSV, the table, `-L` and `--version`."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

from .faults import fault
from .nvidia_listing import DECISIVE, GpuRecord, Listing, cuda_level, sort_troubles
from .schema import Fault
from .values import flag, number, pci_address, plain, text, trouble, undeprecated, version

COLUMNS = {
    "index": "index",
    "name": "product",
    "gpu_name": "product",
    "uuid": "uuid",
    "gpu_uuid": "uuid",
    "pci.bus_id": "pci",
    "gpu_bus_id": "pci",
    "memory.total": "memory_total",
    "memory.used": "memory_used",
    "compute_cap": "compute_capability",
    "persistence_mode": "persistence",
    "addressing_mode": "addressing",
    "mig.mode.current": "mig",
    "mig.mode.pending": "mig_pending",
    "ecc.mode.current": "ecc",
    "ecc.mode.pending": "ecc_pending",
    "retired_pages.pending": "pages_pending",
    "remapped_rows.pending": "remap_pending",
    "remapped_rows.failure": "remap_failure",
    "gpu_recovery_action": "recovery",
    "clocks.current.sm": "clock",
    "clocks.sm": "clock",
    "clocks.max.sm": "clock_max",
    "utilization.gpu": "utilization",
    "fabric.state": "fabric_state",
    "fabric.status": "fabric_status",
    "pcie.link.gen.current": "pcie_generation",
    "pcie.link.gen.max": "pcie_generation_max",
    "pcie.link.width.current": "pcie_width",
    "pcie.link.width.max": "pcie_width_max",
}
UNCORRECTED = "ecc.errors.uncorrected.volatile.total"
_COLUMN = re.compile(r"[A-Za-z][\w.]*")
_LONGEST_LINE = 64 * 1024
_SLOWDOWNS = {
    "hw_thermal_slowdown": "hw thermal slowdown",
    "hw_power_brake_slowdown": "hw power brake slowdown",
}


def _rows(output: str) -> list[list[str]]:
    lines = [line for line in plain(output).splitlines() if line.strip() and len(line) < _LONGEST_LINE]
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True)]
    except csv.Error:
        return []


def _column(cell: str) -> str:
    """`memory.total [MiB]` is `memory.total`; so is `driver_version [Deprecated]`."""
    return cell.partition("[")[0].strip()


def _csv_record(columns: list[str], row: list[str], place: int) -> GpuRecord:
    cells = dict(zip(columns, row))
    values = {COLUMNS[column]: value for column, value in cells.items() if column in COLUMNS}
    values.setdefault("index", str(place))
    troubles, sensors = sort_troubles(
        [
            (column, COLUMNS.get(column) in DECISIVE or column.startswith("ecc."), trouble(value))
            for column, value in cells.items()
            if trouble(value)
        ]
    )
    return GpuRecord(
        values=values,
        uncorrected=tuple(value for column, value in cells.items() if column == UNCORRECTED),
        slowdowns=tuple(
            words
            for name, words in _SLOWDOWNS.items()
            for prefix in ("clocks_event_reasons.", "clocks_throttle_reasons.")
            if flag(cells.get(prefix + name)) is True
        ),
        fabric_health=tuple(
            (column.rsplit(".", 1)[1].replace("_", " "), value)
            for column, value in cells.items()
            if column.startswith("fabric.health.")
        ),
        troubles=troubles,
        sensors=sensors,
    )


def is_csv(start: str) -> bool:
    """Whether the first line names columns, one of which says which GPU a row is of."""
    head = next((line for line in start.splitlines() if line.strip()), "")
    columns = {_column(cell) for cell in head[:_LONGEST_LINE].split(",")}
    return bool(columns & {"index", "name", "gpu_name", "uuid", "gpu_uuid", "pci.bus_id"})


def parse_csv(output: str) -> Listing:
    """`nvidia-smi --query-gpu=... --format=csv`, any choice of fields; the header is needed."""
    rows = _rows(output)
    columns = [_column(cell) for cell in rows[0]] if rows else []
    if not set(columns) & set(COLUMNS):
        return Listing("csv", faults=(fault("nvidia-smi-unreadable", "driver", detail="no CSV header"),))
    odd = [column for column in columns if not _COLUMN.fullmatch(column)]
    full = [row for row in rows[1:] if len(row) == len(columns)]
    faults: list[Fault] = []
    if odd or len(set(columns)) < len(columns):
        faults.append(
            fault("nvidia-smi-unreadable", "driver", detail="a CSV header with names that are none")
        )
    if len(full) < len(rows) - 1 or not output.endswith("\n"):
        faults.append(fault("nvidia-smi-unreadable", "driver", detail="the last CSV row may be cut off"))
    elif not full:
        # Without a GPU nvidia-smi says so in words; a header alone is the start of something longer.
        faults.append(fault("nvidia-smi-unreadable", "driver", detail="no CSV row follows the header"))
    first = dict(zip(columns, full[0])) if full else {}
    return Listing(
        form="csv",
        driver=version(undeprecated(text(first.get("kmd_version") or first.get("driver_version")))),
        attached=number(first.get("count")),
        records=tuple(_csv_record(columns, row, place) for place, row in enumerate(full)),
        faults=tuple(faults),
    )


_PERSISTENCE = frozenset({"On", "Off", "N/A", "ERR!"})
_PROCESS_ROW = re.compile(r"\|\s+(\d{1,4})\s+(?:\S+\s+\S+\s+)?(\d+)\s+[CGM+]+\s")
_LONGEST_ROW = 400


def _gpu_row(cell: str) -> tuple[str, str, str] | None:
    """(index, product, persistence) of the first cell of a GPU."""
    words = cell.split()
    if len(words) < 3 or not re.fullmatch(r"\d{1,4}", words[0], re.ASCII) or words[-1] not in _PERSISTENCE:
        return None
    return words[0], " ".join(words[1:-1]), words[-1]


def _table_gpu(rows: list[list[str]]) -> GpuRecord | None:
    """The two or three lines of one GPU, cells already split."""
    head = _gpu_row(rows[0][0])
    if not head or len(rows[0]) < 3:
        return None
    values = dict(zip(("index", "product", "persistence"), head))
    values["pci"] = rows[0][1].split()[0] if rows[0][1].split() else ""
    if len(rows) > 1 and len(rows[1]) >= 3:
        used, slash, total = rows[1][1].partition("/")
        values["memory_used"], values["memory_total"] = (used, total) if slash else (rows[1][1], rows[1][1])
    if len(rows) > 2 and len(rows[2]) >= 3:
        values["mig"] = rows[2][2].strip()
        if values["mig"].endswith("*"):  # the other mode waits for a reset
            values["mig"] = values["mig"][:-1].strip()
            values["mig_pending"] = "Disabled" if flag(values["mig"]) else "Enabled"
    counter = rows[0][2].strip()
    if flag(counter) is False:  # the column says Off where error correction is
        values["ecc"], counter = "Disabled", "N/A"
    else:
        values["ecc"] = "Enabled" if text(counter) else "N/A"
    troubles, sensors = _table_troubles(rows)
    return GpuRecord(
        values={name: value.strip() for name, value in values.items()},
        uncorrected=(counter,),
        troubles=troubles,
        sensors=sensors,
    )


def _table_troubles(rows: list[list[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Fans, power and load stand in the first and last cell of the second line; all else is the GPU itself."""
    sensors = {(0, 0): "persistence mode", (1, 0): "fan, temperature or power", (1, 2): "utilization"}
    said = []
    for line, row in enumerate(rows):
        for place, cell in enumerate(row):
            name = sensors.get((line, place), "")
            words = [cell, *(cell.split() if name else cell.split()[-1:])]
            said += [
                (name or f"cell {place + 1}", not name, trouble(word)) for word in words if trouble(word)
            ]
    return sort_troubles(said)


def parse_table(output: str) -> Listing:
    """What nvidia-smi prints without options. Names longer than their column are cut there."""
    whole = plain(output)
    driver = re.search(r"(?:Driver|KMD) Version *: *([0-9.]+)", whole)
    cuda = re.search(r"CUDA (?:UMD )?Version *: *(\S+)", whole)
    blocks: list[list[list[str]]] = []
    pids: dict[str, list[int]] = {}
    section = "gpus"
    for line in whole.splitlines():
        if len(line) > _LONGEST_ROW:
            continue
        if "Processes:" in line or "MIG devices:" in line:
            section = "processes" if "Processes:" in line else "mig"
        elif section == "processes":
            row = _PROCESS_ROW.match(line)
            if row:
                pids.setdefault(row.group(1), []).append(int(row.group(2)))
        elif section == "gpus" and line.startswith("|") and line.count("|") >= 4 and "Version" not in line:
            cells = line.strip().strip("|").split("|")
            if _gpu_row(cells[0]) and pci_address((cells[1].split() or [""])[0]):
                blocks.append([cells])
            elif blocks and len(blocks[-1]) < 3:
                blocks[-1].append(cells)
    records = []
    for block in blocks:
        gpu = _table_gpu(block)
        if gpu:
            held = tuple(dict.fromkeys(pids.get(gpu.values["index"], [])))
            records.append(replace(gpu, processes=held))
    faults = []
    if not records or len(blocks[-1]) < 2 or not whole.rstrip().endswith("+"):
        faults.append(fault("nvidia-smi-unreadable", "driver", detail="the table is not whole"))
    return Listing(
        form="table",
        driver=driver.group(1) if driver else "",
        cuda=cuda_level(cuda.group(1) if cuda else None),
        records=tuple(records),
        faults=tuple(faults),
    )


def parse_names(output: str) -> Listing:
    """`nvidia-smi -L`."""
    found = re.findall(
        r"^GPU (\d{1,4}): ([^(\n]*) \(UUID: (GPU-[0-9a-fA-F-]+)\)", plain(output), re.MULTILINE
    )
    records = tuple(GpuRecord({"index": index, "product": name, "uuid": uuid}) for index, name, uuid in found)
    faults = () if records else (fault("nvidia-smi-unreadable", "driver", detail="no GPU line"),)
    return Listing("names", records=records, faults=faults)


def parse_version(output: str) -> Listing:
    """`nvidia-smi --version`: tells module and library apart."""
    labels = {}
    for line in plain(output).splitlines():
        label, colon, value = line.partition(":")
        if colon:
            labels[label.strip().lower()] = undeprecated(value)
    driver = version(labels.get("kmd version")) or version(labels.get("driver version"))
    cuda = labels.get("cuda umd version") or labels.get("cuda version")
    return Listing(
        form="version",
        driver=driver,
        library=version(labels.get("nvml version")),
        cuda=cuda_level(cuda),
        faults=() if driver else (fault("nvidia-smi-unreadable", "driver", detail="no driver version"),),
    )
