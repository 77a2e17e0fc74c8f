# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Symbol tables of the shared objects in wheels, read without unpacking them.

Runs on the controller only.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.abi import (
    Pairing,
    Rules,
    SharedObject,
    Symbol,
    prove,
)

FILES = Path(__file__).resolve().parents[2] / "files"
CACHE_FORMAT = 1
SHARED_OBJECT = re.compile(r"\.so(\.[0-9.]+)?\Z")

# Symbol tables lie at an object's beginning or, where a tool has rewritten it, in a writable segment at its
# end; hundreds of megabytes of GPU code are between.
HEAD = 12 << 20
PARALLEL = 2
BLOCK = 1 << 20
PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
WRITABLE, DYNAMIC = 2, 2

SYMBOL = struct.Struct("<IBBHQQ")  # the same on x86_64 and aarch64
WEAK = 2
VISIBLE = (0, 3)  # default, protected
VERSION_MASK = 0x7FFF
FIRST_NAMED_VERSION = 2


class AbiError(Exception):
    """A wheel whose objects cannot be read."""


class Windows(io.RawIOBase):
    """A compressed member made seekable: one pass keeps the parts that matter.

    A part that was not foreseen costs another pass, so the answer never depends on where a linker put things.
    """

    def __init__(self, opened: Callable[[], IO[bytes]], size: int, head: int = HEAD) -> None:
        super().__init__()
        self.opened, self.size, self.at = opened, size, 0
        self.kept: list[tuple[int, bytes]] = []
        self.passes = 0
        with opened() as stream:
            first = stream.read(head)
            self.kept.append((0, first))
            self._pass(stream, len(first), _spans(first, size))

    def _pass(self, stream: IO[bytes], at: int, spans: list[tuple[int, int]]) -> None:
        self.passes += 1
        for first, end in spans:
            start = max(first, at)
            _skip(stream, start - at)
            data = stream.read(max(end - start, 0))
            self.kept.append((start, data))
            at = start + len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def read(self, count: int = -1) -> bytes:
        start = self.at
        end = self.size if count < 0 else min(start + count, self.size)
        self.at = max(start, end)
        for first, data in self.kept:
            if first <= start and end <= first + len(data):
                return data[start - first : end - first]
        with self.opened() as stream:
            self._pass(stream, 0, [(start, min(max(end, start + BLOCK), self.size))])
        return self.kept[-1][1][: end - start]


def _spans(head: bytes, size: int) -> list[tuple[int, int]]:
    """Where ELF's first bytes say that tables lie: the sections' table, the dynamic one, writable segments."""
    if len(head) < 64 or head[:4] != b"\x7fELF":
        return []
    programs, sections = struct.unpack_from("<QQ", head, 32)
    length, count = struct.unpack_from("<HH", head, 54)
    spans = [(max(sections - BLOCK, 0), sections + BLOCK)]
    for number in range(count):
        at = programs + number * length
        if at + PROGRAM_HEADER.size > len(head):
            break
        kind, flags, offset, _unused, _unused, filled, _unused, _unused = PROGRAM_HEADER.unpack_from(head, at)
        if kind == DYNAMIC or flags & WRITABLE:
            spans.append((offset, offset + min(filled, HEAD)))
    return _joined((start, min(end, size)) for start, end in spans)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0 and (passed := len(stream.read(min(count, BLOCK)))):
        count -= passed


def read_object(name: str, stream: Any) -> SharedObject:
    """Needed libraries and dynamic symbols of an ELF object."""
    from elftools.elf.elffile import ELFFile

    elf = ELFFile(stream)
    dynamic, table = elf.get_section_by_name(".dynamic"), elf.get_section_by_name(".dynsym")
    if dynamic is None or table is None or elf.elfclass != 64 or not elf.little_endian:
        raise AbiError(f"{name} has no dynamic symbols of a 64-bit machine")
    needed = tuple(tag.needed for tag in dynamic.iter_tags("DT_NEEDED"))
    undefined: list[Symbol] = []
    exported: dict[str, set[str]] = {}
    for symbol, defined in _symbols(elf, table):
        if defined:
            exported.setdefault(symbol.version, set()).add(symbol.name)
        else:
            undefined.append(symbol)
    frozen = {version: frozenset(names) for version, names in exported.items()}
    return SharedObject(name, needed, tuple(undefined), frozen)


