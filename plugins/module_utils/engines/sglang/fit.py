# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a model fits, how much context that leaves, and what would fit instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from ...catalogue.entries import Model
from ...catalogue.memory import CONTEXT_BYTES, GpuMemory, kv_bytes_per_token, largest_stage
from ...catalogue.shapes import ModelShape, Quantization
from ...catalogue.sharding import parallel_problems, weights_per_gpu
from .automatic import automatic_fraction, automatic_sizes
from .rest import EngineMemory, Load, Rest, automatic_requests, rest_of

LEAST_CONTEXT = 4096
"""A shorter context than this is not worth proposing."""
CONTEXT_STEP = 1024
TIGHT = 1.25
"""Fewer full-length requests at once than this is tight."""
GIGA = 1e9


@dataclass(frozen=True)
class Demand:
    """A model on GPUs of one kind, and what is asked of it."""

    shape: ModelShape
    quantization: Quantization
    weight_bytes: int
    """0: computed from the shape."""
    memory: GpuMemory
    tensor_parallel: int
    pipeline_parallel: int = 1
    memory_fraction: float | None = None
    """None: what the engine would take by itself, or the catalogue's figure on unified memory."""
    context_length: int | None = None
    """None: the model's own."""
    kv_dtype: str = ""
    draft: bool = False
    chunked_prefill: int | None = None
    graph_batch: int | None = None
    engine: EngineMemory = field(default_factory=EngineMemory)
    requests: int | None = None
    """Running requests; None: what the engine would take."""
    attention: str = ""
    """Attention backend."""
    draft_steps: int = 0
    draft_tokens: int = 0


@dataclass(frozen=True)
class Fit:
    """Bytes are of one GPU, the fullest where they differ."""

    usable_bytes: int
    weights_per_gpu: int
    """With the draft layers where they are used."""
    draft_weights_per_gpu: int
    draft_in_static: bool
    """The draft shares the static part; otherwise it lies in the rest."""
    kv_bytes_per_token_per_gpu: float
    draft_kv_bytes_per_token_per_gpu: float
    memory_fraction: float
    static_bytes: int
    """For weights and cache."""
    reserve_bytes: int
    """The rest: activations, graphs, the draft, communication."""
    rest: Rest
    """What of the rest is spoken for."""
    left_bytes: int
    """Of the rest once everything is in place, for activations; below 0 the engine cannot start."""
    kv_pool_bytes: int
    max_tokens: int
    context: int
    """Asked for, or the model's own."""
    longest_context: int
    full_length_requests: float
    weights_fit: bool
    fits: bool
    tight: bool
    arithmetic: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def graph_bytes(self) -> int:
        return self.rest.decode_graphs + self.rest.prefill_graphs


@dataclass(frozen=True)
class Candidate:
    """Something near to what was asked for that fits."""

    kind: str
    """context, quantization or gpus."""
    model: str
    tensor_parallel: int
    pipeline_parallel: int
    context: int
    fit: Fit

    def __str__(self) -> str:
        if self.kind == "context":
            return f"{self.model} with context_length {self.context:,}"
        if self.kind == "gpus":
            return f"{self.tensor_parallel * self.pipeline_parallel} GPUs (context {self.context:,})"
        return f"{self.model} (context {self.context:,})"


def demand_of(model: Model, memory: GpuMemory, tensor_parallel: int, pipeline_parallel: int = 1) -> Demand:
    return Demand(
        shape=model.shape,
        quantization=model.quantization,
        weight_bytes=model.weight_bytes,
        memory=memory,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
    )


def gigabytes(count: float) -> str:
    return f"{count / GIGA:.1f} GB"


