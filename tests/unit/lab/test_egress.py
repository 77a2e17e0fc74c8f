# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what the kernel counted."""

from __future__ import annotations

from lab.egress import difference, lines, no_routes, nothing_left, parse_table

SNMP = "Ip: Forwarding OutNoRoutes InDelivers\nIp: 1 7 90\nTcp: A\nTcp: 1\n"


def test_packets_without_a_route() -> None:
    assert no_routes(SNMP, "Ip6InReceives 3\nIp6OutNoRoutes  \t2\n") == 9
    assert no_routes("", "") == 0


def test_the_bridges_table() -> None:
    def element(packets: int, *words: object) -> dict[str, object]:
        return {"elem": {"val": {"concat": list(words)}, "counter": {"packets": packets, "bytes": 60}}}

    table = {
        "nftables": [
            {"metainfo": {}},
            {"counter": {"name": "left", "packets": 4}},
            {"set": {"name": "ours", "elem": ["0.0.0.0"]}},
            {"set": {"name": "ports4", "elem": [element(3, "10.0.0.2", "192.0.2.1", "tcp", 443)]}},
            {"set": {"name": "other4", "elem": [element(1, "10.0.0.2", "192.0.2.1", "icmp")]}},
            {"set": {"name": "names", "elem": [element(2, "10.0.0.2", "10.0.0.1")]}},
        ]
    }
    assert parse_table(table) == (4, {
        "10.0.0.2 -> 192.0.2.1 tcp port 443": 3, "10.0.0.2 -> 192.0.2.1 icmp": 1, "10.0.0.2 asked for a name (DNS)": 2,
    })  # fmt: skip


def test_only_what_came_since_the_mark_counts() -> None:
    before = {"frames": 2, "attempts": {"a1": 5}, "tried": {"x": 2}}
    still = difference(before, before)
    assert nothing_left(still)
    assert "Nothing tried to leave." in lines(still)
    for later in (
        {"frames": 3},
        {"attempts": {"a1": 6}},
        {"attempts": {"a1": 5, "a2": 1}},
        {"tried": {"x": 2, "y": 1}},
    ):
        assert not nothing_left(difference(before | later, before))


def test_a_kernel_that_cannot_count_frames_says_so() -> None:
    counts = difference({"frames": None, "attempts": {"a1": 0}, "tried": {}}, None)
    assert nothing_left(counts)
    assert "not counted here" in lines(counts)[0]
