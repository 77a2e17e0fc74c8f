# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of tuned MoE files, their order of search, and the shared memory of a tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.shapes import (
    ModelShape,
    Quantization,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_config import (
    MoeFile,
    default_tile,
    default_tile_problems,
    directories_searched,
    moe_file,
    nearest_tile,
    parse_name,
    stray_directories,
    tile_bytes,
    tile_problems,
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
    routed_experts=160,
    shared_experts=1,
    moe_intermediate_size=1536,
)
FLASH = replace(GLM, architecture="Glm4MoeLiteForCausalLM", routed_experts=64)
AIR = replace(GLM, routed_experts=128, moe_intermediate_size=1408)
QWEN = replace(GLM, architecture="Qwen3MoeForCausalLM", routed_experts=128, shared_experts=0)
DEEPSEEK = replace(GLM, architecture="DeepseekV3ForCausalLM", routed_experts=256, moe_intermediate_size=2048)
KIMI = replace(DEEPSEEK, routed_experts=384)
DENSE = replace(GLM, routed_experts=0, shared_experts=0, moe_intermediate_size=0)

BF16 = Quantization()
FP8 = Quantization("compressed-tensors", 8, "float8_e4m3", "float8_e4m3", strategy="channel")
FP8_TENSOR = Quantization("fp8", 8, "float8_e4m3", "float8_e4m3", strategy="tensor")
FP8_BLOCK = replace(FP8_TENSOR, strategy="block", block_shape=(128, 128))
INT8 = Quantization("w8a8_int8", 8, "int8", "int8", strategy="channel")
AWQ = Quantization("awq", 4, "int4", "float16", 128, "group")
WNA16 = replace(AWQ, method="moe_wna16")
NVFP4 = Quantization("modelopt_fp4", 4, "nvfp4", "nvfp4", 16, "group")
PACKED = Quantization("compressed-tensors", 4, "int4", "bfloat16", 32, "group")

A800, GB10 = ("NVIDIA A800-SXM4-80GB", "8.0"), ("NVIDIA GB10", "12.1")
H200, T4 = ("NVIDIA H200", "9.0"), ("Tesla T4", "7.5")
GB10_LIMIT = 101_376


@pytest.mark.parametrize(
    ("shape", "quantization", "tensor_parallel", "device", "changes", "expected"),
    [
        (
            GLM,
            FP8,
            4,
            GB10,
            {},
            "E=161,N=384,device_name=NVIDIA_GB10,dtype=fp8_w8a8,per_channel_quant=True.json",
        ),
        (
            GLM,
            FP8,
            8,
            H200,
            {},
            "E=161,N=192,device_name=NVIDIA_H200,dtype=fp8_w8a8,per_channel_quant=True.json",
        ),
        (
            GLM,
            INT8,
            8,
            A800,
            {},
            "E=161,N=192,device_name=NVIDIA_A800-SXM4-80GB,dtype=int8_w8a8,per_channel_quant=True.json",
        ),
        (GLM, BF16, 8, A800, {}, "E=161,N=192,device_name=NVIDIA_A800-SXM4-80GB.json"),
        (GLM, BF16, 8, A800, {"disable_fusion": True}, "E=160,N=192,device_name=NVIDIA_A800-SXM4-80GB.json"),
        # Expert parallelism leaves experts whole and switches fusion off.
        (GLM, BF16, 8, A800, {"expert_parallel": 8}, "E=20,N=1536,device_name=NVIDIA_A800-SXM4-80GB.json"),
        (GLM, BF16, 8, T4, {}, "E=160,N=192,device_name=Tesla_T4.json"),
        (FLASH, BF16, 1, A800, {}, "E=65,N=1536,device_name=NVIDIA_A800-SXM4-80GB.json"),
        (FLASH, BF16, 2, A800, {}, "E=65,N=768,device_name=NVIDIA_A800-SXM4-80GB.json"),
        (FLASH, BF16, 4, A800, {}, "E=65,N=384,device_name=NVIDIA_A800-SXM4-80GB.json"),
        (
            AIR,
            INT8,
            4,
            A800,
            {},
            "E=129,N=352,device_name=NVIDIA_A800-SXM4-80GB,dtype=int8_w8a8,per_channel_quant=True.json",
        ),
        (QWEN, FP8_TENSOR, 2, GB10, {}, "E=128,N=768,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json"),
        (
            DEEPSEEK,
            FP8_BLOCK,
            8,
            H200,
            {},
            "E=257,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json",
        ),
        # The same class with another number of experts does not fuse.
        (
            KIMI,
            FP8_BLOCK,
            8,
            H200,
            {},
            "E=384,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128, 128].json",
        ),
        # The width is read off packed bytes.
        (
            GLM,
            WNA16,
            4,
            A800,
            {"disable_fusion": True},
            "E=160,N=192,device_name=NVIDIA_A800-SXM4-80GB,dtype=int4_w4a16.json",
        ),
    ],
)
def test_file_names(
    shape: ModelShape,
    quantization: Quantization,
    tensor_parallel: int,
    device: tuple[str, str],
    changes: dict[str, Any],
    expected: str,
) -> None:
    found = moe_file(shape, quantization, tensor_parallel, *device, **changes)
    assert found is not None
    assert found.name == expected
    assert found.for_down_projection().name == expected.replace(".json", "_down.json")
    parsed = parse_name(expected)
    assert parsed is not None
    assert parsed.name == expected


