# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal names as a way out is taken, and must lead to a plan."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Disk, HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    load_data_files,
    make_inputs,
    with_refusals,
    without_harmless,
)

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

GPUS = (
    "a800-sxm4-80gb",
    "h200",
    "h100",
    "h20",
    "b200",
    "l40s",
    "rtx-4090",
    "rtx-pro-6000",
)
OLD_DRIVER = "550.54.15"


def rooms(world: Any, gpu: str, hosts: int, count: int, **changes: Any) -> dict[str, HostFacts]:
    declared = {"gpus": {"model": gpu, "count": count}, "driver": "580.95.05", "os": "ubuntu-22.04"}
    return dict(world.hosts("a800-580", hosts, **{**declared, **changes}))


Change = tuple[dict[str, Any], dict[str, Any], int]
"""For the instance, for the planner's other inputs, and how many GPUs it now has (0: as before)."""


def offered(offer: str) -> Change:
    """One of `would fit: ...`."""
    if found := re.match(r"(\d+) GPUs \(context ([\d,]+)\)", offer):
        return {}, {}, int(found[1])
    if found := re.match(r"(\S+) with context_length ([\d,]+)", offer):
        return {"context_length": int(found[2].replace(",", ""))}, {}, 0
    found = re.match(r"(\S+) \(context ([\d,]+)\)", offer)
    assert found, offer
    return {"model": found[1], "context_length": int(found[2].replace(",", ""))}, {}, 0


def several(pattern: str, fix: str) -> list[str]:
    return [word for found in re.finditer(pattern, fix) for word in found[1].split(" or ")]


def ways_out(fix: str) -> Iterator[tuple[str, Change]]:
    """Every way that the text names, and what following it changes."""
    if fix.startswith("would fit: "):
        yield from ((offer, offered(offer)) for offer in fix.removeprefix("would fit: ").split(", or "))
    for model in several(r"model: (\S+?(?: or \S+?)*)(?=[;,]|$)", fix):
        yield f"model: {model}", ({"model": model}, {}, 0)
    for length in several(r"use context_length: (\d+)", fix):
        yield f"context_length: {length}", ({"context_length": int(length)}, {}, 0)
    for kit in several(r"runtime_python_kits: \['([\d.]+)'\]", fix):
        yield kit, ({}, {"python_kits": (kit,)}, 0)
    for found in re.finditer(r"release: ([\d.]+\d(?:\.post\d)?)(?: with accept: \[(\S+)\])?", fix):
        yield found[0], ({"release": found[1], "accept": [found[2]] if found[2] else []}, {}, 0)
    for risk in several(r"(?<!with )accept: \[(\S+)\]", fix):
        yield risk, ({"accept": [risk]}, {}, 0)
    for words, changes in (
        ("leave pipeline_parallel", ({"tensor_parallel": None, "pipeline_parallel": None}, {}, 0)),
        ("leave release out", ({"release": None}, {}, 0)),
        ("use speculative: false", ({"speculative": False}, {}, 0)),
        ("leave tensor_parallel out", ({"tensor_parallel": None}, {}, 0)),
        ("runtime_backend: pixi", ({}, {"runtime_backend": "pixi"}, 0)),
    ):
        if words in fix:
            yield words, changes


