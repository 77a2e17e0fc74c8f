# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of a GPU as LightLLM divides it.

The cache takes a fraction of the whole GPU less what is used once the model's own weights are there. Whatever comes
later lies in the rest: draft models, index buffers of each attention backend, graphs, activations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...catalogue.entries import Model
from ...catalogue.shapes import ModelShape
from ...catalogue.sharding import heads_per_gpu, weights_per_gpu

MIB = 1 << 20
HALF = 2
"""Bytes of a value in the cache: MLA keeps it in the model's own 16 bits."""
INDEX = 4
"""Bytes of an entry of an index buffer, of the request table and of the penalty counters."""
BUFFERS = 2
"""Index buffers of a backend: one for each of two batches that may overlap."""
FLASHINFER_WORKSPACE = 256 * MIB
LENGTH_PADDING = 8
"""Tokens that the engine adds to max_req_total_len."""
STARTED_BYTES = 1_310_000_000
"""CUDA's context and libraries before the cache is sized; measured on an H200."""
GRAPH_BYTES_PER_SIZE = 24 * MIB
"""Of one captured batch size; an estimate, no run has isolated it."""
ACTIVATION_BYTES_PER_TOKEN = 200_000
"""Of one prefill step; an estimate with room: expanded keys and values of MLA come on top."""
DEFAULT_FRACTION = 0.8
"""The engine's own; seen serving."""
MOST_FRACTION = 0.92
DRAFT_LAYERS = {"eagle_with_att": 1}
"""Drafts by mode; every other mode has one for each step."""
BATCH_TOKENS = 16384
"""batch_max_tokens when nobody says it."""


@dataclass(frozen=True)
class Demand:
    """What decides the memory, all of one GPU."""

    model: Model
    usable: int
    tensor: int
    length: int
    requests: int
    graph: int
    """graph_max_batch_size; 0 without graphs."""
    graph_split: int
    graph_step: int
    mode: str
    steps: int
    backends: tuple[str, ...]
    """Of prefill and of decode: each is made anew, even where both are the same."""
    batch_tokens: int = BATCH_TOKENS
    counters: bool = True
    """penalty_counter_mode gpu_counter."""


def drafts(mode: str, steps: int) -> int:
    return DRAFT_LAYERS.get(mode, steps) if mode else 0


def kv_bytes_per_token(shape: ModelShape, tensor: int, mode: str = "", steps: int = 0) -> int:
    """MLA keeps the whole of a token on every GPU; drafts with attention add their layers."""
    layers = shape.layers + (drafts(mode, steps) if mode.endswith("_with_att") else 0)
    if shape.attention == "mla":
        return (shape.kv_lora_rank + shape.qk_rope_head_dim) * HALF * layers
    return 2 * heads_per_gpu(shape.kv_heads, tensor) * shape.head_dim * HALF * layers


def graph_sizes(graph: int, split: int, step: int) -> int:
    """How many batch sizes are captured for one model."""
    if not graph:
        return 0
    return min(split, graph) + max(0, math.ceil((graph - split) / step))


def index_bytes(demand: Demand) -> int:
    """Of the backends of one model: rows of graphs times the length of a request."""
    rows = demand.graph * (demand.steps + 1)
    total = 0
    for backend in demand.backends:
        if backend in ("fa3", "flashinfer"):
            total += BUFFERS * rows * (demand.length + LENGTH_PADDING) * INDEX
        if backend == "flashinfer":
            total += FLASHINFER_WORKSPACE
    return total


