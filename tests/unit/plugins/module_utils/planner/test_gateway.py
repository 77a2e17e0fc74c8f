# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways of hosts: which instances are behind which, over which way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import config_text
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import content

TINY = {"model": "glm-4.7-tiny", "device": "cpu"}
ADDRESSES = {"cpu-1": "10.0.0.11", "cpu-2": "10.0.0.12", "cpu-3": "10.0.0.13"}
REPLICAS = {
    "a": {**TINY, "hosts": ["cpu-1"], "served_model_name": "tiny"},
    "b": {**TINY, "hosts": ["cpu-2"], "served_model_name": "tiny"},
    "other": {**TINY, "hosts": ["cpu-2"], "port": 30010},
}


def planned(world: Any, gateway: Any, monitoring: Any = None, serve: Any = None, **more: Any) -> Any:
    facts = world.hosts("cpu", 3)
    result = world.plan(
        facts, serve or REPLICAS, gateway=gateway, monitoring=monitoring, addresses=ADDRESSES, **more
    )
    assert not result.refusals, [item.lines() for item in result.refusals]
    return result


def test_nothing_is_asked_of_hosts_without_a_gateway(world: Any) -> None:
    result = planned(world, None)
    assert result.gateways == result.monitoring == {}


def test_replicas_of_one_name_stand_behind_one_gateway(world: Any) -> None:
    gateways = planned(world, {"hosts": ["cpu-1"]}).gateways
    assert sorted(gateways) == ["cpu-1", "cpu-2"]
    models = gateways["cpu-1"]["front"]["models"]
    assert sorted(models) == ["other", "tiny"]
    here, there = models["tiny"]
    assert (here["instance"], here["address"], here["port"], here["tls"]) == ("a", "127.0.0.1", 30000, False)
    # An engine listens on its own loopback address: the way there leads through the other host's internal listener.
    assert (there["instance"], there["address"], there["port"], there["tls"]) == (
        "b",
        "10.0.0.12",
        8444,
        True,
    )
    assert gateways["cpu-2"]["inner"]["instances"] == {"b": 30000, "other": 30010}
    assert gateways["cpu-2"]["front"] == {} and gateways["cpu-1"]["inner"] == {}
    assert [item["role"] for item in gateways["cpu-1"]["certificates"]] == ["front", "gateway"]
    assert gateways["cpu-2"]["certificates"] == [
        {"role": "internal", "owner": "cpu-2", "names": ["cpu-2", "10.0.0.12"]}
    ]
    assert (
        gateways["cpu-2"]["inner"]["gateways"] == ["cpu-1"] and gateways["cpu-2"]["inner"]["collectors"] == []
    )
    assert gateways["cpu-1"]["host_settings"]["packages"] == ["haproxy", "openssl"]


def test_the_plan_says_where_clients_come_in(world: Any) -> None:
    table = render(planned(world, {"hosts": ["cpu-1"]}))
    assert "gateway   https://cpu-1:443  other (1 engine), tiny (2 engines)" in table
    assert "gateway   " not in render(planned(world, None))


def test_a_gateway_may_stand_where_nothing_is_served(world: Any) -> None:
    result = planned(world, {"hosts": ["cpu-3"], "port": 8443, "instances": ["a"], "names": ["llm.example"]})
    assert "cpu-3" not in result.plans
    section = result.gateways["cpu-3"]
    assert list(section["front"]["models"]) == ["tiny"] and section["front"]["port"] == 8443
    front, gateway = section["certificates"]
    assert front["names"] == ["cpu-3", "10.0.0.13", "llm.example"]
    # A client's certificate is good for no name: no server can show it.
    assert gateway == {"role": "gateway", "owner": "cpu-3", "names": []}
    assert sorted(result.gateways) == ["cpu-1", "cpu-3"]
    # Its plan is empty, and nothing of a bundle's content is asked for it.
    assert content(Plan.from_dict({})) == []


def test_only_the_first_rank_of_a_group_answers(world: Any) -> None:
    facts = world.hosts("spark", 4)
    serve = {"big": {"model": "glm-4.7-fp8", "hosts": list(facts)}}
    result = world.plan(facts, serve, gateway={"hosts": ["spark-2"]})
    assert not result.refusals
    servers = result.gateways["spark-2"]["front"]["models"]["big"]
    assert [server["host"] for server in servers] == ["spark-1"]


def test_gateways_are_no_part_of_what_a_release_is(world: Any) -> None:
    with_gateway = planned(world, {"hosts": ["cpu-1"]}).plans["cpu-1"].to_dict()
    assert with_gateway == planned(world, None).plans["cpu-1"].to_dict()


def test_limits_and_endpoints_of_the_inventory(world: Any) -> None:
    asked = {"hosts": ["cpu-1"], "limits": {"body_mib": 1}, "endpoints": ["POST /tokenize"]}
    section = planned(world, asked).gateways["cpu-1"]
    assert section["limits"]["body_mib"] == 1 and section["limits"]["header_kib"] == 32
    text = config_text(section)
    assert "acl open var(txn.asked) -m str 'POST /tokenize'" in text and "gt 1048576" in text


@pytest.mark.parametrize(
    ("asked", "watched", "collectors"),
    [
        ({"prometheus": "cpu-3"}, ["cpu-1", "cpu-2"], ["cpu-3"]),
        ({"hosts": ["cpu-1"]}, ["cpu-1"], []),
        ({"prometheus": "cpu-1", "gpu": "dcgm"}, ["cpu-1", "cpu-2"], ["cpu-1"]),
    ],
)
def test_who_is_watched_by_whom(world: Any, asked: Any, watched: Any, collectors: Any) -> None:
    found = planned(world, None, asked)
    assert [host for host, item in found.monitoring.items() if item["exporter"]] == watched
    assert [host for host, item in found.monitoring.items() if item["prometheus"]] == collectors
    # Every watched host has an internal listener, and no gateway was opened for it.
    assert [host for host, item in found.gateways.items() if item["inner"]] == watched
    assert not any(item["front"] for item in found.gateways.values())
    for host in collectors:
        targets = found.monitoring[host]["prometheus"]["targets"]
        assert [target["host"] for target in targets] == watched
        assert all(target["dcgm"] == (asked.get("gpu") == "dcgm") for target in targets)
