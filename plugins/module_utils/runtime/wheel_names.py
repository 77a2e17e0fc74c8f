# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What names and directories of wheels say, without unpacking any."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterable
from typing import Any

BLOCK = 4096


def distribution(filename: str) -> str:
    """The name and version of a wheel, spelt one way."""
    name, version = filename.split("-")[:2]
    return f"{re.sub('[-_.]+', '_', name).lower()}-{version}"


def is_wheel(path: str) -> bool:
    return path.endswith(".whl")


def foreign(paths: Iterable[str], machine: str) -> list[str]:
    """Wheels that were built for another kind of machine."""
    found = []
    for path in paths:
        platforms = posixpath.basename(path)[: -len(".whl")].rsplit("-", 1)[-1].split(".")
        if not any(platform == "any" or platform.endswith(f"_{machine}") for platform in platforms):
            found.append(posixpath.basename(path))
    return found


def pins(lock: str) -> dict[str, set[str]]:
    """Each requirement of a lock, with the hashes that may meet it."""
    found = {}
    for line in lock.replace("\\\n", " ").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line.strip())
        if match:
            found[f"{match[1]}=={match[2]}"] = set(re.findall("--hash=sha256:([0-9a-f]{64})", line))
    return found


def unmet(pinned: dict[str, set[str]], files: Iterable[dict[str, Any]]) -> list[str]:
    """Requirements for which no file with a hash of the lock is at hand."""
    here = {str(entry["sha256"]) for entry in files}
    return [name for name, hashes in pinned.items() if not hashes & here]


def unpacked_bytes(path: str) -> int:
    """What a wheel takes on a disk of 4 KiB blocks, by its own table of contents."""
    with zipfile.ZipFile(path) as wheel:
        entries = wheel.infolist()
    folders = {entry.filename.rsplit("/", 1)[0] for entry in entries}
    return sum(-(-entry.file_size // BLOCK) * BLOCK for entry in entries) + len(folders) * BLOCK
