# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tuned files of the fused MoE kernel: the name that the engine looks for, where, and whether a tile fits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...catalogue.shapes import ModelShape, Quantization

FUSING = (
    "Glm4MoeForCausalLM",
    "Glm4MoeLiteForCausalLM",
    "Glm4vMoeForConditionalGeneration",
    "DeepseekV3ForCausalLM",
    "DeepseekV32ForCausalLM",
)
"""Classes whose shared expert joins the routed ones."""
FUSES_FROM = {"DeepseekV3ForCausalLM": (256,), "DeepseekV32ForCausalLM": (256,)}
"""Classes that do so only with this many routed experts."""
FUSION_CAPABILITY = (8, 0)
SEPARATE_METHODS = ("w4afp8",)
"""Methods that convert shared and routed experts differently."""

DTYPE_WORDS = {
    ("float8_e4m3", "float8_e4m3"): "fp8_w8a8",
    ("int8", "int8"): "int8_w8a8",
}
GROUPED_WORDS = {4: "int4_w4a16", 8: "int8_w8a16"}
GROUPED_METHODS = ("moe_wna16",)
"""Grouped integers reach the Triton kernel through this method; others take Marlin, which reads no file."""
MARLIN_METHODS = ("awq", "gptq", "gptq_marlin", "awq_marlin")
OTHER_KERNELS = ("modelopt_fp4", "mxfp4")

# Releases up to 0.5.10.post1 go through these after the running version.
LISTED_TRITON = ("3.4.0", "3.3.1", "3.2.0", "3.1.0")

ELEMENT_BYTES = {"fp8_w8a8": 1, "int8_w8a8": 1, "int8_w8a16": 2, "int4_w4a16": 2, "float32": 4, "": 2}
TRITON_STAGES = 3
"""Pipeline stages that Triton takes when a tile does not say."""
LOW_SHARED_MEMORY = 128 * 1024
"""Releases with the feature low-smem-fp8-tiles use smaller FP8 tiles below this."""

TILE_KEYS = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K")


@dataclass(frozen=True)
class MoeFile:
    """What the name of a tuned file says."""

    experts: int
    width: int
    """Columns of an expert on one GPU."""
    device: str
    dtype: str = ""
    block_shape: tuple[int, ...] = ()
    per_channel: bool = False
    down: bool = False

    @property
    def name(self) -> str:
        parts = [f"E={self.experts}", f"N={self.width}", f"device_name={self.device.replace(' ', '_')}"]
        if self.dtype:
            parts.append(f"dtype={self.dtype}")
        if self.block_shape:
            parts.append(f"block_shape=[{', '.join(str(size) for size in self.block_shape)}]")
        if self.per_channel:
            parts.append("per_channel_quant=True")
        return ",".join(parts) + ("_down" if self.down else "") + ".json"

    def for_down_projection(self) -> MoeFile:
        return replace(self, down=True)


NAME = re.compile(
    r"E=(?P<experts>\d+),N=(?P<width>\d+),device_name=(?P<device>[^,]+?)"
    r"(,dtype=(?P<dtype>[^,]+?))?(,block_shape=\[(?P<block>\d+, \d+)\])?"
    r"(?P<channel>,per_channel_quant=True)?(?P<down>_down)?\.json"
)


def names_of(device: str) -> str:
    """A regular expression of all names that an engine on one kind of GPU could ask for."""
    own = re.escape(device.replace(" ", "_"))
    return re.sub(r"\?P<\w+>", "?:", NAME.pattern.replace("(?P<device>[^,]+?)", own))


