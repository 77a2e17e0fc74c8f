# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports are closed to whom, as rules of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

GROUP = ["192.168.101.11", "192.168.101.12", "192.168.101.13", "192.168.101.14"]
SERVE = {"model": "glm-4.7-fp8"}


def rules(plan: Any) -> dict[int, list[str]]:
    return {rule["port"]: rule["sources"] for rule in plan.firewall.get("rules", ())}


def test_one_host_alone_asks_for_nothing(world: Any) -> None:
    result = world.one("h200", model="glm-4.7-fp8", host={"nft": ""})
    assert not result.refusals
    (plan,) = result.plans.values()
    assert plan.firewall == {}
    assert plan.instances["it"].service["addresses"] == []


def test_a_group_is_closed_to_strangers(world: Any) -> None:
    plans = world.one("spark", 4, **SERVE).plans
    assert rules(plans["spark-1"]) == {30000: GROUP, 31000: GROUP, 32000: GROUP, 33000: GROUP}
    # The others listen for nobody but their dummy health server.
    assert rules(plans["spark-3"]) == {30000: GROUP}
    for plan in plans.values():
        service = plan.instances["it"].service
        assert service["addresses"] == sorted(GROUP)
        assert service["address_families"] == ["AF_UNIX", "AF_INET", "AF_NETLINK"]


def test_the_ports_of_a_group_belong_to_the_engine_on_every_member(world: Any) -> None:
    plans = world.one("spark", 4, **SERVE).plans
    for number, host in enumerate(plans):
        (found,) = plans[host].firewall["owners"]
        assert (found["ports"], found["user"]) == ([32000, 31000, 33000], "sglang")
        assert (found["addresses"], found["own"], found["here"]) == (GROUP[:1], GROUP[number], not number)


def test_every_port_of_the_plan_has_a_rule(world: Any) -> None:
    """The unauthenticated sockets of data-parallel attention among them."""
    wanted = {**SERVE, "options": {"enable-dp-attention": True, "dp-size": 4},
              "accept": ["dp-attention-unauthenticated"]}  # fmt: skip
    plan = world.one("spark", 4, **wanted).plans["spark-1"]
    assert set(range(31000, 31007)) <= set(rules(plan))
    assert set(rules(plan)) == {port.port for port in plan.instances["it"].ports}
    assert set(range(31000, 31007)) <= set(plan.firewall["owners"][0]["ports"])


def test_an_instance_beside_a_group_is_for_its_host_alone(world: Any) -> None:
    facts = world.hosts("h200", 2)
    hosts = list(facts)
    serve = {
        "both": {"model": "glm-4.7-fp8", "hosts": hosts, "tensor_parallel": 8},
        "one": {"model": "glm-4.7-flash", "hosts": hosts[:1], "tensor_parallel": 4, "port": 30005},
    }
    result = world.plan(facts, serve)
    assert not result.refusals, [item.lines() for item in result.refusals]
    assert rules(result.plans[hosts[0]])[30005] == []
    assert 30005 not in rules(result.plans[hosts[1]])


@pytest.mark.parametrize(
    ("swarm", "expected"),
    [
        ({}, None),
        ({"h200-1": "10.9.0.1"}, None),
        ({"h200-1": "10.9.0.1", "h200-2": "10.9.0.2"}, ["10.9.0.1", "10.9.0.2"]),
        ({"h200-1": "10.9.0.1", "h200-2": "h200-2.lan"}, None),
    ],
)
def test_the_port_of_the_swarm(world: Any, swarm: dict[str, str], expected: Any) -> None:
    facts = world.hosts("h200", 2)
    serve = {name: {"model": "glm-4.7-fp8", "hosts": [name]} for name in facts}
    result = world.plan(facts, serve, swarm=swarm)
    assert rules(result.plans["h200-1"]).get(29310) == expected
    owners = result.plans["h200-1"].firewall.get("owners", [])
    assert [item["user"] for item in owners] == (["sglang-swarm"] if expected else [])
    named = [item for item in result.advice if item.code == "swarm-port-open"]
    assert bool(named) == any(not item.replace(".", "").isdigit() for item in swarm.values())


@pytest.mark.parametrize(
    ("nft", "refused"),
    [("", True), ("/usr/sbin/nft", False), (None, False)],
    ids=["absent", "there", "unknown"],
)
def test_a_host_without_nft(world: Any, nft: str | None, refused: bool) -> None:
    facts = {name: replace(host, nft=nft) for name, host in world.hosts("spark", 4).items()}
    found = world.plan(facts, {"it": {**SERVE, "hosts": list(facts)}}).refusals
    assert [item.code for item in found] == (["nft-missing"] * 4 if refused else [])
    if refused:
        assert "install package nftables" in found[0].fix


def test_the_firewall_is_no_part_of_what_a_release_is(world: Any) -> None:
    """A host that joins the swarm must not restart the engines of the others."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import release_id

    facts = world.hosts("h200", 1)
    serve = {"it": {"model": "glm-4.7-fp8", "hosts": list(facts)}}
    swarm = {"h200-1": "10.9.0.1", "h200-2": "10.9.0.2"}
    plain, more = (world.plan(facts, serve, swarm=found).plans["h200-1"] for found in ({}, swarm))
    assert plain.firewall != more.firewall
    assert release_id(plain) == release_id(more)
