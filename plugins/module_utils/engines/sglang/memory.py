# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of one GPU: what the weights leave, the context that fits, the fraction the engine may take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ...core.refusals import Advice, Refusal
from ...planner.arguments import Arguments
from ...planner.case import Case
from .alternatives import nearest
from .demand import demand_of_case, fitted, whole
from .fit import Demand, Fit

STEP = 1024


@dataclass(frozen=True)
class Budget:
    case: Case
    """With context-length and mem-fraction-static set."""
    memory: dict[str, Any]
    context: dict[str, Any]
    refusals: list[Refusal] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    shortened: bool = False
    """The context is shorter than the model's own, though nobody asked for it."""


def assess(case: Case) -> Budget:
    """Sets what memory decides; refuses what does not fit, with the nearest that does."""
    if case.device == "cpu":
        return _on_cpu(case)
    demand = demand_of_case(case)
    refusals: list[Refusal] = []
    if (demand.context_length or 0) > case.model.shape.max_context:
        refusals.append(_too_long(case))
        demand = replace(demand, context_length=case.model.shape.max_context)
    made = fitted(demand)
    found = Arguments(case)
    if case.value("mem-fraction-static") is None and "mem-fraction-static" not in case.instance.options:
        found.put("mem-fraction-static", round(made.memory_fraction, 3), _fraction_words(case, made))
    length = case.instance.context_length or made.context
    if case.instance.context_length is None and made.weights_fit and not made.fits:
        # Nobody asked for the model's own context: take what fits and say so.
        length = made.longest_context // STEP * STEP
        demand = replace(demand, context_length=length)
        made = fitted(demand)
        why = f"longest that fits; the model's own is {case.model.shape.max_context:,}"
    else:
        why = "the model's own, and it fits"
    if not made.fits or length < STEP:
        refusals.append(_refusal(case, demand, made))
    if case.instance.context_length is None:
        found.put("context-length", length, why)
    advice = [
        Advice("memory", case.head.host, f"serve.{case.instance.name}", warning) for warning in made.warnings
    ]
    if made.fits and made.tight:
        advice.append(
            Advice(
                "memory-tight",
                case.head.host,
                f"serve.{case.instance.name}.context_length = {length}",
                f"{made.full_length_requests:.1f} full-length requests at once: others wait",
            )
        )
    return Budget(
        replace(case, arguments=found.found),
        _memory_dict(made),
        {
            "length": length,
            "longest": made.longest_context,
            "of_model": case.model.shape.max_context,
            "tokens": made.max_tokens,
            "full_length_requests": round(made.full_length_requests, 1),
        },
        refusals,
        advice,
        case.instance.context_length is None and length < case.model.shape.max_context,
    )


def _fraction_words(case: Case, made: Fit) -> str:
    if case.hardware.unified_memory:
        return f"the host keeps the rest: {case.hardware.key} shares its memory with it"
    draft = " and the draft" if made.draft_weights_per_gpu and not made.draft_in_static else ""
    return f"leaves {made.reserve_bytes / 1e9:.1f} GB for activations, graphs, the request table{draft}"


def _on_cpu(case: Case) -> Budget:
    """The host's memory is not the engine's alone, and the pool is set by max-total-tokens."""
    found = Arguments(case)
    length = case.instance.context_length or case.model.shape.max_context
    pool = whole(case.value("max-total-tokens"))
    refusals = []
    if pool is not None and length > pool:
        if case.instance.context_length is not None:
            refusals.append(
                Refusal(
                    "does-not-fit",
                    case.head.host,
                    case.instance.where("context_length"),
                    f"the cache holds {pool:,} tokens (max-total-tokens)",
                    f"use context_length: {pool}, or a larger max-total-tokens in options",
                )
            )
        length = min(length, pool)
    if case.instance.context_length is None:
        found.put("context-length", length, "the model's own, as far as the cache holds it")
    refusals += [
        Refusal(
            "does-not-fit",
            host.host,
            case.instance.where("model"),
            f"weights of {case.model.weight_bytes / 1e9:.1f} GB over {case.parallel.ranks} hosts do not fit "
            f"{host.memory_gib} GiB of memory",
            "use a smaller model, or hosts with GPUs",
        )
        for host in case.hosts
        if host.memory_gib and case.model.weight_bytes / case.parallel.ranks > host.memory_gib * 2**30 / 2
    ]
    context = {"length": length, "of_model": case.model.shape.max_context, "tokens": pool or 0}
    return Budget(replace(case, arguments=found.found), {}, context, refusals)


def _too_long(case: Case) -> Refusal:
    most = case.model.shape.max_context
    return Refusal(
        "context-too-long",
        case.head.host,
        case.instance.where("context_length"),
        f"{case.model.key} was made for {most:,} tokens: the engine refuses more",
        f"use context_length: {most}, or leave it out for the longest that fits",
    )


def _refusal(case: Case, demand: Demand, made: Fit) -> Refusal:
    near = nearest(case, demand)
    asked = case.instance.context_length
    where = case.instance.where("context_length" if made.weights_fit and asked is not None else "model")
    fix = "would fit: " + ", or ".join(map(str, near)) if near else _nothing_near(case)
    if made.left_bytes < 0 and case.instance.memory_fraction is not None:
        most = fitted(replace(demand, memory_fraction=None)).memory_fraction
        where = case.instance.where("memory_fraction")
        fix = f"use memory_fraction: {most} or less, or leave it out"
    return Refusal(
        "does-not-fit",
        case.head.host,
        where,
        "does not fit:" + "".join(f"\n    {line}" for line in made.arithmetic),
        fix,
    )


def _nothing_near(case: Case) -> str:
    some = f"{ranks} of these GPUs" if (ranks := case.parallel.ranks) > 1 else "one of these GPUs"
    return f"no checkpoint of {case.model.family} in the catalogue fits {some}; take a smaller model or more GPUs"


def _memory_dict(made: Fit) -> dict[str, Any]:
    return {
        "usable_bytes": made.usable_bytes,
        "weights_bytes": made.weights_per_gpu - made.draft_weights_per_gpu,
        "draft_bytes": made.draft_weights_per_gpu,
        "kv_bytes": made.kv_pool_bytes,
        "kv_bytes_per_token": round(made.kv_bytes_per_token_per_gpu, 1),
        "table_bytes": made.rest.table,
        "graph_bytes": made.graph_bytes,
        "decode_graph_bytes": made.rest.decode_graphs,
        "prefill_graph_bytes": made.rest.prefill_graphs,
        "workspace_bytes": made.rest.workspace,
        "activation_bytes": made.rest.activations,
        "left_bytes": made.left_bytes,
        "reserve_bytes": made.reserve_bytes,
        "fraction": round(made.memory_fraction, 3),
        "arithmetic": list(made.arithmetic),
    }
