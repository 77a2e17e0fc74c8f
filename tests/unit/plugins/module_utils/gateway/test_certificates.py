# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, reasons for a new certificate, and the list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    DAY,
    Issued,
    Record,
    Wanted,
    covers,
    listing,
    matching,
    name_error,
    owner_error,
    table,
    why_issue,
)

NOW = 1_800_000_000
ITEM = Issued("0" * 39 + "1", "g1", "gateway", (), NOW - DAY, NOW + 90 * DAY, "a", "k1", "h1")
WANTED = Wanted("gateway", "g1")


@pytest.mark.parametrize(
    "name", ["gpu-01", "gpu_01", "llm.example", "10.0.0.1", "fd00::1", "a", "1a", "GPU-01.lab"]
)
def test_names_that_are_valid(name: str) -> None:
    assert name_error(name) == owner_error(name) == ""


def test_a_common_name_is_short() -> None:
    long = ".".join(["abcdefghij"] * 7)
    assert name_error(long) == "" and "64" in owner_error(long)


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("g1", "G1", True),
        ("*.lab.example", "g1.lab.example", True),
        ("*.lab.example", "a.g1.lab.example", False),
        ("*.lab.example", "lab.example", False),
        ("fd00:0::1", "fd00::1", True),
        ("10.0.0.1", "10.0.0.11", False),
    ],
)
def test_what_a_name_covers(pattern: str, name: str, covered: bool) -> None:
    assert covers(pattern, name) is covered


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({}, {}, ""),
        ({}, {"sha256": ""}, "there is none"),
        ({}, {"sha256": "other"}, "no record"),
        ({"owner": "g2"}, {}, "issued to g2"),
        ({"revoked": NOW}, {}, "revoked"),
        ({}, {"fits": False}, "does not belong"),
        ({}, {"authority": "b"}, "new key"),
        ({"names": ("x",)}, {}, "it is for x"),
        ({"ends": NOW + 29 * DAY}, {}, "29 days left"),
        ({}, {"record": {"renewed": {"g1": NOW}}}, "asked for"),
    ],
)
def test_when_a_new_one_is_needed(change: dict, more: dict, words: str) -> None:
    record = Record([replace(ITEM, **change)], **more.get("record", {}))
    said = why_issue(
        WANTED, more.get("sha256", "h1"), more.get("fits", True), record, more.get("authority", "a"), NOW, 30
    )
    assert said == "" if not words else words in said


def test_the_list() -> None:
    old = replace(ITEM, serial="2", issued=NOW - 9 * DAY, sha256="h0")
    gone = replace(ITEM, serial="3", owner="g9")
    ended = replace(ITEM, serial="4", role="internal", names=("g1",), ends=NOW - 1)
    revoked = replace(ITEM, serial="5", role="front", names=("llm.example",), revoked=NOW)
    record = Record([old, ITEM, gone, ended, revoked])
    rows = {row["serial"]: row["state"] for row in listing(record, ["g1"], NOW, 30)}
    assert rows == {
        "2": "superseded",
        ITEM.serial: "valid",
        "3": "not in the inventory",
        "4": "expired",
        "5": "revoked",
    }
    assert {row["state"] for row in listing(Record([ITEM]), ["g1"], NOW, 100)} == {"renewal due"}
    head, *lines = table(listing(record, ["g1"], NOW, 30))
    assert head.split() == ["owner", "role", "state", "expires", "serial", "names"] and len(lines) == 5
    assert "2027-04-15" in lines[1]


def test_what_revoke_names() -> None:
    record = Record([replace(ITEM, serial="00ab"), replace(ITEM, owner="g2")])
    assert [item.owner for item in matching(record, "g2")] == ["g2"]
    for spelling in ("00ab", "AB", "0xab", "00:AB"):
        assert [item.serial for item in matching(record, spelling)] == ["00ab"]
    assert matching(record, "g7") == matching(record, "") == []
