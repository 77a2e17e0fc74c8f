# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How checkpoints divide over GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.shapes import (
    ModelShape,
    Quantization,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.sharding import (
    checkpoint_bytes,
    layers_per_stage,
    modules,
    parallel_problems,
    parallel_remarks,
    unconverted,
    valid_tensor_parallel,
    weights_per_gpu,
)

GLM = ModelShape(
    architecture="Glm4MoeForCausalLM",
    layers=92,
    hidden_size=5120,
    attention_heads=96,
    kv_heads=8,
    head_dim=128,
    vocab_size=151552,
    max_context=202752,
    intermediate_size=12288,
    routed_experts=160,
    shared_experts=1,
    experts_per_token=8,
    moe_intermediate_size=1536,
    dense_layers=3,
    mtp_layers=1,
)
FLASH = ModelShape(
    architecture="Glm4MoeLiteForCausalLM",
    layers=47,
    hidden_size=2048,
    attention_heads=20,
    kv_heads=20,
    head_dim=256,
    vocab_size=154880,
    max_context=202752,
    intermediate_size=10240,
    attention="mla",
    kv_lora_rank=512,
    q_lora_rank=768,
    qk_rope_head_dim=64,
    v_head_dim=256,
    routed_experts=64,
    shared_experts=1,
    experts_per_token=4,
    moe_intermediate_size=1536,
    dense_layers=1,
)
AIR = replace(
    GLM, layers=46, hidden_size=4096, routed_experts=128, moe_intermediate_size=1408, dense_layers=1
)
QWEN = ModelShape("Qwen2VLForConditionalGeneration", 28, 3584, 28, 4, 128, 152064, 32768, 18944)
BLOCK = Quantization("fp8", 8, "float8_e4m3", "float8_e4m3", strategy="block", block_shape=(128, 128))
AWQ = Quantization("awq", 4, "int4", "float16", 128, "group", zero_point=True)
GPTQ = replace(AWQ, method="gptq")
GROUP_32 = Quantization("compressed-tensors", 4, "int4", "bfloat16", 32, "group")


@pytest.mark.parametrize(
    ("shape", "quantization", "expected"),
    [
        (GLM, None, [1, 2, 4, 8, 16]),
        # 20 heads.
        (FLASH, None, [1, 2, 4]),
        # 28 heads over 4 KV heads.
        (QWEN, None, [1, 2, 4]),
        (GLM, BLOCK, [1, 2, 4]),
        (GLM, AWQ, [1, 2, 4, 8, 16]),
        (GLM, GPTQ, [1, 2, 4]),
        (GLM, GROUP_32, [1, 2, 4, 8]),
        (AIR, None, [1, 2, 4, 8]),
        (AIR, GROUP_32, [1, 2]),
        (AIR, AWQ, [1, 2, 4]),
    ],
)
def test_tensor_parallel_sizes(
    shape: ModelShape, quantization: Quantization | None, expected: list[int]
) -> None:
    assert valid_tensor_parallel(shape, 16, quantization) == expected


@pytest.mark.parametrize(
    ("problems", "words"),
    [
        (parallel_problems(FLASH, 8), ["20 attention heads cannot be divided by 8"]),
        (parallel_problems(GLM, 6), ["8 KV heads can neither be divided by 6 nor repeated evenly over it"]),
        (
            parallel_problems(GLM, 8, 1, BLOCK),
            ["192 columns (1536 / 8) is not a multiple of the blocks of 128"],
        ),
        (parallel_problems(GLM, 8, 1, GPTQ), ["192 columns (1536 / 8) is not a multiple of the 128 columns"]),
        (
            parallel_problems(AIR, 4, 1, GROUP_32),
            ["352 columns (1408 / 4) is not a multiple of the 64 columns"],
        ),
        (parallel_problems(GLM, 8, 93), ["92 layers cannot fill 93 pipeline stages"]),
        (
            parallel_problems(GLM, 8, 1, None, 3),
            ["expert parallelism 3 does not divide tensor parallelism 8"],
        ),
        (
            parallel_problems(QWEN, 5),
            ["28 attention heads", "4 KV heads", "18944 columns of the dense layers cannot be divided by 5"],
        ),
    ],
)
def test_problems_are_all_named(problems: list[str], words: list[str]) -> None:
    assert len(problems) == len(words)
    for problem, part in zip(problems, words):
        assert part in problem