def parse_name(name: str) -> MoeFile | None:
    """The other way round; None for a name that the engine would never ask for."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    block = match["block"]
    return MoeFile(
        experts=int(match["experts"]),
        width=int(match["width"]),
        device=match["device"],
        dtype=match["dtype"] or "",
        block_shape=tuple(int(size) for size in block.split(", ")) if block else (),
        per_channel=bool(match["channel"]),
        down=bool(match["down"]),
    )


def capability(text: str) -> tuple[int, int]:
    """ "8.0" as (8, 0); (0, 0) when unknown."""
    major, _dot, minor = text.partition(".")
    return (int(major), int(minor or 0)) if major.isdigit() and (minor or "0").isdigit() else (0, 0)


def fused_shared_experts(
    shape: ModelShape,
    quantization: Quantization,
    compute_capability: str,
    expert_parallel: int = 1,
    disabled: bool = False,
) -> int:
    """How many shared experts the engine appends to the routed ones."""
    counts = FUSES_FROM.get(shape.architecture)
    if (
        disabled
        or shape.architecture not in FUSING
        or (counts is not None and shape.routed_experts not in counts)
        or capability(compute_capability) < FUSION_CAPABILITY
        or expert_parallel > 1
        or quantization.method in SEPARATE_METHODS
    ):
        return 0
    return shape.shared_experts


def dtype_word(quantization: Quantization) -> str | None:
    """The word in the file name, "" for none; None when the experts do not run on the Triton kernel."""
    method = quantization.method
    if method in OTHER_KERNELS or method in MARLIN_METHODS:
        return None
    if method in GROUPED_METHODS:
        return GROUPED_WORDS.get(quantization.bits)
    if quantization.group_size and quantization.weight_dtype.startswith(("int", "nvfp", "mxfp")):
        return None
    if not method:
        return "float32" if quantization.weight_dtype == "float32" else ""
    return DTYPE_WORDS.get((quantization.weight_dtype, quantization.activation_dtype))


def moe_file(
    shape: ModelShape,
    quantization: Quantization,
    tensor_parallel: int,
    device: str,
    compute_capability: str,
    expert_parallel: int = 1,
    disable_fusion: bool = False,
) -> MoeFile | None:
    """The up-projection file that the engine asks for; None for dense models and other kernels."""
    word = dtype_word(quantization)
    if not shape.mixture or word is None:
        return None
    fused = fused_shared_experts(shape, quantization, compute_capability, expert_parallel, disable_fusion)
    width = shape.moe_intermediate_size * expert_parallel // tensor_parallel
    # Two 4-bit values share a byte, and the engine reads the width off the packed tensor.
    width = width // 2 if word == GROUPED_WORDS[4] else width
    return MoeFile(
        experts=shape.routed_experts // expert_parallel + fused,
        width=width,
        device=device,
        dtype=word,
        block_shape=quantization.block_shape,
        per_channel=quantization.strategy == "channel" and not quantization.block_shape,
    )


def directory(triton: str) -> str:
    return f"triton_{triton.replace('.', '_')}"


def directories_searched(triton: str, present: Iterable[str], listed: bool) -> list[str]:
    """Directories below `configs` in the engine's order, those that are there.

    `listed`: the release goes through a fixed list after the running version (up to 0.5.10.post1);
    otherwise through every directory, newest first.
    """
    there = {name for name in present if re.fullmatch(r"triton(_\d+)+", name)}
    newest = sorted(there, key=lambda name: [int(part) for part in name.split("_")[1:]], reverse=True)
    order = [directory(triton), *([directory(version) for version in LISTED_TRITON] if listed else newest)]
    return [name for name in dict.fromkeys(order) if name in there]


def stray_directories(present: Iterable[str]) -> list[str]:
    """Names below `configs` that make newer releases stop at start-up."""
    return sorted(
        name for name in present if name.startswith("triton_") and not re.fullmatch(r"triton(_\d+)+", name)
    )


def nearest_tile(tiles: Mapping[int, Mapping[str, Any]], tokens: int) -> Mapping[str, Any]:
    """The tile that the engine takes for a batch: that of the nearest tuned size, the first of two as near."""
    return tiles[min(tiles, key=lambda size: abs(size - tokens))]


def tile_bytes(tile: Mapping[str, Any], dtype: str) -> int:
    """Shared memory of one block: both operands once for each stage in flight."""
    rows, columns, depth = (int(tile[key]) for key in TILE_KEYS)
    buffers = max(1, int(tile.get("num_stages", TRITON_STAGES)) - 1)
    return (rows + columns) * depth * ELEMENT_BYTES.get(dtype, ELEMENT_BYTES[""]) * buffers


def default_tile(
    tokens: int,
    experts: int,
    dtype: str,
    block_shape: tuple[int, ...] = (),
    shared_memory: int = 0,
    low_shared_memory_tiles: bool = False,
) -> dict[str, int]:
    """The tile that the engine takes when no file is found."""
    many = tokens > experts
    if dtype == "fp8_w8a8" and block_shape:
        return _tile(64, block_shape[0], block_shape[1], 4, 3)
    if dtype == "fp8_w8a8":
        if low_shared_memory_tiles and 0 < shared_memory < LOW_SHARED_MEMORY:
            return _tile(64, 128, 256, 4, 2) if many else _tile(32, 64, 256, 4, 4)
        return _tile(128, 256, 128, 8, 4) if many else _tile(64, 128, 128, 4, 4)
    return _tile(64, 64, 32, 4, TRITON_STAGES) if many else _tile(16, 32, 64, 4, TRITON_STAGES)


def _tile(rows: int, columns: int, depth: int, warps: int, stages: int) -> dict[str, int]:
    values = (rows, columns, depth)
    return {**dict(zip(TILE_KEYS, values)), "num_warps": warps, "num_stages": stages}


def default_tile_problems(
    file: MoeFile, shared_memory: int, low_shared_memory_tiles: bool = False
) -> list[str]:
    """Why the engine cannot run without a tuned file on this GPU; empty when it can."""
    problems = []
    for tokens, when in (
        (file.experts, f"up to {file.experts} tokens"),
        (file.experts + 1, f"over {file.experts} tokens"),
    ):
        tile = default_tile(
            tokens, file.experts, file.dtype, file.block_shape, shared_memory, low_shared_memory_tiles
        )
        need = tile_bytes(tile, file.dtype)
        if shared_memory and need > shared_memory:
            problems.append(
                f"the default tile for {when} needs {need:,} bytes of shared memory, {file.device} has {shared_memory:,}"
            )
    return problems


def tile_problems(
    tiles: Mapping[Any, Any],
    dtype: str,
    shared_memory: int = 0,
    down: Mapping[Any, Any] | None = None,
) -> list[str]:
    """What is wrong with the content of a tuned file, and with that of its `_down` twin."""
    problems = _content_problems("", tiles, dtype, shared_memory)
    if down is None:
        return problems
    problems += _content_problems("down: ", down, dtype, shared_memory)
    if problems:
        return problems
    up_tiles, down_tiles = ({int(key): tile for key, tile in each.items()} for each in (tiles, down))
    for tokens in sorted({*up_tiles, *down_tiles}):
        rows, down_rows = (nearest_tile(each, tokens)["BLOCK_SIZE_M"] for each in (up_tiles, down_tiles))
        if rows != down_rows:
            problems.append(
                f"{tokens} tokens: BLOCK_SIZE_M is {rows}, the down projection's is {down_rows}: must be equal"
            )
    return problems


def _content_problems(prefix: str, tiles: Mapping[Any, Any], dtype: str, shared_memory: int) -> list[str]:
    problems = [] if tiles else [f"{prefix}no batch size in it"]
    for tokens, tile in tiles.items():
        if not str(tokens).isdigit() or not isinstance(tile, Mapping):
            problems.append(f"{prefix}{tokens}: must be a number of tokens with a tile")
            continue
        missing = [key for key in TILE_KEYS if not isinstance(tile.get(key), int)]
        if missing:
            problems.append(f"{prefix}{tokens}: {', '.join(missing)} missing or no number")
            continue
        need = tile_bytes(tile, dtype)
        if shared_memory and need > shared_memory:
            problems.append(
                f"{prefix}{tokens} tokens: needs {need:,} bytes of shared memory, the GPU has {shared_memory:,}"
            )
    return problems
