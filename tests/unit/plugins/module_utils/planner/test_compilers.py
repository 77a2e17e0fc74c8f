# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a compiler comes from, what is proven with it, and the variables that lead there."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import (
    bundle_conda,
    bundle_environments,
    proofs,
)

from .conftest import World

BELOW = ["release-below-security-floor"]


@pytest.mark.parametrize(
    ("kind", "model", "options", "changes", "wanted"),
    [
        ("a800", "glm-4.7-int8", {}, {}, ("host", "8.0", ["triton", "cuda", "flashinfer", "tvm-ffi"])),
        ("a800-without-toolkit", "glm-4.7-int8", {}, {"runtime_backend": "pixi"},
         ("conda", "8.0", ["triton", "cuda", "flashinfer", "tvm-ffi"])),
        ("a800-580", "glm-4.7-int8", {}, {}, ("wheels", "8.0", ["triton", "cuda", "flashinfer", "tvm-ffi"])),
        ("h200", "glm-4.7-fp8", {}, {}, ("wheels", "9.0", None)),
        ("cpu", "glm-4.7-tiny", {}, {}, ("", "", [])),
    ],
)  # fmt: skip
def test_source_and_proofs(
    world: World, kind: str, model: str, options: dict[str, Any], changes: dict[str, Any], wanted: Any
) -> None:
    facts = world.hosts(kind)
    result = world.plan(facts, {"it": {"hosts": list(facts), "model": model, **options}}, **changes)
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    plan = next(iter(result.plans.values())).instances["it"]
    source, capability, found = wanted
    assert (plan.compiles["source"], plan.compiles["capability"]) == (source, capability)
    assert found is None or plan.compiles["proofs"] == found
    variables = {item.name: item.value for item in plan.environment_variables}
    home = plan.compiles["cuda_home"]
    assert variables.get("CUDA_HOME", "") == variables.get("CUDA_PATH", "") == home
    if source in ("wheels", "conda"):
        assert home == f"{plan.environment['path']}/cuda"
        assert variables["LIBRARY_PATH"] == f"{home}/lib64:{home}/lib64/stubs"
        assert f"{home}/bin" in variables["PATH"].split(":")
    else:
        assert "LIBRARY_PATH" not in variables


def test_triton_alone_is_proven_where_nothing_needs_nvcc(world: World) -> None:
    """Settings and a release without nvcc: Triton still builds its launcher with the C compiler."""
    plan = world.instance("a800-without-toolkit", model="glm-4.7-int8", release="0.5.7", accept=["below-security-floor"],
                          options={"attention-backend": "triton", "sampling-backend": "pytorch"})  # fmt: skip
    assert plan.compiles["nvcc"] == []
    assert (plan.compiles["proofs"], plan.compiles["cuda_home"]) == (["triton"], "")
    assert plan.compiles["needs"] == ["cc", "python-headers"]


def test_headers_are_those_of_the_host_s_python(world: World) -> None:
    facts = world.hosts("h200")
    result = world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-fp8"}})
    host = next(iter(result.plans.values()))
    python = host.instances["it"].environment["python"]
    assert f"libpython{python}-dev" in host.host_settings["packages"]


def test_proofs_of_a_plan_are_what_the_module_takes(world: World) -> None:
    facts = world.hosts("h200")
    result = world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-fp8"}})
    plan = next(iter(result.plans.values()))
    (proof,) = proofs(plan)
    assert proof["environment"] == plan.instances["it"].environment["path"]
    assert proof["cuda_home"] == f"{proof['environment']}/cuda"
    assert proof["cache"] == "/var/cache/sglang/it"
    assert proof["variables"]["HOME"].startswith(f"{proof['cache']}/compiled/")
    assert proof["user"] == "sglang"
    assert proofs(Plan.from_dict({})) == []


def test_a_mixed_inventory_plans_every_variant(world: World) -> None:
    """CUDA 12 and 13, x86_64 and aarch64, one bundle."""
    facts = {**world.hosts("a800"), **world.hosts("h200"), **world.hosts("spark", 4), **world.hosts("cpu")}
    serve = {
        "old": {"hosts": ["a800-1"], "model": "glm-4.7-int8"},
        "new": {"hosts": ["h200-1"], "model": "glm-4.7-fp8"},
        "arm": {"hosts": [f"spark-{number}" for number in range(1, 5)], "model": "glm-4.7-fp8"},
        "cpu": {"hosts": ["cpu-1"], "model": "glm-4.7-tiny"},
    }
    result = world.plan(facts, serve)
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    plans = list(result.plans.values())
    wanted = bundle_environments(plans, "locks")
    assert {(item["cuda"], item["arch"]) for item in wanted} == {
        ("cu128", "x86_64"), ("cu130", "x86_64"), ("cu130", "aarch64")
    }  # fmt: skip
    assert len({item["lock"] for item in wanted}) == len(wanted)
    assert bundle_conda(plans, "locks") == []


def test_pixi_is_another_environment_with_a_conda_half(world: World) -> None:
    facts = {**world.hosts("a800-without-toolkit"), **world.hosts("h200")}
    serve = {
        "old": {"hosts": ["a800-without-toolkit-1"], "model": "glm-4.7-int8"},
        "new": {"hosts": ["h200-1"], "model": "glm-4.7-fp8"},
    }
    result = world.plan(facts, serve, runtime_backend="pixi")
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    plans = result.plans
    made = {item["level"]: item for item in bundle_conda(plans.values(), "locks")}
    assert (made["12.8"]["compiler"], made["13.0"]["compiler"]) == (True, False)
    plain = world.plan(world.hosts("h200"), {"new": serve["new"]})
    one = plain.plans["h200-1"].instances["new"].environment
    other = plans["h200-1"].instances["new"].environment
    assert one["id"] != other["id"]
    assert (one["conda"], one["lock"]) == ({}, other["lock"])


def test_a_library_that_the_wheels_need_is_a_planned_package(world: Any) -> None:
    """A minimal host lacks libnuma, and the import of the kernel wheel failed after five gigabytes were sent."""
    (plan,) = world.one("a800", model="glm-4.7-int8").plans.values()
    assert plan.instances["it"].release["version"] == "0.5.10.post1"
    assert "libnuma1" in plan.host_settings["packages"]
    (plan,) = world.one("a800-580", model="glm-4.7-int8").plans.values()
    assert "libnuma1" not in plan.host_settings["packages"]
