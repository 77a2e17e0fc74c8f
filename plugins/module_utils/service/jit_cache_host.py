# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine compiled at its first start, as one archive: out of one host's cache, into another's.

The folder is named by environment and GPU architecture, so an archive fits wherever a folder of that name is planned.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
from typing import IO, Any, cast


class CompiledCodeError(Exception):
    """Names the archive or folder and what is wrong with it."""


def look(folder: str) -> dict[str, int]:
    """How much is there; links and whatever else is no file do not count."""
    files = _files(folder)
    return {"files": len(files), "bytes": sum(os.lstat(os.path.join(folder, name)).st_size for name in files)}


def _files(folder: str) -> list[str]:
    found = []
    for above, _folders, names in os.walk(folder):
        for name in names:
            path = os.path.join(above, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found.append(os.path.relpath(path, folder))
    return sorted(found)


def pack(folder: str, archive: str) -> str:
    """Writes the archive; its SHA-256. Times are kept: build tools compare them."""
    if not os.path.isdir(folder):
        raise CompiledCodeError(f"there is no {folder}: the engine has compiled nothing here yet")
    part = archive + ".part"
    with (
        open(part, "wb") as stream,
        gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed,
        tarfile.open(fileobj=cast(IO[bytes], packed), mode="w") as tar,
    ):
        for name in _files(folder):
            tar.add(os.path.join(folder, name), name, recursive=False, filter=_anonymous)
    os.rename(part, archive)
    return sha256_of(archive)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o700 if member.mode & 0o100 else 0o600
    return member


def unpack(archive: str, folder: str, owner: tuple[int, int], sha256: str = "") -> int:
    """Fills a folder that is not there or empty, by one rename; the number of files."""
    if sha256 and sha256_of(archive) != sha256:
        raise CompiledCodeError(f"{archive}: differs from what was packed (sha256)")
    part = folder + ".partial"
    shutil.rmtree(part, ignore_errors=True)
    above = os.path.dirname(folder)
    if not os.path.isdir(above):
        os.mkdir(above, mode=0o700)
        os.chown(above, *owner)
    os.mkdir(part, mode=0o700)
    count = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                _take(tar, member, part)
                count += 1
        for place, _folders, names in os.walk(part):
            for name in (place, *(os.path.join(place, name) for name in names)):
                os.chown(name, *owner)
        if os.path.isdir(folder):
            # Only folders: the engine makes some of them before it compiles.
            shutil.rmtree(folder)
        os.rename(part, folder)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise CompiledCodeError(f"{archive}: is damaged: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return count


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    parts = member.name.split("/")
    if not member.isfile() or member.name.startswith("/") or {"", ".", ".."} & set(parts):
        raise CompiledCodeError(f"{tar.name!s}: {member.name!r} is no file below the folder")
    path = os.path.join(folder, *parts)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    source: Any = tar.extractfile(member)
    # Made anew or not at all, so that nothing is written through a link.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700 if member.mode & 0o100 else 0o600)
    with os.fdopen(descriptor, "wb") as target:
        shutil.copyfileobj(source, target)
    os.utime(path, (member.mtime, member.mtime))


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
