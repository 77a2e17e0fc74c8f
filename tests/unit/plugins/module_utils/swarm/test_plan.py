# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gives and who receives, from what the hosts said."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import plan as swarm_plan

WHEELS = [
    "libtorrent-2.1.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "libtorrent-2.1.1-cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
]
GB = 10**9


def look(number: int, **said: Any) -> dict[str, Any]:
    usual = {
        "address": f"192.0.2.{number}",
        "complete": False,
        "bytes_lacking": 4 * GB,
        "free": 9 * GB,
        "python": "cp311",
        "arch": "x86_64",
        "problems": [],
        "port_free": True,
    }
    return usual | said


DONE = {"complete": True, "bytes_lacking": 0}
NO_WHEEL = {"python": "cp314"}


@pytest.mark.parametrize(
    "looks, has_source, does",
    [
        ([look(1), look(2), look(3)], True, "source receive receive"),
        ([look(1), look(2, bytes_lacking=GB), look(3)], True, "receive source receive"),
        ([look(1, **DONE), look(2), look(3, **DONE)], True, "seed receive seed"),
        ([look(1, **DONE), look(2)], False, "seed receive"),
        ([look(1, **DONE), look(2, **DONE)], True, "nothing nothing"),
        ([look(1)], True, "copy"),
        ([look(1), look(2, **NO_WHEEL)], True, "copy copy"),
        ([look(1), look(2, **NO_WHEEL), look(3)], True, "source copy receive"),
        ([look(1, **DONE), look(2, **NO_WHEEL)], False, "nothing refused"),
        ([look(1), look(2)], False, "refused refused"),
        ([look(1), look(2, free=GB), look(3)], True, "source refused receive"),
        ([look(1), look(2, port_free=False), look(3)], True, "source refused receive"),
        ([look(1), look(2, problems=["x is a symbolic link"]), look(3)], True, "source refused receive"),
        ([look(1, python="cp312", arch="aarch64"), look(2)], True, "source receive"),
        ([look(1, **DONE, **NO_WHEEL), look(2), look(3)], True, "nothing source receive"),
    ],
)
def test_parts(looks: list[dict[str, Any]], has_source: bool, does: str) -> None:
    said = {f"h{number}": entry for number, entry in enumerate(looks, 1)}
    parts = swarm_plan.swarm_plan(said, WHEELS, 29310, has_source)
    assert [part["does"] for part in parts.values()] == does.split()


def test_shares_peers_and_sources_fit_together() -> None:
    said = {"h1": look(1, **DONE), "h2": look(2), "h3": look(3), "h4": look(4, free=1)}
    parts = swarm_plan.swarm_plan(said, WHEELS, 29310, True)
    assert [parts[host]["share"] for host in said] == [(0, 0), (0, 2), (1, 2), (0, 0)]
    assert parts["h2"]["peers"] == ("192.0.2.1", "192.0.2.3")
    assert parts["h2"]["sources"] == ("192.0.2.1",)
    assert parts["h1"]["sources"] == ()
    assert parts["h2"]["wheel"] == WHEELS[0]


@pytest.mark.parametrize(
    "said, words",
    [
        ({"free": 3 * GB}, "no space: 4.00 GB are needed and 3.00 GB are free; free 1.00 GB"),
        (
            {"port_free": False},
            "port 29310 on 192.0.2.2 is taken; set swarm_port to one that is free on all hosts",
        ),
        ({"problems": ["a", "b"]}, "a; b"),
        (
            NO_WHEEL,
            "no libtorrent for cp314 on x86_64 among the wheels, and no swarm_source to copy from; give the host a Python "
            "of 3.9 to 3.13 (ansible_python_interpreter), or swarm_source",
        ),
    ],
)
def test_refusals_say_what_and_what_would_work(said: dict[str, Any], words: str) -> None:
    parts = swarm_plan.swarm_plan({"h1": look(1, **DONE), "h2": look(2, **said)}, WHEELS, 29310, False)
    assert parts["h2"]["why"] == words
    assert swarm_plan.swarm_plan_text(parts, "m", 29310)[-1] == f"h2  m  REFUSED  {words}"


def test_nobody_has_it() -> None:
    parts = swarm_plan.swarm_plan({"h1": look(1), "h2": look(2)}, WHEELS, 29310, False)
    assert parts["h1"]["why"] == "no host has the files, and there is no swarm_source"


def test_one_address_for_two_hosts_is_refused() -> None:
    with pytest.raises(
        swarm_plan.SwarmError, match=r"swarm_address is the same on several hosts: h1 = 192\.0\.2\.1, h2"
    ):
        swarm_plan.swarm_plan({"h1": look(1), "h2": look(1)}, WHEELS, 29310, True)


def test_words_before_and_after() -> None:
    said = {"h1": look(1), "h2": look(2), "h3": look(3, **NO_WHEEL)}
    parts = swarm_plan.swarm_plan(said, WHEELS, 29310, True)
    assert swarm_plan.swarm_plan_text(parts, "m", 29310) == [
        "h1  m  4.00 GB over ssh, then gives them to the others",
        "h2  m  4.00 GB from the others, port 29310",
        "h3  m  4.00 GB as a plain copy: no libtorrent for cp314 on x86_64: sent over ssh",
    ]
    status = {
        "from": {"192.0.2.1": 3 * GB, "192.0.2.9": GB},
        "to": {"192.0.2.1": GB},
        "refused": {"192.0.2.9": 1},
        "suspected": ["192.0.2.1", "192.0.2.8"],
    }
    waited = {"seconds": 40, "problem": "x", "status": {}}
    assert swarm_plan.swarm_summary([("h2", {"status": status}, waited), ("h3", {}, {})], said) == [
        "h2  4.00 GB in 40 s, 100 MB/s (GB from h1 3.00, 192.0.2.9 1.00), gave 1.00 GB; "
        "REFUSED damaged pieces from 192.0.2.9, REFUSED damaged pieces that came from h1 or 192.0.2.8; x"
    ]
