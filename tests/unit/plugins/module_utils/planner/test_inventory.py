# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render


def test_a_room_of_a800_on_an_old_driver_gets_the_newest_release_that_it_can_run(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-int8")
    assert (plan.release["key"], plan.release["cuda"]) == ("0.5.10.post1", "cu128")
    assert "need driver 580" in plan.release["why"]
    rejected = {entry["release"]: entry["why"] for entry in plan.release["rejected"]}
    assert "needs driver 580" in rejected["0.5.23"]
    assert "below the security floor" in rejected["0.5.7"]
    assert plan.parallel["tp"] == 8
    assert plan.argument("quantization") == "w8a8_int8"
    assert plan.memory["weights_bytes"] == pytest.approx(45e9, rel=0.03)


@pytest.mark.parametrize(
    ("model", "fits"),
    [("glm-4.7", False), ("glm-4.7-fp8", False), ("glm-4.7-awq", True), ("glm-4.7-int8", True)],
)
def test_what_fits_eight_a800(world: Any, model: str, fits: bool) -> None:
    assert bool(world.codes("a800", model=model)) is not fits


def test_a_refused_fit_names_the_nearest_that_fits_and_the_arithmetic(world: Any) -> None:
    refusal = next(
        item for item in world.one("a800", model="glm-4.7").refusals if item.code == "does-not-fit"
    )
    assert "glm-4.7-int8" in refusal.fix and "glm-4.7-awq" in refusal.fix and "16 GPUs" in refusal.fix
    assert "89.8 GB a GPU" in refusal.what and "TP 8" in refusal.what


def test_fp8_on_a_gpu_without_it_says_why_and_what_instead(world: Any) -> None:
    refusal = next(
        item for item in world.one("a800", model="glm-4.7-fp8").refusals if item.code == "fp8-experts"
    )
    assert "has no FP8" in refusal.what
    assert "glm-4.7-int8" in refusal.fix and "glm-4.7-awq" in refusal.fix


def test_the_unproven_way_for_fp8_is_taken_only_by_name(world: Any) -> None:
    assert "fp8-experts" in world.codes("a800-580", model="glm-4.7-fp8")
    plan = world.instance("a800-580", model="glm-4.7-fp8", accept=["fp8-on-sm80-humming"])
    assert plan.argument("quantization") == "humming"
    assert [item.code for item in plan.warnings if item.code == "fp8-humming-unproven"]


def test_without_any_compiler_the_release_that_needs_one_is_refused_with_every_way_out(world: Any) -> None:
    result = world.one("a800-without-toolkit", model="glm-4.7-int8")
    assert [item.code for item in result.refusals] == ["no-compiler"]
    fix = result.refusals[0].fix
    assert "toolkit" in fix and "runtime_backend: pixi" in fix and "release: 0.5.7" in fix


def test_without_any_compiler_the_release_with_built_kernels_can_be_accepted(world: Any) -> None:
    plan = world.instance("a800-without-toolkit", model="glm-4.7-awq", accept=["below-security-floor"])
    assert plan.release["key"] == "0.5.7"
    assert plan.compiles["nvcc"] == []
    assert plan.argument("attention-backend") == "triton"
    assert plan.argument("sampling-backend") == "pytorch"


def test_conda_packages_count_as_a_compiler_only_when_they_are_used(world: Any) -> None:
    facts = world.hosts("a800-without-toolkit")
    serve = {"it": {"model": "glm-4.7-int8", "hosts": list(facts)}}
    assert world.plan(facts, serve).refusals
    result = world.plan(facts, serve, runtime_backend="pixi")
    assert not result.refusals
    plan = next(iter(result.plans.values())).instances["it"]
    assert plan.compiles["source"] == "conda"


def test_four_sparks_are_one_group_on_both_twins(world: Any) -> None:
    facts = world.hosts("spark", 4)
    result = world.plan(facts, {"glm": {"model": "glm-4.7-fp8", "hosts": list(facts)}})
    assert not result.refusals
    heads = [plan.instances["glm"] for plan in result.plans.values()]
    assert [plan.argument("node-rank") for plan in heads] == [0, 1, 2, 3]
    assert {plan.argument("dist-init-addr") for plan in heads} == {"192.168.101.11:31000"}
    variables = {item.name: item.value for item in heads[1].environment_variables}
    assert variables["NCCL_IB_HCA"] == "=roceP2p1s0f1,rocep1s0f1"
    assert variables["GLOO_SOCKET_IFNAME"] == "enp1s0f1np1"
    assert variables["SGLANG_HOST_IP"] == "192.168.101.12"
    assert "NCCL_IB_GID_INDEX" not in variables
    assert heads[0].argument("mem-fraction-static") <= world.catalogues.hardware["gb10"].memory_fraction_max
    assert heads[0].argument("cuda-graph-max-bs-decode")


def test_a_host_without_gpus_serves_the_tiny_model(world: Any) -> None:
    plan = world.instance("cpu", model="glm-4.7-tiny")
    assert plan.device == "cpu"
    assert plan.argument("device") == "cpu"
    assert plan.argument("attention-backend") == "torch_native"
    assert plan.environment["interpreter"] == "/usr/bin/python3"
    assert len(plan.environment["id"]) == 16


def test_ranks_on_cpus_talk_through_gloo_over_their_network(world: Any) -> None:
    plan = world.instance("cpu", 2, model="glm-4.7-tiny")
    variables = {item.name: item.value for item in plan.environment_variables}
    assert plan.parallel["tp"] == 2
    assert variables["GLOO_SOCKET_IFNAME"] == "eth0"
    assert variables["SGLANG_NCCL_SO_PATH"]
    assert not [name for name in variables if name.startswith("NCCL_")]


def test_heads_that_do_not_divide_take_fewer_gpus_of_one_host(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-flash")
    assert plan.parallel["tp"] == 4
    assert plan.gpus == (0, 1, 2, 3)
    assert "right draft class" in plan.context["speculative"]


def test_two_models_share_a_host_by_size(world: Any) -> None:
    facts = world.hosts("a800")
    result = world.plan(
        facts,
        {
            "one": {"model": "glm-4.7-flash", "hosts": list(facts), "tensor_parallel": 4},
            "two": {"model": "glm-4.7-flash", "hosts": list(facts), "tensor_parallel": 4, "port": 30001},
        },
    )
    assert not result.refusals
    plans = result.plans["a800-1"].instances
    assert (plans["one"].gpus, plans["two"].gpus) == ((0, 1, 2, 3), (4, 5, 6, 7))


def test_the_user_overrides_and_the_plan_says_what_it_would_have_said(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-int8", options={"attention-backend": "triton"})
    argument = next(item for item in plan.arguments if item.flag == "attention-backend")
    assert argument.value == "triton"
    assert argument.origin == "serve.it.options.attention-backend"
    assert "the plan would say flashinfer" in argument.why


DRAFT = {
    "speculative-algorithm": "EAGLE",
    "speculative-num-steps": 3,
    "speculative-eagle-topk": 1,
    "speculative-num-draft-tokens": 4,
}


def test_a_thinking_budget_switches_speculation_off(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-int8", thinking_budget=True)
    assert plan.argument("speculative-algorithm") is None
    assert plan.argument("enable-custom-logit-processor") is True


def test_mtp_and_thinking_budget_together_work_only_on_the_first_worker(world: Any) -> None:
    both = {"thinking_budget": True, "speculative": True}
    assert world.codes("h200", model="glm-4.7-fp8", **both) == ["thinking-budget-with-mtp"]
    assert world.codes("a800", model="glm-4.7-int8", **both) == []


@pytest.mark.parametrize(
    ("mtp_layers", "options", "words"),
    [
        (
            1,
            {},
            "off: /data/mine has an MTP layer, but no settings for it are known; give speculative-algorithm",
        ),
        (0, {}, "off: /data/mine has no MTP layer"),
        (1, DRAFT, "as serve.it.options say"),
    ],
)
def test_a_model_directory_says_what_is_not_known(
    world: Any, mtp_layers: int, options: dict[str, Any], words: str
) -> None:
    known = world.catalogues.models["glm-4.7-fp8"]
    shape = replace(known.shape, mtp_layers=mtp_layers)
    mine = replace(
        known, key="/data/mine", ids={}, speculative={}, tool_call_parser="", reasoning_parser="",
        arguments={}, shape=shape,
    )  # fmt: skip
    catalogues = replace(world.catalogues, models={**world.catalogues.models, "/data/mine": mine})
    facts = world.hosts("h200")
    serve = {"it": {"model": "/data/mine", "hosts": list(facts), "options": options}}
    made = world.plan(facts, serve, catalogues=catalogues)
    assert not made.refusals, [refusal.lines() for refusal in made.refusals]
    text = " ".join(render(made).split())
    assert words in text
    assert "nothing parsed: config.json names no parsers; give the parsers in options" in text


def test_plans_are_plain_json_and_the_same_every_time(world: Any) -> None:
    first, second = (
        world.one("spark", 2, model="glm-4.7-flash-fp8", tensor_parallel=2) for _turn in range(2)
    )
    assert first.plans
    texts = [
        json.dumps({host: plan.to_dict() for host, plan in result.plans.items()})
        for result in (first, second)
    ]
    assert texts[0] == texts[1]
    document = json.loads(texts[0])
    assert json.dumps(document, sort_keys=True) == texts[0]


def test_an_environment_is_named_by_its_content(world: Any) -> None:
    facts = world.hosts("cpu")
    serve = {"it": {"model": "glm-4.7-tiny", "hosts": list(facts)}}

    def identity(**changes: Any) -> str:
        result = world.plan(facts, serve, **changes)
        return str(result.plans["cpu-1"].instances["it"].environment["id"])

    other = dict.fromkeys(world.sglang.lock_hashes, "0" * 64)
    assert identity() == identity()
    assert identity() != identity(engines=world.with_sglang(lock_hashes=other))
    assert identity(engines=world.with_sglang(lock_hashes={})) == ""


def test_every_reason_is_written_down(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-int8")
    assert all(argument.why and argument.origin for argument in plan.arguments)
    assert all(variable.why for variable in plan.environment_variables)


def test_all_problems_come_at_once(world: Any) -> None:
    codes = world.codes(
        "a800",
        model="glm-4.7",
        options={"reasoning-parser": "glm47", "host": "0.0.0.0", "nonsense": 1},
        accept=["everything"],
    )
    assert {"does-not-fit", "wrong-choice", "owned-flag", "unknown-flag", "unknown-risk"} <= set(codes)
