# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of the service user, made and removed by root, on paths that only root can change."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat

MOST_LINKS = 16
MOST_ROUNDS = 100_000
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ACLS = ("system.posix_acl_access", "system.posix_acl_default")


class UnsafeFolderError(OSError):
    """Names the folder and why root does not change it."""


def open_trusted(path: str) -> int:
    """A descriptor of a folder on a path that only root can change; the caller closes it."""
    todo = [name for name in os.path.abspath(path).split("/") if name]
    links = 0
    folder = os.open("/", FOLDER)
    try:
        _require_trusted(folder, "/")
        while todo:
            name = todo.pop(0)
            try:
                found = os.open(name, FOLDER, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                # Root's own link, such as /var/cache/sglang to another disk: the folder that holds it is trusted.
                target = _link(name, folder, path)
                links += 1
                if links > MOST_LINKS:
                    raise UnsafeFolderError(errno.ELOOP, f"{path}: too many links") from None
                todo[:0] = [part for part in target.split("/") if part and part != "."]
                if not target.startswith("/"):
                    continue
                found = os.open("/", FOLDER)
            os.close(folder)
            folder = found
            _require_trusted(folder, path)
        return folder
    except BaseException:
        os.close(folder)
        raise


def _link(name: str, folder: int, path: str) -> str:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode) or found.st_uid not in (0, os.geteuid()):
        raise UnsafeFolderError(errno.ENOTDIR, f"{path}: {name} must be a folder or a link of root's")
    return os.readlink(name, dir_fd=folder)


def _require_trusted(folder: int, path: str) -> None:
    found = os.fstat(folder)
    shared = found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid)
    if found.st_uid not in (0, os.geteuid()) or (shared and not found.st_mode & stat.S_ISVTX):
        place = os.readlink(f"/proc/self/fd/{folder}")
        raise UnsafeFolderError(
            errno.EPERM,
            f"{path}: {place} can be changed by user {found.st_uid} or by others; it must be root's",
        )


def make_folder(path: str, uid: int, gid: int, mode: int, dry: bool = False) -> bool:
    """Makes the folder, or gives one that is there this owner and mode; True where something changed.

    Folders above it that are missing become root's. A link or a file in its place is refused: whoever could write the
    parent before may have put it there.
    """
    above, name = os.path.split(os.path.abspath(path))
    try:
        parent = open_trusted(above)
    except FileNotFoundError:
        if dry:
            return True
        make_folder(above, os.geteuid(), os.getegid(), 0o755)
        parent = open_trusted(above)
    try:
        changed = False
        if not _there(name, parent):
            if dry:
                return True
            os.mkdir(name, mode=0o700, dir_fd=parent)
            changed = True
        try:
            folder = os.open(name, FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            folder = _followed(path, name, parent, uid)
        try:
            return _owned(folder, uid, gid, mode, dry) or changed
        finally:
            os.close(folder)
    finally:
        os.close(parent)


def _followed(path: str, name: str, parent: int, uid: int) -> int:
    """Root may have put one of its own folders on another disk by a link."""
    if uid == 0 and os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid == 0:
        above, last = os.path.split(os.path.realpath(path))
        real = open_trusted(above)
        try:
            return os.open(last, FOLDER, dir_fd=real)
        finally:
            os.close(real)
    raise UnsafeFolderError(
        errno.ENOTDIR,
        f"{path}: is a link or a file, must be a folder; remove it, or mount a file system there",
    )


def _there(name: str, parent: int) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _owned(folder: int, uid: int, gid: int, mode: int, dry: bool) -> bool:
    found = os.fstat(folder)
    lists = [name for name in ACLS if uid == 0 and name in _attributes(folder)]
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, mode) and not lists:
        return False
    if not dry:
        os.fchown(folder, uid, gid)
        for name in lists:
            os.removexattr(folder, name)
        os.fchmod(folder, mode)
    return True


def _attributes(folder: int) -> list[str]:
    try:
        return os.listxattr(folder)
    except OSError:
        return []


def remove_tree(path: str) -> bool:
    """Removes a file, a link or a whole folder, however deep; True where something was there.

    Works with descriptors, so that a folder that changes places with a link leads nowhere.
    """
    above, name = os.path.split(os.path.abspath(path))
    try:
        parent = open_trusted(above)
    except FileNotFoundError:
        return False
    try:
        if not _there(name, parent):
            return False
        if not _unlinked(name, parent):
            _empty(name, parent)
            os.rmdir(name, dir_fd=parent)
        return True
    finally:
        os.close(parent)


def _empty(name: str, parent: int) -> None:
    """Folders below the first level are moved up to it, so that no depth needs more than two descriptors."""
    top = os.open(name, FOLDER, dir_fd=parent)
    try:
        for _round in range(MOST_ROUNDS):
            entries = os.listdir(top)
            if not entries:
                return
            for entry in entries:
                if not _unlinked(entry, top):
                    _flatten(entry, top)
        raise OSError(errno.EBUSY, f"{name}: is filled while it is removed; stop what writes there")
    finally:
        os.close(top)


def _flatten(name: str, top: int) -> None:
    folder = os.open(name, FOLDER, dir_fd=top)
    try:
        for entry in os.listdir(folder):
            if not _unlinked(entry, folder):
                os.rename(entry, f".{secrets.token_hex(12)}", src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    """False for a folder."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        raise
    return True
