# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A case as the memory that it asks for."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from ...catalogue.memory import gpu_memory
from ...planner.case import Case
from .fit import Demand, Fit, demand_of, fit
from .rest import of_release


@lru_cache(maxsize=512)
def fitted(demand: Demand) -> Fit:
    """Hosts of one kind ask the same; the answer walks through every module of the model."""
    return fit(demand)


def demand_of_case(case: Case) -> Demand:
    gpus = [gpu for gpu in case.head.gpus if gpu.index in case.parallel.gpus.get(case.head.host, ())]
    reported = min((gpu.memory_mib for gpu in gpus if gpu.memory_mib), default=None)
    memory = gpu_memory(case.hardware, reported, case.head.memory_gib)
    demand = demand_of(case.model, memory, case.parallel.tensor, case.parallel.pipeline)
    return replace(
        demand,
        memory_fraction=_number(case.value("mem-fraction-static")),
        context_length=case.instance.context_length,
        kv_dtype=str(case.value("kv-cache-dtype") or ""),
        draft=bool(case.value("speculative-algorithm")) and bool(case.model.shape.mtp_layers),
        chunked_prefill=whole(case.value("chunked-prefill-size")),
        graph_batch=whole(case.value(case.contract.first("cuda-graph-max-bs-decode", "cuda-graph-max-bs"))),
        engine=of_release(case.release),
        requests=whole(case.value("max-running-requests")),
        attention=str(case.value("attention-backend") or ""),
        draft_steps=whole(case.value("speculative-num-steps")) or 0,
        draft_tokens=whole(case.value("speculative-num-draft-tokens")) or 0,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
