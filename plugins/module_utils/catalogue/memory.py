# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a GPU as programs see it, and what one cached token costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .entries import Hardware
from .shapes import ModelShape
from .sharding import heads_per_gpu

MIB = 1 << 20

CONTEXT_BYTES = 90_000_000
"""What a CUDA context takes before anything is loaded; measured on one GPU."""

KV_BITS = {
    "auto": 16.0,
    "bfloat16": 16.0,
    "bf16": 16.0,
    "float16": 16.0,
    "fp8_e4m3": 8.0,
    "fp8_e5m2": 8.0,
    # Four bits and one byte of scale for 16 values.
    "fp4_e2m1": 4.5,
    "nvfp4": 4.5,
    "mxfp8": 8.25,
}
INDEX_SCALE_BYTES = 4
INDEX_BLOCK = 128


@dataclass(frozen=True)
class GpuMemory:
    """One GPU's share of memory, in MiB as the driver or the host reports it."""

    total_mib: int
    driver_reserve_mib: int = 0
    unified: bool = False
    os_reserve_mib: int = 0
    fraction_max: float = 0.0
    device: str = "cuda"

    @property
    def usable_bytes(self) -> int:
        return max(0, self.total_mib - self.driver_reserve_mib - self.os_reserve_mib) * MIB


def gpu_memory(
    hardware: Hardware, reported_mib: int | None = None, host_memory_gib: float | None = None
) -> GpuMemory:
    """Memory of one GPU, preferring what the host says over the catalogue."""
    if hardware.unified_memory:
        total = int(host_memory_gib * 1024) if host_memory_gib else hardware.memory_mib
    else:
        total = reported_mib or hardware.memory_mib
    return GpuMemory(
        total_mib=total,
        driver_reserve_mib=hardware.driver_reserve_mib,
        unified=hardware.unified_memory,
        os_reserve_mib=hardware.os_reserve_mib if hardware.unified_memory else 0,
        fraction_max=hardware.memory_fraction_max,
        device=hardware.device,
    )


def kv_bits(kv_dtype: str) -> float:
    return KV_BITS.get(kv_dtype or "auto", KV_BITS["auto"])


def kv_bytes_per_token(
    shape: ModelShape, tensor_parallel: int = 1, kv_dtype: str = "", layers: int | None = None
) -> float:
    """Bytes that one token takes in the cache of one GPU; MLA keeps the whole of it on every GPU."""
    bits = kv_bits(kv_dtype)
    count = shape.layers if layers is None else layers
    if shape.attention == "mla":
        width = shape.kv_lora_rank + shape.qk_rope_head_dim
    else:
        value = shape.v_head_dim or shape.head_dim
        width = heads_per_gpu(shape.kv_heads, tensor_parallel) * (shape.head_dim + value)
    index = shape.index_head_dim + shape.index_head_dim / INDEX_BLOCK * INDEX_SCALE_BYTES
    return count * (width * bits / 8 + index)


def largest_stage(layers: int, pipeline_parallel: int) -> int:
    return math.ceil(layers / pipeline_parallel)
