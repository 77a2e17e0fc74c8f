# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row for everything that the planner advises, and one that shows when it keeps silent."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Fault, RdmaDevice

MODULE_UTILS = Path(__file__).resolve().parents[5] / "plugins/module_utils"
INT8 = {"model": "glm-4.7-int8"}
FP8 = {"model": "glm-4.7-fp8"}
SMALL = {"model": "glm-4.7-flash-fp8"}
LIMITED = {"limits": {"memlock": "8388608"}}
SMALL_PACKETS = tuple(
    RdmaDevice(name, netdev=netdev, state="active", mtu=1500)
    for name, netdev in (("rocep1s0f1", "enp1s0f1np1"), ("roceP2p1s0f1", "enP2p1s0f1np1"))
)
ROWS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "attention-auto": (
        "h200",
        1,
        {"model": "glm-4.7-flash", "engine": "lightllm", "options": {"llm_decode_att_backend": "auto"}},
        {},
    ),
    "component-known-bad": (
        "spark",
        1,
        {"model": "glm-4.7-flash", "release": "0.5.17"},
        {},
    ),
    "custom-all-reduce": ("a800", 1, INT8, {}),
    "gpus-idle": ("h200", 1, {"model": "glm-4.7-flash"}, {}),
    "custom-logit-processor": ("a800", 1, {**INT8, "thinking_budget": True}, {}),
    "deterministic-tiles": ("h200", 1, {**FP8, "options": {"enable-deterministic-inference": True}}, {}),
    "dp-attention": ("h200", 1, {**FP8, "options": {"enable-dp-attention": True}}, {}),
    "dgx-level-differs": ("spark", 2, SMALL, {}),
    "draft-path": ("h200", 1, {**FP8, "options": {"speculative-draft-model-path": "/x"}}, {}),
    "driver-branch-ended": ("a800", 1, INT8, {}),
    "eagle-topk": ("h200", 1, {**FP8, "options": {"speculative-eagle-topk": 2}}, {}),
    "fabric-mtu-low": ("spark", 2, SMALL, {"rdma": SMALL_PACKETS}),
    "fp8-humming-unproven": ("a800-580", 1, {**FP8, "accept": ["fp8-on-sm80-humming"]}, {}),
    "gid-pinned": ("spark", 2, {**SMALL, "environment": {"NCCL_IB_GID_INDEX": "3"}}, {}),
    "kv-fp8-storage": ("a800", 1, {**INT8, "kv_cache_dtype": "fp8_e5m2"}, {}),
    "memlock": ("spark", 2, SMALL, LIMITED),
    "memory": ("a800", 1, {**INT8, "memory_fraction": 0.95, "speculative": False}, {}),
    "memory-fraction-high": ("h200", 1, {**FP8, "memory_fraction": 0.95}, {}),
    "memory-tight": ("spark", 4, FP8, {}),
    "mixed-chunk": ("h200", 1, {**FP8, "options": {"enable-mixed-chunk": True}}, {}),
    "moe-directory": ("h200", 1, {**FP8, "environment": {"SGLANG_MOE_CONFIG_DIR": "/x"}}, {}),
    "nccl-conf-left": ("spark", 2, SMALL, {"fabric": {"nccl_conf": {"NCCL_IB_USE_INLINE": "1"}}}),
    "nvlink-islands": ("h200", 1, FP8, {"nvlink": {"full": False, "islands": [[0, 1, 2, 3], [4, 5, 6, 7]]}}),
    "no-rdma": ("h200", 2, FP8, {}),
    "other-parser": ("h200", 1, {**FP8, "options": {"tool-call-parser": "glm45"}}, {}),
    "spec-v2-variable-gone": ("h200", 1, {**FP8, "environment": {"SGLANG_ENABLE_SPEC_V2": "1"}}, {}),
    "swarm-port-open": ("h200", 2, FP8, {}),
    "swap-on-unified-memory": ("spark", 1, SMALL, {"swap_gib": 16.0}),
    "checkpoint-code": ("h200", 1, {"model": "/data/mine"}, {}),
    "trust-remote-code": (
        "h200",
        1,
        {**FP8, "options": {"trust-remote-code": True}, "accept": ["remote-code"]},
        {},
    ),
    "pickled-weights": (
        "h200",
        1,
        {**FP8, "options": {"load-format": "pt"}, "accept": ["pickled-weights"]},
        {},
    ),
    "watchdog-short": ("h200", 1, {**FP8, "options": {"watchdog-timeout": 60}}, {}),
}
QUIET = ("h200", 1, FP8, {})


