# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Medians with their spread. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

ROUNDS = 400


def quantile(values: Sequence[float], share: float) -> float:
    """Between the two neighbours, as most tools do it."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float | None], scale: float = 1.0) -> dict[str, Any] | None:
    known = [value * scale for value in values if value is not None]
    if not known:
        return None
    digits = 3
    return {
        "n": len(known),
        "median": round(statistics.median(known), digits),
        "mean": round(statistics.fmean(known), digits),
        "p25": round(quantile(known, 0.25), digits),
        "p75": round(quantile(known, 0.75), digits),
        "p90": round(quantile(known, 0.9), digits),
        "p99": round(quantile(known, 0.99), digits),
        "min": round(min(known), digits),
        "max": round(max(known), digits),
    }


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Where the median lies in nine of ten repetitions: resampling with a fixed seed."""
    if len(values) < 2:
        return (values[0], values[0]) if values else (0.0, 0.0)
    stream = random.Random(seed)
    medians = [statistics.median(stream.choices(list(values), k=len(values))) for _unused in range(ROUNDS)]
    return quantile(medians, 0.05), quantile(medians, 0.95)


def noise(values: Sequence[float], floor: float) -> float:
    """How much of the middle value is noise: half of the range over it, and never less than the floor."""
    if len(values) < 2:
        return floor
    middle = statistics.median(values)
    return max(floor, (max(values) - min(values)) / 2 / middle) if middle else floor
