# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sizes and the static fraction that the engine takes when it is told nothing."""

from __future__ import annotations

from ...catalogue.memory import GpuMemory

# The engine's own rule, in MiB: GPUs below the limit get (prefill chunk, decode graphs at TP < 4, at TP >= 4).
SIZES = (
    (20 * 1024, 2048, 8, 8),
    (35 * 1024, 2048, 24, 80),
    (60 * 1024, 4096, 32, 160),
    (160 * 1024, 8192, 256, 512),
)
LARGEST = (16384, 512, 512)
WIDE = 4
METADATA_MIB = 512
ACTIVATION_MIB_PER_TOKEN = 1.5
LEAST_CHUNK = 2048
GRAPH_MIB_PER_REQUEST = 2
PARALLEL_MIB_PER_GPU = 1024 / 8
LARGE_GPU_MIB = 60 * 1024
LARGE_GPU_RESERVE_MIB = 10 * 1024
DRAFT_MIB = 4 * 1024
VISION_FACTOR = 0.9
"""Images need room while they are encoded; the engine takes off between 0 and 20 %."""


def automatic_sizes(total_mib: int, tensor_parallel: int) -> tuple[int, int]:
    """(tokens of a prefill chunk, largest batch with decode graphs) that the engine takes when told nothing."""
    for limit, chunk, narrow, wide in SIZES:
        if total_mib < limit:
            return chunk, wide if tensor_parallel >= WIDE else narrow
    chunk, narrow, wide = LARGEST
    return chunk, wide if tensor_parallel >= WIDE else narrow


def activation_mib(chunked_prefill: int) -> float:
    return METADATA_MIB + ACTIVATION_MIB_PER_TOKEN * max(chunked_prefill, LEAST_CHUNK)


def graph_mib(graph_batch: int) -> float:
    return GRAPH_MIB_PER_REQUEST * graph_batch


def automatic_fraction(
    memory: GpuMemory,
    tensor_parallel: int,
    pipeline_parallel: int,
    chunked_prefill: int,
    graph_batch: int,
    draft: bool = False,
    vision: bool = False,
) -> float:
    """The static fraction that the engine takes when told nothing; the catalogue's on unified memory."""
    if memory.unified and memory.fraction_max:
        return memory.fraction_max
    reserve = activation_mib(chunked_prefill) + graph_mib(graph_batch)
    reserve += PARALLEL_MIB_PER_GPU * tensor_parallel * pipeline_parallel
    if memory.total_mib > LARGE_GPU_MIB:
        reserve = max(reserve, LARGE_GPU_RESERVE_MIB)
    if draft:
        reserve += DRAFT_MIB
    fraction = max(0.0, round((memory.total_mib - reserve) / max(1, memory.total_mib), 3))
    return round(fraction * VISION_FACTOR, 3) if vision else fraction
