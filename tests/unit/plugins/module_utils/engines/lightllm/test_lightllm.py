# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LightLLM as it is planned: the lines that its makers publish, its memory, its rules, its own wheel."""

from __future__ import annotations

import json
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.engines import own_wheel, registry
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.lightllm import memory
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.lightllm.parse_wheel import parse_wheel
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import InstancePlan, PlanResult
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import translate
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import derive
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tests.unit.fixtures import lightllm_wheel
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

ROOT = Path(__file__).parents[6]
DATA = ROOT / "files/engines/lightllm"


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_data_files([]))


def planned(world: World, kind: str = "h200", count: int = 1, **wanted: Any) -> PlanResult:
    gpus = {"gpus": {"model": kind, "count": count}} if kind in ("h100", "h200") else {}
    facts = world.hosts("h200" if kind == "h100" else kind, 1, **gpus)
    serve = {"model": "glm-4.7-flash", "engine": "lightllm", "port": 8000, "hosts": list(facts), **wanted}
    return world.plan(facts, {"flash": serve}, engines=world.with_wheel())


def instance(world: World, kind: str = "h200", count: int = 1, **wanted: Any) -> InstancePlan:
    result = planned(world, kind, count, **wanted)
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    return next(iter(result.plans.values())).instances["flash"]


def refused(world: World, kind: str = "h200", count: int = 1, **wanted: Any) -> dict[str, str]:
    """Code -> all that is said under it."""
    found: dict[str, str] = {}
    for refusal in planned(world, kind, count, **wanted).refusals:
        found[refusal.code] = found.get(refusal.code, "") + "\n".join(refusal.lines()) + "\n"
    return found


SEED = {
    "model_dir": "/opt/sglang/weights/glm-4.7-flash/unpinned",
    "tp": "1",
    "max_req_total_len": "202752",
    "chunked_prefill_size": "8192",
    "llm_prefill_att_backend": "fa3",
    "llm_decode_att_backend": "flashinfer",
    "graph_max_batch_size": "512",
    "tool_call_parser": "glm47",
    "reasoning_parser": "glm45",
    "port": "8000",
}
"""The published line for an H200, without its address: nobody but the gateway reaches the engine."""


def options_of(plan: InstancePlan) -> dict[str, str]:
    words = " ".join(plan.argv).split("--")[1:]
    return {name: value for name, _space, value in (word.strip().partition(" ") for word in words)}


@pytest.mark.parametrize(("count", "tensor"), [(1, "1"), (4, "4")])
def test_the_plan_says_what_the_published_line_says(world: World, count: int, tensor: str) -> None:
    plan = instance(world, count=count)
    found = options_of(plan)
    assert {name: found[name] for name in SEED} == {**SEED, "tp": tensor}
    assert found["host"] == "127.0.0.1" and found["mem_fraction"] == "0.8"
    variables = {item.name: item.value for item in plan.environment_variables}
    assert variables["LIGHTLLM_TRITON_AUTOTUNE_LEVEL"] == "1"
    assert variables["BAREMETAL_AUTOTUNE_DIRECTORY"].endswith("/autotune")
    assert variables["PATH"].startswith(f"{plan.environment['path']}/bin:"), "hypercorn is found by its name"
    assert variables["GLOO_SOCKET_IFNAME"] == "lo"


@pytest.mark.parametrize(
    ("threads", "gpus", "workers"), [(16, 1, "16"), (192, 1, "18"), (32, 4, "8"), (2, 4, "1")]
)
def test_the_threads_that_read_weights_fit_the_processors(
    world: World, threads: int, gpus: int, workers: str
) -> None:
    facts = world.hosts("h200", 1, gpus={"model": "h200", "count": gpus}, cpu_threads=threads)
    serve = {"flash": {"model": "glm-4.7-flash", "engine": "lightllm", "hosts": list(facts)}}
    result = world.plan(facts, serve, engines=world.with_wheel())
    plan = result.plans["h200-1"].instances["flash"]
    assert {item.name: item.value for item in plan.environment_variables}["LOADWORKER"] == workers


