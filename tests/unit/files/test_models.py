# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped model catalogue: valid, honest about sizes, in step with the tool that makes the tiny model."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.models import SETTINGS
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.shapes import (
    ModelShape,
    Quantization,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.sharding import checkpoint_bytes
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import documents, shipped_models

ROOT = Path(__file__).parents[3]


def load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


DOCUMENTS: dict[str, Any] = documents("models")
MODELS = shipped_models()
SCHEMA = json.loads((ROOT / "files/schemas/model.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_file_follows_the_schema(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(DOCUMENTS[name])


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_family_is_named_like_its_file(name: str) -> None:
    assert f"{DOCUMENTS[name]['family']}.yml" == name


def test_schema_knows_every_field_of_the_code() -> None:
    assert set(SCHEMA["$defs"]["settings"]["properties"]) == set(SETTINGS)
    assert set(SCHEMA["$defs"]["shape"]["properties"]) == set(ModelShape.__dataclass_fields__)
    assert set(SCHEMA["$defs"]["quantization"]["properties"]) == set(Quantization.__dataclass_fields__)


def test_the_schema_refuses() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    good = DOCUMENTS["glm-4.7.yml"]
    for bad in (
        {**good, "colour": "red"},
        {**good, "common": {"colour": "red"}},
        {**good, "shape": {key: value for key, value in good["shape"].items() if key != "head_dim"}},
        {**good, "models": {"glm-4.7": {"colour": "red"}}},
        {**good, "models": {"glm-4.7": {"weights": {"origin": "computed", "bytes": 1}}}},
        {**good, "models": {"GLM 4.7": {}}},
    ):
        assert list(validator.iter_errors(bad)), bad


@pytest.mark.parametrize("key", sorted(MODELS))
def test_computed_size_agrees_with_the_reported_one(key: str) -> None:
    model = MODELS[key]
    computed = checkpoint_bytes(model.shape, model.quantization)
    assert computed == pytest.approx(model.weight_bytes, rel=0.04)


@pytest.mark.parametrize(
    ("key", "gigabytes"),
    [
        ("glm-4.7", 717),
        ("glm-4.7-fp8", 362),
        ("glm-4.7-int8", 360),
        ("glm-4.7-awq", 194),
        ("glm-4.7-nvfp4", 215),
        ("glm-4.6", 714),
        ("glm-4.5-air", 221),
        ("glm-4.5v", 215.5),
        ("glm-4.7-flash", 62.5),
        # 8.29e9 parameters on its model card.
        ("qwen2-vl-7b", 16.6),
    ],
)
def test_sizes(key: str, gigabytes: float) -> None:
    assert MODELS[key].weight_bytes / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize("key", sorted(MODELS))
def test_entries_hang_together(key: str) -> None:
    model = MODELS[key]
    assert model.licence
    assert model.reasoning_parser != "glm47", "glm47 is a tool-call parser only"
    assert bool(model.speculative) <= (model.shape.mtp_layers > 0)
    if model.speculative:
        settings = model.speculative
        assert (settings["num_steps"], settings["eagle_topk"], settings["num_draft_tokens"]) == (3, 1, 4)
        assert settings["draft_architecture"] == f"{model.shape.architecture}NextN"
    # The class of the engine has its token ids built in: they belong to this vocabulary alone.
    assert bool(model.thinking_budget) == (model.shape.vocab_size == 151552)
    if model.quantization.method == "w8a8_int8":
        assert model.arguments["sglang"]["quantization"] == "w8a8_int8"
    if "shared_experts" in model.quantization.unconverted:
        assert model.arguments["sglang"]["disable-shared-experts-fusion"] is True
    if not model.ids:
        assert any("made" in note.lower() for note in model.notes)
    for identity in model.ids.values():
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", identity)


def test_the_tiny_model_is_what_the_tool_makes() -> None:
    tool = load("make_tiny_model", ROOT / "tools/make_tiny_model.py")
    shape = MODELS["glm-4.7-tiny"].shape
    assert (shape.layers, shape.hidden_size, shape.dense_layers) == (
        tool.LAYERS,
        tool.HIDDEN,
        tool.DENSE_LAYERS,
    )
    assert (shape.attention_heads, shape.kv_heads, shape.head_dim) == (
        tool.HEADS,
        tool.KV_HEADS,
        tool.HEAD_DIM,
    )
    assert (shape.routed_experts, shape.experts_per_token) == (tool.EXPERTS, tool.EXPERTS_PER_TOKEN)
    assert (shape.intermediate_size, shape.moe_intermediate_size) == (
        tool.INTERMEDIATE,
        tool.MOE_INTERMEDIATE,
    )
    assert (shape.max_context, shape.vocab_size) == (tool.CONTEXT, tool.make_vocabulary().padded_size)
