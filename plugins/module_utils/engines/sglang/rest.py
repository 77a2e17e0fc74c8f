# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engine takes of a GPU beside weights and cache: request table, graphs, index buffers, workspace."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...catalogue.entries import Release
from ...catalogue.shapes import ModelShape
from ...catalogue.sharding import heads_per_gpu

MIB = 1 << 20
TRITON_SPLITS = 8
"""Parts that a long sequence is divided into; the engine's own number."""
INDEX_BYTES = 4
"""An entry of the request table."""
TABLE_PADDING = 4
"""Entries that each row has beside the context and the draft tokens."""
PIECE = 2
"""Bytes of an activation."""

# The engine's own lists of sizes, as (first, last, step).
DECODE_SIZES = ((16, 256, 8), (272, 511, 16), (512, 1 << 20, 32))
DRAFT_SIZES = ((1, 8, 1), (10, 32, 2), (40, 64, 4), (72, 256, 8), (272, 1 << 20, 16))
PREFILL_SIZES = (
    (4, 32, 4),
    (48, 256, 16),
    (288, 512, 32),
    (576, 1024, 64),
    (1280, 4096, 256),
    (4608, 1 << 20, 512),
)
SMALLEST_DECODE = (1, 2, 4, 8, 12)
FEWEST_REQUESTS, MOST_REQUESTS, REQUESTS_OF_A_CONTEXT = 2048, 4096, 512
"""The engine takes so many requests of each full context that its cache holds, within these bounds."""


@dataclass(frozen=True)
class EngineMemory:
    """What one release takes; the figures that are measured stand in files/engines/sglang/releases."""

    draft_in_static: bool = False
    """Draft weights and draft cache share the static part with the model's own."""
    prefill_graphs: bool = False
    prefill_graphs_draft: bool = False
    """Also with speculative decoding."""
    prefill_graphs_stages: bool = False
    """Also with pipeline stages."""
    prefill_graphs_latent: int = 0
    """Largest size with MLA; 0: none."""
    requests_draft: int = 48
    """Running requests that the engine takes with a draft when told nothing."""
    prefill_mib_per_size: float = 8.0
    decode_mib_per_size: float = 1.8
    workspace_mib: float = 410.0
    """Libraries, sampling and what the first requests leave behind."""
    activation_scale: dict[str, float] = field(default_factory=dict, hash=False)
    """Attention backend -> measured activations of a token as a multiple of the computed ones."""
    backend_workspace_mib: dict[str, float] = field(default_factory=dict, hash=False)


def of_release(release: Release) -> EngineMemory:
    found = release.memory
    return found if isinstance(found, EngineMemory) else EngineMemory()


@dataclass(frozen=True)
class Load:
    """What the engine is told to keep ready."""

    tensor_parallel: int
    pipeline_parallel: int
    context: int
    requests: int
    chunk: int
    graph_batch: int
    attention: str = ""
    draft_steps: int = 0
    draft_tokens: int = 0


@dataclass(frozen=True)
class Rest:
    """Bytes of one GPU."""

    table: int
    decode_graphs: int
    prefill_graphs: int
    workspace: int
    activations: int

    @property
    def fixed(self) -> int:
        """Taken before the first request."""
        return self.table + self.decode_graphs + self.prefill_graphs + self.workspace

    @property
    def whole(self) -> int:
        return self.fixed + self.activations


def rest_of(shape: ModelShape, engine: EngineMemory, load: Load) -> Rest:
    piece = activation_bytes(shape, engine, load)
    return Rest(
        table=(load.requests + 1) * (load.context + TABLE_PADDING + load.draft_tokens) * INDEX_BYTES,
        decode_graphs=_decode_graphs(shape, engine, load, piece),
        prefill_graphs=_prefill_graphs(shape, engine, load, piece),
        workspace=round((engine.workspace_mib + engine.backend_workspace_mib.get(load.attention, 0.0)) * MIB),
        activations=round(piece * load.chunk),
    )


