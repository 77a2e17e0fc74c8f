# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tool calls by category, in the names and the order of BFCL v3; the questions are ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ORDER = (
    "simple", "multiple", "parallel", "parallel_multiple", "java", "javascript", "irrelevance", "live_simple",
    "live_multiple", "live_parallel", "live_parallel_multiple", "rest", "sql",
)  # fmt: skip


def tally(judged: Iterable[tuple[str, bool]]) -> dict[str, dict[str, int]]:
    """Category -> {asked, right}."""
    found: dict[str, dict[str, int]] = {}
    for category, right in judged:
        one = found.setdefault(category, {"asked": 0, "right": 0})
        one["asked"] += 1
        one["right"] += int(right)
    return found


def table(records: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows): a row a category, a column an instance, and the mean of all questions at the end."""
    counted: dict[str, dict[str, dict[str, int]]] = {}
    for record in records:
        for category, one in record.get("accuracy", {}).get("categories", {}).items():
            counted.setdefault(str(record["instance"]), {})[category] = one
    if not counted:
        return [], []
    names = [name for name in ORDER if any(name in found for found in counted.values())]
    rows = [
        [name, *(_share([found[name]] if name in found else []) for found in counted.values())]
        for name in names
    ]
    rows.append(["OVERALL", *(_share(list(found.values())) for found in counted.values())])
    return ["category", *counted], rows


def _share(counts: Sequence[Mapping[str, int]]) -> str:
    asked = sum(one["asked"] for one in counts)
    return f"{sum(one['right'] for one in counts) / asked:.2%}" if asked else "-"


def lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """The table in Markdown."""
    heads, rows = table(records)
    if not rows:
        return []
    bars = ["---", *("---:" for _head in heads[1:])]
    return ["", *(f"| {' | '.join(cells)} |" for cells in (heads, bars, *rows))]
