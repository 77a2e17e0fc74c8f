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
from .nvidia_listing import DECISIVE, GpuRecord, Listing, cuda_level, sort_troubles
from .schema import Fault
from .values import flag, number, plain, text, trouble, undeprecated, version

_MOST_LEVELS = 32
_LONGEST_LINE = 4096
_CHUNK = 64 * 1024

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
    "mig": ("mig mode/current mig", "mig mode/current", "mig mode"),
    "mig_pending": ("mig mode/pending mig", "mig mode/pending"),
    "ecc": ("ecc mode/current ecc", "ecc mode/current", "ecc mode"),
    "ecc_pending": ("ecc mode/pending ecc", "ecc mode/pending"),
    "pages_pending": (
        "retired pages/pending retirement",
        "retired pages/pending blacklist",
        "retired pages/pending page blacklist",
    ),
    "remap_pending": ("remapped rows/remapped row pending", "remapped rows/pending", "remapped rows"),
    "remap_failure": (
        "remapped rows/remapped row failure",
        "remapped rows/remapping failure occurred",
        "remapped rows",
    ),
    "channel_repair": ("ecc errors/channel repair pending",),
    "tpc_repair": ("ecc errors/tpc repair pending",),
    "unrepairable": ("ecc errors/unrepairable memory",),
    "reset_required": ("gpu reset status/reset required",),
    "recovery": ("gpu recovery action",),
    "virtualization": (
        "gpu virtualization mode/virtualization mode",
        "gpu virtualization mode/virtualization mode type",
    ),
    "architecture": ("product architecture",),
    "clock": ("clocks/sm clock", "clocks/sm"),
    "clock_max": ("max clocks/sm clock", "max clocks/sm"),
    "clock_application": (
        "applications clocks/graphics clock",
        "applications clocks/graphics",
    ),
    "clock_default": (
        "default applications clocks/graphics clock",
        "default applications clocks/graphics",
    ),
    "utilization": ("utilization/gpu util", "utilization/gpu"),
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
    # What 610 and later print; the old names then hold a remark, or nothing.
    "driver": ("kmd version", "driver version"),
    "cuda": ("cuda umd version", "cuda version"),
    "attached": ("attached gpus",),
}
_ALWAYS = ("product", "uuid", "memory_total", "mig", "ecc", "remap_pending", "remap_failure")
"""What every XML and every indented listing says since driver 450, if only N/A."""
_DECISIVE_SECTIONS = ("ecc errors/", "retired pages/", "remapped rows/", "mig mode/", "fb memory usage/")
_SLOWDOWNS = ("hw thermal slowdown", "hw power brake slowdown", "hw slowdown")


def _first(leaves: dict[str, str], paths: tuple[str, ...]) -> str | None:
    """The first that says something; else what the source wrote in place of a value."""
    said = [leaves[path] for path in paths if path in leaves]
    return next((value for value in said if text(value) and not _moved(value)), said[0] if said else None)


def _moved(value: str) -> bool:
    """`Deprecated, see "KMD version" instead`: another label has the value."""
    return value.lower().startswith("deprecated")


def record(leaves: list[Leaf], pci: str) -> GpuRecord:
    """One GPU out of the leaves of its tree."""
    first: dict[str, str] = {}
    twice = set()
    for path, value in leaves:
        if first.setdefault(path, value) != value:
            twice.add(path)
    values = {"pci": pci}
    for name, paths in NAMES.items():
        said = _first(first, paths)
        if said is not None and (name != "pci" or text(said)):
            values[name] = said
    decisive = {path for name, paths in NAMES.items() if name in DECISIVE for path in paths}
    troubles, sensors = sort_troubles(
        [
            (path, path in decisive or path.startswith(_DECISIVE_SECTIONS), trouble(value))
            for path, value in leaves
            if trouble(value) and not path.startswith(("processes/", "accounted processes/"))
        ]
    )
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
        troubles=troubles,
        sensors=sensors,
        missing=tuple(name for name in _ALWAYS if not values.get(name)),
        conflicts=tuple(sorted(twice & decisive)),
    )


def _listing(form: str, header: dict[str, str], gpus: list[GpuRecord], faults: list[Fault]) -> Listing:
    found = {name: _first(header, paths) for name, paths in _HEADER.items()}
    return Listing(
        form=form,
        driver=version(undeprecated(text(found["driver"]))),
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


class _TooDeepError(ValueError):
    """No listing has so many levels."""


def _top_elements(document: str) -> Iterator[Xml.Element]:
    """Children of the root as they are complete; a torn document raises only after the last of them."""
    parser: Any = Xml.XMLPullParser(events=("start", "end"))
    depth = 0
    for start in range(0, len(document), _CHUNK):
        parser.feed(document[start : start + _CHUNK])
        for event, element in parser.read_events():
            depth += 1 if event == "start" else -1
            if depth > _MOST_LEVELS:
                raise _TooDeepError(f"more than {_MOST_LEVELS} levels")
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
        if "<!ENTITY" in document:
            raise _TooDeepError("it defines entities")
        for element in _top_elements(document):
            if element.tag == "gpu":
                gpus.append(record(list(_leaves(element)), element.get("id", "")))
            else:
                header.setdefault(element.tag.replace("_", " "), (element.text or "").strip())
    except (Xml.ParseError, ValueError, LookupError) as error:
        faults.append(fault("nvidia-smi-unreadable", "driver", detail=f"XML {error}"))
    return _listing("xml", header, gpus, faults)


def _label(line: str) -> tuple[str, str | None]:
    """(label, value) of `Label   : value`; the value is None where the line is a heading."""
    place = line.find(":")
    while place >= 0 and place + 1 < len(line) and not line[place + 1].isspace():
        place = line.find(":", place + 1)
    if place < 1 or not line[:place].strip():
        return line.strip(), None
    return line[:place].strip(), line[place + 1 :].strip()


def _indented(lines: list[str]) -> list[Leaf]:
    """Leaves of indented `label : value` lines; a line can have a value and children too."""
    leaves: list[Leaf] = []
    parents: list[tuple[int, str]] = []
    for line in lines:
        if not line.strip() or len(line) > _LONGEST_LINE:
            continue
        indent = len(line) - len(line.lstrip())
        label, value = _label(line)
        while parents and parents[-1][0] >= indent:
            parents.pop()
        if len(parents) >= _MOST_LEVELS:
            continue
        parents.append((indent, label.lower()))
        if value is not None:
            leaves.append(("/".join(name for _indent, name in parents), value))
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
