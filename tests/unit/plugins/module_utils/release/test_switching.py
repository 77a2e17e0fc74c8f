# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch does to units, as a table."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.release.members import Member, Release
from ansible_collections.baremetal.sglang.plugins.module_utils.release.switching import (
    Found,
    Record,
    Unfinished,
    Unit,
    after_failure,
    after_success,
    decide,
    previous,
    superfluous,
    words,
)


def release(name: str, made: float = 0.0, **instances: str) -> Release:
    """`a="1"`: instance a whose server reads 1."""
    return Release(
        name,
        f"/releases/{name}",
        {key: Member(key, f"sglang-{key}.service", 30000, key, 0) for key in instances},
        proofs={key: {f"{key}/launch.json": value} for key, value in instances.items()},
        made=made,
        texts={f"sglang-{key}.service": f"unit of {key}" for key in instances},
    )


def unit(name: str, text: str = "", enabled: bool = True, state: str = "active") -> dict[str, Unit]:
    return {f"sglang-{name}.service": Unit(text or f"unit of {name}", enabled, state)}


OLD = release("old", a="1", b="1")
SERVING = {**unit("a"), **unit("b")}
PROVEN = Record(("old",))


def found(*releases: Release, units: Any = None, record: Record = PROVEN, current: str = "old") -> Found:
    return Found(current, {item.id: item for item in (OLD, *releases)}, units or SERVING, record)


CASES: list[tuple[str, Found, str, dict[str, Any]]] = [
    ("nothing to do", found(), "old", {"changes": False}),
    (
        "a bare host",
        Found("", {"old": OLD}, {}, Record()),
        "old",
        {
            "flip": True,
            "write": "a b",
            "start": "a b",
            "enable": "a b",
            "stop": "",
            "back": "",
            "settle": True,
        },
    ),
    (
        "one instance changed",
        found(release("new", a="2", b="1")),
        "new",
        {"flip": True, "write": "", "stop": "a", "start": "a", "enable": "", "back": "old"},
    ),
    (
        "nothing that is served changed, only the plan",
        found(release("new", a="1", b="1")),
        "new",
        {"flip": True, "stop": "", "start": "", "back": "old"},
    ),
    (
        "an instance more, one less",
        found(release("new", b="1", c="1")),
        "new",
        {"remove": "a", "stop": "a", "start": "c", "write": "c", "enable": "c"},
    ),
    (
        "a unit file was edited",
        found(units={**SERVING, **unit("a", "mine")}),
        "old",
        {"flip": False, "write": "a", "stop": "a", "start": "a", "back": ""},
    ),
    (
        "a unit was disabled",
        found(units={**SERVING, **unit("a", enabled=False)}),
        "old",
        {"enable": "a", "stop": ""},
    ),
    (
        "a unit failed",
        found(units={**SERVING, **unit("a", state="failed")}),
        "old",
        {"start": "a", "stop": ""},
    ),
    ("a unit file is gone", found(units=unit("b")), "old", {"write": "a", "start": "a", "enable": "a"}),
    (
        "a start that is under way is left alone",
        found(units={**SERVING, **unit("a", state="activating")}),
        "old",
        {"changes": False},
    ),
    (
        "a unit that no release brought is left alone",
        found(release("new", a="1", b="1"), units={**SERVING, **unit("mine")}),
        "new",
        {"remove": "", "stop": ""},
    ),
    (
        "cut off before the flip: what it was about to stop restarts",
        found(
            release("new", a="2", b="1"),
            record=Record(("old",), Unfinished("new", "old", ("sglang-a.service",))),
        ),
        "new",
        {"flip": True, "start": "a", "back": "old"},
    ),
    (
        "cut off after the flip: still back to the old",
        found(
            release("new", a="2", b="1"),
            current="new",
            record=Record(("old",), Unfinished("new", "old", ("sglang-a.service",))),
        ),
        "new",
        {"flip": False, "start": "a", "stop": "a", "back": "old", "settle": True},
    ),
    (
        "cut off, and then the old is wanted again",
        found(
            release("new", a="2", b="1"),
            current="new",
            record=Record(("old",), Unfinished("new", "old", ("sglang-a.service",))),
        ),
        "old",
        {"flip": True, "start": "a", "back": ""},
    ),
    (
        "cut off, and then a third is wanted: back to the one that served",
        found(
            release("new", a="2", b="1"),
            release("third", a="3", b="1"),
            current="new",
            record=Record(("old",), Unfinished("new", "old", ("sglang-a.service",))),
        ),
        "third",
        {"flip": True, "start": "a", "back": "old"},
    ),
    (
        "what never served is nothing to go back to",
        found(release("new", a="2", b="1"), record=Record(())),
        "new",
        {"flip": True, "back": ""},
    ),
    (
        "what serves now never gave a token: back to the newest that did",
        found(
            release("new", a="2", b="1"),
            release("older", a="3", b="1"),
            current="new",
            record=Record(("older", "old")),
        ),
        "older",
        {"flip": True, "back": "old"},
    ),
    (
        "current leads to nothing that is there",
        found(current="lost"),
        "old",
        {"flip": True, "start": "a b", "back": ""},
    ),
]


