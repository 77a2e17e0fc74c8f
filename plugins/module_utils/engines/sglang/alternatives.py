# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would work instead: only what this planner would plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

from ...catalogue.entries import Model
from ...catalogue.sharding import division
from ...planner.case import Case
from ...planner.topology import spread
from ...planner.versions import at_least
from .demand import demand_of_case
from .fit import Candidate, Demand, nearest_fits

HUMMING_RISK = "fp8-on-sm80-humming"
MORE_HOSTS = (2, 3, 4)
GPUS_OF_A_HOST = (2, 4, 8)


def humming_accepted(case: Case, model: Model) -> bool:
    """FP8 experts on a GPU without FP8, through kernels that nobody saw running there."""
    return (
        case.device == "cuda"
        and case.accepts(HUMMING_RISK)
        and case.has("humming")
        and not case.hardware.fp8
        and model.quantization.weight_dtype.startswith("float8")
    )


def reads_nvfp4(case: Case, model: Model) -> bool:
    return case.hardware.fp4 or (case.has(nvfp4_feature(model)) and at_least(case.capability, "8.0"))


def nvfp4_feature(model: Model) -> str:
    return "nvfp4-marlin-compressed" if model.quantization.method == "compressed-tensors" else "nvfp4-marlin"


def runs_here(case: Case, other: Model) -> bool:
    """Whether the GPU and the release can work with a checkpoint at all."""
    if other.shape.architecture not in case.release.architectures:
        return False
    dtype = other.quantization.weight_dtype
    if dtype.startswith("float8") and other.shape.mixture:
        return case.hardware.fp8 or humming_accepted(case, other)
    if dtype in ("nvfp4", "mxfp4"):
        return reads_nvfp4(case, other)
    return True


def nearest(case: Case, demand: Demand) -> list[Candidate]:
    """Shorter context, other checkpoints of the model, more GPUs; each as the planner would spread it."""
    here = sum(len(case.parallel.offered.get(host, ())) for host in case.parallel.hosts)
    fresh = replace(
        demand,
        draft=case.instance.speculative is not False and case.parallel.pipeline == 1,
        memory_fraction=case.instance.memory_fraction,
        context_length=case.instance.context_length,
    )
    nodes = len(case.parallel.hosts)
    # A host grows to eight GPUs, where its kind can have several; beyond that hosts are added.
    grows = nodes == 1 and not case.hardware.unified_memory
    counts = {here * factor for factor in MORE_HOSTS if not grows or here * factor > GPUS_OF_A_HOST[-1]}
    counts |= set(GPUS_OF_A_HOST) if grows else set()

    def divided(other: Model, count: int) -> tuple[int, int] | None:
        if count <= here:
            return _spread_of(case, other)
        one = grows and count <= GPUS_OF_A_HOST[-1]
        return division(other.shape, count, 1 if one else count * nodes // here, other.quantization)

    return nearest_fits(
        fresh,
        case.model,
        case.inputs.catalogues.models,
        [count for count in sorted(counts) if count > here],
        lambda other: runs_here(case, other),
        divided,
    )


def _spread_of(case: Case, other: Model) -> tuple[int, int] | None:
    instance = replace(case.instance, model=other.key)
    parallel, problems = spread(instance, other, case.device, case.parallel.offered)
    return None if parallel is None or problems else (parallel.tensor, parallel.pipeline)


def family(case: Case, wanted: Callable[[str], bool]) -> list[str]:
    """Other checkpoints of the model that run and fit here, by the dtype of their weights."""
    if case.device != "cuda":
        return []
    keys = {
        model.key
        for model in case.inputs.catalogues.models.values()
        if wanted(model.quantization.weight_dtype)
    }
    found = nearest(case, demand_of_case(case))
    return [item.model for item in found if item.kind == "quantization" and item.model in keys]
