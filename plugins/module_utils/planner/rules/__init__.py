# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations that cannot work, and those that deserve a word: one small function each."""

from __future__ import annotations

from ..case import Case
from . import checkpoint, fabric, memory, quantization, service, speculative
from .registry import Outcome, Rule

RULES: tuple[Rule, ...] = (
    *speculative.RULES,
    *quantization.RULES,
    *memory.RULES,
    *service.RULES,
    *checkpoint.RULES,
    *fabric.RULES,
)


def judge(case: Case) -> Outcome:
    """Everything that the rules say about a case."""
    outcome = Outcome()
    for rule in RULES:
        outcome.add(rule, case)
    return outcome