@pytest.mark.parametrize(
    ("wanted", "mode", "folders"),
    [
        ({"speculative": True}, "eagle_with_att", 1),
        ({"options": {"mtp_mode": "eagle_with_att", "mtp_step": 4}}, "eagle_with_att", 1),
        ({"options": {"mtp_mode": "vanilla_with_att"}}, "vanilla_with_att", 4),
        ({"options": {"mtp_mode": "vanilla_with_att", "mtp_step": 2}}, "vanilla_with_att", 2),
    ],
)
def test_mtp_is_completed(world: World, wanted: dict[str, Any], mode: str, folders: int) -> None:
    plan = instance(world, **wanted)
    found = options_of(plan)
    steps = wanted.get("options", {}).get("mtp_step", 4)
    assert (found["mtp_mode"], found["mtp_step"]) == (mode, str(steps))
    assert found["mtp_draft_model_dir"] == " ".join([SEED["model_dir"]] * folders)
    assert int(found["graph_max_batch_size"]) * (steps + 1) <= 512
    assert plan.behaviour.speculative and plan.memory["draft_bytes"] > 0
    assert plan.memory["kv_bytes_per_token"] == (512 + 64) * 2 * (47 + folders)


def test_graphs_of_the_published_mtp_line_cost_what_is_said(world: World) -> None:
    """Index buffers grow with graphs, steps and drafts: vanilla leaves less than half of the cache."""
    sizes = {"graph_max_batch_size": 512, "mtp_step": 4}
    eagle = instance(world, options={"mtp_mode": "eagle_with_att", **sizes})
    vanilla = instance(world, options={"mtp_mode": "vanilla_with_att", **sizes})
    assert eagle.memory["index_bytes"] == 2 * (2 * 2 * 512 * 5 * (202752 + 8) * 4 + (256 << 20))
    assert vanilla.memory["fraction"] < 0.6 <= eagle.memory["fraction"] < 0.8
    told = refused(
        world, memory_fraction=0.8, context_length=202752, options={"mtp_mode": "vanilla_with_att", **sizes}
    )["does-not-fit"]
    assert (
        "memory_fraction: 0.57" in told
        and "graph_max_batch_size: 64" in told
        and "speculative: false" in told
    )


def test_the_cache_is_what_was_measured_on_an_h200(world: World) -> None:
    """Five layers of the shape, published line: three starts, the tokens that the engine told."""
    model = world.catalogues.models["glm-4.7-flash"]
    shape = replace(model.shape, layers=5, mtp_own_embeddings=False)
    small = replace(model, shape=shape, weight_bytes=0)
    demand = memory.Demand(
        small, (143771 - 616) << 20, 1, 202752, 256, 512, 32, 16, "", 0, ("fa3", "flashinfer")
    )
    for mode, steps, tokens, bytes_each in (
        ("", 0, 19_425_211, 5_760),
        ("eagle_with_att", 4, 16_187_676, 6_912),
        ("vanilla_with_att", 4, 10_791_784, 10_368),
    ):
        found = memory.fit(replace(demand, mode=mode, steps=steps), 0.8)
        assert found.per_token == bytes_each
        assert found.tokens == pytest.approx(tokens, rel=0.005), mode


def test_a_smaller_gpu_gets_a_larger_fraction_before_a_shorter_context(world: World) -> None:
    plan = instance(world, "h100")
    assert memory.DEFAULT_FRACTION < plan.memory["fraction"] <= memory.MOST_FRACTION
    assert plan.context["length"] <= 202752 and plan.context["tokens"] >= plan.context["length"]
    assert plan.memory["left_bytes"] >= 0