@pytest.mark.parametrize("quantization", [AWQ, NVFP4, PACKED, replace(AWQ, method="gptq")])
def test_kernels_that_read_no_file(quantization: Quantization) -> None:
    assert moe_file(GLM, quantization, 4, *A800) is None


def test_dense_models_have_no_file() -> None:
    assert moe_file(DENSE, BF16, 1, *A800) is None


@pytest.mark.parametrize(
    "name",
    [
        "E=160,N=384,device_name=NVIDIA GB10,dtype=fp8_w8a8.txt",
        "E=161,N=384,device_name=NVIDIA_GB10,per_channel_quant=True,dtype=fp8_w8a8.json",
        "E=257,N=256,device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,128].json",
        "N=384,E=160.json",
    ],
)
def test_names_that_the_engine_never_asks_for(name: str) -> None:
    assert parse_name(name) is None


def test_a_device_name_keeps_its_dashes() -> None:
    assert (
        MoeFile(65, 384, "NVIDIA H100 80GB HBM3").name == "E=65,N=384,device_name=NVIDIA_H100_80GB_HBM3.json"
    )


SHIPPED = [
    "triton_3_1_0",
    "triton_3_2_0",
    "triton_3_3_0",
    "triton_3_3_1",
    "triton_3_4_0",
    "triton_3_5_1",
    "triton_3_10_0",
]


@pytest.mark.parametrize(
    ("triton", "listed", "expected"),
    [
        ("3.5.1", True, ["triton_3_5_1", "triton_3_4_0", "triton_3_3_1", "triton_3_2_0", "triton_3_1_0"]),
        # 3.3.0 and 3.5.1 are not in the fixed list.
        ("3.6.0", True, ["triton_3_4_0", "triton_3_3_1", "triton_3_2_0", "triton_3_1_0"]),
        (
            "3.6.0",
            False,
            [
                "triton_3_10_0",
                "triton_3_5_1",
                "triton_3_4_0",
                "triton_3_3_1",
                "triton_3_3_0",
                "triton_3_2_0",
                "triton_3_1_0",
            ],
        ),
    ],
)
def test_order_of_search(triton: str, listed: bool, expected: list[str]) -> None:
    assert directories_searched(triton, [*SHIPPED, "README.md"], listed) == expected


def test_directories_that_stop_newer_releases() -> None:
    assert stray_directories([*SHIPPED, "triton_3_6_0.bak", "notes"]) == ["triton_3_6_0.bak"]


def tile(rows: int, columns: int, depth: int, stages: int | None = None) -> dict[str, int]:
    made = {"BLOCK_SIZE_M": rows, "BLOCK_SIZE_N": columns, "BLOCK_SIZE_K": depth}
    return made if stages is None else {**made, "num_stages": stages}


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        # Measured by compiling the loop for compute capability 12.x.
        (tile(128, 256, 128, 4), "fp8_w8a8", 147_456),
        (tile(64, 128, 128, 4), "fp8_w8a8", 73_728),
        (tile(32, 64, 256, 4), "fp8_w8a8", 73_728),
        (tile(64, 128, 256, 2), "fp8_w8a8", 49_152),
        (tile(64, 128, 128, 3), "fp8_w8a8", 49_152),
        (tile(128, 128, 128, 3), "fp8_w8a8", 65_536),
        (tile(128, 128, 128, 4), "fp8_w8a8", 98_304),
        (tile(64, 64, 32), "", 16_384),
        (tile(64, 64, 32), "int8_w8a8", 8_192),
        (tile(16, 32, 64), "", 12_288),
        (tile(16, 32, 64), "int8_w8a8", 6_144),
        (tile(64, 32, 256, 1), "fp8_w8a8", 24_576),
    ],
)
def test_shared_memory_of_a_tile(values: dict[str, int], dtype: str, expected: int) -> None:
    assert tile_bytes(values, dtype) == expected


