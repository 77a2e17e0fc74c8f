# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys by their hashes, and the words that a running HAProxy is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.keys import (
    Key,
    KeysError,
    commands,
    digest_of,
    ended,
    listed,
    map_entries,
    map_text,
    numbers,
    of_name,
    parse,
    present,
    rendered,
    revoked,
    rotated,
    shown,
)

NOW = 1_000_000
OLD = Key("alice", "A" * 64, 60, 2, 0, 10)


def test_a_key_is_nowhere_but_its_hash_is() -> None:
    digest = digest_of("sk-secret")
    text = rendered([Key("alice", digest)])
    assert "sk-secret" not in text and digest in text and digest == digest.upper()
    assert parse(text) == [Key("alice", digest)]
    assert parse("") == []


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": [{"name": "x"}]}', '{"keys": [{"nome": "x"}]}'])
def test_a_damaged_file_is_said_and_not_taken_for_empty(text: str) -> None:
    with pytest.raises(KeysError, match="cannot be read"):
        parse(text)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "-a", "x" * 64, "a\nb", "a;b", "alice\n", "alice\r", "al\u0131ce"]
)
def test_names_that_would_break_the_map_are_refused(name: str) -> None:
    with pytest.raises(KeysError, match="cannot be the name of a key"):
        present([], Key(name, "B" * 64), NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "alice\n"},
        {"name": "a:b"},
        {"name": 5},
        {"sha256": "A" * 63},
        {"sha256": "a" * 64},
        {"sha256": "A" * 64 + "\n"},
        {"rate": -1},
        {"rate": "5"},
        {"rate": 1.5},
        {"concurrency": True},
        {"concurrency": -5},
        {"until": -1},
        {"until": None},
        {"made": "x:0"},
    ],
)
def test_a_file_with_a_key_that_the_map_would_read_in_another_way_is_refused(change: dict[str, Any]) -> None:
    entry = {**json.loads(rendered([OLD]))["keys"][0], **change}
    with pytest.raises(KeysError, match="cannot be read"):
        parse(json.dumps({"schema": 1, "keys": [entry]}))


SAID = {"rate": "none", "concurrency": "none", "days": "none", "grace_seconds": "none"}


def test_limits_as_they_are_given() -> None:
    assert set(numbers(SAID).values()) == {0}
    found = numbers({"rate": "60", "concurrency": "1", "days": "0.5", "grace_seconds": "3600"})
    assert found == {"rate": 60, "concurrency": 1, "days": 43200, "grace_seconds": 3600}


@pytest.mark.parametrize("option", SAID)
@pytest.mark.parametrize(
    "said",
    [
        "",
        "0",
        "-1",
        "-0",
        "6O",
        "1_0",
        "+5",
        " 5",
        "5\n",
        "nan",
        "inf",
        "1e3",
        "0x10",
        "\u0665",
        "None",
        "9" * 10,
    ],
)
def test_what_is_no_limit_is_not_taken_for_none(option: str, said: str) -> None:
    with pytest.raises(KeysError, match=f"invalid {option}"):
        numbers({**SAID, option: said})


@pytest.mark.parametrize(
    ("option", "said"), [("rate", "1.5"), ("days", "0.0"), ("days", "0.000001"), ("days", "1.")]
)
def test_numbers_that_come_to_nothing_are_refused(option: str, said: str) -> None:
    with pytest.raises(KeysError, match=f"invalid {option}"):
        numbers({**SAID, option: said})


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(KeysError, match=r"invalid rate '0'.*invalid concurrency '-2'.*invalid days ''"):
        numbers({"rate": "0", "concurrency": "-2", "days": "", "grace_seconds": "none"})


def test_a_second_time_changes_the_limits_and_not_the_key() -> None:
    keys, new = present([OLD], Key("alice", "B" * 64, 5, 0), NOW)
    assert not new and keys == [Key("alice", "A" * 64, 5, 0, 0, 10)]
    assert present(keys, Key("alice", "C" * 64, 5, 0), NOW) == (keys, False)


@pytest.mark.parametrize(("grace", "count"), [(0, 1), (60, 2)])
def test_a_rotated_key_keeps_its_limits(grace: int, count: int) -> None:
    keys = rotated([OLD], "alice", "B" * 64, NOW, grace)
    assert len(keys) == count
    assert of_name(keys, "alice", NOW)[-1] == Key("alice", "B" * 64, 60, 2, 0, NOW)
    assert len(of_name(keys, "alice", NOW + grace + 1)) == 1
    # A third one ends the first at once.
    assert {key.sha256[0] for key in rotated(keys, "alice", "C" * 64, NOW + 1, 60)} == {"B", "C"}


def test_rotating_what_is_not_there_names_what_is() -> None:
    with pytest.raises(KeysError, match=r"no key bob .*alice"):
        rotated([OLD], "bob", "B" * 64, NOW, 0)


def test_revoked_takes_all_of_a_name() -> None:
    keys = rotated([OLD, Key("bob", "D" * 64)], "alice", "B" * 64, NOW, 60)
    assert [key.name for key in revoked(keys, "alice")] == ["bob"]
    assert revoked([], "alice") == []


def test_keys_whose_time_is_over_go_with_the_next_change() -> None:
    assert ended([OLD, Key("old", "E" * 64, until=NOW - 1)], NOW) == [OLD]


def test_the_map_that_haproxy_reads() -> None:
    assert map_text([OLD]) == f"{'A' * 64} alice:60:2:0\n"
    assert shown([OLD, Key("bob", "B" * 64, until=NOW + 86400)], NOW) == [
        "alice  60 requests a minute, 2 at once, no end  (AAAAAAAAAAAA)",
        "bob  any rate, any number at once, 1.0 days left  (BBBBBBBBBBBB)",
    ]


def test_a_running_gateway_is_told_the_difference_alone() -> None:
    live = listed(f"0x55 {'A' * 64} alice:60:2:0\n0x56 {'D' * 64} gone:0:0:0\n0x57 {'F' * 64} same:0:0:0\n\n")
    wanted = {"A" * 64: "alice:5:2:0", "B" * 64: "bob:0:0:0", "F" * 64: "same:0:0:0"}
    (line,) = commands("/m", live, wanted)
    assert line.split("; ") == [
        f"del map /m {'D' * 64}",
        f"set map /m {'A' * 64} alice:5:2:0",
        f"add map /m {'B' * 64} bob:0:0:0",
    ]
    assert commands("/m", wanted, wanted) == []


def test_many_keys_fit_what_the_socket_reads() -> None:
    keys = [Key(f"k{number}", digest_of(str(number))) for number in range(1000)]
    lines = commands("/etc/sglang/gateway/keys/keys.map", {}, map_entries(keys))
    assert max(map(len, lines)) < 16384 and sum(line.count("add map") for line in lines) == 1000
    assert json.loads(rendered(keys))["schema"] == 1
