# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory: the engine's arithmetic, and whether the known pairs of model and machine fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.memory import (
    MIB,
    GpuMemory,
    gpu_memory,
    kv_bytes_per_token,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.automatic import (
    automatic_fraction,
    automatic_sizes,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.fit import (
    Demand,
    Fit,
    demand_of,
    fit,
    nearest_fits,
)
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_hardware, shipped_models

MODELS = shipped_models()
HARDWARE = shipped_hardware()
A800, SPARK, H200 = "a800-sxm4-80gb", "gb10", "h200"


def demand(model: str, hardware: str, tensor_parallel: int, **changes: Any) -> Demand:
    made = demand_of(MODELS[model], gpu_memory(HARDWARE[hardware]), tensor_parallel)
    return replace(made, **changes)


def fitted(model: str, hardware: str, tensor_parallel: int, **changes: Any) -> Fit:
    return fit(demand(model, hardware, tensor_parallel, **changes))


@pytest.mark.parametrize(
    ("model", "hardware", "tensor_parallel", "changes", "gigabytes", "fits", "contexts"),
    [
        # 717 GB over 8: not even the weights.
        ("glm-4.7", A800, 8, {"draft": True}, 89.6, False, 0),
        ("glm-4.7", H200, 8, {}, 88.2, True, 4),
        ("glm-4.7-int8", A800, 8, {"memory_fraction": 0.9}, 44.5, True, 3),
        ("glm-4.7-int8", A800, 8, {"draft": True, "context_length": 131072}, 45.3, True, 3),
        ("glm-4.7-awq", A800, 8, {"draft": True}, 24.4, True, 4),
        ("glm-4.7-awq", A800, 8, {"memory_fraction": 0.9}, 23.7, True, 5),
        ("glm-4.7-fp8", SPARK, 4, {}, 88.6, True, 1),
        ("glm-4.7-fp8", SPARK, 4, {"draft": True}, 90.5, True, 1),
        ("glm-4.7-fp8", SPARK, 1, {}, 354.5, False, 0),
        ("glm-4.7-nvfp4", SPARK, 4, {}, 53.8, True, 2),
        ("glm-4.7-nvfp4", SPARK, 2, {}, 107.5, False, 0),
        ("glm-4.7-nvfp4", SPARK, 2, {"context_length": 16384}, 107.5, True, 1),
        ("glm-4.7-fp8", H200, 4, {"draft": True}, 90.5, True, 2),
        ("glm-4.7-flash", A800, 1, {}, 59.9, True, 1),
        ("glm-4.7-flash", SPARK, 1, {}, 59.9, True, 4),
    ],
)
def test_known_pairs(
    model: str,
    hardware: str,
    tensor_parallel: int,
    changes: dict[str, Any],
    gigabytes: float,
    fits: bool,
    contexts: int,
) -> None:
    made = fitted(model, hardware, tensor_parallel, **changes)
    assert made.weights_per_gpu / 1e9 == pytest.approx(gigabytes, rel=0.005)
    assert made.fits is fits
    assert int(made.full_length_requests) == contexts


def test_four_sparks_hold_one_full_context_and_no_more() -> None:
    made = fitted("glm-4.7-fp8", SPARK, 4)
    assert made.tight
    assert not fitted("glm-4.7-nvfp4", SPARK, 4).tight


def test_refusal_arithmetic_says_what_is_missing() -> None:
    lines = fitted("glm-4.7", A800, 8).arithmetic
    assert lines[0] == "weights 88.3 GB a GPU: 716.7 GB over 8 GPUs (TP 8)"
    assert lines[1] == "a GPU has 85.2 GB (81,920 MiB less 669 MiB of the driver)"
    assert lines[-1].startswith("weights alone are 18.6 GB more")


def test_arithmetic_of_a_fit_adds_up() -> None:
    made = fitted("glm-4.7-int8", A800, 8, context_length=131072)
    assert made.static_bytes + made.reserve_bytes == made.usable_bytes
    assert made.max_tokens == made.kv_pool_bytes // 47_104
    assert f"47,104 bytes a token = {made.max_tokens:,} tokens" in made.arithmetic[-2]
    assert "holds a context of 131,072" in made.arithmetic[-1]


def test_measured_cache_of_an_h200() -> None:
    """Six layers of the GLM-4.7 shape with 384-wide experts: 3,279,726 tokens in twice 37.53 GiB were measured."""
    shape = replace(MODELS["glm-4.7-fp8"].shape, layers=6, moe_intermediate_size=384, mtp_layers=0)
    assert kv_bytes_per_token(shape) == 24_576
    assert pytest.approx(2 * 37.53, abs=0.02) == 3_279_726 * 24_576 / (1 << 30)


@pytest.mark.parametrize(
    ("model", "tensor_parallel", "kv_dtype", "expected"),
    [
        ("glm-4.7", 1, "", 376_832),
        ("glm-4.7", 8, "", 47_104),
        ("glm-4.7", 4, "", 94_208),
        # One head is the least that a GPU can hold: beyond 8 GPUs it is repeated.
        ("glm-4.7", 16, "", 47_104),
        ("glm-4.7", 8, "fp8_e4m3", 23_552),
        ("glm-4.7", 8, "nvfp4", 13_248),
        # MLA keeps the whole latent on each GPU.
        ("glm-4.7-flash", 1, "", 54_144),
        ("glm-4.7-flash", 4, "", 54_144),
        ("glm-4.7-tiny", 2, "", 384),
    ],
)
def test_bytes_a_token(model: str, tensor_parallel: int, kv_dtype: str, expected: int) -> None:
    assert kv_bytes_per_token(MODELS[model].shape, tensor_parallel, kv_dtype) == expected


@pytest.mark.parametrize(
    ("total_mib", "tensor_parallel", "expected"),
    [
        (15360, 1, (2048, 8)),
        (24564, 2, (2048, 24)),
        (24564, 4, (2048, 80)),
        (46068, 1, (4096, 32)),
        (46068, 8, (4096, 160)),
        (81920, 1, (8192, 256)),
        (81920, 8, (8192, 512)),
        (143771, 8, (8192, 512)),
        (183359, 8, (16384, 512)),
    ],
)
def test_sizes_that_the_engine_takes(total_mib: int, tensor_parallel: int, expected: tuple[int, int]) -> None:
    assert automatic_sizes(total_mib, tensor_parallel) == expected


@pytest.mark.parametrize(
    ("memory", "tensor_parallel", "draft", "vision", "expected"),
    [
        # 512 + 1.5 * 8192 + 2 * 512 + 1024 = 14,848 MiB.
        (GpuMemory(81920), 8, False, False, 0.819),
        (GpuMemory(81920), 8, True, False, 0.769),
        (GpuMemory(81920), 8, False, True, 0.737),
        (GpuMemory(81920), 1, False, False, 0.836),
        (GpuMemory(46068), 1, False, False, 0.851),
        # On unified memory the engine's own choice is not used.
        (GpuMemory(124545, unified=True, os_reserve_mib=4096, fraction_max=0.88), 4, False, False, 0.88),
        (GpuMemory(124545, unified=True, os_reserve_mib=4096, fraction_max=0.88), 4, True, False, 0.88),
    ],
)
def test_fraction_that_the_engine_takes(
    memory: GpuMemory, tensor_parallel: int, draft: bool, vision: bool, expected: float
) -> None:
    chunk, batch = automatic_sizes(memory.total_mib, tensor_parallel)
    assert automatic_fraction(memory, tensor_parallel, 1, chunk, batch, draft, vision) == expected


def test_the_floor_of_large_gpus_holds_back_ten_gibibytes() -> None:
    assert automatic_fraction(GpuMemory(81920), 1, 1, 2048, 8) == 0.875


def test_the_operating_system_of_a_spark_is_left_alone() -> None:
    memory = gpu_memory(HARDWARE[SPARK], reported_mib=None, host_memory_gib=119.6)
    assert memory.usable_bytes == (int(119.6 * 1024) - 4096) * MIB
    assert gpu_memory(HARDWARE[A800], reported_mib=81251, host_memory_gib=1800).total_mib == 81251


def test_a_fraction_above_the_limit_of_unified_memory_is_warned_of() -> None:
    (warning,) = fitted("glm-4.7-nvfp4", SPARK, 4, memory_fraction=0.95).warnings
    assert "freezes" in warning


def test_little_left_for_a_prefill_step_is_warned_of() -> None:
    made = fitted("glm-4.7-int8", A800, 8, memory_fraction=0.96)
    (warning,) = made.warnings
    assert 0 <= made.left_bytes < made.rest.activations
    assert "are left for a prefill step" in warning


def test_a_rest_that_does_not_hold_what_the_engine_takes_does_not_fit() -> None:
    made = fitted("glm-4.7-int8", A800, 8, memory_fraction=0.99)
    assert made.weights_fit
    assert made.left_bytes < 0
    assert not made.fits
    assert any("more than the rest" in line for line in made.arithmetic)


def test_draft_layers_that_do_not_fit_in_the_rest_do_not_fit() -> None:
    assert not fitted("glm-4.7-int8", A800, 8, draft=True, memory_fraction=0.99).weights_fit


def test_a_draft_is_free_for_a_model_that_has_none() -> None:
    assert fitted("glm-4.7-nvfp4", SPARK, 4, draft=True) == fitted("glm-4.7-nvfp4", SPARK, 4, draft=False)


def test_pipeline_stages_share_layers() -> None:
    one, two = fitted("glm-4.7-int8", A800, 4), fitted("glm-4.7-int8", A800, 4, pipeline_parallel=2)
    assert two.weights_per_gpu == pytest.approx(one.weights_per_gpu / 2, rel=0.04)
    assert two.kv_bytes_per_token_per_gpu == one.kv_bytes_per_token_per_gpu / 2


def test_the_host_of_the_lab() -> None:
    memory = gpu_memory(HARDWARE["cpu"], host_memory_gib=24)
    made = fit(demand_of(MODELS["glm-4.7-tiny"], memory, 2))
    assert made.fits
    assert not made.warnings


def test_what_fits_instead_of_bf16_on_a800() -> None:
    asked = demand("glm-4.7", A800, 8, draft=True)
    offered = nearest_fits(
        asked,
        MODELS["glm-4.7"],
        MODELS,
        gpu_counts=(8, 16, 32),
        supported=lambda model: "fp8" not in model.key,
    )
    assert [str(candidate) for candidate in offered] == [
        "glm-4.7-int8 (context 202,752)",
        "glm-4.7-nvfp4 (context 202,752)",
        "glm-4.7-awq (context 202,752)",
        "16 GPUs (context 202,752)",
    ]
    assert all(candidate.fit.weights_fit for candidate in offered)


def test_what_fits_instead_on_two_sparks() -> None:
    asked = demand("glm-4.7-nvfp4", SPARK, 2)
    offered = [str(candidate) for candidate in nearest_fits(asked, MODELS["glm-4.7-nvfp4"], MODELS, (4,))]
    assert offered[0] == "glm-4.7-nvfp4 with context_length 18,432"
    assert offered[-1] == "4 GPUs (context 202,752)"
    assert "glm-4.7-awq (context 87,040)" in offered


def test_more_gpus_become_stages_where_heads_do_not_divide() -> None:
    asked = demand("glm-4.7-flash", "rtx-4090", 4, context_length=131072, memory_fraction=0.5)
    (candidate,) = [
        near for near in nearest_fits(asked, MODELS["glm-4.7-flash"], MODELS, (8,)) if near.kind == "gpus"
    ]
    assert (candidate.tensor_parallel, candidate.pipeline_parallel) == (4, 2)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_what_is_proposed_really_fits(model: str) -> None:
    asked = demand(model, "l40s", 4)
    for candidate in nearest_fits(asked, MODELS[model], MODELS, (8, 16)):
        other = MODELS[candidate.model]
        again = replace(
            demand_of(other, asked.memory, candidate.tensor_parallel, candidate.pipeline_parallel),
            context_length=candidate.context,
        )
        assert fit(again).fits, str(candidate)


def test_the_fraction_leaves_room_for_what_the_engine_takes() -> None:
    """A table for 4,096 requests of a million tokens is 16 GB: more than the engine's own rule leaves."""
    asked = demand("glm-4.7-awq", A800, 8, requests=4096)
    long = replace(asked, shape=replace(asked.shape, max_context=1_000_000))
    made = fit(long)
    assert made.memory_fraction < fit(asked).memory_fraction
    assert made.left_bytes >= made.rest.activations


def test_a_draft_shares_the_static_part_where_the_release_loads_it_first() -> None:
    asked = demand("glm-4.7-int8", A800, 8, draft=True, memory_fraction=0.85)
    beside, shared = fit(asked), fit(replace(asked, engine=replace(asked.engine, draft_in_static=True)))
    assert shared.max_tokens == int(shared.kv_pool_bytes / (47_104 * 93 / 92))
    assert shared.kv_pool_bytes == beside.kv_pool_bytes - beside.draft_weights_per_gpu
    assert shared.left_bytes > beside.left_bytes
