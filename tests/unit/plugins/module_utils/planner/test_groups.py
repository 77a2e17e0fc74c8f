# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says of hosts that serve one model together."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import Instance
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.topology import spread
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import units

SPARKS = {"model": "glm-4.7-fp8"}


def sections(world: Any, count: int = 4, **wanted: Any) -> dict[str, dict[str, Any]]:
    result = world.one("spark", count, **{**SPARKS, **wanted})
    assert not result.refusals, [item.lines() for item in result.refusals]
    return {host: plan.instances["it"].service["group"] for host, plan in result.plans.items()}


def test_members_meet_on_the_fabric_in_the_order_of_the_inventory(world: Any) -> None:
    found = sections(world)
    last = found["spark-4"]
    assert [member["address"] for member in last["members"]] == [f"192.168.101.{n}" for n in (11, 12, 13, 14)]
    assert [found[f"spark-{number}"]["rank"] for number in (1, 2, 3, 4)] == [0, 1, 2, 3]
    assert (last["channel_port"], last["ports"]) == (33000, [32000, 31000])
    words = last["torchrun"]
    said = dict(zip(words[::2], words[1::2]))
    assert said["--rdzv-endpoint"] == "192.168.101.11:32000"
    assert (said["--nnodes"], said["--nproc-per-node"], said["--max-restarts"]) == ("4", "1", "0")
    assert said["--local-addr"] == "192.168.101.14"
    assert said["--rdzv-conf"].startswith("is_host=0,")
    assert "is_host=1," in " ".join(found["spark-1"]["torchrun"])


def test_what_changes_for_one_member_is_another_release_for_all(world: Any) -> None:
    def releases(**wanted: Any) -> set[str]:
        return {
            section["release"] for section in sections(world, 2, model="glm-4.7-flash-fp8", **wanted).values()
        }

    first, same, other = releases(), releases(), releases(options={"max-running-requests": 7})
    assert first == same
    assert len(first) == len(other) == 1
    assert first != other
    smaller = sections(world, 2, model="glm-4.7-flash-fp8")["spark-1"]["id"]
    assert smaller != sections(world, 1 + 3, model="glm-4.7-flash-fp8")["spark-1"]["id"]


def test_the_unit_of_a_member_runs_torchrun_s_agent(world: Any) -> None:
    plans = world.one("spark", 4, **SPARKS).plans
    (unit,) = units(plans["spark-2"])
    assert unit["command"] == (
        "/opt/sglang/current/it/env/bin/python -I -B /opt/sglang/current/launcher/agent.py "
        "/opt/sglang/current/it/launch.json"
    )
    assert unit["launch"]["group"]["rank"] == 1
    # A member that waits for others fails and starts again, for days if need be.
    assert unit["confinement"]["start_interval"] < unit["launch"]["group"]["wait_seconds"]
    (alone,) = units(next(iter(world.one("h200", model="glm-4.7-fp8").plans.values())))
    assert "group" not in alone["launch"]
    assert "agent.py" not in alone["command"]


@pytest.mark.parametrize(
    ("count", "link", "asked", "sizes", "why"),
    [
        (8, 400.0, {}, (16, 1), "all 16 GPUs"),
        (8, None, {}, (16, 1), "all 16 GPUs"),
        (8, 0.0, {}, (8, 2), "0 Gbit/s between the hosts, 90 are needed"),
        (8, 25.0, {}, (8, 2), "25 Gbit/s between the hosts"),
        (8, 25.0, {"tensor_parallel": 16}, (16, 1), "asked for"),
        (8, 25.0, {"pipeline_parallel": 1}, (16, 1), "all 16 GPUs"),
        # A shape that does not divide within a host is not forced.
        (7, 25.0, {}, (1, 14), "does not divide by 14: 14 pipeline stages"),
    ],
)
def test_slow_links_carry_stages_and_fast_ones_tensors(
    world: Any, count: int, link: float | None, asked: dict[str, int], sizes: tuple[int, int], why: str
) -> None:
    instance = Instance("it", "glm-4.7-int8", ("a", "b"), **asked)
    gpus = {host: tuple(range(count)) for host in ("a", "b")}
    parallel, _refusals = spread(instance, world.catalogues.models["glm-4.7-int8"], "cuda", gpus, link, 90.0)
    assert parallel is not None
    assert (parallel.tensor, parallel.pipeline) == sizes
    assert why in parallel.why


