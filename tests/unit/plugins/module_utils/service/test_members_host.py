# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Members that do not reach each other, or live in different times."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.service.members_host import (
    errors,
    peers,
    why_not,
)

MEMBERS = [{"host": name, "address": f"10.0.0.{number}"} for number, name in enumerate("abc", 1)]
PLAN: dict[str, Any] = {
    "instances": {
        "it": {"service": {"group": {"members": MEMBERS, "ports": [32000, 31000]}}},
        "alone": {"service": {}},
    }
}


def test_peers_are_the_others() -> None:
    assert [(item["host"], item["port"], item["instance"]) for item in peers(PLAN, "b")] == [
        ("a", 32000, "it"),
        ("c", 32000, "it"),
    ]
    assert peers({"instances": {"alone": {"service": {}}}}, "b") == []


def test_a_closed_port_is_an_answer_and_silence_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        address, port = full.getsockname()
        assert why_not(address, port, 1) == ""
        full.listen()
        assert why_not(address, port, 1) == ""

    class Nowhere(socket.socket):
        def connect(self, _address: Any) -> None:
            raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(socket, "socket", Nowhere)
    assert why_not("10.0.0.9", 9, 0.2) == "No route to host"


@pytest.mark.parametrize(
    ("offsets", "host", "says"),
    [
        ({"a": 0.0, "b": 5.0, "c": 0.0}, "b", ""),
        ({"a": 0.0, "b": 95.0, "c": 0.0}, "b", "the clock of b is 95 s ahead of that of a"),
        ({"a": 0.0, "b": 95.0, "c": 0.0}, "a", ""),
        ({"a": 0.0, "b": -40.0, "c": 0.0}, "c", "the clock of c is 40 s ahead of that of b"),
        ({"a": 95.0, "b": 0.0, "c": 90.0}, "c", "the clock of c is 90 s ahead of that of b"),
    ],
)
def test_clocks_that_are_apart_are_refused_once(offsets: dict[str, float], host: str, says: str) -> None:
    looked = {name: {"offset": offset, "unreachable": []} for name, offset in offsets.items()}
    found = errors(looked, PLAN, host, 30)
    assert bool(found) is bool(says)
    assert says in " ".join(found)


def test_a_run_that_splits_a_group_is_refused() -> None:
    (found,) = errors({"a": {"offset": 0.0}, "b": {"offset": 0.0}}, PLAN, "b", 30)
    assert found == "REFUSED  --limit: c must take every step together with b: leave --limit out"


def test_who_does_not_reach_whom_is_said_with_address_and_key() -> None:
    seen = {"host": "a", "address": "10.0.0.1", "port": 32000, "instance": "it", "why": "No route to host"}
    (found,) = errors({"a": {}, "b": {"unreachable": [seen]}, "c": {}}, PLAN, "b", 30)
    assert found.startswith(
        "REFUSED  serve.it.hosts: b does not reach a at 10.0.0.1 port 32000: No route to host."
    )