def parts(demand: Demand) -> dict[str, int]:
    """Bytes of everything but the cache."""
    shape, model = demand.model.shape, demand.model
    count = drafts(demand.mode, demand.steps)

    def weights(draft: bool) -> int:
        return weights_per_gpu(shape, model.quantization, demand.tensor, 1, draft, model.weight_bytes)

    main = weights(False)
    one = weights(True) - main if count else 0
    # A draft reads embeddings of its own, and then takes the model's.
    own = 2 * shape.vocab_size * shape.hidden_size * HALF // demand.tensor if shape.mtp_own_embeddings else 0
    own = min(own, one)
    rows = demand.requests + 1
    table = rows * max(demand.length + LENGTH_PADDING, demand.batch_tokens) * INDEX
    counters = rows * shape.vocab_size * INDEX if demand.counters else 0
    sizes = graph_sizes(demand.graph, demand.graph_split, demand.graph_step)
    expanded = 0
    if shape.attention == "mla":
        # A prefill step expands what is cached of its requests into keys and values of every head.
        heads = math.ceil(shape.attention_heads / demand.tensor)
        value = shape.v_head_dim or shape.head_dim
        expanded = demand.length * heads * (shape.head_dim + value) * HALF
    return {
        "weights": main,
        "draft": (one - own) * count + own,
        "started": STARTED_BYTES,
        "table": table + counters,
        "index": index_bytes(demand) * (1 + count),
        "graphs": sizes * GRAPH_BYTES_PER_SIZE * (1 + count),
        "activations": demand.batch_tokens * ACTIVATION_BYTES_PER_TOKEN + expanded,
    }


@dataclass(frozen=True)
class Fit:
    fraction: float
    parts: Mapping[str, int]
    pool: int
    """Bytes of the cache."""
    per_token: int
    rest: int
    """What the fraction leaves to all that comes after the cache."""
    needed: int
    """Of the rest."""
    usable: int

    @property
    def tokens(self) -> int:
        return max(0, self.pool // self.per_token)

    @property
    def left(self) -> int:
        return self.rest - self.needed

    def fits(self, length: int) -> bool:
        """The engine ends at start where a full request does not fit the cache."""
        return self.left >= 0 and self.tokens >= length + LENGTH_PADDING

    def lines(self, length: int) -> list[str]:
        giga = {key: f"{value / 1e9:.1f} GB" for key, value in self.parts.items()}
        return [
            f"{self.usable / 1e9:.1f} GB x {self.fraction:g}: weights {giga['weights']}, tables {giga['table']}, "
            f"context {giga['started']}, cache {max(self.pool, 0) / 1e9:.1f} GB = {self.tokens:,} tokens of "
            f"{self.per_token:,} bytes; {length:,} are asked for",
            f"the rest {self.rest / 1e9:.1f} GB: drafts {giga['draft']}, index buffers {giga['index']}, "
            f"graphs {giga['graphs']}, activations {giga['activations']}",
        ]


def fit(demand: Demand, fraction: float) -> Fit:
    found = parts(demand)
    before = found["weights"] + found["started"] + found["table"]
    after = found["draft"] + found["index"] + found["graphs"] + found["activations"]
    return Fit(
        fraction=fraction,
        parts=found,
        pool=int(demand.usable * fraction) - before,
        per_token=kv_bytes_per_token(demand.model.shape, demand.tensor, demand.mode, demand.steps),
        rest=int(demand.usable * (1 - fraction)),
        needed=after,
        usable=demand.usable,
    )


def best(demand: Demand) -> Fit:
    """The engine's own fraction where it holds everything; less where the rest needs more, more where the cache does."""
    made = fit(demand, DEFAULT_FRACTION)
    if made.fits(demand.length):
        return made
    most = math.floor((1 - made.needed / max(demand.usable, 1)) * 100) / 100
    return fit(demand, max(0.01, min(MOST_FRACTION, most)))


def to_dict(made: Fit) -> dict[str, Any]:
    """In the keys that the house shows."""
    found = made.parts
    return {
        "usable_bytes": made.usable,
        "weights_bytes": found["weights"],
        "draft_bytes": found["draft"],
        "kv_bytes": made.pool,
        "kv_bytes_per_token": made.per_token,
        "table_bytes": found["table"],
        "graph_bytes": found["graphs"],
        "index_bytes": found["index"],
        "workspace_bytes": found["started"],
        "activation_bytes": found["activations"],
        "left_bytes": made.left,
        "reserve_bytes": made.rest,
        "fraction": made.fraction,
    }