def follow(world: Any, gpu: str, hosts: int, count: int, wanted: dict[str, Any], **host: Any) -> list[str]:
    """Ways that were named and did not lead to a plan, and refusals without a way."""
    facts = rooms(world, gpu, hosts, count, **host)
    result = world.plan(facts, {"it": {"hosts": list(facts), **wanted}})
    broken = []
    for refusal in result.refusals:
        ways = list(ways_out(refusal.fix))
        others = [item for item in result.refusals if item is not refusal]
        if not ways and not re.search(r"take a smaller model|install a driver|use a GPU", refusal.fix):
            broken.append(f"no way: {refusal.lines()}")
        for name, (changes, inputs, gpus) in ways:
            now, each = facts, count * hosts
            if gpus:
                assert gpus > each, name
                now = rooms(world, gpu, *((gpus // count, count) if gpus > 8 else (1, gpus)), **host)
            asked = {"hosts": list(now), **wanted, **changes}
            asked = {key: value for key, value in asked.items() if value is not None}
            if "context_length" not in wanted and "model" in changes:
                # Nobody asked for a length: the plan must find at least the one that was named.
                asked.pop("context_length", None)
            after = world.plan(now, {"it": asked}, **inputs)
            # Another model or release may be refused for what was refused beside it, never for itself.
            told = {item.code for item in others}
            if name == "leave release out" and "then says" in refusal.fix:
                told |= {"nvfp4-capability"}
            left = [item for item in after.refusals if item.code not in told]
            if left:
                broken.append(
                    f"{gpu} x{hosts}x{count} {wanted}: {name!r} of {refusal.code} -> {left[0].lines()}"
                )
    return broken


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_ways_out_of_a_model_that_cannot_run_lead_to_a_plan(world: Any, gpu: str, count: int) -> None:
    broken = [
        line for model in world.catalogues.models for line in follow(world, gpu, 1, count, {"model": model})
    ]
    assert broken == []


@pytest.mark.parametrize(
    "wanted",
    [
        {"model": "glm-4.7-int8", "context_length": 1_000_000},
        {"model": "glm-4.7-awq", "tensor_parallel": 3},
        {"model": "glm-4.7-flash", "tensor_parallel": 8},
        {"model": "glm-4.7-int8", "tensor_parallel": 16},
        {"model": "glm-4.7-int8", "release": "0.5.7"},
        {"model": "glm-4.7-flash", "speculative": True},
        {"model": "glm-4.7-nvfp4", "release": "0.5.17"},
    ],
    ids=lambda wanted: "-".join(map(str, wanted.values())),
)
@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("driver", ["580.95.05", OLD_DRIVER])
def test_ways_out_of_a_wrong_request_lead_to_a_plan(
    world: Any, wanted: dict[str, Any], hosts: int, driver: str
) -> None:
    toolkit = {
        "cuda_home": "/usr/local/cuda",
        "nvcc": "12.8.93",
        "ptxas": "12.8.93",
        "cxx": "11",
        "ninja": "",
    }
    assert follow(world, "a800-sxm4-80gb", hosts, 8, wanted, driver=driver, toolkit=toolkit) == []


@pytest.mark.parametrize("model", ["glm-4.7-int8", "glm-4.7-awq", "glm-4.7-flash", "glm-4.5-air-int8"])
def test_ways_out_without_a_compiler_lead_to_a_plan(world: Any, model: str) -> None:
    """Drivers below 580 need a CUDA 12 compiler that no wheel brings."""
    facts = rooms(world, "a800-sxm4-80gb", 1, 8, driver=OLD_DRIVER)
    (refusal,) = world.plan(facts, {"it": {"hosts": list(facts), "model": model}}).refusals
    assert refusal.code == "no-compiler"
    for words in ("CUDA 12.8 toolkit", "runtime_backend: pixi"):
        assert words in refusal.fix
    assert follow(world, "a800-sxm4-80gb", 1, 8, {"model": model}, driver=OLD_DRIVER) == []


@pytest.mark.parametrize("hosts", [1, 2, 3, 4, 5, 6, 8])
def test_sparks_are_spread_without_a_word_from_the_user(world: Any, hosts: int) -> None:
    """Whatever the number of hosts, each gets a rank, or another checkpoint is named."""
    for model in world.catalogues.models:
        facts = world.hosts("spark", hosts)
        result = world.plan(facts, {"it": {"hosts": list(facts), "model": model}})
        layers = world.catalogues.models[model].shape.layers
        expected = {"does-not-fit"} if layers >= hosts else {"parallel-indivisible"}
        assert {item.code for item in result.refusals} <= expected, (model, result.refusals)
        for plan in result.plans.values():
            parallel = plan.instances["it"].parallel
            assert parallel["tp"] * parallel["pp"] == hosts


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_figures_of_a_plan_make_sense(world: Any, gpu: str, count: int) -> None:
    facts = rooms(world, gpu, 1, count)
    for key, model in world.catalogues.models.items():
        for plan in world.plan(facts, {"it": {"hosts": list(facts), "model": key}}).plans.values():
            it = plan.instances["it"]
            memory = it.memory
            parts = memory["weights_bytes"] + memory["kv_bytes"] + memory["reserve_bytes"]
            assert 0.9 * memory["usable_bytes"] < parts <= memory["usable_bytes"], key
            assert memory["draft_bytes"] <= memory["reserve_bytes"]
            assert 1024 <= it.context["length"] <= model.shape.max_context
            assert it.context["length"] <= it.context["tokens"]
            assert model.shape.attention_heads % it.parallel["tp"] == 0
            assert it.parallel["tp"] * it.parallel["pp"] == len(it.gpus) <= count


def test_a_draft_never_costs_more_than_half_of_the_context(world: Any) -> None:
    facts = rooms(world, "rtx-4090", 1, 4)
    asked = {"hosts": list(facts), "model": "glm-4.7-flash-awq"}
    chosen = world.plan(facts, {"it": asked}).plans["a800-580-1"].instances["it"]
    forced = world.plan(facts, {"it": {**asked, "speculative": True}}).plans["a800-580-1"].instances["it"]
    without = world.plan(facts, {"it": {**asked, "speculative": False}}).plans["a800-580-1"].instances["it"]
    assert chosen.context["length"] * 2 >= without.context["length"] >= forced.context["length"]


def test_a_small_gpu_gets_the_sizes_that_the_engine_would_take(world: Any) -> None:
    facts = rooms(world, "rtx-4090", 1, 2)
    plan = world.plan(facts, {"it": {"hosts": list(facts), "model": "qwen2-vl-7b"}}).plans["a800-580-1"]
    it = plan.instances["it"]
    assert it.argument("chunked-prefill-size") == 2048
    assert it.argument("cuda-graph-max-bs-decode") == 24


def test_nothing_is_drafted_over_pipeline_stages(world: Any) -> None:
    facts = world.hosts("spark", 8)
    plan = world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-flash"}}).plans["spark-1"]
    assert (plan.instances["it"].parallel["tp"], plan.instances["it"].parallel["pp"]) == (4, 2)
    assert plan.instances["it"].argument("speculative-algorithm") is None


def test_what_is_there_needs_no_disk(world: Any) -> None:
    """A second run on a disk that the first one filled."""
    facts = world.hosts("h200")
    asked = {"it": {"hosts": list(facts), "model": "glm-4.7-fp8"}}
    plan = world.plan(facts, asked).plans["h200-1"].instances["it"]
    disk = {"path": "/opt/sglang", "mount": "/", "file_system": "ext4", "total_gib": 400.0, "free_gib": 20.0}
    full = replace(facts["h200-1"], disks=(Disk(**disk),))
    assert [item.code for item in world.plan({"h200-1": full}, asked).refusals] == ["disk-full"]
    installed = {
        "weights": [f"glm-4.7-fp8/{plan.weights['revision']}"],
        "environments": [plan.environment["id"]],
    }
    assert world.plan({"h200-1": replace(full, installed=installed)}, asked).plans


def test_the_printed_entry_of_an_unknown_gpu_makes_it_known(world: Any, tmp_path: Path) -> None:
    known = rooms(world, "h100", 1, 8)
    (name, host) = next(iter(known.items()))
    gpus = tuple(replace(gpu, model="", product="NVIDIA H100 80GB HBM9") for gpu in host.gpus)
    facts = {name: replace(host, gpus=gpus)}
    asked = {"it": {"hosts": [name], "model": "glm-4.7-int8"}}
    (refusal,) = world.plan(facts, asked).refusals
    assert refusal.code == "unknown-gpu" and "closest known: NVIDIA H100 80GB HBM3" in refusal.what
    directory = tmp_path / "hardware"
    directory.mkdir()
    entry = textwrap.dedent(refusal.fix.partition("\n")[2])
    (directory / "mine.yml").write_text(entry, encoding="utf-8")
    data_files = load_data_files([str(tmp_path)])
    assert not data_files.refusals
    learnt = {name: facts[name].with_models(data_files.catalogues.hardware)}
    assert world.plan(learnt, asked, catalogues=data_files.catalogues).plans


DECLARED = {
    "os": "ubuntu-24.04",
    "arch": "x86_64",
    "driver": "580.95.05",
    "gpus": {"model": "h200", "count": 8},
}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, False),
        ({"driver": "580.126.09"}, False),
        ({"memory_mib": 143_700}, False),
        ({"free": 500.0}, False),
        ({"os": "ubuntu-22.04"}, True),
        ({"driver": "550.54.15"}, True),
        ({"count": 4}, True),
        ({"host": "h200-9"}, True),
    ],
    ids=str,
)
def test_only_a_difference_that_changes_the_plan_is_refused(
    world: Any, changes: dict[str, Any], refused: bool
) -> None:
    """Declared on the connected side, found otherwise in the room."""
    gpus = {
        "model": "h200",
        "count": changes.get("count", 8),
        "memory_mib": changes.get("memory_mib", 143_771),
    }
    found = world.host(
        "h200", "h200-1", gpus=gpus, **{key: changes[key] for key in ("driver", "os") if key in changes}
    )
    disk = Disk("/opt/sglang", "/", "ext4", 4000.0, changes.get("free", 3000.0))
    gathered = replace(found, source="gathered", host=changes.get("host", "h200-1"), disks=(disk,)).to_dict()
    declared = {**DECLARED, "disks": [{"path": "/opt/sglang", "free_gib": 3000.0}]}
    given = {"plan_host_facts": gathered, "declared_hardware": declared}
    serve = {"it": {"hosts": ["h200-1"], "model": "glm-4.7-int8"}}
    asked = {
        "serve": serve,
        "catalogue_dirs": [],
        "facts_dir": "",
        "runtime_backend": "uv",
        "python_kits": [],
    }
    inputs, refusals = make_inputs(asked, ("h200-1",), lambda _host, name: given.get(name))
    made = plan_inventory(inputs, serve)
    assert bool(with_refusals(made, without_harmless(inputs, serve, made, refusals)).refusals) is refused
