# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes and quantization out of config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.memory import kv_bytes_per_token
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.shapes import (
    Quantization,
    derive_quantization,
    derive_shape,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.sharding import (
    checkpoint_bytes,
    modules,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import RefusedError

CONFIGS = Path(__file__).parents[3] / "fixtures" / "configs"


def config(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "glm-4.7",
            "Glm4MoeForCausalLM gqa layers=92 hidden=5120 heads=96/8x128 dense=12288*3 moe=160+1@8x1536 mtp=1 "
            "ctx=202752",
        ),
        (
            "glm-4.5-air",
            "Glm4MoeForCausalLM gqa layers=46 hidden=4096 heads=96/8x128 dense=10944*1 moe=128+1@8x1408 mtp=1 "
            "ctx=131072",
        ),
        (
            "glm-4.5v",
            "Glm4vMoeForConditionalGeneration gqa layers=46 hidden=4096 heads=96/8x128 dense=10944*1 "
            "moe=128+1@8x1408 mtp=0 ctx=65536 vision",
        ),
        (
            "glm-4.7-flash",
            "Glm4MoeLiteForCausalLM mla layers=47 hidden=2048 heads=20/20x256 dense=10240*1 moe=64+1@4x1536 mtp=1 "
            "ctx=202752",
        ),
        (
            "qwen2-vl-7b",
            "Qwen2VLForConditionalGeneration gqa layers=28 hidden=3584 heads=28/4x128 dense=18944*0 moe=0+0@0x0 "
            "mtp=0 ctx=32768 vision",
        ),
        (
            "qwen3-235b-a22b",
            "Qwen3MoeForCausalLM gqa layers=94 hidden=4096 heads=64/4x128 dense=12288*0 moe=128+0@8x1536 mtp=0 "
            "ctx=40960",
        ),
        (
            "deepseek-v3.1",
            "DeepseekV3ForCausalLM mla layers=61 hidden=7168 heads=128/128x192 dense=18432*3 moe=256+1@8x2048 mtp=1 "
            "ctx=163840",
        ),
        (
            "deepseek-v3.2",
            "DeepseekV32ForCausalLM mla layers=61 hidden=7168 heads=128/128x192 dense=18432*3 moe=256+1@8x2048 "
            "mtp=1 ctx=163840",
        ),
        (
            "kimi-k2",
            "DeepseekV3ForCausalLM mla layers=61 hidden=7168 heads=64/64x192 dense=18432*1 moe=384+1@8x2048 mtp=0 "
            "ctx=131072",
        ),
        (
            "gpt-oss-120b",
            "GptOssForCausalLM gqa layers=36 hidden=2880 heads=64/8x64 dense=0*0 moe=128+0@4x2880 mtp=0 ctx=131072",
        ),
        (
            "llama-3.1-8b",
            "LlamaForCausalLM gqa layers=32 hidden=4096 heads=32/8x128 dense=14336*0 moe=0+0@0x0 mtp=0 ctx=131072",
        ),
    ],
)
def test_shape_of_published_configs(name: str, expected: str) -> None:
    shape = derive_shape(config(name))
    assert (
        f"{shape.architecture} {shape.attention} layers={shape.layers} hidden={shape.hidden_size} "
        f"heads={shape.attention_heads}/{shape.kv_heads}x{shape.head_dim} "
        f"dense={shape.intermediate_size}*{shape.dense_layers} "
        f"moe={shape.routed_experts}+{shape.shared_experts}@{shape.experts_per_token}x{shape.moe_intermediate_size} "
        f"mtp={shape.mtp_layers} ctx={shape.max_context}{' vision' if shape.vision else ''}"
    ) == expected


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # Published totals: 355 (GLM-4.5 and later), 106 (Air), 235, 671, 1,026, 117, 8.03; ours with MTP layers.
        ("glm-4.7", 356.8),
        ("glm-4.5-air", 109.2),
        ("qwen3-235b-a22b", 235.1),
        ("deepseek-v3.1", 682.5),
        ("kimi-k2", 1026.4),
        ("gpt-oss-120b", 116.8),
        ("llama-3.1-8b", 8.03),
    ],
)
def test_parameters_agree_with_published_totals(name: str, billions: float) -> None:
    count = sum(module.parameters for module in modules(derive_shape(config(name))))
    assert count / 1e9 == pytest.approx(billions, rel=0.002)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glm-4.7", 376_832),
        ("glm-4.7-flash", 54_144),
        ("deepseek-v3.1", 70_272),
        # The index of sparse attention: 128 bytes and a scale for each layer.
        ("deepseek-v3.2", 70_272 + 61 * 132),
        ("llama-3.1-8b", 131_072),
        ("qwen2-vl-7b", 57_344),
    ],
)
def test_a_token_in_the_cache(name: str, expected: int) -> None:
    assert kv_bytes_per_token(derive_shape(config(name))) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("glm-4.7", Quantization()),
        (
            "glm-4.7-fp8",
            Quantization(
                method="compressed-tensors",
                bits=8,
                weight_dtype="float8_e4m3",
                activation_dtype="float8_e4m3",
                strategy="channel",
                unconverted=("lm_head", "re:.*mlp.gate$"),
            ),
        ),
        (
            "glm-4.7-int8",
            Quantization(
                method="w8a8_int8",
                bits=8,
                weight_dtype="int8",
                activation_dtype="int8",
                strategy="channel",
                unconverted=("lm_head", "re:.*mlp.gate$"),
            ),
        ),
        (
            "glm-4.7-awq-4bit",
            Quantization(
                method="compressed-tensors",
                bits=4,
                weight_dtype="int4",
                activation_dtype="bfloat16",
                group_size=32,
                strategy="group",
                unconverted=("lm_head", "re:.*mlp.gate$"),
            ),
        ),
        (
            "glm-4.7-awq",
            Quantization(
                method="awq",
                bits=4,
                weight_dtype="int4",
                activation_dtype="float16",
                group_size=128,
                strategy="group",
                zero_point=True,
                unconverted=("embed_tokens", "shared_experts", "shared_head", "lm_head"),
            ),
        ),
        (
            "glm-4.7-nvfp4",
            Quantization(
                method="modelopt_fp4",
                bits=4,
                weight_dtype="nvfp4",
                activation_dtype="nvfp4",
                group_size=16,
                strategy="group",
                unconverted=("lm_head", "model.layers.*.self_attn*", "model.layers.*.mlp.gate"),
            ),
        ),
        (
            "qwen3-235b-a22b-fp8",
            Quantization(
                method="fp8",
                bits=8,
                weight_dtype="float8_e4m3",
                activation_dtype="float8_e4m3",
                strategy="block",
                block_shape=(128, 128),
                unconverted=("lm_head",),
            ),
        ),
        (
            "gpt-oss-120b",
            Quantization(
                method="mxfp4",
                bits=4,
                weight_dtype="mxfp4",
                activation_dtype="bfloat16",
                group_size=32,
                strategy="group",
                unconverted=(
                    "model.layers.*.self_attn",
                    "model.layers.*.mlp.router",
                    "model.embed_tokens",
                    "lm_head",
                ),
            ),
        ),
    ],
)
def test_quantization_of_published_configs(name: str, expected: Quantization) -> None:
    assert derive_quantization(config(name)) == expected


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        # DeepSeek-V3.1: 641.3 GiB published; gpt-oss-120b: 65.2 GB on its model card; Kimi-K2: 958.5 GiB.
        ("deepseek-v3.1", 688.6),
        ("kimi-k2", 1029.2),
        ("gpt-oss-120b", 65.2),
    ],
)
def test_computed_size_agrees_with_published_ones(name: str, gigabytes: float) -> None:
    values = config(name)
    computed = checkpoint_bytes(derive_shape(values), derive_quantization(values))
    assert computed / 1e9 == pytest.approx(gigabytes, rel=0.04)


