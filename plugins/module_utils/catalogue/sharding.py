# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checkpoint consists of, and how it divides over the GPUs."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from .shapes import ModelShape, Quantization

TENSOR = "tensor"
"""Divided over the tensor-parallel GPUs."""
KV_HEADS = "kv-heads"
"""Divided until each GPU holds one head, repeated beyond."""
REPLICATED = "replicated"

HALF = 2.0
"""Bytes of one bfloat16 or float16 value."""
TILE = 16
"""Columns that a tensor core multiplies at once: the smallest useful slice of an expert."""
SMALLEST_GROUP = 32
"""The engine's Triton kernels for grouped integers split a group down to this."""
WIDE_BITS = 16
MARLIN_STEP = 64
"""Columns that the Marlin kernels for grouped integers take at once."""
SPLITS_GROUPS = ("awq", "moe_wna16")
"""Methods that fall back to those kernels by themselves when a slice cuts through a group."""


@dataclass(frozen=True)
class Module:
    """A group of weights with one place, one way of being divided and one dtype."""

    path: str
    parameters: int
    outputs: int
    """Rows with a scale of their own under per-channel quantization."""
    share: str = TENSOR
    convertible: bool = False
    """Quantization tools convert it unless told otherwise."""
    layer: int | None = None
    """None: before the first or after the last layer."""
    draft: bool = False


def _attention(shape: ModelShape) -> list[tuple[str, int, int, str]]:
    hidden, heads = shape.hidden_size, shape.attention_heads
    if shape.attention == "mla":
        value = shape.v_head_dim or shape.head_dim
        nope = shape.head_dim - shape.qk_rope_head_dim
        compressed = shape.kv_lora_rank + shape.qk_rope_head_dim
        query = (
            [
                ("q_a_proj", hidden * shape.q_lora_rank, shape.q_lora_rank, REPLICATED),
                ("q_b_proj", shape.q_lora_rank * heads * shape.head_dim, heads * shape.head_dim, TENSOR),
            ]
            if shape.q_lora_rank
            else [("q_proj", hidden * heads * shape.head_dim, heads * shape.head_dim, TENSOR)]
        )
        return [
            *query,
            ("kv_a_proj_with_mqa", hidden * compressed, compressed, REPLICATED),
            ("kv_b_proj", shape.kv_lora_rank * heads * (nope + value), heads * (nope + value), TENSOR),
            ("o_proj", heads * value * hidden, hidden, TENSOR),
        ]
    query_width, kv_width = heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return [
        ("q_proj", hidden * query_width, query_width, TENSOR),
        ("k_proj", hidden * kv_width, kv_width, KV_HEADS),
        ("v_proj", hidden * kv_width, kv_width, KV_HEADS),
        ("o_proj", query_width * hidden, hidden, TENSOR),
    ]


def _feed_forward(shape: ModelShape, dense: bool) -> list[tuple[str, int, int, bool]]:
    """Each (name, parameters, outputs, is the router)."""
    hidden = shape.hidden_size
    if dense:
        width = shape.intermediate_size
        return [
            ("mlp.gate_up_proj", 2 * hidden * width, 2 * width, False),
            ("mlp.down_proj", hidden * width, hidden, False),
        ]
    width = shape.moe_intermediate_size
    one, outputs = 3 * hidden * width, 2 * width + hidden
    groups = [
        ("mlp.gate", hidden * shape.routed_experts, shape.routed_experts, True),
        ("mlp.experts", one * shape.routed_experts, outputs * shape.routed_experts, False),
    ]
    if shape.shared_experts:
        groups.append(
            ("mlp.shared_experts", one * shape.shared_experts, outputs * shape.shared_experts, False)
        )
    return groups


def _layer(shape: ModelShape, index: int, dense: bool, draft: bool) -> Iterator[Module]:
    prefix = f"layers.{index}"
    for name, parameters, outputs, share in _attention(shape):
        yield Module(f"{prefix}.self_attn.{name}", parameters, outputs, share, True, index, draft)
    for name, parameters, outputs, router in _feed_forward(shape, dense):
        share = REPLICATED if router else TENSOR
        yield Module(f"{prefix}.{name}", parameters, outputs, share, not router, index, draft)
    yield Module(f"{prefix}.input_layernorm", 2 * shape.hidden_size, 0, REPLICATED, False, index, draft)


def modules(shape: ModelShape) -> list[Module]:
    """Everything in the checkpoint, the MTP layers last."""
    embedding = shape.vocab_size * shape.hidden_size
    found = [Module("embed_tokens", embedding, 0)]
    for index in range(shape.layers):
        dense = not shape.mixture or index < shape.dense_layers
        found += _layer(shape, index, dense, draft=False)
    if not shape.tied_embeddings:
        found.append(Module("lm_head", embedding, 0))
    if shape.vision:
        found.append(Module("visual", shape.vision_parameters, 0, REPLICATED))
    for index in range(shape.layers, shape.layers + shape.mtp_layers):
        found += _layer(shape, index, not shape.mixture, draft=True)
        found.append(
            Module(
                f"layers.{index}.eh_proj",
                2 * shape.hidden_size**2,
                shape.hidden_size,
                REPLICATED,
                False,
                index,
                True,
            )
        )
        if shape.mtp_own_embeddings:
            found.append(Module(f"layers.{index}.embed_tokens", embedding, 0, TENSOR, False, index, True))
            found.append(Module(f"layers.{index}.shared_head.head", embedding, 0, TENSOR, False, index, True))
    return found


