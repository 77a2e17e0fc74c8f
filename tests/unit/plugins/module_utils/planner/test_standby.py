# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where two servers of one instance fit beside each other, one takes the requests while the other is exchanged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import config_text
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application as plan_application

TINY = {"model": "glm-4.7-tiny", "device": "cpu"}


def planned(world: Any, kind: str, serve: dict[str, Any], gateway: Any = True, **host: Any) -> Any:
    facts = world.hosts(kind, 2, **host)
    first = next(iter(facts))
    asked = {name: {"hosts": [first], **entry} for name, entry in serve.items()}
    result = world.plan(
        facts, asked, gateway={"hosts": [f"{kind}-2"]} if gateway is True else gateway,
        addresses={name: f"10.0.0.{number}" for number, name in enumerate(facts, 1)},
    )  # fmt: skip
    assert not result.refusals, [item.lines() for item in result.refusals]
    return result


@pytest.mark.parametrize(
    ("kind", "serve", "host", "gateway", "relieved"),
    [
        ("cpu", {"a": TINY}, {}, True, {"a": ()}),
        ("cpu", {"a": TINY}, {}, None, {}),
        ("cpu", {"a": TINY}, {"memory_gib": 7.0}, True, {}),
        ("cpu", {"a": {**TINY, "standby": False}}, {}, True, {}),
        ("cpu", {"a": TINY, "b": {**TINY, "port": 30010}}, {}, {"hosts": ["cpu-2"], "instances": ["b"]}, {"b": ()}),
        # A replica is there anyway; asked for by name there is one all the same.
        ("cpu", {"a": {**TINY, "served_model_name": "x"}, "b": {**TINY, "port": 30010, "served_model_name": "x"}},
         {}, True, {}),
        ("cpu", {"a": {**TINY, "served_model_name": "x", "standby": True},
                 "b": {**TINY, "port": 30010, "served_model_name": "x"}}, {}, True, {"a": ()}),
        # Both fit only one after the other: the first has the room.
        ("cpu", {"a": TINY, "b": {**TINY, "port": 30010}}, {"memory_gib": 14.0}, True, {"a": ()}),
        ("h200", {"a": {"model": "glm-4.7-flash", "tensor_parallel": 4}}, {}, True, {"a": (4, 5, 6, 7)}),
        ("h200", {"a": {"model": "glm-4.7-fp8", "tensor_parallel": 8}}, {}, True, {}),
    ],
)  # fmt: skip
def test_where_there_is_room(
    world: Any, kind: str, serve: Any, host: Any, gateway: Any, relieved: Any
) -> None:
    plan = planned(world, kind, serve, gateway, **host).plans[f"{kind}-1"]
    assert {name: second.gpus for name, second in plan.standbys.items()} == relieved


def test_it_is_the_same_server_in_another_place(world: Any) -> None:
    result = planned(world, "h200", {"a": {"model": "glm-4.7-flash", "tensor_parallel": 2}})
    plan = result.plans["h200-1"]
    (first,), (second,) = plan_application.units(plan), plan_application.standbys(plan)
    assert second["unit"] == "sglang-a-standby.service" and second["serves"] == first["serves"] == "a"
    assert second["launch"]["port"] == first["launch"]["port"] + 4000
    assert second["launch"]["environment"]["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert first["launch"]["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    told = json.dumps(second)
    # It runs from the release that is about to serve, and writes to no folder of the other.
    assert "/opt/sglang/current/a" not in told and "/var/cache/sglang/a/" not in told
    assert second["writable"] == ["/var/lib/sglang/a-standby", "/var/cache/sglang/a-standby"]
    made = {entry["path"] for entry in plan.host_settings["directories"]}
    assert set(second["writable"]) <= made
    layout = plan_application.release_layout(plan)
    assert layout["links"]["standby/launcher"] == "../launcher"
    assert layout["links"]["standby/a-standby/weights"] == layout["links"]["a/weights"]
    (member,) = layout["members"]
    assert (member["standby"], member["standby_port"]) == ("a-standby", 34000)


def test_the_gateway_knows_both(world: Any) -> None:
    gateways = planned(world, "cpu", {"a": TINY}).gateways
    names = [server["instance"] for server in gateways["cpu-2"]["front"]["models"]["a"]]
    assert names == ["a", "a-standby"]
    inner = config_text(gateways["cpu-1"])
    assert "use_backend local-a-standby if" in inner and "server a-standby 127.0.0.1:34000" in inner
    assert "metrics/engine/a-standby" not in inner
