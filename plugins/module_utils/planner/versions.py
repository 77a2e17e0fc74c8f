# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Order of version numbers and the compute capabilities that a kernel file serves."""

from __future__ import annotations

import re
from collections.abc import Iterable

PARTS = re.compile(r"\d+|[a-z]+")
# A release candidate stands before its release, a post-release behind it.
WORDS = {"dev": -4, "a": -3, "b": -2, "rc": -1, "post": 1}


def version_key(version: str) -> tuple[int, ...]:
    """Sorts 0.5.9 < 0.5.10rc1 < 0.5.10 < 0.5.10.post1 and 550.54 < 550.54.15."""
    numbers: list[int] = []
    suffix: list[int] = []
    for part in PARTS.findall(version.lower().partition("+")[0].lstrip("v")):
        if part.isdigit():
            (suffix if suffix else numbers).append(int(part))
        else:
            suffix += [WORDS.get(part, 0)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    width = 6
    return (*numbers, *([0] * (width - len(numbers))), *(suffix or [0]))


def at_least(version: str, floor: str) -> bool:
    """True when the version is the floor or newer; an unknown version is given the benefit of the doubt."""
    if not version or not floor:
        return True
    return version_key(version) >= version_key(floor)


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def served(capability: str, built_for: Iterable[str]) -> bool:
    """Whether code built for these capabilities runs: same major, same minor or an older one."""
    if not capability:
        return True
    major, _dot, step = capability.partition(".")
    for built in built_for:
        built_major, _dot, built_step = built.partition(".")
        if built_major == major and int(built_step or 0) <= int(step or 0):
            return True
    return False
