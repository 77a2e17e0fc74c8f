# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Content of bundles on disk: hashing it fast, putting it in its place without a second copy, locking a folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import PROGRESS_SECONDS, Progress

T = TypeVar("T")
BLOCK = 1 << 20
FICLONE = 0x40049409
MOST_THREADS = 8


class ContentError(Exception):
    """A file is not what it was said to be, or there is no room for it."""


def threads() -> int:
    return min(os.cpu_count() or 1, MOST_THREADS)


def hash_of(path: Path, seen: Callable[[int], None] = lambda _count: None) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as stream:
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := stream.readinto(block):
            digest.update(block[:count])
            seen(count)
    return digest.hexdigest()


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kept(path: Path, data: bytes) -> Path:
    """A small file that appears whole, whoever else writes the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        stream.write(data)
    Path(stream.name).chmod(0o644)
    return Path(stream.name).rename(path)


def in_parallel(
    items: list[tuple[int, T]], work: Callable[[T, Progress], None], say: Callable[[str], None], what: str
) -> None:
    """Runs `work` for each (size, item), large ones first so that no thread ends long after the others."""
    progress = Progress(say, len(items), sum(size for size, _unused in items), what)

    def one(item: T) -> None:
        work(item, progress)
        progress.finished += 1

    ordered = sorted(items, key=lambda entry: -entry[0])
    with ThreadPoolExecutor(threads()) as pool:
        jobs = [pool.submit(one, item) for _unused, item in ordered]
        while (state := wait(jobs, PROGRESS_SECONDS, FIRST_EXCEPTION)).not_done:
            if any(job.exception() for job in state.done):
                break
            progress.tell()
        pool.shutdown(cancel_futures=True)
    for job in jobs:
        if not job.cancelled():
            job.result()


def place(
    source: Path, target: Path, sha256: str, link: bool, seen: Callable[[int], None], known: bool = False
) -> None:
    """Puts the content there by one rename, without a second copy where the file system can, and hashes it.

    Only what nobody edits is linked: a link is the same file under a second name. What is `known` is not read again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    shared = reflinked(source, part) or (link and linked(source, part))
    if known:
        found = sha256
        seen(source.stat().st_size if shared else duplicated(source, part))
    else:
        found = hash_of(part, seen) if shared else copied(source, part, seen)
    if not shared and os.access(source, os.X_OK):
        part.chmod(0o755)
    if found != sha256:
        part.unlink()
        raise ContentError(f"{source}: its sha256 is {found}, it should be {sha256}")
    part.rename(target)


def duplicated(source: Path, target: Path) -> int:
    """Copies inside the kernel; says how many bytes."""
    shutil.copyfile(source, target)
    size = source.stat().st_size
    if target.stat().st_size != size:
        raise ContentError(f"{source}: {target.stat().st_size} of its {size} bytes were copied")
    return size


def copied(source: Path, target: Path, seen: Callable[[int], None]) -> str:
    """Copies and hashes in one pass."""
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with source.open("rb", buffering=0) as stream, target.open("wb", buffering=0) as out:
        while count := stream.readinto(block):
            written = 0
            while written < count:
                written += out.write(block[written:count])
            digest.update(block[:count])
            seen(count)
    return digest.hexdigest()


def linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def reflinked(source: Path, target: Path) -> bool:
    """The same blocks in a file of its own, on file systems that can (XFS, btrfs)."""
    try:
        with source.open("rb") as stream, target.open("xb") as out:
            fcntl.ioctl(out.fileno(), FICLONE, stream.fileno())
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def shares_blocks(example: Path, folder: Path) -> bool:
    """Whether content from beside that file needs no room in the folder, tried with a name that is gone again."""
    target = folder / ".probe"
    try:
        return linked(example, target) or reflinked(example, target)
    finally:
        target.unlink(missing_ok=True)


def nearest(folder: Path) -> Path:
    """The folder, or what it would be made in."""
    while not folder.exists():
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(nearest(folder)).free


def on_one_disk(one: Path, other: Path) -> bool:
    """What can be said of sharing content without writing anything."""
    return nearest(one).stat().st_dev == nearest(other).stat().st_dev


def room_problems(needed: Iterable[tuple[Path, int, str]]) -> list[str]:
    """For every disk: what goes there against what is free. Two folders may lie on one disk."""
    sums: dict[int, tuple[Path, int, list[str]]] = {}
    for folder, size, what in needed:
        disk = nearest(folder).stat().st_dev
        path, total, names = sums.get(disk, (folder, 0, []))
        sums[disk] = (path, total + size, names + ([what] if size else []))
    problems = []
    for path, total, names in sums.values():
        free = free_bytes(path)
        if total > free:
            problems.append(
                f"the disk of {path} has {free / 1e9:.2f} GB free and {total / 1e9:.2f} GB are needed "
                f"({', '.join(names)}): free {(total - free) / 1e9:.2f} GB or name a folder on another disk"
            )
    return problems


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """One run at a time on a folder; the lock ends with the process, however it ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ContentError(f"{folder}: another run {what} it now: wait for its end") from error
        yield
    finally:
        os.close(handle)
