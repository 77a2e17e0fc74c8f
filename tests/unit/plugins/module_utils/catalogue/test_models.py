# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Family files into models."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.models import (
    load_models,
    model_of_config,
    with_family,
)
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_models

FAMILY: dict[str, Any] = {
    "family": "mine",
    "name": "Mine",
    "licence": "MIT",
    "shape": {
        "architecture": "LlamaForCausalLM",
        "layers": 2,
        "hidden_size": 64,
        "attention_heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "vocab_size": 100,
        "max_context": 1024,
        "intermediate_size": 128,
    },
    "common": {
        "tool_call_parser": "glm",
        "arguments": {"sglang": {"dtype": "bfloat16"}},
        "notes": ["shared"],
    },
    "models": {
        "mine": {"ids": {"modelscope": "me/mine"}, "weights": {"gib": 1.5, "source": "list"}},
        "mine-int4": {
            "name": "Mine-INT4",
            "shape": {"max_context": 512},
            "quantization": {"method": "awq", "bits": 4, "weight_dtype": "int4", "group_size": 32},
            "arguments": {"sglang": {"quantization": "awq"}, "other": {"a": 1}},
            "tool_call_parser": "",
            "notes": ["own"],
            "licence": "Apache-2.0",
        },
    },
}


def test_members_share_the_shape_and_override_the_rest() -> None:
    models, refusals = load_models({"mine.yml": FAMILY})
    assert refusals == []
    whole, small = models["mine"], models["mine-int4"]
    assert (whole.name, small.name, whole.family, small.family) == ("Mine", "Mine-INT4", "mine", "mine")
    assert (whole.shape.max_context, small.shape.max_context) == (1024, 512)
    assert (whole.weight_bytes, whole.weight_bytes_origin) == (1.5 * (1 << 30), "reported")
    assert small.weight_bytes_origin == "computed"
    # 2 x (embedding, head) + norms in 16 bits, 2 layers in 4.5 bits.
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    assert small.weight_bytes == 2 * (2 * 6400 + 4 * 64) + round(linear * (4 + 16 / 32) / 8)
    assert (whole.tool_call_parser, small.tool_call_parser) == ("glm", "")
    assert small.arguments == {"sglang": {"dtype": "bfloat16", "quantization": "awq"}, "other": {"a": 1}}
    assert small.notes == ("shared", "own")
    assert (whole.licence, small.licence) == ("MIT", "Apache-2.0")


@pytest.mark.parametrize(
    ("path", "value", "where", "word"),
    [
        (("modles",), {}, "mine.yml", "models"),
        (("shape", "laiers"), 3, "mine.yml: models.mine.shape", "layers"),
        (("shape", "layers"), "two", "mine.yml: models.mine.shape: layers", "whole number"),
        (("shape", "head_dim"), None, "mine.yml: models.mine.shape: head_dim", "whole number"),
        (("common", "tool_parser"), "glm", "mine.yml: common", "tool_call_parser"),
        (("common", "reasoning_parser"), 45, "mine.yml: models.mine: reasoning_parser", '"45"'),
        (("models", "mine", "id"), {}, "mine.yml: models.mine", "ids"),
        (("models", "mine", "ids"), "me/mine", "mine.yml: models.mine: ids", "key: value"),
        (("models", "mine", "shape"), 7, "mine.yml: models.mine.shape", "indent"),
        (("models", "mine", "weights"), 7, "mine.yml: models.mine.weights", "indent"),
        (
            ("models", "mine", "weights", "gib"),
            "7 GB",
            "mine.yml: models.mine.weights.gib = '7 GB'",
            "number",
        ),
        (
            ("models", "mine", "weights", "origin"),
            "felt",
            "mine.yml: models.mine.weights.origin = felt",
            "computed",
        ),
        (("models", "mine", "quantization"), {"bit": 4}, "mine.yml: models.mine.quantization", "bits"),
        (("models", "mine"), "later", "mine.yml: models.mine", "keys"),
        (("shape",), [], "mine.yml: shape", "add"),
    ],
)
def test_wrong_entries_name_place_and_cure(path: tuple[str, ...], value: Any, where: str, word: str) -> None:
    document = copy.deepcopy(FAMILY)
    target = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    _models, refusals = load_models({"mine.yml": document})
    (refusal,) = [each for each in refusals if each.where == where]
    assert word in refusal.fix


