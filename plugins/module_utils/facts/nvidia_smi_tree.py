# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two tree-shaped outputs of nvidia-smi: `-q -x` (XML) and `-q` (indented text).

XML is what the module asks for: the host has nothing but the standard library of Python, and the
XML holds every value that NVML's Python binding could give except the compute capability. The
indented text carries the same tree, so both are flattened into paths and read by one table of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as Xml

from .faults import fault
from .nvidia_listing import GpuRecord, Listing, cuda_level
from .schema import Fault
from .values import flag, number, plain, text, trouble

Leaf = tuple[str, str]
"""Path of lower-case words, such as `fb memory usage/total`, and the value."""

NAMES: dict[str, tuple[str, ...]] = {
    "product": ("product name",),
    "uuid": ("uuid", "gpu uuid"),
    "minor": ("minor number",),
    "pci": ("pci/pci bus id", "pci/bus id"),
    "memory_total": ("fb memory usage/total",),
    "memory_used": ("fb memory usage/used",),
    "persistence": ("persistence mode",),
    "addressing": ("addressing mode",),
    "mig": ("mig mode/current mig", "mig mode/current"),
    "mig_pending": ("mig mode/pending mig", "mig mode/pending"),
    "ecc": ("ecc mode/current ecc", "ecc mode/current"),
    "ecc_pending": ("ecc mode/pending ecc", "ecc mode/pending"),
    "pages_pending": (
        "retired pages/pending retirement",
        "retired pages/pending blacklist",
        "retired pages/pending page blacklist",
    ),
    "remap_pending": ("remapped rows/remapped row pending", "remapped rows/pending"),
    "remap_failure": ("remapped rows/remapped row failure", "remapped rows/remapping failure occurred"),
    "channel_repair": ("ecc errors/channel repair pending",),
    "tpc_repair": ("ecc errors/tpc repair pending",),
    "unrepairable": ("ecc errors/unrepairable memory",),
    "reset_required": ("gpu reset status/reset required",),
    "recovery": ("gpu recovery action",),
    "fabric_state": ("fabric/state",),
    "fabric_status": ("fabric/status",),
    "pcie_generation": (
        "pci/pci gpu link info/pcie gen/current link gen",
        "pci/gpu link info/pcie generation/current",
    ),
    "pcie_generation_max": (
        "pci/pci gpu link info/pcie gen/max link gen",
        "pci/gpu link info/pcie generation/max",
    ),
    "pcie_width": (
        "pci/pci gpu link info/link widths/current link width",
        "pci/gpu link info/link width/current",
    ),
    "pcie_width_max": (
        "pci/pci gpu link info/link widths/max link width",
        "pci/gpu link info/link width/max",
    ),
}
_HEADER = {
    "driver": ("driver version", "kmd version"),
    "cuda": ("cuda version", "cuda umd version"),
    "attached": ("attached gpus",),
}
_SLOWDOWNS = ("hw thermal slowdown", "hw power brake slowdown", "hw slowdown")


def _first(leaves: dict[str, str], paths: tuple[str, ...]) -> str | None:
    """The first that says something; else what the source wrote in place of a value."""
    said = [leaves[path] for path in paths if path in leaves]
    return next((value for value in said if text(value)), said[0] if said else None)


def record(leaves: list[Leaf], pci: str) -> GpuRecord:
    """One GPU out of the leaves of its tree."""
    first: dict[str, str] = {}
    for path, value in leaves:
        first.setdefault(path, value)
    values = {"pci": pci}
    for name, paths in NAMES.items():
        said = _first(first, paths)
        if said is not None and (name != "pci" or text(said)):
            values[name] = said
    slow = [
        next(reason for reason in _SLOWDOWNS if path.endswith(reason))
        for path, value in leaves
        if re.match(r"clocks (event|throttle) reasons/", path)
        and path.endswith(_SLOWDOWNS)
        and flag(value) is True
    ]
    return GpuRecord(
        values=values,
        uncorrected=tuple(
            value
            for path, value in leaves
            if path.startswith("ecc errors/volatile/")
            and ("uncorrectable" in path or path.endswith("double bit/total"))
        ),
        slowdowns=tuple(dict.fromkeys(slow)),
        fabric_health=tuple(
            (path.rsplit("/", 1)[1], value) for path, value in leaves if path.startswith("fabric/health/")
        ),
        processes=tuple(
            pid
            for path, value in leaves
            if path.endswith(("process info/pid", "processes/process id"))
            for pid in [number(value)]
            if pid is not None
        ),
        troubles=tuple(
            dict.fromkeys(
                code
                for path, value in leaves
                if not path.startswith(("processes/", "accounted processes/"))
                for code in [trouble(value)]
                if code
            )
        ),
    )


