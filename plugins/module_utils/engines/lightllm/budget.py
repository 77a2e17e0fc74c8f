# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The context that fits, and the memory fraction for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...catalogue.entries import Hardware
from ...core.refusals import Advice, Refusal
from ...planner.arguments import Arguments
from ...planner.case import Case
from . import memory
from .memory import Demand, Fit
from .settings import TYPED_KEYS, backend, whole

MIB = 1 << 20
STEP = 1024
LEAST = 4096
TIGHT = 1.25


@dataclass(frozen=True)
class Budget:
    case: Case
    memory: dict[str, Any]
    context: dict[str, Any]
    refusals: Sequence[Refusal] = ()
    advice: Sequence[Advice] = ()


def usable_bytes(case: Case) -> int:
    hardware: Hardware = case.hardware
    if hardware.unified_memory:
        total = int(case.head.memory_gib * 1024) if case.head.memory_gib else hardware.memory_mib
        return max(0, total - hardware.os_reserve_mib) * MIB
    mine = case.parallel.gpus.get(case.head.host, ())
    told = [gpu.memory_mib for gpu in case.head.gpus if gpu.index in mine and gpu.memory_mib]
    return max(0, min(told, default=hardware.memory_mib) - hardware.driver_reserve_mib) * MIB


def demand_of(case: Case, length: int) -> Demand:
    def number(flag: str, otherwise: int) -> int:
        return whole(case.value(flag)) or otherwise

    return Demand(
        model=case.model,
        usable=usable_bytes(case),
        tensor=case.parallel.tensor,
        length=length,
        requests=number("running_max_req_size", 256),
        graph=0 if case.value("disable_cudagraph") else number("graph_max_batch_size", 256),
        graph_split=number("graph_split_batch_size", 32),
        graph_step=number("graph_grow_step_size", 16),
        mode=str(case.value("mtp_mode") or ""),
        steps=whole(case.value("mtp_step")) or 0,
        backends=tuple(
            backend(case.value(flag) or "triton")
            for flag in ("llm_prefill_att_backend", "llm_decode_att_backend")
        ),
        batch_tokens=number("batch_max_tokens", memory.BATCH_TOKENS),
        counters=case.value("penalty_counter_mode") in (None, "gpu_counter"),
    )


def assess(case: Case) -> Budget:
    most = case.model.shape.max_context
    asked = case.instance.context_length
    length = min(asked or most, most)
    if asked is not None and asked > most:
        return Budget(case, {}, {"length": most, "of_model": most, "tokens": 0}, [_too_long(case, most)])
    chosen = case.instance.memory_fraction
    made = _fit(case, length, chosen)
    refusals: list[Refusal] = []
    why = "the model's own, and it fits"
    if not made.fits(length) and asked is None:
        length, made = _longest(case, most, chosen)
        why = f"longest that fits; the model's own is {most:,}"
    if not made.fits(length) or length < min(LEAST, most):
        refusals.append(_refusal(case, made, length))
    found = Arguments(case)
    found.put("max_req_total_len", length, why)
    found.put("mem_fraction", made.fraction, _fraction_words(made))
    found.put_asked(TYPED_KEYS)
    full = made.tokens / length if length else 0.0
    advice = []
    if not refusals and full < TIGHT:
        advice.append(
            Advice(
                "memory-tight",
                case.head.host,
                f"serve.{case.instance.name}.context_length = {length}",
                f"{full:.1f} full-length requests at once: others wait",
            )
        )
    context = {
        "length": length,
        "of_model": most,
        "tokens": made.tokens,
        "full_length_requests": round(full, 1),
    }
    return Budget(
        replace(case, arguments=found.found),
        {**memory.to_dict(made), "arithmetic": made.lines(length)},
        context,
        refusals,
        advice,
    )


def _fit(case: Case, length: int, fraction: float | None) -> Fit:
    demand = demand_of(case, length)
    return memory.best(demand) if fraction is None else memory.fit(demand, fraction)


def _longest(case: Case, most: int, fraction: float | None) -> tuple[int, Fit]:
    """By halves: a longer request needs more of everything."""
    low, high = 1, most // STEP
    while low < high:
        middle = (low + high + 1) // 2
        if _fit(case, middle * STEP, fraction).fits(middle * STEP):
            low = middle
        else:
            high = middle - 1
    length = low * STEP
    return length, _fit(case, length, fraction)


def _fraction_words(made: Fit) -> str:
    if made.fraction == memory.DEFAULT_FRACTION:
        return "the engine's own, and everything fits"
    if made.fraction < memory.DEFAULT_FRACTION:
        return f"leaves {made.needed / 1e9:.1f} GB for drafts, index buffers, graphs and activations"
    return "the cache must hold one request of full length, and the rest fits beside it"


def _too_long(case: Case, most: int) -> Refusal:
    return Refusal(
        "context-too-long",
        case.head.host,
        case.instance.where("context_length"),
        f"{case.model.key} was made for {most:,} tokens",
        f"use context_length: {most}, or leave it out for the longest that fits",
    )


def _refusal(case: Case, made: Fit, length: int) -> Refusal:
    instance = case.instance
    where = instance.where("context_length" if instance.context_length is not None else "model")
    offers = []
    if instance.memory_fraction is not None and _fit(case, length, None).fits(length):
        where = instance.where("memory_fraction")
        offers.append(f"memory_fraction: {_fit(case, length, None).fraction:g}, or leave it out")
    graph = demand_of(case, length).graph
    if graph > 1 and made.left < 0:
        smaller = next(
            (size for size in (256, 128, 64, 32, 16) if size < graph and _fits_with(case, length, size)), 0
        )
        if smaller:
            offers.append(f"graph_max_batch_size: {smaller} in options")
    longest, fits = _longest(case, case.model.shape.max_context, instance.memory_fraction)
    if fits.fits(longest) and longest < length:
        offers.append(f"context_length: {longest}")
    if demand_of(case, length).mode:
        offers.append("speculative: false")
    return Refusal(
        "does-not-fit",
        case.head.host,
        where,
        "does not fit:" + "".join(f"\n    {line}" for line in made.lines(length)),
        "use " + ", or ".join(offers)
        if offers
        else "use more GPUs (tensor_parallel), or a smaller checkpoint",
    )


def _fits_with(case: Case, length: int, graph: int) -> bool:
    demand = replace(demand_of(case, length), graph=graph)
    fraction = case.instance.memory_fraction
    made = memory.best(demand) if fraction is None else memory.fit(demand, fraction)
    return made.fits(length)
