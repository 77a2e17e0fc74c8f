# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import check as weights_check
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.safetensors_header import read_header
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_models
from ansible_collections.baremetal.sglang.tools.make_tiny_model import make_files

FILES = make_files(7)
TINY = shipped_models()["glm-4.7-tiny"]
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = weights_check.INDEX


def contents(files: dict[str, bytes]) -> weights_check.Contents:
    return weights_check.read_contents(
        {name: len(data) for name, data in files.items()},
        lambda name: read_header(io.BytesIO(files[name]), len(files[name])),
        lambda name: files[name].decode(),
    )


def problems(files: dict[str, bytes]) -> list[str]:
    return weights_check.problems_of(contents(files))


def without(*names: str) -> dict[str, bytes]:
    return {name: data for name, data in FILES.items() if name not in names}


def index(**changes: Any) -> dict[str, bytes]:
    document = json.loads(FILES[INDEX])
    for key, value in changes.items():
        document[key] = value(document[key])
    return {**FILES, INDEX: json.dumps(document).encode()}


def test_the_lab_s_model_is_one() -> None:
    assert problems(FILES) == []
    found = contents(FILES)
    assert weights_check.shape_problems(found, TINY.shape, TINY.quantization, TINY.key) == []
    summary = weights_check.tensor_summary(found.headers)
    assert summary["bytes"] == json.loads(FILES[INDEX])["metadata"]["total_size"]
    assert set(summary["dtypes"]) == {"BF16", "F32"}


CASES = {
    "missing shard": (without(TWO), f"{TWO}: missing shard, named by"),
    "extra shard": ({**FILES, "extra.safetensors": FILES[TWO]}, "extra.safetensors: not named by"),
    "renamed shard": ({**without(TWO), "b.safetensors": FILES[TWO]}, f"{TWO}: missing shard"),
    "the same shard twice": (
        {**FILES, TWO: FILES[ONE]},
        f"{TWO}: holds tensors that are in {ONE} too: .* and .* more",
    ),
    "truncated": ({**FILES, TWO: FILES[TWO][:-7]}, "7 are missing"),
    "tensor missing from the index": (
        index(
            weight_map=lambda names: {key: value for key, value in names.items() if key != "lm_head.weight"}
        ),
        "holds tensors that .* does not name: lm_head.weight",
    ),
    "tensor that only the index has": (
        index(weight_map=lambda names: {**names, "ghost": ONE}),
        f"{ONE}: lacks tensors of .*: ghost",
    ),
    "tensor in another shard": (
        index(weight_map=lambda names: {**names, "lm_head.weight": ONE}),
        f"{TWO}: holds tensors that .* puts elsewhere: lm_head.weight",
    ),
    "index that names a missing shard": (
        index(weight_map=lambda names: {**names, "ghost": "model-00009-of-00002.safetensors"}),
        "model-00009-of-00002.safetensors: missing shard",
    ),
    "another total": (index(metadata=lambda _old: {"total_size": 5}), "total_size 5, the shards hold"),
    "no weight_map": (index(weight_map=lambda _old: {}), "has no weight_map"),
    "a tensor twice in the index": (
        {**FILES, INDEX: b'{"weight_map": {"a": "x", "a": "y"}}'},
        f"{INDEX}: the key 'a' is there twice",
    ),
    "no index, a shard short": (without(INDEX, TWO), f"{TWO}: missing shard"),
    "no weights": (without(ONE, TWO, INDEX), "holds no weights"),
    "no config": (without("config.json"), "config.json: missing"),
    "config that is no object": ({**FILES, "config.json": b"[]"}, "config.json: is no JSON object"),
    "damaged tokenizer": ({**FILES, "tokenizer.json": b"{"}, "tokenizer.json: is no JSON"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer: missing"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_engine_could_not_load(name: str) -> None:
    files, said = CASES[name]
    found = problems(files)
    assert re.search(said, "\n".join(found)), found


def test_all_problems_at_once() -> None:
    assert len(problems({**without(TWO, "tokenizer.json"), "config.json": b"?"})) >= 3


def configured(**changes: Any) -> weights_check.Contents:
    config = {**json.loads(FILES["config.json"]), **changes}
    return contents({**FILES, "config.json": json.dumps(config).encode()})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 46}, "layers is 46, glm-4.7-tiny was planned with 3"),
        ({"num_attention_heads": 16}, "attention_heads is 16"),
        ({"num_key_value_heads": 8}, "kv_heads is 8"),
        ({"n_routed_experts": 160}, "routed_experts is 160"),
        ({"num_experts_per_tok": 8}, "experts_per_token is 8"),
        ({"vocab_size": 151552}, "vocab_size is 151552"),
        ({"max_position_embeddings": 2048}, "max_context is 2048"),
        ({"architectures": ["Other"]}, "architecture is Other"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantisation method is fp8"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_another_model_than_the_planned_one(changes: dict[str, Any], said: str) -> None:
    found = weights_check.shape_problems(configured(**changes), TINY.shape, TINY.quantization, TINY.key)
    assert any(said in line for line in found), found


def test_a_longer_context_than_planned_is_no_problem() -> None:
    found = configured(max_position_embeddings=8192)
    assert weights_check.shape_problems(found, TINY.shape, TINY.quantization, TINY.key) == []


def test_quantised_as_planned_and_not() -> None:
    planned = replace(TINY.quantization, method="awq", bits=4, weight_dtype="int4", group_size=128)
    stored = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
    fine = configured(quantization_config=stored)
    assert weights_check.shape_problems(fine, TINY.shape, planned, TINY.key) == []
    other = configured(quantization_config={**stored, "group_size": 64})
    assert "group_size is 64" in weights_check.shape_problems(other, TINY.shape, planned, TINY.key)[0]


def test_shards_of_a_smaller_model_beside_the_right_config() -> None:
    deeper = replace(TINY.shape, layers=5)
    found = weights_check.shape_problems(configured(num_hidden_layers=5), deeper, TINY.quantization, TINY.key)
    assert found == ["*.safetensors: no tensor of layer 3, config.json promises 5 layers"]