def told(world: Any, row: tuple[str, int, dict[str, Any], dict[str, Any]]) -> list[Any]:
    kind, count, wanted, host = row
    facts = world.hosts(kind, count, **host)
    if row is ROWS["dgx-level-differs"]:
        for number, name in enumerate(facts):
            facts[name] = replace(facts[name], os=replace(facts[name].os, dgx=f"7.{4 + number}.0"))
    # Names, where the firewall needs addresses.
    swarm = {name: name for name in facts} if row is ROWS["swarm-port-open"] else {}
    mine = replace(world.catalogues.models["glm-4.7-fp8"], key="/data/mine", checkpoint_code=True)
    catalogues = replace(world.catalogues, models={**world.catalogues.models, mine.key: mine})
    asked = {"it": {"hosts": list(facts), **wanted}}
    return list(world.plan(facts, asked, swarm=swarm, catalogues=catalogues).advice)


def codes_in_source() -> set[str]:
    found = set()
    for path in (path for part in ("planner", "engines") for path in (MODULE_UTILS / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Advice":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_advice_in_the_source_has_a_row() -> None:
    # One more code there is one per fault: fault-<code>.
    assert codes_in_source() == set(ROWS)


@pytest.mark.parametrize("code", sorted(ROWS))
def test_the_advice_is_given_and_says_where_and_what(world: Any, code: str) -> None:
    found = [item for item in told(world, ROWS[code]) if item.code == code]
    assert found, [(item.code, item.what) for item in told(world, ROWS[code])]
    assert all(item.where and len(item.what) > 20 and item.host for item in found)


def test_a_plain_request_is_met_without_a_word(world: Any) -> None:
    assert told(world, QUIET) == []


def test_a_fault_that_only_slows_is_advice(world: Any) -> None:
    faults = (Fault("gpu-persistence-off", "GPU 0", "persistence mode is off", "nvidia-smi -pm 1"),)
    result = world.one("h200", host={"faults": faults}, **FP8)
    assert not result.refusals
    assert [item.code for item in result.advice] == ["fault-gpu-persistence-off"]


def test_a_known_bad_part_speaks_only_where_its_condition_holds(world: Any) -> None:
    release = world.releases["0.5.23"]
    entry = {
        "component": "nccl",
        "versions": "<99",
        "when": {"arch": "aarch64"},
        "what": "bad part",
        "fix": "x",
    }
    engines = world.with_sglang(releases={"0.5.23": replace(release, known_bad=(entry,))})

    def codes(kind: str, **wanted: Any) -> list[str]:
        facts = world.hosts(kind)
        result = world.plan(facts, {"it": {"hosts": list(facts), **wanted}}, engines=engines)
        return [item.code for item in result.advice]

    assert "component-known-bad" in codes("spark", **SMALL)
    assert "component-known-bad" not in codes("h200", **FP8)


PAIRS = {"nvlink": {"full": False, "islands": [[0, 2], [1, 3], [4], [5], [6], [7]]}}


def test_gpus_of_one_nvlink_island_are_chosen_and_need_no_word(world: Any) -> None:
    facts = world.hosts("h200", 1, **PAIRS)
    asked = {"it": {"hosts": list(facts), "model": "glm-4.7-flash", "tensor_parallel": 2}}
    result = world.plan(facts, asked)
    (plan,) = result.plans.values()
    assert [gpu["index"] for gpu in plan.instances["it"].service["checks"]["gpus"]] == [0, 2]
    assert "nvlink-islands" not in {item.code for item in result.advice}
    named = world.plan(facts, {"it": {**asked["it"], "gpus": [0, 1]}})
    (advice,) = [item for item in named.advice if item.code == "nvlink-islands"]
    assert "[0, 2], [1, 3]" in advice.what


def test_hosts_of_one_level_need_no_word(world: Any) -> None:
    assert "dgx-level-differs" not in {item.code for item in told(world, ("spark", 2, SMALL, {}))}
