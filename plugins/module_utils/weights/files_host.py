# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading weights from disk: hashes by piece without filling the page cache, and the quick look."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .manifest import PIECE_BYTES, piece_digests
from .safetensors_header import HeaderError, read_raw

BLOCK = 4 << 20
"""Read at a time: large enough for disks, small enough that dozens of files fit into the agent's memory."""


@dataclass
class Digests:
    size: int
    sha256: str
    pieces: list[str] = field(default_factory=list)
    git: str = ""
    """The name that git gives the content; hubs publish it for small files."""


class CacheFriendlyReader:
    """Reads a file in blocks and gives its pages back behind itself: a serving process keeps its memory."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC)
        self.buffer = bytearray(BLOCK)
        _advise(self.descriptor, "POSIX_FADV_SEQUENTIAL", 0, 0)

    def __enter__(self) -> CacheFriendlyReader:
        return self

    def __exit__(self, *_unused: object) -> None:
        os.close(self.descriptor)

    def blocks(self, start: int, length: int) -> Iterable[memoryview]:
        """The bytes of a range; each block is valid until the next one."""
        position, end = start, start + length
        view = memoryview(self.buffer)
        while position < end:
            count = os.preadv(self.descriptor, [view[: min(BLOCK, end - position)]], position)
            if not count:
                return
            yield view[:count]
            _advise(self.descriptor, "POSIX_FADV_DONTNEED", position, count)
            position += count


def _advise(descriptor: int, name: str, start: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, getattr(os, name))


def sync_and_forget(path: str) -> None:
    """What was just written reaches the disk and leaves the page cache."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        _advise(descriptor, "POSIX_FADV_DONTNEED", 0, 0)
    finally:
        os.close(descriptor)


def digests_of(
    path: str, piece_bytes: int = PIECE_BYTES, read: Callable[[int], None] = lambda _count: None
) -> Digests:
    """Hash of the whole and of each piece in one pass; both hashes run side by side."""
    size = os.path.getsize(path)
    whole, pieces = hashlib.sha256(), []
    git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False) if size <= piece_bytes else None
    with CacheFriendlyReader(path) as reader, ThreadPoolExecutor(1) as beside:
        for start in range(0, size, piece_bytes):
            piece = hashlib.sha256()
            for block in reader.blocks(start, min(piece_bytes, size - start)):
                other = beside.submit(whole.update, block)
                if size > piece_bytes:
                    piece.update(block)
                if git is not None:
                    git.update(block)
                other.result()
                read(len(block))
            pieces.append(piece.hexdigest())
    return Digests(
        size,
        whole.hexdigest(),
        pieces if size > piece_bytes else [],
        git.hexdigest() if git is not None else "",
    )


def bad_pieces(path: str, entry: Mapping[str, Any], piece_bytes: int) -> list[int]:
    """Numbers of the pieces of a file of the right size that are not what the manifest says."""
    bad = []
    size = entry["size"]
    with CacheFriendlyReader(path) as reader:
        for number, wanted in enumerate(piece_digests(entry)):
            start = number * piece_bytes if entry.get("pieces") else 0
            length = min(piece_bytes, size - start) if entry.get("pieces") else size
            digest = hashlib.sha256()
            for block in reader.blocks(start, length):
                digest.update(block)
            if digest.hexdigest() != wanted:
                bad.append(number)
    return bad