def automatic_requests(tokens: int, context: int) -> int:
    """Running requests that the engine takes when told nothing."""
    found = int(tokens / max(1, context) * REQUESTS_OF_A_CONTEXT)
    return min(max(min(found, MOST_REQUESTS), FEWEST_REQUESTS), tokens // 2)


def activation_bytes(shape: ModelShape, engine: EngineMemory, load: Load) -> float:
    """Bytes that one token of a prefill step needs at the fullest moment.

    The parts of attention and of the experts add up: a graph's pool gives back what a layer used, but not in one
    piece that is large enough for the next part.
    """
    tensor = load.tensor_parallel
    heads = max(1, shape.attention_heads // tensor)
    value = shape.v_head_dim or shape.head_dim
    hidden = 4 * shape.hidden_size * PIECE
    queries = heads * shape.head_dim + 2 * heads_per_gpu(shape.kv_heads, tensor) * shape.head_dim
    attention = 2 * queries * PIECE + heads * value * (PIECE + 1)
    if shape.mixture:
        each = max(2 * shape.moe_intermediate_size // tensor, shape.hidden_size)
        inner = (shape.experts_per_token + shape.shared_experts) * each * PIECE
    else:
        inner = 3 * shape.intermediate_size // tensor * PIECE
    return (hidden + attention + inner) * engine.activation_scale.get(load.attention, 1.0)


def decode_sizes(largest: int, draft: bool = False) -> list[int]:
    """Batch sizes that the engine makes decode graphs for."""
    found = list(SMALLEST_DECODE) if not draft else []
    return _sizes(found, DRAFT_SIZES if draft else DECODE_SIZES, largest, close=True)


def prefill_sizes(largest: int) -> list[int]:
    """Numbers of tokens that the engine makes prefill graphs for."""
    return _sizes([], PREFILL_SIZES, largest, close=False)


def _sizes(
    found: list[int], ranges: tuple[tuple[int, int, int], ...], largest: int, close: bool
) -> list[int]:
    for first, last, step in ranges:
        found += range(first, min(last, largest) + 1, step)
    found = [size for size in found if size <= largest]
    return found if not close or largest in found else [*found, largest]


def _decode_graphs(shape: ModelShape, engine: EngineMemory, load: Load, piece: float) -> int:
    tokens = load.graph_batch * max(1, load.draft_tokens)
    own = len(decode_sizes(load.graph_batch, bool(load.draft_tokens))) * engine.decode_mib_per_size * MIB
    heads = tokens * shape.vocab_size / load.tensor_parallel * PIECE
    return round(own + heads + tokens * piece + _indices(shape, load))


def _indices(shape: ModelShape, load: Load) -> float:
    """Buffers of the attention backend that hold the places of every token of every request of a graph."""
    rows, width = load.graph_batch, load.context + TABLE_PADDING
    tokens = rows * max(1, load.draft_tokens)
    steps = load.draft_steps
    if load.attention == "fa3":
        # Decode; and with a draft also verify and extend, for the model, for the draft, for each step but the last.
        return rows * width * INDEX_BYTES * (3 * (1 + steps) if steps else 1)
    if load.attention == "triton":
        heads = max(1, shape.attention_heads // load.tensor_parallel)
        value = shape.kv_lora_rank or shape.v_head_dim or shape.head_dim
        splits = TRITON_SPLITS * tokens * heads * (value + 1) * 4
        return tokens * width * 8 + splits + steps * rows * width * 8
    # FlashInfer: places, and a mask of one byte each.
    return tokens * width * (INDEX_BYTES + 1) + steps * rows * width * INDEX_BYTES


def _prefill_graphs(shape: ModelShape, engine: EngineMemory, load: Load, piece: float) -> int:
    largest = load.chunk
    if shape.attention == "mla":
        largest = min(largest, engine.prefill_graphs_latent)
    off = (
        not engine.prefill_graphs
        or shape.vision
        or (load.draft_tokens and not engine.prefill_graphs_draft)
        or (load.pipeline_parallel > 1 and not engine.prefill_graphs_stages)
    )
    sizes = [] if off else prefill_sizes(largest)
    return round(len(sizes) * engine.prefill_mib_per_size * MIB + piece * max(sizes, default=0))
