# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Content by its hash, on a host: what arrived once serves every environment that needs it.

    content/<sha256>/<name>   verified, read-only
    verified/<sha256>         what the file system said of that file when its hash had been compared
    incoming/<sha256>         what is on its way; any carrier may write here, nothing here is trusted
    unpacked/                 wheels as files, for hard links (see unpacked.py)

The folder is root's alone. A file moves from incoming to content by one rename, after its hash was compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..swarm.published_tree_host import CHUNK, sha256_of, unsafe_paths

File = dict[str, Any]
READERS = 2


class RefusedError(Exception):
    """What is wrong, where, and what would help."""


def name_of(entry: File) -> str:
    return os.path.basename(str(entry["path"]))


def unfit(files: Iterable[File]) -> list[str]:
    """Names and hashes that no honest manifest holds."""
    listed = list(files)
    wrong = [str(entry["path"]) for entry in listed if not re.fullmatch("[0-9a-f]{64}", str(entry["sha256"]))]
    return sorted({*unsafe_paths(listed), *wrong})


def free_bytes(folder: str) -> int:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def refuse_full(folder: str, needed: int, what: str) -> None:
    free = free_bytes(folder)
    if needed > free:
        raise RefusedError(
            f"{folder} has {gigabytes(free)} free and {gigabytes(needed)} are needed for {what}: "
            f"free {gigabytes(needed - free)} there. Nothing was changed."
        )


class Store:
    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.content = os.path.join(folder, "content")
        self.verified = os.path.join(folder, "verified")
        self.incoming = os.path.join(folder, "incoming")
        self.unpacked = os.path.join(folder, "unpacked")
        self.lock = os.path.join(folder, "lock")

    def open(self) -> None:
        for folder in (self.folder, self.content, self.verified, self.incoming, self.unpacked):
            os.makedirs(folder, mode=0o700, exist_ok=True)
            os.chmod(folder, 0o700)

    def path(self, entry: File) -> str:
        return os.path.join(self.content, str(entry["sha256"]), name_of(entry))

    def part(self, entry: File) -> str:
        return os.path.join(self.incoming, str(entry["sha256"]))

    def holds(self, entry: File) -> bool:
        path = self.path(entry)
        return os.path.isfile(path) and os.path.getsize(path) == entry["size"]

    def lacking(self, files: Iterable[File]) -> list[File]:
        """Each content once, however many names ask for it."""
        found = {str(entry["sha256"]): entry for entry in files if not self.holds(entry)}
        return [found[digest] for digest in sorted(found)]

    def there(self, entry: File) -> int:
        """How much of a file is here already; what cannot be its beginning counts as nothing."""
        path = self.part(entry)
        size = os.path.getsize(path) if os.path.isfile(path) and not os.path.islink(path) else 0
        return size if size <= int(entry["size"]) else 0

    def take(self, source: str, files: Iterable[File]) -> list[str]:
        """Copies from a folder that the host can read, comparing hashes on the way; says what did not fit."""

        def copy(entry: File) -> str:
            try:
                return self._copy(os.path.join(source, str(entry["path"])), entry)
            except OSError as error:
                return f"{entry['path']}: {error.strerror or error}"

        with ThreadPoolExecutor(READERS) as pool:
            return [line for line in pool.map(copy, files) if line]

    def _copy(self, source: str, entry: File) -> str:
        digest, size, part = hashlib.sha256(), 0, self.part(entry)
        with open(source, "rb") as stream, open(part, "wb") as target:
            for chunk in iter(lambda: stream.read(CHUNK), b""):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        return self._judge(entry, size, digest.hexdigest())

    def move_in(self, folder: str, files: Iterable[File]) -> None:
        """Takes what another carrier left in a folder on the same disk, as `content` has it; nothing is trusted yet."""
        for entry in files:
            there = os.path.join(folder, str(entry["sha256"]), name_of(entry))
            if os.path.isfile(there) and not os.path.islink(there):
                os.rename(there, self.part(entry))

    def adopt(self, files: Iterable[File]) -> list[str]:
        """Takes over what carriers left in incoming; says what is missing or damaged, and drops the damaged."""

        def look(entry: File) -> str:
            part = self.part(entry)
            if os.path.islink(part) or not os.path.isfile(part):
                return f"{entry['path']}: missing"
            os.chown(part, os.geteuid(), os.getegid())
            size = os.path.getsize(part)
            if size < int(entry["size"]):
                return f"{entry['path']}: {size} bytes of {entry['size']} have arrived"
            return self._judge(entry, size, sha256_of(part))

        with ThreadPoolExecutor(READERS) as pool:
            return [line for line in pool.map(look, files) if line]

    def _judge(self, entry: File, size: int, digest: str) -> str:
        part, path = self.part(entry), self.path(entry)
        if size != entry["size"] or digest != entry["sha256"]:
            os.unlink(part)
            what = (
                f"{size} bytes instead of {entry['size']}"
                if size != entry["size"]
                else "content differs (sha256)"
            )
            return f"{entry['path']}: {what}"
        os.chmod(part, 0o444)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        os.rename(part, path)
        self._note(entry)
        return ""

    def _look_of(self, entry: File) -> str:
        """Another one after any write, also one that puts the time back: nobody sets the time of change."""
        state = os.stat(self.path(entry))
        return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"

    def _note(self, entry: File) -> None:
        """Without it, on a full disk say, the file is read once more, and that is all."""
        path = os.path.join(self.verified, str(entry["sha256"]))
        with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as stream:
            stream.write(self._look_of(entry))

    def untouched(self, entry: File) -> bool:
        """Whether nobody wrote to it since its hash was compared."""
        try:
            with open(os.path.join(self.verified, str(entry["sha256"])), encoding="ascii") as stream:
                return self.holds(entry) and stream.read() == self._look_of(entry)
        except (OSError, ValueError):
            return False

    def rotten(self, files: Iterable[File]) -> list[File]:
        """What is damaged, and dropped; only what somebody may have touched is read."""
        return self.damaged(entry for entry in files if not self.untouched(entry))

    def damaged(self, files: Iterable[File]) -> list[File]:
        """Reads all of it again; what is no longer what it was is dropped, so that the next run brings it."""

        def look(entry: File) -> bool:
            if not self.holds(entry) or sha256_of(self.path(entry)) != entry["sha256"]:
                return False
            self._note(entry)
            return True

        listed = list(files)
        with ThreadPoolExecutor(READERS) as pool:
            bad = [entry for entry, good in zip(listed, pool.map(look, listed)) if not good]
        self.drop(str(entry["sha256"]) for entry in bad)
        return bad

    def strangers(self, needed: set[str]) -> list[str]:
        """Hashes that are held and that nothing needs."""
        return sorted(set(_names(self.content)) - needed)

    def drop(self, digests: Iterable[str]) -> None:
        for digest in digests:
            shutil.rmtree(os.path.join(self.content, digest), ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.verified, digest))


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def refuse_unfit(store: Store, files: list[File]) -> None:
    """Before a byte moves: names that lead elsewhere, and a disk that is too small."""
    wrong = unfit(files)
    if wrong:
        raise RefusedError(f"the manifest holds names or hashes that cannot be: {', '.join(wrong[:10])}")
    needed = sum(int(entry["size"]) - store.there(entry) for entry in store.lacking(files))
    refuse_full(store.folder, needed, "the files that are lacking")
