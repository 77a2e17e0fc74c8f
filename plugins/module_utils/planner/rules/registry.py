# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule is, and how it says what it found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Callable, Union

from ...core.refusals import Advice, Refusal
from ..case import Case
from ..versions import version_key

Finding = Union[Refusal, Advice]


@dataclass(frozen=True)
class Rule:
    code: str
    reason: str
    """Why the rule is there; the documentation lists it."""
    check: Callable[[Case], Iterable[Finding]]
    of_release: bool = False
    """Another release may do: the planner tries the next older one before it refuses."""


@dataclass
class Outcome:
    refusals: list[Refusal] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    of_release: list[Refusal] = field(default_factory=list)
    """Those among the refusals that another release may lift."""

    def add(self, rule: Rule, case: Case) -> None:
        for finding in rule.check(case):
            if isinstance(finding, Advice):
                self.advice.append(finding)
                continue
            self.refusals.append(finding)
            if rule.of_release:
                self.of_release.append(finding)


def releases_with(case: Case, test: Callable[[tuple[str, ...]], bool]) -> list[str]:
    """Releases whose features pass, newest last."""
    found = [item for item in case.data.releases.values() if test(item.features)]
    return [item.key for item in sorted(found, key=lambda item: version_key(item.version))]


def true_text(value: object) -> bool:
    return str(value).strip().lower() in ("1", "true", "yes", "on", "y", "t")
