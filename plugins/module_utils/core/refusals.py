# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner says about input that cannot work, or that works but deserves a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Refusal:
    """One reason not to go on: what is wrong, where it was said, and what would work."""

    code: str
    """Stable, kebab-case; tests and documentation refer to it."""
    host: str
    """The inventory host, or "" when it concerns the whole inventory."""
    where: str
    """The inventory key, file or fact, with its value: `serve.glm-4.7.model = glm-4.7`."""
    what: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        place = f"{self.where} on {self.host}" if self.host else self.where
        return [f"REFUSED  {place}", f"  {self.what}", f"  {self.fix}"]


@dataclass(frozen=True)
class Advice:
    """Something unwise or unproven that does not stop the run."""

    code: str
    host: str
    where: str
    what: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def text_lines(refusals: Iterable[Refusal]) -> list[str]:
    """Every refusal; what is the same on several hosts is said once and names them all."""
    hosts: dict[Refusal, list[str]] = {}
    for refusal in refusals:
        hosts.setdefault(replace(refusal, host=""), []).append(refusal.host)
    return [
        line
        for refusal, names in hosts.items()
        for line in replace(refusal, host=", ".join(dict.fromkeys(name for name in names if name))).lines()
    ]


class RefusedError(Exception):
    """Carries every refusal found, never only the first."""

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = list(refusals)
        super().__init__("\n".join(text_lines(self.refusals)))


def closest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The known names that a typing error most likely meant, best first."""
    return difflib.get_close_matches(name, list(known), n=count, cutoff=0.5)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a refusal about an unknown name."""
    names = sorted(known)
    near = closest(name, names)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(names)}" if names else "none is known"
