# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's files of a swarm: what is there, what is lacking, and what was proven before."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import metainfo as swarm_metainfo

CHUNK = 4 << 20
READERS = 4
DONE, DESCRIPTION, ORDER, STATUS = "done.json", "content.torrent", "order.json", "status.json"
LARGEST_STATUS = 1 << 18
Entry = dict[str, Any]


class HostError(Exception):
    """Names the file and what is wrong with it."""


def identity(name: str, files: Iterable[Entry]) -> str:
    """One hash for a name and a list of files: where what is known about them is kept."""
    lines = [f"{entry['sha256']} {entry['size']} {entry['path']}\n" for entry in files]
    return hashlib.sha256((name + "\n" + "".join(sorted(lines))).encode()).hexdigest()


def home_of(state: str, name: str, files: Iterable[Entry]) -> str:
    return os.path.join(state, identity(name, files)[:20])


def path_at_source(entry: Entry) -> str:
    return str(entry.get("source_path") or entry["path"])


def unsafe_names(files: Iterable[Entry]) -> list[str]:
    """Names that would leave the folder, hide in it, or stand for two files."""
    problems, seen = [], set()
    for entry in files:
        path = str(entry["path"])
        parts = path.split("/")
        if os.path.isabs(path) or any(part in ("", ".", "..") for part in parts) or "\0" in path:
            problems.append(f"the name {path!r} would leave the folder")
        if path in seen:
            problems.append(f"{path} is listed twice")
        origin = str(entry.get("source_path") or "")
        if origin and {"", ".", ".."} & set(origin.split("/")):
            problems.append(f"the name {origin!r} would leave the source")
        seen.add(path)
    problems += [
        f"{path} is a file and a folder"
        for path in sorted(seen)
        if any(o.startswith(path + "/") for o in seen)
    ]
    return problems


def links_below(folder: str, files: Iterable[Entry]) -> list[str]:
    """Symbolic links, or other things that are no files, where a file or a folder of the list has to be."""
    problems = set()
    for entry in files:
        place = folder
        parts = str(entry["path"]).split("/")
        for depth, part in enumerate(parts):
            place = os.path.join(place, part)
            try:
                mode = os.lstat(place).st_mode
            except FileNotFoundError:
                break
            except NotADirectoryError:
                break
            if stat.S_ISLNK(mode):
                problems.add(f"{place} is a symbolic link")
                break
            wanted = stat.S_ISREG if depth == len(parts) - 1 else stat.S_ISDIR
            if not wanted(mode):
                problems.add(f"{place} is not a {'file' if depth == len(parts) - 1 else 'folder'}")
                break
    return sorted(problems)


def absent(folder: str, files: Iterable[Entry]) -> list[Entry]:
    """Files that are not there with their size; the content is judged by the agent, or before anything is given."""
    lacking = []
    for entry in files:
        try:
            there = os.lstat(os.path.join(folder, entry["path"]))
        except (FileNotFoundError, NotADirectoryError):
            lacking.append(entry)
            continue
        if there.st_size != entry["size"]:
            lacking.append(entry)
    return lacking


def bytes_to_write(folder: str, files: Iterable[Entry]) -> int:
    """What the disk still has to take: a file that was begun has its blocks already."""
    needed = 0
    for entry in files:
        try:
            held = os.lstat(os.path.join(folder, entry["path"])).st_blocks * 512
        except (FileNotFoundError, NotADirectoryError):
            held = 0
        needed += max(0, int(entry["size"]) - held)
    return needed


def existing_parent(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def free_bytes(folder: str) -> int:
    disk = os.statvfs(existing_parent(folder))
    return disk.f_bavail * disk.f_frsize


def numeric_address(name: str) -> str:
    """The address of this host that a name stands for; an OSError when it has no such address."""
    problem: OSError | None = None
    for family, _unused, _unused2, _unused3, where in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM):
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            try:
                trial.bind((where[0], 0))
                return str(where[0])
            except OSError as error:
                problem = error
    raise problem or OSError(errno.EADDRNOTAVAIL, "no such address")


def port_is_free(address: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((address, port))
        except OSError:
            return False
    return True


def write_json(path: str, value: Any) -> None:
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(value, stream)
    os.replace(path + ".new", path)


def read_json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def read_of_agent(path: str) -> Any:
    """JSON that the agent wrote where nobody else writes: it may have put anything in the place of its file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(LARGEST_STATUS + 1)
    finally:
        os.close(descriptor)
    if len(content) > LARGEST_STATUS:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def prints(folder: str, files: Iterable[Entry]) -> dict[str, list[int]]:
    """Size and time of change of each file: what a proof holds for."""
    found = {}
    for entry in files:
        there = os.lstat(os.path.join(folder, entry["path"]))
        found[entry["path"]] = [there.st_size, there.st_mtime_ns]
    return found


def remember(home: str, folder: str, files: Iterable[Entry]) -> None:
    """Writes down that every piece of these files was verified."""
    write_json(os.path.join(home, DONE), {"folder": folder, "prints": prints(folder, files)})


def is_proven(home: str, folder: str, files: list[Entry]) -> bool:
    """Whether these very files were verified here and nobody touched them since."""
    done = read_json(os.path.join(home, DONE))
    if not done or done.get("folder") != folder or not os.path.isfile(os.path.join(home, DESCRIPTION)):
        return False
    try:
        return bool(prints(folder, files) == done["prints"])
    except OSError:
        return False


def hash_file(folder: str, entry: Entry, length: int) -> swarm_metainfo.HashedFile:
    """Reads a file once and gives its pages back."""
    hasher = swarm_metainfo.FileHasher(entry["path"], length)
    descriptor = os.open(os.path.join(folder, entry["path"]), os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, "rb", buffering=0) as stream:
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        filled, at = 0, 0
        while True:
            count = stream.readinto(view[filled:])
            filled += count or 0
            if filled == CHUNK or not count:
                hasher.update(view[:filled])
                at, filled = at + filled, 0
                with contextlib.suppress(OSError):
                    os.posix_fadvise(descriptor, 0, at, os.POSIX_FADV_DONTNEED)
            if not count:
                return hasher.finish()


def describe(name: str, folder: str, files: list[Entry]) -> bytes:
    """The description of files that are right; every file that is not is named."""
    length = swarm_metainfo.piece_length(sum(int(entry["size"]) for entry in files))

    def look(entry: Entry) -> Any:
        try:
            hashed = hash_file(folder, entry, length)
        except OSError as error:
            return f"{entry['path']}: {error.strerror}"
        if hashed.size != entry["size"]:
            return f"{entry['path']}: {hashed.size} bytes instead of {entry['size']}"
        return hashed if hashed.sha256 == entry["sha256"] else f"{entry['path']}: content differs (sha256)"

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(look, files))
    problems = [line for line in found if isinstance(line, str)]
    if problems:
        raise HostError(f"{folder} is not what was listed: " + "; ".join(problems[:20]))
    return swarm_metainfo.metainfo(name, length, found)


def copy_in(source: str, folder: str, files: Iterable[Entry]) -> None:
    """Brings files from a folder that the host itself reads, such as a mounted disk."""
    for entry in files:
        target = os.path.join(folder, entry["path"])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.join(source, path_at_source(entry)), target, follow_symlinks=False)