@pytest.mark.parametrize(
    ("tokens", "dtype", "low", "expected"),
    [
        (161, "fp8_w8a8", False, (64, 128, 128, 4)),
        (162, "fp8_w8a8", False, (128, 256, 128, 4)),
        (161, "fp8_w8a8", True, (32, 64, 256, 4)),
        (162, "fp8_w8a8", True, (64, 128, 256, 2)),
        (162, "int8_w8a8", True, (64, 64, 32, 3)),
        (8, "", True, (16, 32, 64, 3)),
    ],
)
def test_default_tiles(tokens: int, dtype: str, low: bool, expected: tuple[int, int, int, int]) -> None:
    rows, columns, depth, stages = expected
    found = default_tile(tokens, 161, dtype, (), GB10_LIMIT, low)
    assert {**tile(rows, columns, depth, stages)}.items() <= found.items()


def test_fp8_without_a_file_dies_on_gb10_at_the_first_long_prefill() -> None:
    file = moe_file(GLM, FP8, 4, *GB10)
    assert file is not None
    (problem,) = default_tile_problems(file, GB10_LIMIT)
    assert problem == (
        "the default tile for over 161 tokens needs 147,456 bytes of shared memory, NVIDIA GB10 has 101,376"
    )
    assert default_tile_problems(file, GB10_LIMIT, low_shared_memory_tiles=True) == []
    assert default_tile_problems(file, 232_448) == []
    assert default_tile_problems(replace(file, block_shape=(128, 128)), GB10_LIMIT) == []
    assert default_tile_problems(replace(file, dtype="int8_w8a8"), GB10_LIMIT) == []


# Tuned on GB10 for FP8, 384 columns: (rows, columns, depth, stages) by tokens.
TUNED = {
    "1": tile(16, 64, 128, 2),
    "64": tile(32, 32, 256, 4),
    "1024": tile(64, 32, 256, 3),
    "4096": tile(128, 64, 128, 3),
}


def test_a_sound_file_has_no_problems() -> None:
    assert tile_problems(TUNED, "fp8_w8a8", GB10_LIMIT) == []
    assert tile_problems(TUNED, "fp8_w8a8", GB10_LIMIT, TUNED) == []
    assert max(tile_bytes(each, "fp8_w8a8") for each in TUNED.values()) == 49_152


def test_both_files_must_have_the_same_rows_wherever_either_changes() -> None:
    down = {"1": tile(16, 64, 128, 2), "4096": tile(64, 64, 128, 3)}
    problems = tile_problems(TUNED, "fp8_w8a8", GB10_LIMIT, down)
    assert [problem.partition(":")[0] for problem in problems] == ["64 tokens", "1024 tokens", "4096 tokens"]


def test_all_problems_of_a_file_are_named() -> None:
    broken = {
        "one": tile(16, 16, 16),
        "8": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_K": "64"},
        "16": tile(128, 256, 128, 4),
    }
    problems = tile_problems(broken, "fp8_w8a8", GB10_LIMIT, {})
    assert len(problems) == 4
    assert "BLOCK_SIZE_N, BLOCK_SIZE_K" in problems[1]
    assert "147,456" in problems[2]
    assert problems[3] == "down: no batch size in it"


def test_the_nearest_batch_size_wins() -> None:
    tiles = {1: tile(16, 32, 64), 64: tile(32, 32, 64), 128: tile(64, 32, 64)}
    assert [nearest_tile(tiles, tokens)["BLOCK_SIZE_M"] for tokens in (1, 33, 96, 97, 9999)] == [
        16,
        32,
        32,
        64,
        64,
    ]
