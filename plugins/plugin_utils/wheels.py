# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels of a hash-pinned lock, and which of them an installer on a host would take.

Runs on the controller only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PIN = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)\s*(?:;\s*(.*?)\s*)?(?:--hash|\Z)")


class FetchError(Exception):
    """Says which file could not be had, and what would help."""


@dataclass(frozen=True)
class Pin:
    name: str
    version: str
    sha256: frozenset[str]
    marker: str = ""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Wheel:
    name: str
    filename: str
    sha256: str
    url: str = ""
    size: int = 0
    """0 where the index does not say it."""


@dataclass(frozen=True)
class Target:
    """What wheels must fit."""

    python: str
    arch: str
    glibc: str

    def __str__(self) -> str:
        return f"Python {self.python} on {self.arch} with glibc {self.glibc}"


def parse_lock(text: str) -> list[Pin]:
    """The pins of a requirements file with hashes."""
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        if match := PIN.match(line.strip()):
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
            pins.append(Pin(match[1], match[2], hashes, match[3] or ""))
    return pins


def pins_for(text: str, target: Target) -> list[Pin]:
    """The pins of a lock that this target installs."""
    from packaging.markers import Marker

    values = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": target.arch,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": "linux",
        "extra": "",
    }
    return [pin for pin in parse_lock(text) if not pin.marker or Marker(pin.marker).evaluate(values)]


def wheel_tags(python: str, arch: str, glibc: str) -> dict[str, int]:
    """Every tag that the target installs, with its rank: lower is preferred."""
    from packaging import tags

    major, minor = (int(part) for part in python.split("."))
    newest = int(glibc.split(".")[1])
    platforms = [f"manylinux_2_{number}_{arch}" for number in range(newest, 4, -1)]
    platforms += [f"manylinux{year}_{arch}" for year in ("2014", "2010", "1")] + [f"linux_{arch}"]
    interpreter = f"cp{major}{minor}"
    ordered = [
        *tags.cpython_tags((major, minor), [interpreter], platforms),
        *tags.compatible_tags((major, minor), interpreter, platforms),
    ]
    return {str(tag): rank for rank, tag in reversed(list(enumerate(ordered)))}


def best_wheel(files: Iterable[Wheel], ranks: dict[str, int]) -> Wheel | None:
    """The file that an installer on the target would take."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    best: tuple[int, Wheel] | None = None
    for wheel in files:
        try:
            tags = parse_wheel_filename(wheel.filename)[3]
        except InvalidWheelFilename:
            continue
        fitting = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
        if fitting and (best is None or min(fitting) < best[0]):
            best = (min(fitting), wheel)
    return best[1] if best else None


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