@pytest.mark.parametrize("group", [{"bits": 4, "group_size": 64}, {"w_bit": 4, "q_group_size": 64}])
def test_other_names_for_groups(group: dict[str, int]) -> None:
    found = derive_quantization({"quantization_config": {"quant_method": "gptq", "sym": False, **group}})
    assert (found.bits, found.group_size, found.weight_dtype, found.zero_point) == (4, 64, "int4", True)


def test_head_dim_is_never_guessed_for_glm() -> None:
    values = config("glm-4.7")
    del values["head_dim"]
    with pytest.raises(RefusedError) as refused:
        derive_shape(values, "/data/my-model/config.json")
    (refusal,) = refused.value.refusals
    assert refusal.where == "/data/my-model/config.json: head_dim"
    assert "head_dim: ..." in refusal.fix
    assert "hidden_size: 5120" in refusal.fix


def test_every_missing_key_is_named_at_once() -> None:
    values = config("glm-4.7")
    for key in (
        "num_hidden_layers",
        "num_key_value_heads",
        "moe_intermediate_size",
        "max_position_embeddings",
    ):
        del values[key]
    with pytest.raises(RefusedError) as refused:
        derive_shape(values)
    assert [refusal.where.split(": ")[1] for refusal in refused.value.refusals] == [
        "num_hidden_layers",
        "num_key_value_heads",
        "max_position_embeddings",
        "moe_intermediate_size",
    ]


def test_mla_names_both_parts_of_the_head() -> None:
    values = config("glm-4.7-flash")
    del values["qk_nope_head_dim"]
    with pytest.raises(RefusedError, match="qk_nope_head_dim and qk_rope_head_dim"):
        derive_shape(values)


def test_no_architecture_is_refused() -> None:
    values = config("llama-3.1-8b")
    del values["architectures"]
    with pytest.raises(RefusedError, match="architectures"):
        derive_shape(values)


def test_a_dense_model_without_kv_key_has_a_head_for_each_query() -> None:
    values = config("llama-3.1-8b")
    del values["num_key_value_heads"]
    shape = derive_shape(values)
    assert (shape.kv_heads, shape.attention) == (32, "mha")
