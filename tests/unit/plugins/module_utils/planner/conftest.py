# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the kinds that people have, planned with the collection's real catalogues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Catalogues
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.base import EngineData
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.kernel_choice import KernelFiles
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts, Toolkit
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.case import Inputs
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import InstancePlan, PlanResult
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import DataFiles, load_data_files
from ansible_collections.baremetal.sglang.tests.unit.fixtures.lightllm_wheel import PLANNED

TOOLKIT = {"cuda_home": "/usr/local/cuda", "nvcc": "12.8.93", "ptxas": "12.8.93", "cxx": "11.4", "ninja": ""}
KINDS: dict[str, dict[str, Any]] = {
    "a800": {
        "os": "ubuntu-22.04",
        "arch": "x86_64",
        "driver": "550.54.15",
        "gpus": {"model": "a800-sxm4-80gb", "count": 8},
        "fabric_manager": "running",
        "toolkit": TOOLKIT,
    },
    "a800-without-toolkit": {
        "os": "ubuntu-22.04",
        "arch": "x86_64",
        "driver": "550.54.15",
        "gpus": {"model": "a800-sxm4-80gb", "count": 8},
        "fabric_manager": "running",
    },
    "a800-580": {
        "os": "ubuntu-24.04",
        "arch": "x86_64",
        "driver": "580.95.05",
        "gpus": {"model": "a800-sxm4-80gb", "count": 8},
        "fabric_manager": "running",
    },
    "h200": {
        "os": "ubuntu-24.04",
        "arch": "x86_64",
        "driver": "580.95.05",
        "gpus": {"model": "h200", "count": 8},
        "fabric_manager": "running",
    },
    "spark": {
        "os": "dgx-os-7",
        "arch": "aarch64",
        "driver": "580.95.05",
        "gpus": {"model": "gb10", "count": 1},
        "memory_gib": 121.6,
    },
    "cpu": {"os": "debian-12", "arch": "x86_64", "memory_gib": 23.4},
}


class World:
    """Builds hosts and plans them; everything but the facts comes from files/."""

    def __init__(self, data_files: DataFiles) -> None:
        self.data_files = data_files
        self.catalogues: Catalogues = data_files.catalogues
        self.sglang: EngineData = data_files.engines["sglang"]
        self.releases = self.sglang.releases
        self.kernel_files: KernelFiles = self.sglang.own

    def host(self, kind: str, name: str, number: int = 1, **changes: Any) -> HostFacts:
        data = dict(KINDS[kind])
        if kind == "spark":
            data["rdma"] = [
                {"name": "rocep1s0f1", "netdev": "enp1s0f1np1", "state": "active"},
                {"name": "roceP2p1s0f1", "netdev": "enP2p1s0f1np1", "state": "active"},
            ]
            data["interfaces"] = [
                {"name": "enp1s0f1np1", "state": "up", "addresses": [f"192.168.101.{10 + number}/24"]},
                {"name": "enP2p1s0f1np1", "state": "up", "addresses": [f"192.168.102.{10 + number}/24"]},
            ]
        else:
            data["interfaces"] = [{"name": "eth0", "state": "up", "addresses": [f"10.0.0.{10 + number}/24"]}]
        facts = HostFacts.from_dict(
            {
                **data,
                **{key: value for key, value in changes.items() if key in ("driver", "gpus", "os", "arch")},
            },
            name,
            hardware=self.catalogues.hardware,
            systems=self.data_files.systems["operating_systems"],
            driver_cuda=self.data_files.systems["driver_cuda"],
        )
        rest = {key: value for key, value in changes.items() if key not in ("driver", "gpus", "os", "arch")}
        if isinstance(rest.get("toolkit"), dict):
            rest["toolkit"] = Toolkit(**rest["toolkit"])
        return replace(facts, **rest)

    def hosts(self, kind: str, count: int = 1, **changes: Any) -> dict[str, HostFacts]:
        found = [self.host(kind, f"{kind}-{number}", number, **changes) for number in range(1, count + 1)]
        return {host.host: host for host in found}

    def inputs(self, facts: dict[str, HostFacts], **changes: Any) -> Inputs:
        return Inputs(
            **{
                "facts": facts,
                "catalogues": self.catalogues,
                "policy": self.data_files.policy,
                "risks": self.data_files.risks,
                "collection": "0.0.0",
                "engines": self.data_files.engines,
                "systems": self.data_files.systems["operating_systems"],
                "families": self.data_files.systems["families"],
                "drivers": self.data_files.drivers,
                "today": "2026-11-30",
                **changes,
            }
        )

    def with_sglang(self, **changes: Any) -> dict[str, EngineData]:
        """Inputs.engines with other releases, locks or kernel files."""
        return {"sglang": replace(self.sglang, **changes)}

    def with_wheel(self, **changes: Any) -> dict[str, EngineData]:
        """Inputs.engines with a wheel of LightLLM, as if it were named in engine_wheels."""
        wheel = {**PLANNED, **changes}
        return {
            **self.data_files.engines,
            "lightllm": replace(self.data_files.engines["lightllm"], wheel=wheel),
        }

    def with_kernels(self, **changes: Any) -> dict[str, EngineData]:
        return self.with_sglang(own=replace(self.kernel_files, **changes))

    def plan(self, facts: dict[str, HostFacts], serve: Any, **changes: Any) -> PlanResult:
        return plan_inventory(self.inputs(facts, **changes), serve)

    def one(self, kind: str, count: int = 1, host: Any = None, **wanted: Any) -> PlanResult:
        """One instance called `it` on all hosts of a kind."""
        facts = self.hosts(kind, count, **(host or {}))
        return self.plan(facts, {"it": {"hosts": list(facts), **wanted}})

    def instance(self, kind: str, count: int = 1, host: Any = None, **wanted: Any) -> InstancePlan:
        result = self.one(kind, count, host, **wanted)
        assert not result.refusals, [refusal.lines() for refusal in result.refusals]
        return next(iter(result.plans.values())).instances["it"]

    def codes(self, kind: str, count: int = 1, host: Any = None, **wanted: Any) -> list[str]:
        return [refusal.code for refusal in self.one(kind, count, host, **wanted).refusals]


@pytest.fixture(scope="session")
def world() -> World:
    data_files = load_data_files([])
    assert not data_files.refusals, [refusal.lines() for refusal in data_files.refusals]
    return World(data_files)
