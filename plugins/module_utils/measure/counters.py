# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own counters (/metrics), and how far ours agree with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(\{[^}]*\})?\s+(\S+)")
GENERATED, PROMPT, CACHED, REQUESTS, VERIFIED = "generated", "prompt", "cached", "requests", "verified"
"""Keys of an engine's metrics."""
RUNNING, QUEUED, ACCEPTED = "running", "queued", "accept_length"
FIRST_TOKEN, BETWEEN = "first_token_seconds", "between_tokens_seconds"
GAUGES = (RUNNING, QUEUED, "cache_use", "tokens_per_second", "cache_hits", ACCEPTED)
ENDS = ("", "_sum", "_count")
"""Of the names of a histogram's series."""


def parse(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Sums over the labels, which differ by release, under our names; `names` are the engine's."""
    known = {f"{engine}{end}": f"{ours}{end}" for ours, engine in names.items() for end in ENDS}
    found: dict[str, float] = {}
    for line in text.splitlines():
        match = LINE.match(line)
        name = known.get(match[1]) if match else None
        if not match or name is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        found[name] = found.get(name, 0.0) + value
    return found


def delta(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float | None:
    """None where the server has no such counter; a counter appears with its first event."""
    if name not in after:
        return None
    change = after[name] - before.get(name, 0.0)
    return None if change < 0 else change


def mean(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float | None:
    total, count = delta(before, after, f"{name}_sum"), delta(before, after, f"{name}_count")
    return total / count if total is not None and count else None


def reconcile(
    before: Mapping[str, float], after: Mapping[str, float], ours: Mapping[str, Any], allowed: float
) -> dict[str, Any]:
    """What the server counted between the two looks, beside what its answers to us added up to."""
    server = {
        "completion_tokens": delta(before, after, GENERATED),
        "prompt_tokens": delta(before, after, PROMPT),
        "cached_tokens": delta(before, after, CACHED),
        "requests": delta(before, after, REQUESTS),
        "ttft_ms": _milliseconds(mean(before, after, FIRST_TOKEN)),
        "between_tokens_ms": _milliseconds(mean(before, after, BETWEEN)),
    }
    verified = delta(before, after, VERIFIED)
    if verified:
        server["accept_length"] = round((server["completion_tokens"] or 0) / verified, 3)
    if server["prompt_tokens"] and server["cached_tokens"] is not None:
        server["cached_share"] = round(server["cached_tokens"] / server["prompt_tokens"], 4)
    counted = server["completion_tokens"]
    if counted is None:
        return {**server, "agrees": None, "why": "the server has no counters"}
    mine = ours["completion_tokens"]
    off = (counted - mine) / mine if mine else (0.0 if not counted else 1.0)
    why = ""
    if abs(off) > allowed:
        why = (
            f"the server counted {counted:.0f} tokens and its answers {mine}: "
            + ("somebody else used it" if off > 0 else "answers were lost")
        )  # fmt: skip
    return {**server, "off": round(off, 4), "agrees": not why, "why": why}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def gauges(values: Mapping[str, float], names: Iterable[str] = GAUGES) -> dict[str, float]:
    return {name: values[name] for name in names if name in values}
