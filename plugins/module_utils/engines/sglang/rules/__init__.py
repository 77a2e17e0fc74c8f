# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations of SGLang's flags and releases that cannot work, and those that deserve a warning."""

from __future__ import annotations

from ....planner.rules.registry import Rule
from . import checkpoint, memory, quantization, service, speculative

RULES: tuple[Rule, ...] = (
    *speculative.RULES,
    *quantization.RULES,
    *memory.RULES,
    *service.RULES,
    *checkpoint.RULES,
)
