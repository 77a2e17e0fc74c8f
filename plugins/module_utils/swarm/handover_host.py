# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only folder of the weights' disk that the agent may write to, and how its files become root's again.

    <staging>/            root's
    <staging>/.arriving/  the agent's, only while a fan-out runs

Root gives the agent what is unfinished, and takes it back when the agent has ended. On the way back nothing is followed
and nothing is trusted: every step holds a descriptor of the folder it is in; a file counts only if it is a regular file
with one name that nobody has open for writing. Its content is judged afterwards, when it is root's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

ARRIVING = ".arriving"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO that was put in a file's place is opened without waiting for its other end.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NO_LEASES = (errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class HandoverError(Exception):
    """Names the file and what is wrong with it."""


def arriving(staging: str) -> str:
    return os.path.join(staging, ARRIVING)


def give(staging: str, files: Iterable[Mapping[str, Any]], uid: int, gid: int) -> str:
    """Makes the agent's folder and moves unfinished files into it; what has another name elsewhere is only shown."""
    folder = arriving(staging)
    wipe(staging)
    os.mkdir(folder, 0o700)
    with _opened(staging) as outer, _opened(folder) as inner:
        for entry in files:
            *above, name = str(entry["path"]).split("/")
            with (
                _below(inner, above, make=(uid, gid)) as target,
                contextlib.suppress(FileNotFoundError),
                _below(outer, above) as source,
            ):
                _give_one(source, target, name, uid, gid)
        os.fchown(inner, uid, gid)
    return folder


def _give_one(source: int, target: int, name: str, uid: int, gid: int) -> None:
    descriptor = os.open(name, FILE, dir_fd=source)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise HandoverError(f"{name} is not a file")
        if found.st_nlink > 1:
            # An engine may read it under its other name: it stays root's, and the agent cannot write to it.
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            return
        os.fchmod(descriptor, 0o600)
        os.fchown(descriptor, uid, gid)
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    finally:
        os.close(descriptor)


def take(staging: str, files: Iterable[Mapping[str, Any]], uid: int) -> list[str]:
    """Makes what arrived root's, in its place; names what is not taken. Only once no process of the agent is left."""
    refused: list[str] = []
    folder = arriving(staging)
    try:
        inner = os.open(folder, FOLDER)
    except FileNotFoundError:
        return []
    except OSError:
        # A link or a file in its place; the folder above it is root's, so no agent of ours put it there.
        raise HandoverError(f"{folder} is not a folder") from None
    try:
        # From here on nobody but root finds a way in, whatever may still hold a descriptor.
        os.fchown(inner, 0, 0)
        os.fchmod(inner, 0o700)
        with _opened(staging) as outer:
            for entry in files:
                problem = _take_one(inner, outer, str(entry["path"]), int(entry["size"]), uid)
                refused += [f"{entry['path']}: {problem}"] if problem else []
    finally:
        os.close(inner)
    wipe(staging)
    return refused


def _take_one(inner: int, outer: int, path: str, size: int, uid: int) -> str:
    """Why it stays where it is; empty when it was taken, or was not there."""
    *above, name = path.split("/")
    try:
        with _below(inner, above) as source:
            try:
                descriptor = os.open(name, FILE, dir_fd=source)
            except OSError as error:
                # ENXIO is a socket; ELOOP a symbolic link.
                return "" if error.errno == errno.ENOENT else "is not a file"
            try:
                problem = _judge(descriptor, size, uid)
                if problem is None:
                    return ""
                if problem:
                    return problem
                os.fchown(descriptor, 0, 0)
                os.fchmod(descriptor, 0o600)
                _strip(descriptor)
                problem = _written_to(descriptor)
                if problem:
                    return problem
                with _below(outer, above, make=(0, 0)) as target:
                    _move(descriptor, source, target, name)
            finally:
                os.close(descriptor)
    except HandoverError as error:
        return str(error)
    except FileNotFoundError:
        return ""
    return ""