def test_expert_parallelism_leaves_experts_whole() -> None:
    assert parallel_problems(GLM, 8, 1, GPTQ, expert_parallel=8) == []


def test_awq_that_leaves_marlin_is_remarked() -> None:
    (remark,) = parallel_remarks(GLM, 8, AWQ)
    assert "192 columns" in remark
    assert "groups of 64" in remark
    assert parallel_remarks(GLM, 4, AWQ) == []


@pytest.mark.parametrize(
    ("pattern", "path", "kept"),
    [
        ("lm_head", "lm_head", True),
        ("shared_experts", "layers.5.mlp.shared_experts", True),
        ("shared_experts", "layers.5.mlp.experts", False),
        ("model.layers.9", "layers.9.self_attn.q_proj", True),
        # Whole names, not beginnings: layer 9 is not layer 90.
        ("model.layers.9", "layers.90.self_attn.q_proj", False),
        ("mlp.gate", "layers.0.mlp.gate_up_proj", False),
        ("model.layers.0.mlp.up_proj", "layers.0.mlp.gate_up_proj", True),
        ("model.layers.*.self_attn*", "layers.7.self_attn.o_proj", True),
        ("model.language_model.layers.7.self_attn.o_proj", "layers.7.self_attn.o_proj", True),
        ("re:.*mlp.gate$", "layers.0.mlp.gate_up_proj", False),
        ("re:model.layers.3.mlp.experts.*", "layers.3.mlp.experts", True),
    ],
)
def test_names_of_unconverted_modules(pattern: str, path: str, kept: bool) -> None:
    (module,) = [each for each in modules(GLM) if each.path == path]
    quantization = replace(AWQ, unconverted=(pattern,))
    if module.convertible:
        assert unconverted(module, quantization) is kept
    else:
        assert unconverted(module, AWQ)


def test_routers_norms_and_embeddings_are_never_converted() -> None:
    kept = {each.path.rpartition(".")[2] for each in modules(GLM) if unconverted(each, AWQ)}
    assert kept == {"embed_tokens", "lm_head", "gate", "input_layernorm", "eh_proj"}


@pytest.mark.parametrize("tensor_parallel", [1, 2, 4, 8])
def test_shares_add_up_to_the_whole(tensor_parallel: int) -> None:
    """Only routers, norms and the MTP joint are repeated: less than half a per cent of GLM-4.7."""
    share = weights_per_gpu(GLM, Quantization(), tensor_parallel, draft=True)
    whole = checkpoint_bytes(GLM, Quantization())
    assert whole <= share * tensor_parallel <= whole * 1.005


def test_kv_heads_are_repeated_beyond_their_number() -> None:
    heads = 2 * GLM.layers * GLM.hidden_size * GLM.head_dim * 2
    eight, sixteen = weights_per_gpu(GLM, Quantization(), 8), weights_per_gpu(GLM, Quantization(), 16)
    assert sixteen > eight / 2 + heads / 2


def test_a_known_size_corrects_the_computed_one() -> None:
    computed = weights_per_gpu(GLM, Quantization(), 8)
    assert weights_per_gpu(
        GLM, Quantization(), 8, weight_bytes=2 * checkpoint_bytes(GLM, Quantization())
    ) == (pytest.approx(2 * computed, abs=2))


def test_published_parameter_counts() -> None:
    for shape, billions in ((replace(GLM, mtp_own_embeddings=True), 358.3), (FLASH, 29.9)):
        assert sum(module.parameters for module in modules(shape)) / 1e9 == pytest.approx(billions, abs=0.1)


@pytest.mark.parametrize(
    ("stages", "expected"), [(1, [92]), (2, [46, 46]), (3, [30, 31, 31]), (8, [11] * 4 + [12] * 4)]
)
def test_left_over_layers_go_to_the_last_stages(stages: int, expected: list[int]) -> None:
    assert layers_per_stage(92, stages) == expected
