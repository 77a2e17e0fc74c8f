# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts that are the same in every run: words by a seed, and lengths by the server's own count. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Common words of one token each in most vocabularies.
TEXT = """\
time year people way day man thing woman life child world school state family student group country
problem hand part place case week company system program question work government number night point
home water room mother area money story fact month lot right study book eye job word business issue
side kind head house service friend father power hour game line end member law car city community
name president team minute idea kid body information back parent face others level office door
health person art war history party result change morning reason research girl guy moment air
teacher force education foot boy age policy music market sense nation plan college interest death
experience effect use class control care field development role effort rate heart drug show leader
light voice wife police mind price report decision son view relationship town road arm difference
value building action season society tax director position player record paper space ground form
event official matter center couple site project activity star table need court oil situation cost
"""
WORDS = tuple(TEXT.split())
ASK = "Go on in the same manner, and do not stop early."
# Two probes tell how many tokens a word costs and what the template adds; each has every word equally often.
PROBES = (len(WORDS), 2 * len(WORDS))


@dataclass(frozen=True)
class Scale:
    """Tokens of a prompt = fixed + each * words."""

    fixed: float
    each: float

    def words(self, tokens: int) -> int:
        return max(1, round((tokens - self.fixed) / self.each))


def scale_of(counted: Sequence[tuple[int, int]]) -> Scale:
    """From (words, tokens as the server counted them), shortest first."""
    (few, less), (many, more) = counted[0], counted[-1]
    if many <= few or more <= less:
        raise ValueError(f"the server counts {less} tokens for {few} words and {more} for {many}")
    each = (more - less) / (many - few)
    return Scale(less - each * few, each)


def text(words: int, seed: str) -> str:
    """All words before one comes again, so that a text of some length costs what the scale says."""
    stream = random.Random(seed)
    found: list[str] = []
    while len(found) < words:
        found += stream.sample(WORDS, len(WORDS))
    return " ".join(found[:words])


def prompt(words: int, seed: str, shared: str = "") -> str:
    """The first words differ for each seed, so that no cache helps; `shared` is what a cache may know."""
    return f"{shared}{text(words, seed)}\n{ASK}"


def message(content: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def lengths(kind: str, count: int, given: dict[str, Any], seed: int) -> list[tuple[int, int]]:
    """(prompt tokens, answer tokens) of each request."""
    stream = random.Random(f"{seed}-{kind}")
    if kind == "fixed":
        return [(int(given["input"]), int(given["output"]))] * count
    if kind == "random":
        # From a share of the size up to it, evenly.
        low = float(given.get("range_ratio", 1.0))
        return [
            (
                max(1, round(given["input"] * stream.uniform(low, 1))),
                max(1, round(given["output"] * stream.uniform(low, 1))),
            )
            for _unused in range(count)
        ]
    if kind == "sharegpt-like":
        return [
            (
                _lognormal(stream, given["input"], given["input_sigma"], given["input_most"]),
                _lognormal(stream, given["output"], given["output_sigma"], given["output_most"]),
            )
            for _unused in range(count)
        ]
    raise ValueError(f"{kind}: lengths are fixed, random or sharegpt-like")


def _lognormal(stream: random.Random, median: float, sigma: float, most: int) -> int:
    return max(4, min(int(most), round(math.exp(stream.gauss(math.log(median), sigma)))))


def arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Seconds from the begin; a Poisson process, or all at once with a rate of 0."""
    if rate <= 0:
        return [0.0] * count
    stream, moment, found = random.Random(f"{seed}-arrivals"), 0.0, []
    for _unused in range(count):
        found.append(moment)
        moment += stream.expovariate(rate)
    return found
