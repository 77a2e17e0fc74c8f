# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a unit and its launch.json say, for hosts with GPUs, in groups, and without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import units
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

ROOT = Path(__file__).parents[3]
POLICY = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_data_files([]))


def unit_of(
    world: World, kind: str, model: str, count: int = 1, minors: bool = True, **wanted: Any
) -> dict[str, Any]:
    facts = world.hosts(kind, count)
    if minors:
        facts = {
            name: replace(host, gpus=tuple(replace(gpu, minor=7 - gpu.index) for gpu in host.gpus))
            for name, host in facts.items()
        }
    result = world.plan(facts, {"it": {"hosts": list(facts), "model": model, **wanted}})
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    (unit,) = units(list(result.plans.values())[-1])
    return unit


def rendered(unit: dict[str, Any]) -> dict[str, list[str]]:
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    text = (ROOT / "roles/engine/templates/sglang.service.j2").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for line in environment.from_string(text).render(engine_unit=unit, ansible_managed="x").splitlines():
        if "=" in line and not line.startswith("#"):
            found.setdefault(line.split("=", 1)[0], []).append(line.split("=", 1)[1])
    return found


def test_a_cpu_unit_has_no_device_and_talks_to_nobody(world: World) -> None:
    unit = rendered(unit_of(world, "cpu", "glm-4.7-tiny", device="cpu"))
    assert "DeviceAllow" not in unit
    assert unit["PrivateDevices"] == ["true"]
    assert unit["IPAddressAllow"] == ["localhost"]
    assert unit["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_NETLINK"]
    assert "Environment" not in unit
    assert unit["ExecStart"] == [
        "/opt/sglang/current/it/env/bin/python -I -S -B /opt/sglang/current/launcher /opt/sglang/current/it/launch.json"
    ]
    assert unit["ReadWritePaths"] == ["/var/lib/sglang/it", "/var/cache/sglang/it"]


def test_a_gpu_unit_has_its_own_gpus_by_the_driver_s_numbers(world: World) -> None:
    unit = rendered(unit_of(world, "h200", "glm-4.7-fp8", gpus=[0, 1, 2, 5], tensor_parallel=4))
    assert unit["DeviceAllow"] == [
        f"{device} rw"
        for device in (
            "/dev/nvidiactl", "char-nvidia-uvm", "char-nvidia-caps*",
            "/dev/nvidia7", "/dev/nvidia6", "/dev/nvidia5", "/dev/nvidia2",
        )
    ]  # fmt: skip
    assert "PrivateDevices" not in unit
    assert unit["Wants"] == [
        "network-online.target",
        "modprobe@nvidia_uvm.service",
        "gpu-device-nodes.service",
    ]
    # Under DevicePolicy=closed a node cannot be made, whoever tries it.
    assert "ExecStartPre" not in unit
    assert (
        "gpu-device-nodes.service nvidia-persistenced.service nvidia-fabricmanager.service" in unit["After"]
    )


def test_root_makes_the_nodes_of_every_gpu_before_an_instance(world: World) -> None:
    """After a reboot nobody else may have, and systemd leaves a missing node out of the unit's device list."""
    (plan,) = world.one("h200", model="glm-4.7-fp8").plans.values()
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    text = (ROOT / "roles/host/templates/gpu-device-nodes.service.j2").read_text(encoding="utf-8")
    unit = environment.from_string(text).render(host_plan=plan.to_dict(), ansible_managed="x")
    made = [line.rpartition(" -")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert made == [*(f"c {index}" for index in range(8)), "c 255", "c 0"]
    assert "RemainAfterExit" not in unit and "DevicePolicy" not in unit
    (plan,) = world.one("cpu", model="glm-4.7-tiny", device="cpu").plans.values()
    assert plan.host_settings["gpu_nodes"] == []


def test_where_the_numbers_are_not_known_all_gpus_are_open(world: World) -> None:
    unit = rendered(unit_of(world, "h200", "glm-4.7-fp8", minors=False))
    assert unit["DeviceAllow"][-2:] == ["char-nvidia rw", "char-nvidia-frontend rw"]


def test_a_group_talks_to_its_members_over_rdma_and_to_nobody_else(world: World) -> None:
    unit = unit_of(world, "spark", "glm-4.7-awq", 4)
    lines = rendered(unit)
    assert lines["IPAddressAllow"] == [
        "localhost 192.168.101.11 192.168.101.12 192.168.101.13 192.168.101.14"
    ]
    assert "char-infiniband_verbs rw" in lines["DeviceAllow"]
    assert "/dev/infiniband/rdma_cm rw" in lines["DeviceAllow"]
    # Its last member has no API to ask for tokens.
    assert unit["launch"]["head"] is False


def test_the_start_s_time_follows_from_bytes_and_compiling(world: World) -> None:
    tiny = unit_of(world, "cpu", "glm-4.7-tiny", device="cpu")["launch"]["start"]
    large = unit_of(world, "h200", "glm-4.7-fp8")["launch"]["start"]
    start = POLICY["engine"]["start"]
    assert tiny["seconds"] == start["base_seconds"]
    # 362 GB at 100 MB/s, and what compiles.
    assert large["seconds"] > start["base_seconds"] + start["compile_seconds"] + 3000
    assert large["most_seconds"] == large["seconds"] * start["most_times"]


def test_launch_json_says_all_that_the_launcher_reads(world: World) -> None:
    launch = unit_of(world, "h200", "glm-4.7-fp8")["launch"]
    assert launch == json.loads(json.dumps(launch))
    assert launch["argv"][:3] == ["/opt/sglang/current/it/env/bin/python", "-m", "sglang.launch_server"]
    assert (launch["address"], launch["port"]) == ("127.0.0.1", 30000)
    assert launch["checks"]["driver"] == "580.95.05"
    assert [gpu["index"] for gpu in launch["checks"]["gpus"]] == list(range(8))
    assert not any(word in json.dumps(launch).lower() for word in ("api-key", "api_key", "password"))


def test_every_cache_lies_below_the_folder_of_environment_and_architecture(world: World) -> None:
    launch = unit_of(world, "h200", "glm-4.7-fp8")["launch"]
    assert launch["compiled"].startswith("/var/cache/sglang/it/compiled/")
    assert launch["compiled"].endswith("-sm90")
    for name in (*POLICY["cache_variables"], *world.sglang.cache_variables):
        place = launch["environment"][name]
        assert place == launch["compiled"] or place.startswith(launch["compiled"] + "/"), name
    other = unit_of(world, "h200", "glm-4.7-fp8", options={"max-running-requests": 8})["launch"]
    assert other["compiled"] == launch["compiled"]