def _judge(descriptor: int, size: int, uid: int) -> str | None:
    """What is wrong with a file; None for one of root's that was only shown to the agent."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid == 0:
        return None
    if found.st_uid != uid:
        return "belongs to another user"
    if found.st_nlink != 1:
        return "has another name elsewhere"
    if found.st_size > size:
        return f"has {found.st_size} bytes instead of {size}"
    return ""


def _strip(descriptor: int) -> None:
    """Access lists, by which the agent may have let others in, outlive the owner."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(descriptor):
            with contextlib.suppress(OSError):
                os.removexattr(descriptor, name)


def _written_to(descriptor: int) -> str:
    """A lease for reading is given only while nobody has the file open for writing, or mapped so."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in NO_LEASES:
            return ""
        return "is still open for writing"
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return ""


def _move(descriptor: int, source: int, target: int, name: str) -> None:
    """By name, and then it must be what was judged."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(name, dir_fd=target, follow_symlinks=False).st_nlink > 1:
            # The link to a published file was there before the agent, and is better.
            return
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    there, meant = os.stat(name, dir_fd=target, follow_symlinks=False), os.fstat(descriptor)
    if (there.st_dev, there.st_ino, there.st_nlink) != (meant.st_dev, meant.st_ino, 1):
        os.unlink(name, dir_fd=target)
        raise HandoverError("was exchanged")


def wipe(staging: str) -> None:
    """The agent's folder and all in it."""
    remove(arriving(staging))


def remove(path: str) -> None:
    """Whatever an agent made of it: follows no link, and no folder is too deep for it, as one is for shutil.

    What lies in a folder is moved up before the folder goes, so that one descriptor is enough.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    moved = 0
    with _opened(path) as top:
        while names := os.listdir(top):
            for name in names:
                if stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                    moved = _flatten(top, name, moved)
                else:
                    os.unlink(name, dir_fd=top)
    os.rmdir(path)


def _flatten(top: int, name: str, moved: int) -> int:
    child = os.open(name, FOLDER, dir_fd=top)
    try:
        for inner in os.listdir(child):
            moved += 1
            while os.path.lexists(f"/proc/self/fd/{top}/{moved}"):
                moved += 1
            os.rename(inner, str(moved), src_dir_fd=child, dst_dir_fd=top)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=top)
    return moved


def show(folder: str, files: Iterable[Mapping[str, Any]]) -> None:
    """What a host gives becomes readable for the agent; it sees the folder itself, whatever lies above it."""
    with _opened(folder) as outer:
        _widen(outer, 0o055)
        for entry in files:
            *above, name = str(entry["path"]).split("/")
            for depth in range(len(above)):
                with _below(outer, above[: depth + 1]) as below:
                    _widen(below, 0o055)
            with _below(outer, above) as below:
                descriptor = os.open(name, FILE, dir_fd=below)
                try:
                    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                        raise HandoverError(f"{entry['path']} is not a file")
                    _widen(descriptor, 0o044)
                finally:
                    os.close(descriptor)


def _widen(descriptor: int, bits: int) -> None:
    """Only where it must be: a change of mode is a change, and what was verified before would be read again."""
    found = os.fstat(descriptor)
    if found.st_mode & bits == bits:
        return
    if found.st_uid != os.geteuid():
        raise HandoverError("belongs to another user, and the agent cannot read it")
    os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | bits)


def held(staging: str, files: Iterable[Mapping[str, Any]]) -> int:
    """Blocks that an agent of a run that was cut off has filled, in bytes: they need no space again."""
    total = 0
    for entry in files:
        with contextlib.suppress(OSError):
            total += os.lstat(os.path.join(arriving(staging), str(entry["path"]))).st_blocks * 512
    return total


@contextlib.contextmanager
def _opened(folder: str) -> Iterator[int]:
    descriptor = os.open(folder, FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _below(folder: int, names: list[str], make: tuple[int, int] | None = None) -> Iterator[int]:
    """A descriptor of a folder below another one, step by step; with `make` steps that are missing are made."""
    current = os.dup(folder)
    try:
        for name in names:
            if make is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=current)
            try:
                following = os.open(name, FOLDER, dir_fd=current)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise HandoverError(f"{name} is not a folder") from None
                raise
            os.close(current)
            current = following
            if make is not None:
                os.fchown(current, *make)
        yield current
    finally:
        os.close(current)
