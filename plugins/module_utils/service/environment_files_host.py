# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with keys and passwords that systemd reads for a unit: nobody but root may read or replace them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

LARGEST_BYTES = 65536


def file_errors(paths: Iterable[str], owner: int = 0) -> list[str]:
    """What is wrong with the files, each with the command that repairs it; `owner` is root but in tests."""
    return [error for path in paths for error in (_file(path, owner) or _folders(path, owner))]


def _file(path: str, owner: int) -> list[str]:
    try:
        found = os.lstat(path)
    except OSError as error:
        return [
            f"{path}: {error.strerror}: make it with install -m 0600 /dev/null {path} and write NAME=value lines"
        ]
    if not stat.S_ISREG(found.st_mode):
        return [f"{path} is not a regular file: replace it with one"]
    errors = []
    if found.st_uid != owner:
        errors.append(f"{path} belongs to user {found.st_uid}, not to root: chown root {path}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        errors.append(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o} and can be used by others: chmod 0600 {path}"
        )
    if found.st_size > LARGEST_BYTES:
        errors.append(
            f"{path} has {found.st_size} bytes, more than {LARGEST_BYTES}: keep only NAME=value lines in it"
        )
    return errors


def _folders(path: str, owner: int) -> list[str]:
    """A folder that others can write to lets them put another file in its place."""
    errors = []
    folder = os.path.dirname(path)
    while True:
        found = os.lstat(folder)
        sticky = bool(found.st_mode & stat.S_ISVTX)
        if not stat.S_ISDIR(found.st_mode):
            errors.append(f"{folder}, above {path}, is a link: name the file by its real path")
        elif found.st_uid not in (0, owner) or (found.st_mode & 0o022 and not sticky):
            errors.append(
                f"{folder}, above {path}, can be written to by others than root: chown root {folder}; chmod go-w {folder}"
            )
        if folder == os.path.dirname(folder):
            return errors
        folder = os.path.dirname(folder)