def _segments(name: str) -> list[str]:
    return [part for part in name.split(".") if part not in {"model", "language_model"}]


def _aliases(path: str) -> list[str]:
    """Names that a checkpoint's list may use for a group of modules kept together here."""
    if path.endswith(".mlp.gate_up_proj"):
        return [path, path.replace("gate_up_proj", "gate_proj"), path.replace("gate_up_proj", "up_proj")]
    if path.endswith((".mlp.experts", ".mlp.shared_experts")):
        inner = ".0" if path.endswith(".mlp.experts") else ""
        return [f"{path}{inner}.{part}" for part in ("gate_proj", "up_proj", "down_proj")] + [path]
    return [path]


def _named_by(path: str, pattern: str) -> bool:
    if pattern.startswith("re:"):
        return any(
            re.match(pattern[3:], candidate)
            for alias in _aliases(path)
            for candidate in (alias, f"model.{alias}", f"model.language_model.{alias}")
        )
    wanted = _segments(pattern)
    if "*" in pattern:
        text = ".".join(wanted)
        return any(fnmatch.fnmatchcase(alias, text) for alias in _aliases(path))
    width = len(wanted)
    for alias in _aliases(path):
        parts = alias.split(".")
        if any(parts[start : start + width] == wanted for start in range(len(parts) - width + 1)):
            return True
    return False


def unconverted(module: Module, quantization: Quantization) -> bool:
    """Whether the checkpoint keeps the module in the original dtype."""
    if quantization.bits >= WIDE_BITS or not module.convertible:
        return True
    return any(_named_by(module.path, pattern) for pattern in quantization.unconverted)


def module_bytes(module: Module, quantization: Quantization) -> float:
    if unconverted(module, quantization):
        return module.parameters * HALF
    packed = module.parameters * quantization.bits / 8
    if quantization.block_shape:
        return packed + 4.0 * module.parameters / math.prod(quantization.block_shape)
    if quantization.group_size:
        scale = 1.0 if quantization.weight_dtype in {"nvfp4", "mxfp4"} else HALF
        zero = quantization.bits / 8 if quantization.zero_point else 0.0
        return packed + (scale + zero) * module.parameters / quantization.group_size
    return packed + 4.0 * module.outputs


def checkpoint_bytes(shape: ModelShape, quantization: Quantization) -> int:
    """The size of the weight files, worked out from the shape."""
    return round(sum(size for _module, size in _sized(shape, quantization)))


@lru_cache(maxsize=256)
def _sized(shape: ModelShape, quantization: Quantization) -> tuple[tuple[Module, float], ...]:
    """Names are matched once for a checkpoint, however often its fit is asked."""
    return tuple((module, module_bytes(module, quantization)) for module in modules(shape))


def heads_per_gpu(kv_heads: int, tensor_parallel: int) -> int:
    return max(1, math.ceil(kv_heads / tensor_parallel))


def _share(module: Module, shape: ModelShape, tensor_parallel: int) -> float:
    if module.share == REPLICATED:
        return 1.0
    if module.share == KV_HEADS:
        return heads_per_gpu(shape.kv_heads, tensor_parallel) / shape.kv_heads
    return 1.0 / tensor_parallel


def layers_per_stage(layers: int, pipeline_parallel: int) -> list[int]:
    """Layers left over go one each to the last stages, as the engine does it."""
    base, left = divmod(layers, pipeline_parallel)
    return [base + (1 if stage >= pipeline_parallel - left else 0) for stage in range(pipeline_parallel)]


def _stage(module: Module, bounds: list[int]) -> int:
    if module.layer is None:
        return 0 if module.path in {"embed_tokens", "visual"} else len(bounds) - 1
    for stage, end in enumerate(bounds):
        if module.layer < end:
            return stage
    return len(bounds) - 1


@lru_cache(maxsize=4096)
def weights_per_gpu(
    shape: ModelShape,
    quantization: Quantization,
    tensor_parallel: int,
    pipeline_parallel: int = 1,
    draft: bool = False,
    weight_bytes: int = 0,
) -> int:
    """Bytes on the fullest GPU; `weight_bytes`, where known, corrects the computed size."""
    bounds, end = [], 0
    for count in layers_per_stage(shape.layers, pipeline_parallel):
        end += count
        bounds.append(end)
    stages = [0.0] * pipeline_parallel
    whole = 0.0
    for module, size in _sized(shape, quantization):
        whole += size
        if module.draft and not draft:
            continue
        stages[_stage(module, bounds)] += size * _share(module, shape, tensor_parallel)
    correction = weight_bytes / whole if weight_bytes else 1.0
    return math.ceil(max(stages) * correction)


