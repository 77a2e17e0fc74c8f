# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine compiled at its first start, as one archive: out of one host's cache, into another's.

The folder is named by environment and GPU architecture, so an archive fits wherever a folder of that name is planned.
The service user can change everything in the folder at any time, so all of this runs as that user: the archive is an
open file, which root has opened in a folder of its own.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from typing import IO, Any, cast

MOST_FILES = 500_000
MOST_BYTES = 64 << 30
MOST_PADDING = 1 << 20
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class JitCacheError(Exception):
    """Names the archive or folder and what is wrong with it."""


def look(folder: str) -> dict[str, int]:
    """How much is there; links and whatever else is no file do not count."""
    count = size = 0
    for _name, found, _descriptor in _files(folder, read=False) if os.path.isdir(folder) else ():
        count, size = count + 1, size + found.st_size
    return {"files": count, "bytes": size}


def _files(folder: str, read: bool) -> Any:
    """(name, state, descriptor) of each regular file; folders are entered by descriptor, links never."""
    found = []
    for place, _folders, names, above in os.fwalk(folder, follow_symlinks=False):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISREG(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                    found.append(os.path.relpath(os.path.join(place, name), folder))
    count = size = 0
    for name in sorted(found):
        path = os.path.join(folder, name)
        try:
            descriptor = os.open(path, FILE) if read else -1
        except OSError:
            continue
        try:
            state = os.fstat(descriptor) if read else os.lstat(path)
            count, size = count + 1, size + state.st_size
            if count > MOST_FILES or size > MOST_BYTES:
                raise JitCacheError(f"{folder}: more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB")
            if stat.S_ISREG(state.st_mode):
                yield name, state, descriptor
        finally:
            if read:
                os.close(descriptor)


def pack(folder: str, target: int) -> int:
    """Writes the archive into an open file; the number of files. Times are kept: build tools compare them."""
    if not os.path.isdir(folder):
        raise JitCacheError(f"there is no {folder}: the engine has compiled nothing here yet")
    count = 0
    with (
        os.fdopen(os.dup(target), "wb") as stream,
        gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed,
        tarfile.open(fileobj=cast(IO[bytes], packed), mode="w") as tar,
    ):
        for name, state, descriptor in _files(folder, read=True):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = state.st_size, int(state.st_mtime)
            member.mode = 0o700 if state.st_mode & 0o100 else 0o600
            with os.fdopen(os.dup(descriptor), "rb") as source:
                tar.addfile(member, source)
            count += 1
    return count


def unpack(source: int, folder: str) -> int:
    """Fills a folder that is not there or empty, by one rename, from an open file; the number of files."""
    part = folder + ".partial"
    shutil.rmtree(part, ignore_errors=True)
    above = os.path.dirname(folder)
    if not os.path.isdir(above):
        os.mkdir(above, mode=0o700)
    os.mkdir(part, mode=0o700)
    count = size = 0
    try:
        with (
            os.fdopen(os.dup(source), "rb") as stream,
            gzip.GzipFile(fileobj=stream, mode="rb") as packed,
            tarfile.open(fileobj=cast(IO[bytes], packed), mode="r:") as tar,
        ):
            for member in tar:
                count, size = count + 1, size + member.size
                if count > MOST_FILES or size > MOST_BYTES:
                    raise JitCacheError(
                        f"the archive holds more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB"
                    )
                _take(tar, member, part)
            # To the end, where the checksum is.
            if len(packed.read(MOST_PADDING + 1)) > MOST_PADDING:
                raise JitCacheError("the archive is damaged: it goes on after its end")
        if os.path.isdir(folder):
            # Only folders: the engine makes some of them before it compiles.
            shutil.rmtree(folder)
        os.rename(part, folder)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise JitCacheError(f"the archive is damaged: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    parts = member.name.split("/")
    if not member.isfile() or member.name.startswith("/") or {"", ".", ".."} & set(parts):
        raise JitCacheError(f"{member.name!r} in the archive is not a file below the folder")
    path = os.path.join(folder, *parts)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    source: Any = tar.extractfile(member)
    # Made anew or not at all, so that nothing is written through a link.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if member.mode & 0o100 else 0o600)
    with os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
    os.utime(path, (member.mtime, member.mtime))


def sha256_of(descriptor: int) -> str:
    """Of an open file from its beginning, where it is left for the next reader."""
    digest = hashlib.sha256()
    os.lseek(descriptor, 0, os.SEEK_SET)
    while block := os.read(descriptor, 1 << 20):
        digest.update(block)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return digest.hexdigest()