def fit(demand: Demand) -> Fit:
    """Memory as the engine divides it: weights and cache share the static part, the draft lives in the rest."""
    shape, memory = demand.shape, demand.memory
    tensor, pipeline = demand.tensor_parallel, demand.pipeline_parallel
    draft = demand.draft and shape.mtp_layers > 0
    chunk, batch = automatic_sizes(memory.total_mib, tensor)
    chunk, batch = demand.chunked_prefill or chunk, demand.graph_batch or batch
    usable = memory.usable_bytes
    main = _weights(demand, draft=False)
    whole = _weights(demand, draft=draft)
    layers = largest_stage(shape.layers, pipeline)
    per_token = kv_bytes_per_token(shape, tensor, demand.kv_dtype, layers)
    draft_token = kv_bytes_per_token(shape, tensor, demand.kv_dtype, shape.mtp_layers) if draft else 0.0
    overhead = CONTEXT_BYTES if memory.device == "cuda" else 0
    context = demand.context_length or shape.max_context
    shared = draft and demand.engine.draft_in_static
    loaded, each = (whole, per_token + draft_token) if shared else (main, per_token)
    beside = 0 if shared else whole - main
    fraction = demand.memory_fraction
    if fraction is None:
        fraction = automatic_fraction(memory, tensor, pipeline, chunk, batch, draft, shape.vision)
    rest = _rest(demand, chunk, batch, draft, fraction, loaded + overhead, each)
    if demand.memory_fraction is None and memory.device == "cuda":
        # The draft's cache lies beside the static part of older releases, and grows with it.
        share = 0.0 if shared else draft_token / per_token
        room = (usable - rest.whole - beside + share * (loaded + overhead)) / (1 + share)
        fraction = min(fraction, max(0.0, math.floor(room / usable * 1000) / 1000))
    static = int(usable * fraction)
    reserve = usable - static
    pool = max(0, static - loaded - overhead)
    tokens = int(pool / each)
    draft_bytes = beside + (0 if shared else math.ceil(tokens * draft_token))
    draft_fits = reserve >= draft_bytes
    left = reserve - draft_bytes - (rest.fixed if memory.device == "cuda" else 0)
    weights_fit = pool > 0 and draft_fits
    fits = weights_fit and left >= 0 and tokens >= context
    made = Fit(
        usable_bytes=usable,
        weights_per_gpu=whole,
        draft_weights_per_gpu=whole - main,
        draft_in_static=shared,
        kv_bytes_per_token_per_gpu=per_token,
        draft_kv_bytes_per_token_per_gpu=draft_token,
        memory_fraction=fraction,
        static_bytes=static,
        reserve_bytes=reserve,
        rest=rest,
        left_bytes=left,
        kv_pool_bytes=pool,
        max_tokens=tokens,
        context=context,
        longest_context=min(shape.max_context, tokens),
        full_length_requests=tokens / context,
        weights_fit=weights_fit,
        fits=fits,
        tight=fits and tokens / context < TIGHT,
        arithmetic=(),
        warnings=_warnings(demand, fraction, left, rest.activations, draft_fits),
    )
    return replace(made, arithmetic=_arithmetic(demand, made, draft))


def _rest(
    demand: Demand, chunk: int, batch: int, draft: bool, fraction: float, loaded: int, each: float
) -> Rest:
    context = demand.context_length or demand.shape.max_context
    requests = demand.requests
    if requests is None:
        tokens = int(max(0.0, demand.memory.usable_bytes * fraction - loaded) / each)
        requests = demand.engine.requests_draft if draft else automatic_requests(tokens, context)
    load = Load(
        tensor_parallel=demand.tensor_parallel,
        pipeline_parallel=demand.pipeline_parallel,
        context=context,
        requests=requests,
        chunk=chunk,
        graph_batch=min(batch, max(1, requests)),
        attention=demand.attention,
        draft_steps=demand.draft_steps if draft else 0,
        draft_tokens=demand.draft_tokens if draft else 0,
    )
    return rest_of(demand.shape, demand.engine, load)


def _weights(demand: Demand, draft: bool) -> int:
    return weights_per_gpu(
        demand.shape,
        demand.quantization,
        demand.tensor_parallel,
        demand.pipeline_parallel,
        draft,
        demand.weight_bytes,
    )


def _warnings(
    demand: Demand, fraction: float, left: int, activations: int, draft_fits: bool
) -> tuple[str, ...]:
    found = []
    highest = demand.memory.fraction_max
    if demand.memory.unified and highest and fraction > highest:
        found.append(
            f"memory fraction {fraction} is above {highest}: processor and GPU share this memory, "
            "and a host that runs out freezes"
        )
    if not draft_fits:
        found.append(f"the draft layers do not fit beside the static {fraction:.0%}")
    elif demand.memory.device == "cuda" and 0 <= left < activations:
        found.append(
            f"only {gigabytes(left)} are left for a prefill step, which takes up to {gigabytes(activations)}"
        )
    return tuple(found)


def _arithmetic(demand: Demand, made: Fit, draft: bool) -> tuple[str, ...]:
    memory = demand.memory
    gpus = demand.tensor_parallel * demand.pipeline_parallel
    layout = f"TP {demand.tensor_parallel}"
    if demand.pipeline_parallel > 1:
        layout += f", PP {demand.pipeline_parallel}"
    kept = []
    if memory.driver_reserve_mib:
        kept.append(f"{memory.driver_reserve_mib:,} MiB of the driver")
    if memory.os_reserve_mib:
        kept.append(f"{memory.os_reserve_mib:,} MiB for the operating system")
    less = f" less {' and '.join(kept)}" if kept else ""
    lines = [
        f"weights {gigabytes(made.weights_per_gpu)} a GPU: {gigabytes(demand.weight_bytes or made.weights_per_gpu * gpus)}"
        f" over {gpus} GPU{'s' if gpus > 1 else ''} ({layout})",
        f"a GPU has {gigabytes(made.usable_bytes)} ({memory.total_mib:,} MiB{less})",
        f"static part {made.memory_fraction:g} of it = {gigabytes(made.static_bytes)}, "
        f"rest {gigabytes(made.reserve_bytes)} for activations, graphs and communication",
    ]
    if memory.device == "cuda":
        rest = made.rest
        lines.append(
            f"of the rest: request table {gigabytes(rest.table)}, decode graphs {gigabytes(rest.decode_graphs)}, "
            f"prefill graphs {gigabytes(rest.prefill_graphs)}, libraries {gigabytes(rest.workspace)}"
        )
        if made.left_bytes < 0:
            lines.append(f"these are {gigabytes(-made.left_bytes)} more than the rest")
    if draft and made.draft_in_static:
        lines.append(
            f"draft layers take {gigabytes(made.draft_weights_per_gpu)} of weights and "
            f"{made.draft_kv_bytes_per_token_per_gpu:,.0f} bytes a token out of the static part"
        )
    elif draft:
        lines.append(
            f"draft layers take {gigabytes(made.draft_weights_per_gpu)} of weights and "
            f"{made.draft_kv_bytes_per_token_per_gpu:,.0f} bytes a token out of the rest"
        )
    main = made.weights_per_gpu - (0 if made.draft_in_static else made.draft_weights_per_gpu)
    if not made.kv_pool_bytes:
        lines.append(f"weights alone are {gigabytes(main - made.static_bytes)} more than the static part")
        return tuple(lines)
    each = made.kv_bytes_per_token_per_gpu
    each += made.draft_kv_bytes_per_token_per_gpu if made.draft_in_static else 0
    lines.append(
        f"cache {gigabytes(made.static_bytes)} - {gigabytes(main)} = {gigabytes(made.kv_pool_bytes)}; "
        f"{each:,.0f} bytes a token = {made.max_tokens:,} tokens"
    )
    verb = "holds" if made.max_tokens >= made.context else "is too little for"
    lines.append(
        f"that {verb} a context of {made.context:,} ({made.full_length_requests:.1f} full-length requests)"
    )
    return tuple(lines)


