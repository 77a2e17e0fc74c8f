# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must change on a host's network, and what is refused at the last moment."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.network import (
    differences,
    refusals,
    restorable,
)

PORT = {"netdev": "eth1", "address": "10.0.0.1/24", "mtu": 9000}
GOOD = {"mtu": 9000, "state": "up", "up": True, "addresses": ["fe80::1/64", "10.0.0.1/24"]}


def live(**changes: Any) -> dict[str, dict[str, Any]]:
    return {"eth0": {"mtu": 1500, "state": "up", "addresses": ["10.9.0.5/24"]}, "eth1": {**GOOD, **changes}}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (live(), []),
        (live(mtu=1500), ["eth1 has MTU 1500, not 9000"]),
        (live(addresses=["10.0.0.9/24"]), ["eth1 has 10.0.0.9/24, not 10.0.0.1/24"]),
        (live(addresses=["10.0.0.1/16"]), ["eth1 has 10.0.0.1/16, not 10.0.0.1/24"]),
        (
            live(addresses=[], state="down"),
            [
                "eth1 has no address, not 10.0.0.1/24",
                "eth1 has no carrier: no cable, or a switch port that is off",
            ],
        ),
    ],
)
def test_differences(found: Any, words: list[str]) -> None:
    assert differences([PORT], found) == words


def test_an_mtu_that_nobody_asked_for_is_left() -> None:
    assert differences([{**PORT, "mtu": None}], live(mtu=4200)) == []


@pytest.mark.parametrize(
    ("netdev", "default", "ours", "words"),
    [
        ("eth1", [], "10.9.0.5", ""),
        ("eth9", [], "", "no interface eth9 (it has eth0, eth1): was it renamed?"),
        ("eth1", ["eth1"], "", "eth1 carries the default route"),
        ("eth0", [], "10.9.0.5", "eth0 has 10.9.0.5, the address that we came in by"),
    ],
)
def test_refusals(netdev: str, default: list[str], ours: str, words: str) -> None:
    found = refusals([{**PORT, "netdev": netdev}], live(), default, ours)
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_only_what_a_manager_does_not_bring_back_is_kept() -> None:
    assert restorable([PORT], live()) == {"eth1": {"mtu": 9000, "up": True, "addresses": ["10.0.0.1/24"]}}