@dataclass(frozen=True)
class Damage:
    """One file that is not what the manifest says."""

    path: str
    what: str
    pieces: tuple[int, ...] | None = None
    """Pieces to fetch again; None means the whole file."""

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def regular_size(path: str) -> int | None:
    """Size of a regular file; None for anything else, links included."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def file_damage(folder: str, entry: Mapping[str, Any], piece_bytes: int) -> Damage | None:
    """Reads all of one file."""
    name, path = str(entry["path"]), os.path.join(folder, str(entry["path"]))
    size = regular_size(path)
    if size is None:
        return Damage(name, "is a link" if os.path.islink(path) else "missing")
    if size != entry["size"]:
        less = entry["size"] - size
        words = f"{less} bytes missing" if less > 0 else f"{-less} bytes too many"
        return Damage(name, f"{size} bytes instead of {entry['size']}, {words}")
    bad = bad_pieces(path, entry, piece_bytes)
    if not bad:
        return None
    count = len(piece_digests(entry))
    places = ", ".join(str(number * piece_bytes) for number in bad[:3]) + (" ..." if len(bad) > 3 else "")
    return Damage(name, f"content differs in {len(bad)} of {count} pieces (at byte {places})", tuple(bad))


def all_damage(
    folder: str, manifest: Mapping[str, Any], threads: int = 0, names: Iterable[str] | None = None
) -> list[Damage]:
    """Reads every file, or only the named ones, as many at once as there are processors (eight at most)."""
    wanted = None if names is None else set(names)
    entries = [entry for entry in manifest["files"] if wanted is None or entry["path"] in wanted]
    # The largest first, so that no processor waits at the end for the one that got the largest last.
    entries.sort(key=lambda entry: -int(entry["size"]))
    with ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda entry: file_damage(folder, entry, manifest["piece_bytes"]), entries))
    return sorted((damage for damage in found if damage is not None), key=lambda damage: damage.path)


def strangers(folder: str, manifest: Mapping[str, Any], own: Iterable[str]) -> list[str]:
    """Files that no manifest knows: an engine that loads *.safetensors would load them too."""
    known = {str(entry["path"]) for entry in manifest["files"]} | set(own)
    return sorted(
        name
        for place, _unused, names in os.walk(folder)
        for name in (os.path.relpath(os.path.join(place, file), folder) for file in names)
        if name not in known
    )


def times_of(folder: str, manifest: Mapping[str, Any]) -> dict[str, int]:
    """When each file was last written, in nanoseconds, as the stamp keeps it."""
    return {
        str(entry["path"]): os.lstat(os.path.join(folder, str(entry["path"]))).st_mtime_ns
        for entry in manifest["files"]
    }


def quick_damage(
    folder: str, manifest: Mapping[str, Any], times: Mapping[str, int]
) -> tuple[list[Damage], list[str]]:
    """Sizes, times and headers: (what is wrong for certain, what was written to since it was verified)."""
    found, touched = [], []
    for entry in manifest["files"]:
        name, path = str(entry["path"]), os.path.join(folder, str(entry["path"]))
        if regular_size(path) != entry["size"]:
            found.append(
                file_damage(folder, entry, manifest["piece_bytes"]) or Damage(name, "changes right now")
            )
        elif not _header_as_recorded(path, entry):
            found.append(Damage(name, "its header differs", (0,)))
        elif os.lstat(path).st_mtime_ns != times.get(name):
            touched.append(name)
    return found, touched


def _header_as_recorded(path: str, entry: Mapping[str, Any]) -> bool:
    header = entry.get("header")
    if not header:
        return True
    try:
        with open(path, "rb") as stream:
            return bool(hashlib.sha256(read_raw(stream, entry["size"])).hexdigest() == header["sha256"])
    except (OSError, HeaderError):
        return False


def amount(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:.0f} bytes"


class Meter:
    """Counts bytes of several threads and says now and then how far the work is."""

    def __init__(self, total: int, say: Callable[[str], None], every: float = 10.0) -> None:
        self.total, self.say, self.every = total, say, every
        self.done = self.moved = 0
        self.started = self.told = time.monotonic()
        self.lock = threading.Lock()

    def already(self, count: int) -> None:
        with self.lock:
            self.done += count

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count
            self.moved += count
            now = time.monotonic()
            if now - self.told < self.every:
                return
            self.told = now
        self.say(self.line())

    def line(self) -> str:
        rate = self.rate()
        left = max(self.total - self.done, 0)
        wait = f"{left / rate:.0f} s left" if rate else "waiting"
        return f"{amount(self.done)} of {amount(self.total)}, {amount(rate)}/s, {wait}"

    def rate(self) -> float:
        return self.moved / max(time.monotonic() - self.started, 0.001)
