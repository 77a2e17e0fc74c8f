# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel file an instance gets, and what its plan says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import Shipped
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_tuned import (
    USERS,
    tuned_from,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import units

INT8 = {"model": "glm-4.7-int8"}
FP8 = {"model": "glm-4.7-fp8"}
A800_INT8 = "E=161,N=192,device_name=NVIDIA_A800-SXM4-80GB,dtype=int8_w8a8,per_channel_quant=True.json"
GB10_FP8 = "E=161,N=384,device_name=NVIDIA_GB10,dtype=fp8_w8a8,per_channel_quant=True.json"
H200_FP8 = "E=161,N=192,device_name=NVIDIA_H200,dtype=fp8_w8a8,per_channel_quant=True.json"
SMALL = {"1": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_N": 32, "BLOCK_SIZE_K": 64, "num_stages": 3}}
LARGE = {"1": {"BLOCK_SIZE_M": 128, "BLOCK_SIZE_N": 256, "BLOCK_SIZE_K": 128, "num_stages": 4}}


def users(name: str, tiles: Any = None, triton: str = "", **known: Any) -> Any:
    return tuned_from(name, tiles or SMALL, f"/mine/moe/{name}", USERS, known, triton)


def kernels(world: Any, kind: str, count: int = 1, files: Any = (), **wanted: Any) -> dict[str, Any]:
    facts = world.hosts(kind, count)
    found = dict(world.kernel_files.brought)
    for item in files:
        found[item.name] = (*found.get(item.name, ()), item)
    result = world.plan(
        facts, {"it": {"hosts": list(facts), **wanted}}, engines=world.with_kernels(brought=found)
    )
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    return dict(next(iter(result.plans.values())).instances["it"].kernels)


@pytest.mark.parametrize(
    ("kind", "count", "wanted", "folder", "name", "words"),
    [
        ("a800", 1, INT8, "triton_3_5_1", A800_INT8,
         "MoE E=161,N=192 int8_w8a8 per-channel: from files/engines/sglang/moe (A800), never measured on A800, only on H200"),
        ("a800-580", 1, INT8, "triton_3_8_0", A800_INT8,
         "MoE E=161,N=192 int8_w8a8 per-channel: from files/engines/sglang/moe (A800), never measured on A800, only on H200"),
        ("spark", 4, FP8, "triton_3_8_0", GB10_FP8,
         "MoE E=161,N=384 fp8_w8a8 per-channel: from files/engines/sglang/moe (GB10), never measured on GB10"),
        ("h200", 1, FP8, "triton_3_8_0", H200_FP8,
         "MoE E=161,N=192 fp8_w8a8 per-channel: 0.5.23's own, tuned with Triton 3.5.1"),
    ],
    ids=["a800", "a800-580", "spark", "h200"],
)  # fmt: skip
def test_a_file_lies_where_the_running_triton_looks_first(
    world: Any, kind: str, count: int, wanted: dict[str, Any], folder: str, name: str, words: str
) -> None:
    found = kernels(world, kind, count, **wanted)
    assert found["moe_file"] == name
    assert found["words"] == words
    (file,) = found["tree"]["files"]
    assert file["path"] == f"configs/{folder}/{name}"
    path = f"/opt/sglang/current/it/moe/configs/{folder}/{name}"
    assert found["log"]["expected"] == [{"name": name, "outcome": "file", "path": path}]
    assert found["tree"]["leave_out"] == [name.replace(".json", "_down.json")]


@pytest.mark.parametrize("twin", [False, True])
def test_the_launcher_checks_each_planned_kernel_file(world: Any, twin: bool) -> None:
    facts = world.hosts("a800", 1)
    names = [A800_INT8, *([A800_INT8.replace(".json", "_down.json")] if twin else [])]
    found = {**world.kernel_files.brought, **{name: (users(name),) for name in names}}
    result = world.plan(
        facts, {"it": {"hosts": list(facts), **INT8}}, engines=world.with_kernels(brought=found)
    )
    plan = next(iter(result.plans.values()))
    (unit,) = units(plan)
    checked = unit["launch"]["checks"]["kernel_files"]
    assert len(checked) == len(names)
    assert checked == [item["path"] for item in plan.instances["it"].kernels["log"]["expected"]]


def test_no_kernel_file_is_checked_where_none_is_planned(world: Any) -> None:
    assert world.instance("a800", model="glm-4.7-awq").service["checks"]["kernel_files"] == []


def test_the_server_is_told_of_the_tree(world: Any) -> None:
    plan = world.instance("a800", **INT8)
    told = {item.name: item.value for item in plan.environment_variables}
    assert told["SGLANG_MOE_CONFIG_DIR"] == plan.kernels["directory"] == "/opt/sglang/current/it/moe"


@pytest.mark.parametrize(
    ("kind", "wanted", "words", "expected"),
    [
        ("a800", {"model": "glm-4.7-flash"}, "default tiles, 0.5.10.post1 has no file", "default"),
        ("h200", {**FP8, "options": {"enable-deterministic-inference": True}}, "deterministic", "never"),
        ("a800", {"model": "glm-4.7-awq"}, "read no tuning file", ""),
        ("h200", {**FP8, "options": {"moe-runner-backend": "flashinfer_cutlass"}}, "read no tuning file", ""),
        ("a800", {"model": "qwen2-vl-7b", "tensor_parallel": 4}, "no experts", ""),
        ("cpu", {"model": "glm-4.7-tiny"}, "plain PyTorch", ""),
        ("a800", {**INT8, "environment": {"SGLANG_MOE_CONFIG_DIR": "/mine"}}, "not looked into", ""),
    ],
)
def test_no_file_is_brought(world: Any, kind: str, wanted: dict[str, Any], words: str, expected: str) -> None:
    found = kernels(world, kind, **wanted)
    assert words in found["words"]
    assert "tree" not in found and "directory" not in found
    assert [item["outcome"] for item in found["log"].get("expected", ())] == ([expected] if expected else [])


def test_the_users_file_comes_before_all_others(world: Any) -> None:
    found = kernels(
        world, "a800", files=[users(A800_INT8, measured=[{"gpu": "NVIDIA A800-SXM4-80GB"}])], **INT8
    )
    assert found["source"] == f"/mine/moe/{A800_INT8}"
    assert found["words"].endswith(f"from /mine/moe/{A800_INT8}, measured on A800")
    assert found["tree"]["files"][0]["content"].startswith('{\n  "1": {"BLOCK_SIZE_M": 16')


def test_the_users_file_for_another_triton_is_not_taken(world: Any) -> None:
    assert kernels(world, "a800", files=[users(A800_INT8, triton="3.8.0")], **INT8)["source"].startswith(
        "files/"
    )
    made_for_it = [users(A800_INT8), users(A800_INT8, LARGE, triton="3.5.1")]
    assert "256" in kernels(world, "a800", files=made_for_it, **INT8)["tree"]["files"][0]["content"]


def test_a_twin_for_the_second_multiplication_comes_along(world: Any) -> None:
    down = A800_INT8.replace(".json", "_down.json")
    found = kernels(world, "a800", files=[users(A800_INT8), users(down)], **INT8)
    assert [item["name"] for item in found["tree"]["files"]] == [A800_INT8, down]
    assert found["tree"]["leave_out"] == []
    assert len(found["log"]["expected"]) == 2


def test_the_releases_own_for_this_triton_comes_before_ours(world: Any) -> None:
    release = world.kernel_files.releases["0.5.10.post1"]
    own = {
        **release.files,
        "triton_3_5_1": {**release.files["triton_3_5_1"], A800_INT8: Shipped("0" * 64, 8192)},
    }
    releases = {**world.kernel_files.releases, "0.5.10.post1": replace(release, files=own)}
    plan = world.plan(
        world.hosts("a800"),
        {"it": {"hosts": ["a800-1"], **INT8}},
        engines=world.with_kernels(releases=releases),
    )
    found = plan.plans["a800-1"].instances["it"].kernels
    assert found["words"].endswith("0.5.10.post1's own")
    assert found["tree"]["files"][0]["copy"] == f"triton_3_5_1/{A800_INT8}"


def test_a_file_of_the_release_that_does_not_fit_is_passed_over_by_name(world: Any) -> None:
    release = world.kernel_files.releases["0.5.23"]
    own = {**release.files, "triton_3_8_0": {GB10_FP8: Shipped("0" * 64, 147_456)}}
    releases = {**world.kernel_files.releases, "0.5.23": replace(release, files=own)}
    facts = world.hosts("spark", 4)
    plan = world.plan(
        facts, {"it": {"hosts": list(facts), **FP8}}, engines=world.with_kernels(releases=releases)
    )
    words = plan.plans["spark-1"].instances["it"].kernels["words"]
    assert "from files/engines/sglang/moe (GB10)" in words
    assert "passed over triton_3_8_0" in words and "147,456" in words and "101,376" in words


def test_a_release_that_was_never_read_is_left_alone(world: Any) -> None:
    plan = world.plan(
        world.hosts("a800"), {"it": {"hosts": ["a800-1"], **INT8}}, engines=world.with_kernels(releases={})
    )
    found = plan.plans["a800-1"].instances["it"].kernels
    assert "the engine's own file" in found["words"] and found["log"] == {}


def test_another_content_is_another_release(world: Any) -> None:
    from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import release_id

    def identity(**changes: Any) -> str:
        facts = world.hosts("a800")
        return release_id(
            world.plan(facts, {"it": {"hosts": list(facts), **INT8}}, **changes).plans["a800-1"]
        )

    own = world.kernel_files.brought[A800_INT8][0]
    changed = {**world.kernel_files.brought, A800_INT8: (replace(own, tiles={"1": own.tiles["1"]}),)}
    assert identity() == identity()
    assert identity() != identity(engines=world.with_kernels(brought=changed))


def test_a_draft_in_16_bits_may_look_for_its_own(world: Any) -> None:
    tolerated = kernels(world, "a800", **INT8)["log"]["tolerated"]
    assert "E=161,N=192,device_name=NVIDIA_A800-SXM4-80GB.json" in tolerated
    without = kernels(world, "a800", **INT8, speculative=False)["log"]["tolerated"]
    assert without == [A800_INT8.replace(".json", "_down.json")]
