# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory beside weights and cache: what was measured on an H200, and how it follows context, batch and draft."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import typed
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.rest import (
    EngineMemory,
    Load,
    Rest,
    automatic_requests,
    decode_sizes,
    prefill_sizes,
    rest_of,
)
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import documents, shipped_models

GIB = 1 << 30


def engine_of(version: str) -> EngineMemory:
    found, refusals = typed(
        EngineMemory, documents("engines/sglang/releases")[f"{version}.yml"]["memory"], version
    )
    assert refusals == []
    assert found is not None
    return found


GLM = shipped_models()["glm-4.7-fp8"].shape
FLASH = shipped_models()["glm-4.7-flash"].shape
SIX_LAYERS = replace(GLM, layers=6, moe_intermediate_size=384)
ENGINE = engine_of("0.5.17")
H200 = Load(1, 1, 202752, 4096, 8192, 256, "fa3")


def rest(shape: Any = SIX_LAYERS, engine: EngineMemory = ENGINE, **changes: Any) -> Rest:
    return rest_of(shape, engine, replace(H200, **changes))


@pytest.mark.parametrize(
    ("part", "gibibytes"),
    [
        # Between the end of loading and the end of the pool, the cache taken off; smaller buffers are in it.
        ("table", 3.16),
        # These two were used to find the factors of the release; they hold the arithmetic in place.
        ("prefill_graphs", 2.36),
        ("decode_graphs", 0.39),
    ],
)
def test_what_an_h200_showed(part: str, gibibytes: float) -> None:
    assert getattr(rest(), part) / GIB == pytest.approx(gibibytes, rel=0.03)


def test_the_sizes_that_an_h200_made_graphs_for() -> None:
    assert len(prefill_sizes(8192)) == 58
    assert prefill_sizes(8192)[-1] == 8192
    assert len(decode_sizes(256)) == 36
    assert decode_sizes(48, draft=True)[-3:] == [40, 44, 48]
    assert decode_sizes(300)[-2:] == [288, 300]


@pytest.mark.parametrize(
    ("tokens", "context", "expected"),
    [(5_146_821, 202752, 4096), (826_092, 202752, 2086), (100_000, 202752, 2048), (1000, 4096, 500)],
)
def test_running_requests_that_the_engine_takes_by_itself(tokens: int, context: int, expected: int) -> None:
    assert automatic_requests(tokens, context) == expected


def test_the_table_follows_requests_and_context() -> None:
    assert rest(requests=512).table == 513 * 202756 * 4
    assert rest(requests=512, context=32768).table == 513 * 32772 * 4
    assert rest(requests=48, draft_tokens=4).table == 49 * 202760 * 4


@pytest.mark.parametrize(
    ("attention", "changes", "expected"),
    [
        ("fa3", {}, 256 * 202756 * 4),
        ("flashinfer", {}, 256 * 202756 * 5),
        # A number of eight bytes for each place, and eight parts of each head.
        ("triton", {}, 256 * 202756 * 8 + 8 * 256 * 96 * 129 * 4),
        ("flashinfer", {"draft_tokens": 4, "draft_steps": 3}, 1024 * 202756 * 5 + 3 * 256 * 202756 * 4),
    ],
)
def test_buffers_of_the_attention_backend_follow_the_context(
    attention: str, changes: dict[str, Any], expected: int
) -> None:
    long = rest(attention=attention, **changes).decode_graphs
    none = rest(attention=attention, context=-4, **changes).decode_graphs
    splits = 8 * 256 * 96 * 129 * 4 if attention == "triton" else 0
    assert long - none == expected - splits


@pytest.mark.parametrize(
    ("engine", "shape", "changes", "there"),
    [
        (ENGINE, GLM, {"draft_tokens": 4}, True),
        (engine_of("0.5.10.post1"), GLM, {}, True),
        (engine_of("0.5.10.post1"), GLM, {"draft_tokens": 4}, False),
        (engine_of("0.5.10.post1"), GLM, {"pipeline_parallel": 2}, False),
        (engine_of("0.5.9"), GLM, {}, False),
        (ENGINE, FLASH, {}, False),
        (ENGINE, replace(GLM, vision=True), {}, False),
        (engine_of("0.5.23"), GLM, {"pipeline_parallel": 2}, False),
    ],
)
def test_prefill_graphs_are_there_where_the_release_makes_them(
    engine: EngineMemory, shape: Any, changes: dict[str, Any], there: bool
) -> None:
    assert (rest(shape, engine, **changes).prefill_graphs > 0) is there