def _listing(form: str, header: dict[str, str], gpus: list[GpuRecord], faults: list[Fault]) -> Listing:
    found = {name: _first(header, paths) for name, paths in _HEADER.items()}
    return Listing(
        form=form,
        driver=text(found["driver"]),
        cuda=cuda_level(found["cuda"]),
        attached=number(found["attached"]),
        records=tuple(gpus),
        faults=tuple(faults),
    )


def _leaves(element: Xml.Element, prefix: str = "") -> Iterator[Leaf]:
    for child in element:
        path = prefix + re.sub(r"clocks (event|throttle) reason ", "", child.tag.replace("_", " ").lower())
        if len(child):
            yield from _leaves(child, path + "/")
        else:
            yield path, (child.text or "").strip()


def _top_elements(document: str) -> Iterator[Xml.Element]:
    """Children of the root as they are complete; a torn document raises only after the last of them."""
    parser: Any = Xml.XMLPullParser(events=("start", "end"))
    parser.feed(document)
    depth = 0
    for event, element in parser.read_events():
        depth += 1 if event == "start" else -1
        if event == "end" and depth == 1:
            yield element
    parser.close()


def parse_xml(output: str) -> Listing:
    """`nvidia-smi -q -x`, any DTD version; complete GPUs of a torn document are kept."""
    document = plain(output)
    document = document[max(document.find("<?xml"), 0) :]
    end = document.rfind("</nvidia_smi_log>")
    if end >= 0:
        document = document[: end + len("</nvidia_smi_log>")]
    faults: list[Fault] = []
    header: dict[str, str] = {}
    gpus: list[GpuRecord] = []
    try:
        for element in _top_elements(document):
            if element.tag == "gpu":
                gpus.append(record(list(_leaves(element)), element.get("id", "")))
            else:
                header.setdefault(element.tag.replace("_", " "), (element.text or "").strip())
    except Xml.ParseError as error:
        faults.append(fault("nvidia-smi-unreadable", "driver", detail=f"XML {error}"))
    return _listing("xml", header, gpus, faults)


_LINE = re.compile(r"(\s*)(\S.*?)\s*:(?:\s(.*))?\n?\Z")


def _indented(lines: list[str]) -> list[Leaf]:
    """Leaves of indented `label : value` lines; a line can have a value and children too."""
    leaves: list[Leaf] = []
    parents: list[tuple[int, str]] = []
    for line in lines:
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        found = _LINE.match(line)
        label, value = (found.group(2), found.group(3)) if found else (line.strip(), None)
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, label.lower()))
        if found:
            leaves.append(("/".join(name for _indent, name in parents), (value or "").strip()))
    return leaves


def parse_text(output: str) -> Listing:
    """`nvidia-smi -q`."""
    header: list[str] = []
    blocks: list[tuple[str, list[str]]] = []
    lines = plain(output).splitlines(keepends=True)
    cut = bool(lines) and not lines[-1].endswith("\n") and not lines[-1].strip().endswith("None")
    if cut:
        lines.pop()  # a part of a value would pass for a whole one
    for line in lines:
        start = re.match(r"GPU ([0-9A-Fa-f:.]+)\s*\Z", line)
        if start:
            blocks.append((start.group(1), []))
        elif line[:1].isspace() and blocks:
            blocks[-1][1].append(line)
        else:
            header.append(line)
    trees = [(pci, _indented(lines)) for pci, lines in blocks]
    gpus = [record(leaves, pci) for pci, leaves in trees]
    faults = []
    if not gpus:
        faults.append(fault("nvidia-smi-unreadable", "driver", detail="no GPU section"))
    elif cut or not any(line.strip().startswith("Processes") for line in blocks[-1][1]):
        faults.append(fault("nvidia-smi-unreadable", "driver", detail=f"it ends inside GPU {blocks[-1][0]}"))
    return _listing("text", dict(_indented(header)), gpus, faults)
