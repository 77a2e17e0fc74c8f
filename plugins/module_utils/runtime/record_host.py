# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the files of an environment are still those that were installed, by size and time; none is read."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator


def changed_files(environment: str, stamp: str) -> list[str]:
    """`path: what is wrong`, for files that a RECORD lists; `stamp` was written when the environment was finished."""
    try:
        finished = os.stat(os.path.join(environment, stamp)).st_mtime
    except OSError:
        return []
    found = []
    for packages in glob.glob(os.path.join(environment, "lib", "python*", "site-packages")):
        for record in sorted(glob.glob(os.path.join(packages, "*.dist-info", "RECORD"))):
            for name, size in _listed(record):
                problem = _problem(os.path.join(packages, name), size, finished)
                if problem:
                    found.append(f"{os.path.relpath(os.path.join(packages, name), environment)}: {problem}")
    return found


def _listed(record: str) -> Iterator[tuple[str, int]]:
    """Files with their sizes; a file without one, as the RECORD itself, is left out."""
    try:
        with open(record, encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if len(row) == 3 and row[2].isdigit():
                    yield row[0], int(row[2])
    except (OSError, ValueError, csv.Error):
        return


def _problem(path: str, size: int, finished: float) -> str:
    try:
        seen = os.stat(path)
    except OSError:
        return "is gone"
    if seen.st_size != size:
        return f"has {seen.st_size} bytes, {size} were installed"
    return "was written after the installation" if seen.st_mtime > finished else ""
