# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations that cannot work, and those that deserve a word: one small function each.

Those that any engine has are here; an engine brings its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..case import Case
from . import fabric, hosts
from .registry import Outcome, Rule

RULES: tuple[Rule, ...] = (*hosts.RULES, *fabric.RULES)


def judge(case: Case, of_engine: Iterable[Rule]) -> Outcome:
    """Everything that the rules say about a case."""
    outcome = Outcome()
    for rule in (*of_engine, *RULES):
        outcome.add(rule, case)
    return outcome