def _expert_slice(shape: ModelShape, tensor_parallel: int, expert_parallel: int) -> int:
    return shape.moe_intermediate_size * expert_parallel // tensor_parallel


def _group_left(slice_: int, group: int) -> int:
    """The group that remains when it is halved until it divides the slice; 0 if none does."""
    while group >= SMALLEST_GROUP:
        if slice_ % group == 0:
            return group
        group //= 2
    return 0


def _expert_problems(
    shape: ModelShape, quantization: Quantization, tensor_parallel: int, expert_parallel: int
) -> list[str]:
    width = shape.moe_intermediate_size
    if tensor_parallel % expert_parallel:
        return [f"expert parallelism {expert_parallel} does not divide tensor parallelism {tensor_parallel}"]
    if shape.routed_experts % expert_parallel:
        return [f"{shape.routed_experts} experts cannot be divided by {expert_parallel}"]
    if width * expert_parallel % tensor_parallel:
        return [f"{width} columns of an expert cannot be divided by {tensor_parallel // expert_parallel}"]
    slice_ = _expert_slice(shape, tensor_parallel, expert_parallel)
    start = f"an expert's slice of {slice_} columns ({width} / {tensor_parallel // expert_parallel})"
    if slice_ % TILE:
        return [f"{start} is not a multiple of {TILE}"]
    block = quantization.block_shape
    if block and any(slice_ % size for size in block):
        return [f"{start} is not a multiple of the blocks of {block[0]} that share a scale"]
    group = 0 if block else quantization.group_size
    step = max(group, MARLIN_STEP) if quantization.weight_dtype.startswith("int") else group
    if not group or slice_ % step == 0:
        return []
    if quantization.method in SPLITS_GROUPS and _group_left(slice_, group):
        return []
    if slice_ % group:
        return [f"{start} is not a multiple of the {group} columns of a quantization group"]
    return [f"{start} is not a multiple of the {MARLIN_STEP} columns that the Marlin kernels take"]


def parallel_problems(
    shape: ModelShape,
    tensor_parallel: int,
    pipeline_parallel: int = 1,
    quantization: Quantization | None = None,
    expert_parallel: int = 1,
) -> list[str]:
    """Why the model cannot be divided like this; empty when it can."""
    problems = []
    if shape.attention_heads % tensor_parallel:
        problems.append(f"{shape.attention_heads} attention heads cannot be divided by {tensor_parallel}")
    if shape.attention != "mla" and max(shape.kv_heads, tensor_parallel) % min(
        shape.kv_heads, tensor_parallel
    ):
        problems.append(
            f"{shape.kv_heads} KV heads can neither be divided by {tensor_parallel} nor repeated evenly over it"
        )
    if (not shape.mixture or shape.dense_layers) and shape.intermediate_size % tensor_parallel:
        problems.append(
            f"{shape.intermediate_size} columns of the dense layers cannot be divided by {tensor_parallel}"
        )
    if shape.mixture:
        problems += _expert_problems(shape, quantization or Quantization(), tensor_parallel, expert_parallel)
    if pipeline_parallel > shape.layers:
        problems.append(f"{shape.layers} layers cannot fill {pipeline_parallel} pipeline stages")
    return problems


def parallel_remarks(shape: ModelShape, tensor_parallel: int, quantization: Quantization) -> list[str]:
    """What works, but slower than another division would."""
    if not shape.mixture or not quantization.group_size or quantization.method not in SPLITS_GROUPS:
        return []
    slice_, group = _expert_slice(shape, tensor_parallel, 1), quantization.group_size
    left = _group_left(slice_, group)
    if not left or slice_ % max(group, MARLIN_STEP) == 0:
        return []
    return [
        f"an expert's slice of {slice_} columns does not suit the Marlin kernels with groups of {group}: "
        f"the engine takes its Triton kernels, with groups of {left}"
    ]


def valid_tensor_parallel(
    shape: ModelShape, max_gpus: int, quantization: Quantization | None = None
) -> list[int]:
    return [size for size in range(1, max_gpus + 1) if not parallel_problems(shape, size, 1, quantization)]


def division(
    shape: ModelShape, gpus: int, hosts: int = 1, quantization: Quantization | None = None
) -> tuple[int, int] | None:
    """(tensor, pipeline) sizes for GPUs on hosts: as wide as the shape allows, and stages for the rest.

    On several hosts every GPU gets a rank; on one, GPUs that the widest division leaves over stay idle.
    """
    widths = valid_tensor_parallel(shape, gpus, quantization)
    if hosts == 1:
        return max(widths, default=1), 1
    for width in reversed(widths):
        stages, left = divmod(gpus, width)
        even = hosts % stages == 0 or stages % hosts == 0
        if not left and even and stages <= shape.layers:
            return width, stages
    return None