def test_four_sparks_take_one_tensor_over_all_and_without_rdma_stages(world: Any) -> None:
    rates = [replace(device, rate_gbps=200.0) for device in world.host("spark", "x").rdma]
    fast = world.instance("spark", 4, {"rdma": tuple(rates)}, **SPARKS)
    assert (fast.parallel["tp"], fast.parallel["pp"]) == (4, 1)
    slow = world.instance("spark", 4, {"rdma": ()}, model="glm-4.7-flash-fp8")
    assert (slow.parallel["tp"], slow.parallel["pp"]) == (1, 4)


def test_a_replica_on_other_hosts_is_an_instance_of_its_own(world: Any) -> None:
    facts = world.hosts("spark", 4)
    names = list(facts)
    wanted = {
        "a": {"model": "glm-4.7-flash-fp8", "hosts": names[:2]},
        "b": {"model": "glm-4.7-flash-fp8", "hosts": names[2:], "served_model_name": "a"},
    }
    plans = world.plan(facts, wanted).plans
    groups = [plans[host].instances[name].service["group"] for host, name in zip(names[::2], "ab")]
    assert groups[0]["id"] != groups[1]["id"]
    assert [member["host"] for member in groups[1]["members"]] == names[2:]


@pytest.mark.parametrize(("kind", "model"), [("spark", "glm-4.7-flash-fp8"), ("a800", "glm-4.7-int8")])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_second_group_on_the_same_gpus_is_told_who_has_them(
    world: Any, kind: str, model: str, count: int
) -> None:
    facts = world.hosts(kind, count)
    entry = {"model": model, "hosts": list(facts)}
    refused = world.plan(facts, {"one": entry, "two": {**entry, "port": 30100}}).refusals
    mine = [item for item in refused if item.code != "port-clash"]
    assert {item.code for item in mine} == {"gpu-twice"}, [item.lines() for item in refused]
    assert {item.host for item in mine} == set(facts)
    assert all("are left by serve.one" in item.what for item in mine)


def test_a_group_without_any_gpu_is_refused_host_by_host(world: Any) -> None:
    refused = world.one("cpu", 3, model="glm-4.7-flash", device="cuda").refusals
    assert {(item.code, item.host) for item in refused} == {("no-gpu", f"cpu-{n}") for n in (1, 2, 3)}


def test_planning_grows_no_faster_than_the_members(world: Any) -> None:
    def seconds(groups: int) -> float:
        facts = world.hosts("spark", groups * 4)
        names = list(facts)
        wanted = {
            f"g{number}": {"model": "glm-4.7-flash-fp8", "hosts": names[number * 4 : number * 4 + 4]}
            for number in range(groups)
        }
        begun = time.process_time()
        result = world.plan(facts, wanted)
        assert not result.refusals, [item.lines() for item in result.refusals][:2]
        assert all(units(plan) for plan in result.plans.values())
        return time.process_time() - begun

    seconds(1)
    # The best of some in turn: one round alone also measures who else is at work.
    rounds = [(seconds(4), seconds(16)) for _round in range(5)]
    few, many = map(min, zip(*rounds))
    print(f"16 members {few:.2f} s, 64 members {many:.2f} s")
    assert many < few * 4 * 1.6


def test_one_group_of_64_members_is_planned(world: Any) -> None:
    begun = time.process_time()
    result = world.one("spark", 64, model="glm-4.7-flash-fp8", tensor_parallel=4, pipeline_parallel=16)
    print(f"{time.process_time() - begun:.2f} s")
    plan = result.plans["spark-64"].instances["it"]
    assert plan.service["group"]["rank"] == 63
    assert len(plan.service["group"]["members"]) == 64


def test_a_host_that_shares_its_memory_with_the_gpu_neither_swaps_nor_freezes(world: Any) -> None:
    result = world.one("spark", 4, **SPARKS)
    plan = result.plans["spark-1"]
    assert plan.host_settings["swap"] == "off"
    (unit,) = units(plan)
    assert unit["launch"]["watch"]["memory_floor_percent"] == 2
    assert unit["confinement"]["oom_score_adjust"] == 500
    assert unit["drop_page_cache"] and unit["limits"]["LimitMEMLOCK"] == "infinity"
    other = next(iter(world.one("h200", model="glm-4.7-fp8").plans.values()))
    assert other.host_settings["swap"] == "as it is"
    (unit,) = units(other)
    assert (unit["launch"]["watch"]["memory_floor_percent"], unit["confinement"]["oom_score_adjust"]) == (
        0,
        0,
    )
