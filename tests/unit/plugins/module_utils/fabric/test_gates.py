# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is measured with whom, and what figures say about cables and hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.gates import (
    groups,
    html,
    judge,
    rounds,
    seconds_a_match,
    specification,
    text,
)
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ("s1", "s2", "s3", "s4")
GATES = {
    "bandwidth_gbps": 185.0,
    "latency_us": 10.0,
    "collective_gbyte": 21.875,
    "socket_gbyte": 2,
    "defects": [{"link_gbps": 100, "moves_gbps": [8, 25], "what": "only a full power cycle cures it"}],
    "seconds": {"budget": 20, "least": 2, "most": 10},
    "ports": {"meet": 18515, "rdma": 18516, "tcp": 18615, "collective": 18715},
    "message_bytes": 65536,
    "latency_iterations": 1000,
    "tcp_seconds": 1,
    "tcp_streams": 4,
    "collective_mib": [1, 16],
}


def plan(number: int, members: Sequence[str], **gates: Any) -> dict[str, Any]:
    devices = [
        {
            "name": name,
            "port": 1,
            "address": f"10.0.{n}.{number}",
            "link_layer": "Ethernet",
            "gid_types": ["RoCE v2"],
            "rate_gbps": 200.0,
        }
        for n, name in enumerate(("rocep1s0f1", "roceP2p1s0f1"), 1)
    ]
    return {
        "fabric": {
            "devices": devices,
            "members": members,
            "rendezvous": {"netdev": "enp1s0f1np1", "address": f"10.0.1.{number}"},
            "gates": {**GATES, **gates},
            "sockets": False,
        }
    }


def plans(hosts: Sequence[str] = HOSTS, **gates: Any) -> dict[str, Any]:
    return {host: plan(number, hosts, **gates) for number, host in enumerate(hosts, 1)}


def reports(
    hosts: Sequence[str] = HOSTS, slow: dict[tuple[str, str], tuple[float, float]] | None = None, **found: Any
) -> dict[str, Any]:
    """What healthy hosts print, but for the pairs in `slow`."""
    rows = []
    for number, pairs in enumerate(rounds(hosts)):
        for first, second in pairs:
            for pair in ((first, second), (second, first)):
                values = (slow or {}).get(pair, (92.57, 97.28))
                parts = zip(("rocep1s0f1", "roceP2p1s0f1"), values)
                devices = [{"name": name, "value": value} for name, value in parts]
                rows.append(
                    {"from": pair[0], "to": pair[1], "round": number, "kind": "bandwidth", "devices": devices}
                )
                latency = [{"name": "rocep1s0f1", "value": 1.47}]
                rows.append(
                    {"from": pair[0], "to": pair[1], "round": number, "kind": "latency", "devices": latency}
                )
    made: dict[str, Any] = {host: {"rows": [], "seconds": 21.0} for host in hosts}
    made[hosts[0]]["rows"] = rows
    for host, report in found.items():
        made[host] = {**made[host], **report}
    return made


# --- the tournament ---


@given(st.integers(2, 33))
def test_everybody_meets_everybody_once_and_no_port_is_used_twice(count: int) -> None:
    hosts = [f"h{number:02}" for number in range(count)]
    found = rounds(hosts)
    assert len(found) == (count if count % 2 else count - 1)
    met = [frozenset(pair) for pairs in found for pair in pairs]
    assert len(met) == len(set(met)) == count * (count - 1) // 2
    for pairs in found:
        names = [name for pair in pairs for name in pair]
        assert len(names) == len(set(names))


def test_eight_hosts_take_no_more_than_twice_the_time_of_two() -> None:
    def total(count: int) -> float:
        matches = len(rounds([str(number) for number in range(count)]))
        return 2 * matches * seconds_a_match(GATES["seconds"], matches)

    assert total(8) <= 2 * total(2)
    assert seconds_a_match(GATES["seconds"], 1) == 10
    assert seconds_a_match(GATES["seconds"], 31) == 2


def test_the_same_rounds_for_every_host() -> None:
    found = [specification(plans(), host, 60, "5a") for host in HOSTS]
    assert [item["me"] for item in found] == list(HOSTS)
    assert all({**item, "me": ""} == {**found[0], "me": ""} for item in found)
    assert found[0]["hosts"]["s3"]["address"] == "10.0.1.3"


def test_hosts_that_serve_nothing_together_are_left_apart() -> None:
    mixed = {
        **{host: plan(number, ["a1", "a2"]) for number, host in enumerate(("a1", "a2"), 1)},
        **{host: plan(number, ["b1", "b2"]) for number, host in enumerate(("b1", "b2"), 1)},
        "c1": plan(9, ["c1"]),
        "d1": {"fabric": {}},
    }
    assert groups(mixed) == [["a1", "a2"], ["b1", "b2"]]
    assert specification(mixed, "c1", 60, "5a") == specification(mixed, "d1", 60, "5a") == {}
    # A host that is in two instances joins them.
    mixed["a1"]["fabric"]["members"] = ["a1", "a2", "b1"]
    assert groups(mixed) == [["a1", "a2", "b1", "b2"]]


# --- the verdict ---


def test_a_healthy_fabric_passes() -> None:
    verdict = judge(reports(), plans())
    assert verdict.problems == []
    assert "all links pass, measured in 21 s" in text(verdict)
    assert "189.8" in text(verdict)


def both(first: str, second: str, *values: float) -> dict[tuple[str, str], tuple[float, float]]:
    return {(first, second): (values[0], values[1]), (second, first): (values[0], values[1])}


