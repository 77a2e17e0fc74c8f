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
    sizes: dict[str, set[int]] = {}
    for packages in glob.glob(os.path.join(environment, "lib", "python*", "site-packages")):
        for record in sorted(glob.glob(os.path.join(packages, "*.dist-info", "RECORD"))):
            for name, size in _listed(record):
                # Some wheels bring a file of the same name; the last one installed is there.
                sizes.setdefault(os.path.join(packages, name), set()).add(size)
    problems = ((path, _problem(path, listed, finished)) for path, listed in sizes.items())
    return [f"{os.path.relpath(path, environment)}: {problem}" for path, problem in problems if problem]


def _listed(record: str) -> Iterator[tuple[str, int]]:
    """Files with their sizes; a file without one, as the RECORD itself, is left out."""
    try:
        with open(record, encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if len(row) == 3 and row[2].isdigit():
                    yield row[0], int(row[2])
    except (OSError, ValueError, csv.Error):
        return


def _problem(path: str, sizes: set[int], finished: float) -> str:
    try:
        seen = os.stat(path)
    except OSError:
        return "is gone"
    if seen.st_size not in sizes:
        return f"has {seen.st_size} bytes, {' or '.join(map(str, sorted(sizes)))} were installed"
    return "was written after the installation" if seen.st_mtime > finished else ""