def test_all_problems_of_all_files_come_at_once() -> None:
    document = copy.deepcopy(FAMILY)
    del document["shape"]["layers"], document["shape"]["head_dim"]
    document["models"]["mine"]["colour"] = "red"
    models, refusals = load_models({"mine.yml": document, "other.yml": "nothing"})
    assert models == {}
    assert sorted((refusal.where, refusal.what) for refusal in refusals) == [
        ("mine.yml: models.mine", "unknown key colour"),
        ("mine.yml: models.mine-int4.shape", "head_dim is missing"),
        ("mine.yml: models.mine-int4.shape", "layers is missing"),
        ("mine.yml: models.mine.shape", "head_dim is missing"),
        ("mine.yml: models.mine.shape", "layers is missing"),
        ("other.yml", "is not a mapping"),
    ]


def test_a_users_file_replaces_ours() -> None:
    mine = copy.deepcopy(FAMILY)
    mine["models"] = {"mine": {"name": "Changed"}}
    models, refusals = load_models({"ours.yml": FAMILY, "zz-mine.yml": mine})
    assert refusals == []
    assert models["mine"].name == "Changed"
    assert "mine-int4" in models


def test_a_model_of_its_own_config() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "max_position_embeddings": 1024,
        "auto_map": {"AutoModel": "code.py"},
    }
    model = model_of_config("/data/mine", config)
    assert model.shape.head_dim == 16
    assert model.checkpoint_code and not model.trust_remote_code
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    assert model.weight_bytes == 2 * (2 * 6400 + linear + 4 * 64)
    assert model.weight_bytes_origin == "computed"
    assert model_of_config("/data/mine", config, weight_bytes=7).weight_bytes_origin == "published"


def test_a_file_without_shape_or_models_says_so() -> None:
    _models, refusals = load_models({"mine.yml": {"family": "mine", "models": {"mine": {}}}, "empty.yml": {}})
    places = [refusal.where for refusal in refusals]
    assert {"mine.yml: shape", "empty.yml: family", "empty.yml: shape", "empty.yml: models"} <= set(places)


@pytest.mark.parametrize(
    ("folder", "dtype", "tools", "reasoning", "arguments"),
    [
        ("GLM-4.7-mine", "float8_e4m3", "glm47", "glm45", {}),
        ("glm47-mine", "int8", "glm47", "glm45", {"sglang": {"quantization": "w8a8_int8"}}),
        ("glm-4.6-mine", "float8_e4m3", "glm", "glm45", {}),
        # Families of this architecture write their calls in two ways: nothing is guessed.
        ("mine", "float8_e4m3", "", "glm45", {}),
    ],
)
def test_a_directory_takes_the_settings_of_its_relatives(
    folder: str, dtype: str, tools: str, reasoning: str, arguments: dict[str, Any]
) -> None:
    known = shipped_models()
    plain = replace(
        known["glm-4.7-fp8"],
        key=f"/data/{folder}",
        tool_call_parser="",
        reasoning_parser="",
        speculative={},
        arguments={},
    )
    made = with_family(replace(plain, quantization=replace(plain.quantization, weight_dtype=dtype)), known)
    assert (made.tool_call_parser, made.reasoning_parser, made.arguments) == (tools, reasoning, arguments)
    assert made.speculative["algorithm"] == "EAGLE"
    without = with_family(replace(plain, shape=replace(plain.shape, mtp_layers=0)), known)
    assert without.speculative == {}


def test_a_directory_of_an_unknown_architecture_stays_as_it_is() -> None:
    known = shipped_models()
    plain = replace(known["glm-4.7-fp8"], key="/data/mine", tool_call_parser="")
    alone = replace(plain, shape=replace(plain.shape, architecture="OtherForCausalLM"))
    assert with_family(alone, known) == alone