def nearest_fits(
    demand: Demand,
    model: Model,
    models: Mapping[str, Model],
    gpu_counts: Iterable[int] = (),
    supported: Callable[[Model], bool] = lambda model: True,
    divided: Callable[[Model, int], tuple[int, int] | None] | None = None,
) -> list[Candidate]:
    """What fits instead: a shorter context, then other members of the family, then more GPUs.

    `divided` gives the (tensor, pipeline) sizes that a model would get on a number of GPUs; without it
    other members keep the sizes of the demand.
    """
    found = _shorter(demand, model)
    others = sorted(
        (other for other in models.values() if other.family == model.family and other.key != model.key),
        key=lambda other: -other.weight_bytes,
    )
    gpus = demand.tensor_parallel * demand.pipeline_parallel
    for other in others:
        sizes_of_other = (
            divided(other, gpus) if divided else (demand.tensor_parallel, demand.pipeline_parallel)
        )
        if not supported(other) or sizes_of_other is None:
            continue
        tried = replace(
            demand,
            tensor_parallel=sizes_of_other[0],
            pipeline_parallel=sizes_of_other[1],
            shape=other.shape,
            quantization=other.quantization,
            weight_bytes=other.weight_bytes,
            draft=demand.draft and bool(other.speculative),
        )
        found += _candidate("quantization", other, tried)
    for count in sorted(gpu_counts):
        wider = divided(model, count) if divided else _widened(demand, count)
        if count <= gpus or wider is None or wider[0] * wider[1] != count:
            continue
        more = _candidate(
            "gpus", model, replace(demand, tensor_parallel=wider[0], pipeline_parallel=wider[1])
        )
        if more:
            return found + more
    return found


def _widened(demand: Demand, gpus: int) -> tuple[int, int]:
    """Tensor parallel over all of them where the shape allows it, otherwise more pipeline stages."""
    if not parallel_problems(demand.shape, gpus, 1, demand.quantization):
        return gpus, 1
    return demand.tensor_parallel, max(1, gpus // demand.tensor_parallel)


def draft_costs_too_much(with_draft: int, without: int) -> bool:
    """A draft makes tokens faster; it is not worth more than half of the context."""
    return without > 2 * with_draft


def _without_greedy_draft(demand: Demand) -> Demand:
    """The same without its draft, where the draft leaves less than half of the context."""
    plain = replace(demand, draft=False)
    if not demand.draft or demand.shape.mtp_layers == 0:
        return plain
    made, other = fit(demand), fit(plain)
    if not made.weights_fit or (demand.context_length and not made.fits):
        return plain
    return plain if draft_costs_too_much(made.longest_context, other.longest_context) else demand


def _rounded(context: int) -> int:
    return context // CONTEXT_STEP * CONTEXT_STEP


def _shorter(demand: Demand, model: Model) -> list[Candidate]:
    made = fit(_without_greedy_draft(demand))
    context = _rounded(made.longest_context)
    if made.fits or not made.weights_fit or context < LEAST_CONTEXT:
        return []
    return _candidate("context", model, replace(demand, context_length=context))


def _candidate(kind: str, model: Model, demand: Demand) -> list[Candidate]:
    if parallel_problems(demand.shape, demand.tensor_parallel, demand.pipeline_parallel, demand.quantization):
        return []
    made = fit(_without_greedy_draft(demand))
    wanted = min(made.context, demand.shape.max_context)
    context = wanted if made.longest_context >= wanted else _rounded(made.longest_context)
    if not made.weights_fit or context < min(LEAST_CONTEXT, wanted):
        return []
    return [Candidate(kind, model.key, demand.tensor_parallel, demand.pipeline_parallel, context, made)]
