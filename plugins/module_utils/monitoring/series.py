# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries in which `${generated}` stands for what the engines call the tokens that they made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

PLACE = re.compile(r"\$\{(\w+?)(_bucket|_sum|_count)?\}")


def filled(text: str, names: Mapping[str, Sequence[str]]) -> str:
    """`names`: key of the engines' metrics -> what each engine calls it."""
    return PLACE.sub(lambda found: _selector(found[1], found[2] or "", names), text)


def _selector(key: str, end: str, names: Mapping[str, Sequence[str]]) -> str:
    series = [f"{name}{end}" for name in names.get(key, ())]
    if len(series) == 1:
        return series[0]
    # Of several engines any; of none a series that nobody has, so that the query stays one.
    return f'{{__name__=~"{"|".join(series) or f"no-engine-counts-{key}"}"}}'


def rules(text: str, section: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Rules of Prometheus for the engines of a plan."""
    return filled(text.rstrip("\n") + "\n", section["metrics"])