@pytest.mark.parametrize(
    ("there", "to", "does"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_a_switch_does(there: Found, to: str, does: dict[str, Any]) -> None:
    made = decide(there, to)
    for key, value in does.items():
        seen = getattr(made, key)
        if isinstance(seen, tuple):
            seen = " ".join(name[len("sglang-") : -len(".service")] for name in seen)
        assert seen == value, (key, made)


def test_what_was_asked_to_restart_does() -> None:
    made = decide(found(), "old", ["sglang-b.service"])
    assert (made.stop, made.start) == (("sglang-b.service",), ("sglang-b.service",))


def test_a_restart_says_which_files_differ() -> None:
    there = found(release("new", a="2", b="1"))
    assert decide(there, "new").why == {"sglang-a.service": "changed: a/launch.json"}
    many = {f"launcher/{letter}.py": letter for letter in "abcdef"}
    other = Release("many", "/releases/many", OLD.members, proofs={"a": many, "b": OLD.proofs["b"]})
    assert decide(found(other), "many").why["sglang-a.service"] == (
        "changed: a/launch.json, launcher/a.py, launcher/b.py, launcher/c.py and 3 more"
    )


def test_words_for_people() -> None:
    there = found(release("new", b="1", c="1"))
    assert words(there, decide(there, "new"), None, {"instances": {}}) == [
        "release old -> new",
        "sglang-a.service stops and goes away: is in the plan no more",
        "sglang-c.service starts: is new",
        "sglang-b.service goes on without a restart",
    ]


@pytest.mark.parametrize(
    ("served", "current", "before"),
    [
        (("x", "old"), "old", ""),
        (("old", "new"), "new", "old"),
        (("new", "old"), "old", "new"),
        ((), "old", ""),
    ],
)
def test_the_release_before(served: tuple[str, ...], current: str, before: str) -> None:
    there = found(release("new", a="1"), current=current, record=Record(served))
    assert previous(there) == before


def test_history() -> None:
    record = after_success(Record(("a", "b", "c"), Unfinished("b", "c", ()), {"why": "x"}), "b")
    assert record == Record(("a", "c", "b"))
    assert after_failure(Record(("a", "b", "c")), "b", "c", {"why": "x"}) == Record(
        ("a", "c"), None, {"why": "x"}
    )


def test_a_failed_restart_takes_no_proof_away() -> None:
    """A busy GPU fails a restart; the next broken upgrade still has this release to go back to."""
    there = found(release("new", a="2", b="1"), record=Record(("old",)))
    restart = decide(there, "old", ["sglang-a.service"])
    assert restart.back == ""
    record = after_failure(there.record, "old", restart.back, {"why": "busy"})
    assert record == Record(("old",), None, {"why": "busy"})
    assert decide(found(release("new", a="2", b="1"), record=record), "new").back == "old"


@pytest.mark.parametrize(
    ("keep", "gone"), [(1, ["r3", "r2", "r1"]), (3, ["r2", "r1"]), (4, ["r2"]), (9, [])], ids=str
)
def test_what_may_go(keep: int, gone: list[str]) -> None:
    """First what never served; never the current one, nor the one before, nor those of a switch that is under way."""
    there = Found(
        "r5",
        {f"r{number}": release(f"r{number}", made=number, a="1") for number in range(1, 6)},
        {},
        Record(("r1", "r3", "r4", "r5")),
    )
    assert sorted(superfluous(there, keep)) == sorted(gone)
    busy = Found(there.current, there.releases, {}, Record(("r4", "r5"), Unfinished("r1", "r2", ())))
    assert "r1" not in superfluous(busy, keep)
    assert "r2" not in superfluous(busy, keep)
