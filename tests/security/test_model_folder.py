# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a model are data: none of them makes the engine run code unless the user accepted it by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import InstancePlan, PlanResult
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    load_data_files,
    local_models,
)
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 128,
    "max_position_embeddings": 1024,
    "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
}


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_data_files([]))


def folder(tmp_path: Path, world: World, *weights: str, **config: Any) -> str:
    architecture = sorted(world.releases["0.5.23"].architectures)[0]
    text = json.dumps({**CONFIG, "architectures": [architecture], **config})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    for name in weights:
        (tmp_path / name).write_bytes(b"x" * 64)
    return str(tmp_path)


def planned(world: World, path: str, **wanted: Any) -> PlanResult:
    serve = {"it": {"model": path, "hosts": ["cpu-1"], **wanted}}
    refusals: list[Refusal] = []
    models = local_models(serve, refusals)
    assert refusals == []
    catalogues = replace(world.catalogues, models={**world.catalogues.models, **models})
    return world.plan(world.hosts("cpu"), serve, catalogues=catalogues)


def instance(result: PlanResult) -> InstancePlan:
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    return result.plans["cpu-1"].instances["it"]


def test_auto_map_does_not_turn_code_of_the_checkpoint_on(world: World, tmp_path: Path) -> None:
    result = planned(world, folder(tmp_path, world, "model.safetensors"))
    assert "--trust-remote-code" not in instance(result).argv
    assert "auto_map" in " ".join(render(result).split())


@pytest.mark.parametrize(
    "options",
    [{"trust-remote-code": True}, {"model-impl": "transformers"}, {"quantization": "modelopt_fp8"}],
)
def test_what_runs_code_of_the_checkpoint_is_refused(
    world: World, tmp_path: Path, options: dict[str, Any]
) -> None:
    result = planned(world, folder(tmp_path, world, "model.safetensors"), options=options)
    assert "remote-code" in [refusal.code for refusal in result.refusals]


def test_accepted_code_of_the_checkpoint_is_in_the_printed_plan(world: World, tmp_path: Path) -> None:
    path = folder(tmp_path, world, "model.safetensors")
    result = planned(world, path, options={"trust-remote-code": True}, accept="remote-code")
    assert "--trust-remote-code" in instance(result).argv
    assert "Python files of the checkpoint may run in the engine" in " ".join(render(result).split())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_a_folder_of_pickles_is_refused(world: World, tmp_path: Path, name: str) -> None:
    path = folder(tmp_path, world, name)
    assert [refusal.code for refusal in planned(world, path).refusals] == ["pickled-weights"]
    accepted = instance(planned(world, path, accept="pickled-weights"))
    assert accepted.argument("load-format") is None


def test_the_engine_is_told_to_read_nothing_but_safetensors(world: World, tmp_path: Path) -> None:
    """The weights may be on the host alone, where a pickle can be put in their place."""
    path = folder(tmp_path, world)
    assert instance(planned(world, path)).argument("load-format") == "safetensors"