def _symbols(elf: Any, table: Any) -> Iterator[tuple[Symbol, bool]]:
    """Every symbol that the loader sees, and whether it is defined here.

    The table is unpacked here and not by the library: its objects take seconds for torch's 110 000 symbols.
    """
    strings = elf.get_section(table["sh_link"]).data()
    data = table.data()
    numbers = elf.get_section_by_name(".gnu.version")
    indices = (
        struct.unpack(f"<{len(data) // SYMBOL.size}H", numbers.data())
        if numbers
        else (1,) * (len(data) // SYMBOL.size)
    )
    versions = _versions(elf)
    for (offset, info, other, section, _value, _size), index in zip(
        SYMBOL.iter_unpack(data), indices, strict=True
    ):
        binding = info >> 4
        if not offset or not binding or other & 3 not in VISIBLE:
            continue
        name = strings[offset : strings.index(b"\0", offset)].decode("utf-8", "surrogateescape")
        version, library = versions.get(index & VERSION_MASK, ("", ""))
        yield Symbol(name, version, library, binding == WEAK), bool(section)


def _versions(elf: Any) -> dict[int, tuple[str, str]]:
    """Version and, where it is another's, the library that it is asked of, by the number in the table."""
    found: dict[int, tuple[str, str]] = {}
    asked = elf.get_section_by_name(".gnu.version_r")
    for library, entries in asked.iter_versions() if asked else ():
        found.update({entry["vna_other"]: (entry.name, library.name) for entry in entries})
    own = elf.get_section_by_name(".gnu.version_d")
    for definition, names in own.iter_versions() if own else ():
        number = definition["vd_ndx"]
        if number >= FIRST_NAMED_VERSION:
            found[number] = (next(names).name, "")
    return found


class SymbolTables:
    """Tables by wheel and member, kept in a folder so that a wheel is read once on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, SharedObject]] = {}
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def read(self, wheel: Path, sha256: str, member: str) -> SharedObject:
        with self._lock:
            if sha256 not in self._known:
                self._known[sha256] = self._kept(sha256)
            found = self._known[sha256].get(member)
        if found is None:
            found = _read_member(wheel, member)
            with self._lock:
                self._known[sha256][member] = found
                self._changed.add(sha256)
        return found

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for sha256 in sorted(self._changed):
            members = [item.to_dict() for item in self._known[sha256].values()]
            text = json.dumps({"format": CACHE_FORMAT, "members": members})
            part = self.folder / f"{sha256}.part"
            part.write_bytes(gzip.compress(text.encode(), compresslevel=1, mtime=0))
            part.rename(self._file(sha256))
        self._changed.clear()

    def _file(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.json.gz"

    def _kept(self, sha256: str) -> dict[str, SharedObject]:
        try:
            kept = json.loads(gzip.decompress(self._file(sha256).read_bytes()))
            if kept["format"] != CACHE_FORMAT:
                return {}
            return {entry["name"]: SharedObject.from_dict(entry) for entry in kept["members"]}
        except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error):
            return {}  # not there, or cut off: the wheel is read again


def _read_member(wheel: Path, member: str) -> SharedObject:
    from elftools.common.exceptions import ELFError

    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(member).file_size
            return read_object(member, Windows(lambda: archive.open(member), size))
    except (ELFError, AbiError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        raise AbiError(f"{wheel.name}: {member} cannot be read as a shared object: {error}") from error


class Place(NamedTuple):
    size: int
    member: str
    wheel: Path

    @property
    def library(self) -> str:
        return self.member.rsplit("/", 1)[-1]


class WheelLibraries(Mapping[str, SharedObject]):
    """The shared objects of many wheels by file name; one is read when it is asked for.

    Those of torch come first, then the smallest: most symbols are found before a large one is read.
    """

    def __init__(self, wheels: Mapping[Path, str], torch: Path, tables: SymbolTables) -> None:
        self.wheels = wheels
        self.torch = torch
        self.tables = tables
        self.places = [place for wheel in wheels for place in _places(wheel)]
        # Of copies that several wheels carry, the one that lies highest; they export the same.
        ranked = sorted(self.places, key=lambda place: (-place.member.count("/"), place.member), reverse=True)
        chosen = {place.library: place for place in ranked}
        cheap = sorted(chosen.values(), key=lambda place: (place.wheel != torch, place))
        self._where = {place.library: place for place in cheap}

    def __getitem__(self, name: str) -> SharedObject:
        return self._read(self._where[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def objects_of(self, kernel: Path) -> list[SharedObject]:
        """All objects of the kernel wheel; the libraries of torch that they will ask for are read beside."""
        own = sorted(place for place in self.places if place.wheel == kernel)
        needed = self._read(own[0]).needed if own else ()
        beside = [
            place for name, place in self._where.items() if place.wheel == self.torch and name in needed
        ]
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self._read, sorted([*own, *beside], reverse=True)))
        return [self._read(place) for place in own]

    def _read(self, place: Place) -> SharedObject:
        return self.tables.read(place.wheel, self.wheels[place.wheel], place.member)


def _places(wheel: Path) -> list[Place]:
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    return [
        Place(entry.file_size, entry.filename, wheel)
        for entry in entries
        if SHARED_OBJECT.search(entry.filename)
    ]


def _distribution(wheel: Path) -> tuple[str, str]:
    from packaging.utils import parse_wheel_filename

    name, version, _unused, _unused = parse_wheel_filename(wheel.name)
    return str(name), str(version)


def load_rules(files: Path = FILES) -> Rules:
    """files/abi.yml, with the kernel packages of every engine."""
    kernels: list[str] = []
    for path in sorted(files.glob("engines/*/runtime.yml")):
        kernels += yaml.safe_load(path.read_text(encoding="utf-8")).get("kernel_packages", ())
    return Rules.from_dict(
        {**yaml.safe_load((files / "abi.yml").read_text(encoding="utf-8")), "kernel_packages": kernels}
    )


def prove_wheels(
    wheels: Mapping[Path, str], tables: SymbolTables, python: str, glibc: str, cuda: str = ""
) -> list[dict[str, Any]]:
    """One record for every kernel package among the wheels; `wheels` are all of a lock, with their hashes."""
    rules = load_rules()
    named = {wheel: _distribution(wheel) for wheel in wheels}
    kernels = sorted(wheel for wheel in named if named[wheel][0] in rules.kernel_packages)
    torch = next((wheel for wheel in named if named[wheel][0] == rules.torch_package), None)
    if not kernels or torch is None:
        return []
    libraries = WheelLibraries(wheels, torch, tables)
    records = []
    for kernel in kernels:
        pairing = Pairing(" ".join(named[kernel]), " ".join(named[torch]), python, glibc, cuda)
        record = prove(libraries.objects_of(kernel), libraries, rules, pairing)
        records.append({**record, "wheels": [kernel.name, torch.name]})
    tables.save()
    return records