@pytest.mark.parametrize(
    ("code", "words", "kind", "wanted"),
    [
        ("attention-fa3", "capability 8.0", "a800-580", {"options": {"llm_prefill_att_backend": "fa3"}}),
        ("attention-fa3", "capability 12.1", "spark", {"options": {"llm_decode_att_backend": ["fa3"]}}),
        ("attention-mla", "flashqla", "h200", {"options": {"llm_prefill_att_backend": "flashqla"}}),
        ("mtp-incomplete", "without mtp_mode", "h200", {"options": {"mtp_step": 4}}),
        ("mtp-incomplete", "without mtp_mode", "h200", {"options": {"mtp_draft_model_dir": ["/m"]}}),
        ("mtp-incomplete", "at least one step", "h200",
         {"options": {"mtp_mode": "eagle_with_att", "mtp_step": 0}}),
        ("mtp-incomplete", "one folder for each of its 4 drafts", "h200",
         {"options": {"mtp_mode": "vanilla_with_att", "mtp_step": 4, "mtp_draft_model_dir": ["/m"]}}),
        ("mtp-mode", "has attention", "h200", {"options": {"mtp_mode": "eagle_no_att"}}),
        ("quantization-package", "vllm", "h200", {"options": {"quant_type": "w8a8"}}),
        ("quantization-package", "deep_gemm", "h200", {"options": {"quant_type": "fp8w8a8-b128-deepgemm"}}),
        ("quantization-unknown", "no such method", "h200", {"options": {"quant_type": "int3"}}),
        ("quantization-fp8", "has no FP8", "a800-580", {"options": {"quant_type": "fp8w8a8-b128"}}),
        ("quantization-checkpoint", "compressed-tensors", "h200", {"model": "glm-4.7-flash-awq"}),
        ("kv-cache-mla", "MLA", "h200", {"kv_cache_dtype": "int8kv"}),
        ("chunk-too-large", "16384", "h200", {"options": {"chunked_prefill_size": 32768}}),
        ("package-missing", "xgrammar", "h200", {"options": {"output_constraint_mode": "xgrammar"}}),
        ("unsafe-flag", "replace the weights", "h200", {"options": {"enable_rl": True}}),
        ("engine-lacks", "thinking_budget", "h200", {"thinking_budget": True}),
        ("context-too-long", "202,752", "h200", {"context_length": 300000}),
        ("no-release", "needs driver 580", "a800", {}),
        ("no-release", "Glm4MoeForCausalLM", "h200", {"model": "glm-4.7"}),
        ("owned-flag", "gateway", "h200", {"options": {"host": "0.0.0.0"}}),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(
    world: World, code: str, words: str, kind: str, wanted: dict[str, Any]
) -> None:
    told = refused(world, kind, **wanted)
    assert code in told and words in told[code], told


def test_several_hosts_are_refused(world: World) -> None:
    facts = world.hosts("h200", 2)
    serve = {
        "it": {"model": "glm-4.7-flash", "engine": "lightllm", "hosts": list(facts), "tensor_parallel": 4}
    }
    result = world.plan(facts, serve, engines=world.with_wheel())
    assert "engine-hosts" in {refusal.code for refusal in result.refusals}


def test_a_checkpoint_with_code_is_refused_unless_accepted(world: World) -> None:
    model = replace(world.catalogues.models["glm-4.7-flash"], key="/data/mine", ids={}, checkpoint_code=True)
    catalogues = replace(world.catalogues, models={**world.catalogues.models, "/data/mine": model})
    facts = world.hosts("h200", 1, gpus={"model": "h200", "count": 1})
    serve = {"model": "/data/mine", "engine": "lightllm", "hosts": list(facts)}
    for accept, codes in (([], {"remote-code"}), (["remote-code"], set())):
        result = world.plan(
            facts, {"it": {**serve, "accept": accept}}, catalogues=catalogues, engines=world.with_wheel()
        )
        assert {refusal.code for refusal in result.refusals} == codes


@pytest.mark.parametrize(
    ("engine", "flag", "value", "fix"),
    [
        ("lightllm", "mem-fraction-static", 0.9, "memory_fraction"),
        ("lightllm", "tp-size", 2, "tensor_parallel"),
        ("lightllm", "max-running-requests", 8, "write running_max_req_size"),
        ("lightllm", "cuda-graph-max-bs-decode", 8, "write graph_max_batch_size"),
        ("lightllm", "disable-radix-cache", True, "write disable_dynamic_prompt_cache"),
        ("lightllm", "tool-call-parser", "glm47", "write tool_call_parser"),
        ("lightllm", "radix-eviction-policy", "lru", "use engine: sglang"),
        ("lightllm", "mem-fraction", 0.8, "memory_fraction"),
        ("sglang", "running_max_req_size", 8, "write max-running-requests"),
        ("sglang", "model_dir", "/m", "serve.flash.model "),
        ("sglang", "max_req_total_len", 4096, "context_length"),
        ("sglang", "tool_call_parser", "glm47", "write tool-call-parser"),
        ("sglang", "llm_decode_att_backend", "fa3", "write"),
        ("sglang", "zmq_mode", "tcp://", "use engine: lightllm"),
    ],
)
def test_flags_of_the_other_engine_are_named_with_the_right_spelling(
    world: World, engine: str, flag: str, value: Any, fix: str
) -> None:
    result = planned(world, engine=engine, options={flag: value})
    (refusal,) = [item for item in result.refusals if f"options.{flag} =" in item.where]
    assert fix in f"{refusal.fix} ", refusal.lines()


@pytest.mark.parametrize(
    ("name", "extra"), [("basic", ""), ("mtp", "--mtp_step 4 --mtp_mode eagle_with_att ")]
)
def test_the_published_command_becomes_an_entry_that_plans_the_same(
    world: World, name: str, extra: str
) -> None:
    folder = "/path/to/GLM-4.7-Flash/"
    extra += f"--mtp_draft_model_dir {folder} " if extra else ""
    text = (
        "LIGHTLLM_TRITON_AUTOTUNE_LEVEL=1 LOADWORKER=18 python -m lightllm.server.api_server "
        f"--model_dir {folder} --tp 1 --max_req_total_len 202752 --chunked_prefill_size 8192 "
        "--llm_prefill_att_backend fa3 --llm_decode_att_backend flashinfer --graph_max_batch_size 512 "
        f"--tool_call_parser glm47 --reasoning_parser glm45 {extra}--host 0.0.0.0 --port 8000"
    )
    result = translate(world.data_files.engines, world.catalogues.models, text, ["h200-1"])
    assert not result.refusals
    (entry,) = result.entries
    assert entry.values["engine"] == "lightllm" and entry.values["model"] == "glm-4.7-flash"
    assert entry.problems == {"1.2.0": ()}
    facts = world.hosts("h200", 1, gpus={"model": "h200", "count": 1})
    plan = world.plan(facts, {"flash": entry.values}, engines=world.with_wheel())
    assert not plan.refusals, [refusal.lines() for refusal in plan.refusals]
    found = options_of(plan.plans["h200-1"].instances["flash"])
    assert {key: found[key] for key in SEED} == SEED
    if extra:
        assert (found["mtp_mode"], found["mtp_step"]) == ("eagle_with_att", "4")


# --- the data folder ---


def test_its_flags_are_written_with_underscores() -> None:
    flags = json.loads((DATA / "flags/1.2.0.json").read_text())["flags"]
    assert len(flags) == 142
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in flags)
    rules = json.loads((DATA / "flags/rules.json").read_text())
    assert {
        *rules["owned"],
        *rules["concepts"],
        *(name for one in rules["exclusive"] for name in one["flags"]),
    } <= set(flags)


def test_no_resolver_is_asked_for_lightllm_itself() -> None:
    """The index has a version 0.0.1, which knows none of our models."""
    release = yaml.safe_load((DATA / "releases/1.2.0.yml").read_text())
    assert not [line for line in release["requirements"] if line.startswith("lightllm")]
    locks = sorted((DATA / "locks").glob("*.txt"))
    assert len(locks) == 6
    for lock in locks:
        text = lock.read_text()
        assert not re.search(r"^lightllm\b", text, re.MULTILINE)
        assert "torch==2.11.0 " in text and "hypercorn==0.18.0 " in text
        compilers = re.findall(r"^nvidia-(?:cuda-nvcc|cuda-crt|nvvm|cuda-cccl)==13\.0\.", text, re.MULTILINE)
        assert len(compilers) == 4, lock.name


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_heavy_wheels_are_those_of_a_release_of_sglang(arch: str) -> None:
    def heavy(path: str) -> dict[str, str]:
        text = (ROOT / "files/engines" / path).read_text()
        found = re.findall(r"^(\S+)==\S+ \\\n\s+--hash=(\S+)", text, re.MULTILINE)
        return {name: digest for name, digest in found if name.startswith(("nvidia-", "torch", "triton"))}

    own = heavy(f"lightllm/locks/1.2.0-cu130-{arch}-py3.12.txt")
    other = heavy(f"sglang/locks/0.5.17-cu130-{arch}-py3.12.txt")
    assert len(own) > 20 and {name for name in own if own[name] != other.get(name)} == set()


def test_a_lock_is_completed_with_the_wheel_and_names_another_environment(world: World) -> None:
    text = "a==1 \\\n    --hash=sha256:00\n"
    done = own_wheel.completed_lock(text, lightllm_wheel.PLANNED)
    assert done.startswith(text) and done.endswith(f"lightllm==1.2.0 \\\n    --hash=sha256:{'5' * 64}\n")
    plan = planned(world).plans["h200-1"]
    (entry,) = application.bundle_environments([plan], "E")
    assert entry["wheel"]["sha256"] == "5" * 64 and entry["lock"].startswith("E/lightllm/locks/1.2.0-")


def test_a_wheel_is_read_without_running_it() -> None:
    found = parse_wheel(
        {
            "lightllm/server/api_cli.py": (
                "def add(parser):\n"
                "    parser.add_argument('--model_dir', type=str, default=None)\n"
                "    parser.add_argument('--mtp_mode', choices=['a', None], default=None)\n"
                "    parser.add_argument('--many', '--m', type=int, nargs='+', default=[1])\n"
                "    parser.add_argument('--old', action='store_true', help='deprecated')\n"
            ),
            "lightllm/models/x/model.py": "@ModelRegistry(['glm4_moe_lite', 'other'])\nclass A: pass\n",
        }
    )
    assert found["architectures"] == ["Glm4MoeLiteForCausalLM"]
    assert found["flags"]["mtp_mode"]["choices"] == ["a"]
    assert found["flags"]["many"] == {
        "dest": "many", "kind": "value", "aliases": ["m"], "type": "int", "nargs": "+", "default": [1],
    }  # fmt: skip
    assert found["flags"]["old"]["deprecated"] == {}


def test_its_engine_says_how_it_is_started(world: World) -> None:
    engine = registry.engine("lightllm")
    plan = planned(world).plans["h200-1"]
    (unit,) = application.units(plan)
    assert unit["programs"] == {"flash/start.py": engine.program}
    assert unit["launch"]["argv"][1] == "/opt/sglang/current/flash/start.py"
    assert unit["launch"]["api"]["cuts_streams"] is True
    compile(engine.program, "start.py", "exec")


def test_gateway_monitoring_and_verify_ask_it_in_its_own_words(world: World) -> None:
    facts = world.hosts("h200", 1, gpus={"model": "h200", "count": 1})
    serve = {"flash": {"model": "glm-4.7-flash", "engine": "lightllm", "hosts": ["h200-1"], "port": 8000}}
    result = world.plan(
        facts,
        serve,
        engines=world.with_wheel(),
        gateway={"hosts": ["h200-1"]},
        monitoring={"prometheus": "h200-1"},
    )
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    gateway = result.gateways["h200-1"]
    assert [server["check"] for server in gateway["front"]["models"]["flash"]] == ["/health"]
    assert gateway["inner"]["metrics"] == {"flash": "/metrics"}
    assert "lightllm_num_running_reqs" in result.monitoring["h200-1"]["metrics"]["running"]
    verify = yaml.safe_load((ROOT / "files/verify.yml").read_text())
    (checked,) = derive.checks(result.plans["h200-1"].to_dict(), verify, quick=True)
    skipped = {item["name"]: item["skip"] for item in checked["checks"]}
    assert not skipped["single call"] and not skipped["metrics"] and skipped["budget"]
    # It counts no use of its cache.
    assert "cache_use" not in checked["expected"]["metrics"] and "running" in checked["expected"]["metrics"]
    assert "/get_server_info" in checked["expected"]["closed"]


WHEEL = os.environ.get("LIGHTLLM_WHEEL", "")


@pytest.mark.skipif(not WHEEL, reason="LIGHTLLM_WHEEL names no wheel: nobody can fetch one")
def test_the_flags_are_those_of_a_real_wheel() -> None:
    """The stand-in's command line is made of the same file."""
    with zipfile.ZipFile(WHEEL) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    found = registry.engine("lightllm").wheel_files("1.2.0", files, {})
    assert found == {"flags/1.2.0.json": (DATA / "flags/1.2.0.json").read_text()}
    assert own_wheel.missing_modules(files, registry.engine("lightllm").own_modules) == {}