def of(host: str, *values: float) -> dict[tuple[str, str], tuple[float, float]]:
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for other in HOSTS:
        if other != host:
            found.update(both(host, other, *values))
    return found


@pytest.mark.parametrize(
    ("slow", "words"),
    [
        (
            both("s1", "s3", 46.0, 97.0),
            ["s1 -> s3: 143 Gb/s (rocep1s0f1 46, roceP2p1s0f1 97), the gate is 185 Gb/s, in both"],
        ),
        ({("s2", "s4"): (46.0, 97.0)}, ["s2 -> s4: 143 Gb/s", "in this direction only"]),
        (of("s3", 46.0, 97.0), ["s3: every link of it is bad", "look at its cable, its switch port"]),
        (of("s3", 6.6, 6.5), ["s3: every link of it is bad", "moves 8 to 25: only a full power cycle"]),
        ({**of("s1", 1, 1), **of("s2", 1, 1), **of("s3", 1, 1)}, ["every link is bad", "the switch"]),
    ],
)
def test_what_is_bad_is_named_once(slow: Any, words: list[str]) -> None:
    verdict = judge(reports(slow=slow), plans())
    (problem,) = verdict.problems
    assert all(word in problem for word in words), problem
    assert f"BELOW THE GATE  {problem}" in text(verdict)


def test_a_plainly_slow_link_is_not_taken_for_the_known_defect() -> None:
    (problem,) = judge(reports(slow=both("s1", "s2", 20.0, 20.0)), plans()).problems
    assert "power cycle" not in problem


def test_two_bad_cables_and_one_of_two_hosts() -> None:
    slow = {**both("s1", "s2", 50, 50), **both("s3", "s4", 50, 50)}
    assert [item[:8] for item in judge(reports(slow=slow), plans()).problems] == ["s1 -> s2", "s3 -> s4"]
    pair = ["s1", "s2"]
    (problem,) = judge(reports(pair, both("s1", "s2", 50, 50)), plans(pair)).problems
    assert problem.startswith("s1 -> s2: 100 Gb/s")


def test_latency_above_its_gate() -> None:
    verdict = judge(reports(), plans(latency_us=1.0))
    (problem,) = verdict.problems
    assert "every link is bad (1.47 us, the gate is 1 us)" in problem


def test_a_host_that_did_not_measure_is_said_once() -> None:
    found = reports(s3={"error": "there is no python3", "rows": []})
    found["s1"]["rows"] = [row for row in found["s1"]["rows"] if "s3" not in (row["from"], row["to"])]
    found["s1"]["rows"].append(
        {"from": "s1", "to": "s3", "round": 0, "kind": "", "error": "s3 gives no answer"}
    )
    assert judge(found, plans()).problems == [
        "s3: its part of the measurements did not run: there is no python3"
    ]


def test_a_match_that_was_never_made_is_a_failure() -> None:
    found = reports(["s1", "s2"])
    found["s1"]["rows"] = [
        {
            "from": "s1",
            "to": "s2",
            "round": 0,
            "kind": "",
            "error": "s2 at 10.0.1.2, TCP port 18515 gives no answer",
        }
    ]
    verdict = judge(found, plans(["s1", "s2"]))
    (problem,) = verdict.problems
    assert "TCP port 18515 gives no answer" in problem
    assert "failed" in text(verdict)


def test_one_twin_that_fails_is_below_the_gate_however_fast_the_other_is() -> None:
    found = reports(["s1", "s2"])
    row = found["s1"]["rows"][0]
    row["devices"] = [
        {"name": "rocep1s0f1", "value": 190.0},
        {"name": "roceP2p1s0f1", "error": "no figure came"},
    ]
    (problem,) = judge(found, plans(["s1", "s2"])).problems
    assert "roceP2p1s0f1: no figure came" in problem


LOG = (
    "x NCCL INFO NET/IB : Using [0]rocep1s0f1:1/RoCE [1]roceP2p1s0f1:1/RoCE",
    "x NCCL INFO Using network IB",
)


def together(gbyte: float, log: Sequence[str] = LOG) -> dict[str, Any]:
    return {
        "rows": [
            {"mib": 1, "kind": "all_gather", "gbyte": gbyte / 4},
            {"mib": 16, "kind": "all_gather", "gbyte": gbyte},
            {"mib": 256, "left_out": "some member has too little free memory"},
        ],
        "log": log,
    }


@pytest.mark.parametrize(
    ("collective", "words"),
    [
        (together(23.74), ""),
        (together(12.8), "all_gather over all members: 12.8 GB/s, the gate is 21.875"),
        (together(2.1), "this is what a fallback to sockets looks like"),
        (together(23.7, ["NCCL INFO Using network Socket"]), "s1: NCCL went over NET/Socket"),
        ({"error": "CUDA error"}, "s1: NCCL over all members did not run: CUDA error"),
    ],
)
def test_all_members_together(collective: dict[str, Any], words: str) -> None:
    verdict = judge(reports(s1={"collective": collective}), plans())
    assert bool(verdict.problems) == bool(words)
    assert words in "".join(verdict.problems)
    if "rows" in collective:
        assert "NCCL all_gather, bus bandwidth in GB/s: 1 MiB" in text(verdict)


def test_the_page_is_one_file_and_escapes_what_hosts_say() -> None:
    found = reports(["s1", "s2"])
    found["s1"]["rows"][0] |= {"devices": [], "error": "<script>alert(1)</script>"}
    page = html(judge(found, plans(["s1", "s2"])))
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "http" not in page and "src=" not in page
    assert page.count("class=bad") == 1
