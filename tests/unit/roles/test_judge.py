# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is named for damaged pieces, and who is let in again."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "roles/swarm/files/judge.py"
SPEC = importlib.util.spec_from_file_location("judge", SOURCE)
assert SPEC and SPEC.loader
judge = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(judge)


def told(*events: tuple[Any, ...]) -> Any:
    """What an agent hears, of pieces of two blocks."""
    made = judge.Judge(lambda piece: 2)
    for what, *values in events:
        getattr(made, what)(*values)
    return made


GAVE_ALL = [("came", 5, 0, "liar"), ("came", 5, 1, "liar"), ("failed", 5)]
SHARED = [("came", 5, 0, "liar"), ("came", 5, 1, "honest"), ("failed", 5)]
TWICE = [("came", 5, 0, "liar"), ("came", 5, 0, "honest"), ("came", 5, 1, "liar"), ("failed", 5)]
HALF_SEEN = [("came", 5, 1, "honest"), ("failed", 5)]
BOTH = [("banned", "liar"), ("banned", "honest")]


@pytest.mark.parametrize(
    ("events", "nothing_comes", "named", "again"),
    [
        ([], True, {}, set()),
        ([("banned", "liar"), ("banned", "liar")], False, {"liar": 2}, set()),
        ([("banned", "liar")], True, {"liar": 1}, {"liar"}),
        (BOTH, False, {}, {"liar", "honest"}),
        ([*SHARED, *BOTH], False, {}, {"liar", "honest"}),
        ([*TWICE, *BOTH], False, {}, {"liar", "honest"}),
        ([*HALF_SEEN, *BOTH], False, {}, {"liar", "honest"}),
        ([*BOTH, *GAVE_ALL], False, {"liar": 1}, {"honest"}),
        ([*GAVE_ALL, ("banned", "liar")], True, {"liar": 1}, set()),
        ([*GAVE_ALL, ("banned", "honest")], False, {}, {"honest"}),
        ([("came", 5, 0, "honest"), ("passed", 5), *HALF_SEEN, *BOTH], False, {}, {"liar", "honest"}),
    ],
)
def test_proof_decides_who_stays_outside(
    events: list[tuple[Any, ...]], nothing_comes: bool, named: dict[str, int], again: set[str]
) -> None:
    made = told(*events)
    assert made.guilty() == named
    before = dict(made.cut_off)
    assert made.pardon(nothing_comes) == again
    assert set(made.cut_off) == set(before) - again


def test_it_ends() -> None:
    made = told()
    for turn in range(judge.PARDONS):
        for _banned, address in BOTH:
            made.banned(address)
        assert made.pardon(False) == {"liar", "honest"}, turn
    for _banned, address in BOTH:
        made.banned(address)
    assert not made.pardon(True) and set(made.cut_off) == {"liar", "honest"} and not made.guilty()
