# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server arguments that follow from facts and catalogues, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...planner.arguments import HARDWARE, MODEL, Arguments, weights_path
from ...planner.case import Case
from ...planner.compilers import Source
from ...planner.plan import Argument
from ..base import Behaviour

WITH_FA3 = "9.0"
"""The kernel wheel holds FlashAttention 3 for this compute capability; it was seen serving there."""
MODE = "eagle_with_att"
"""One draft, taken again for each step: the cache grows by one layer."""
STEPS = 4
"""What the makers of LightLLM start this family of models with."""
GRAPH_STEP = 16
TYPED_KEYS = {
    "context_length": "max_req_total_len",
    "memory_fraction": "mem_fraction",
    "kv_cache_dtype": "llm_kv_type",
}
ORDER = (
    "model_dir", "model_name", "host", "port", "tp", "max_req_total_len", "chunked_prefill_size",
    "llm_prefill_att_backend", "llm_decode_att_backend", "graph_max_batch_size", "tool_call_parser",
    "reasoning_parser", "mtp_step", "mtp_mode", "mtp_draft_model_dir",
)  # fmt: skip


def speculation(case: Case) -> tuple[str, str]:
    """Why drafts are on, or why they are off: one of the two is empty."""
    wanted, name = case.instance.speculative, case.instance.name
    if wanted:
        return f"serve.{name}.speculative = true", ""
    if case.instance.options.get("mtp_mode"):
        return f"serve.{name}.options.mtp_mode", ""
    if wanted is False:
        return "", f"off: serve.{name}.speculative = false"
    if not case.model.shape.mtp_layers:
        return "", f"off: {case.model.key} has no MTP layer"
    return "", f"off: never seen serving with LightLLM; serve.{name}.speculative: true turns it on"


def derive(case: Case, source: Source, drafting: str) -> Case:
    """The case with every argument but the memory's."""
    found = Arguments(case)
    path = weights_path(case)
    found.put("model_dir", path, "a local directory: no hub is asked")
    name = case.instance.served_model_name or case.instance.name
    found.put(
        "model_name", name, "the name that /v1/models tells; the gateway holds it, the engine takes any"
    )
    found.put("host", "127.0.0.1", "only the gateway on the same host may reach the engine")
    found.put("port", case.instance.port, f"serve.{case.instance.name}.port")
    found.put("tp", case.parallel.tensor, case.parallel.why)
    _model(case, found)
    _backends(case, found, source)
    _sizes(case, found, bool(drafting))
    if drafting:
        _drafts(case, found, path, drafting)
    for flag, value in case.hardware.arguments.get(case.engine.name, {}).items():
        found.put(flag, value, f"{case.hardware.key} needs it", HARDWARE)
    for flag, value in case.model.arguments.get(case.engine.name, {}).items():
        found.put(flag, value, f"{case.model.key} needs it", MODEL)
    found.put_asked(TYPED_KEYS)
    return replace(case, arguments=found.found)


def _model(case: Case, found: Arguments) -> None:
    model = case.model
    if model.tool_call_parser:
        found.offer("tool_call_parser", model.tool_call_parser, f"{model.name} writes its calls so", MODEL)
    if model.reasoning_parser:
        found.offer("reasoning_parser", model.reasoning_parser, f"{model.name} writes its thoughts so", MODEL)


def _backends(case: Case, found: Arguments, source: Source) -> None:
    capability = case.capability
    if capability == WITH_FA3 and case.variant.arch == "x86_64":
        found.put(
            "llm_prefill_att_backend", "fa3", "its code for compute capability 9.0 is in the kernel wheel"
        )
        if source:
            found.put("llm_decode_att_backend", "flashinfer", f"can be compiled: {source.words}")
        else:
            found.put("llm_decode_att_backend", "fa3", f"compiles nothing with nvcc: {source.words}")
        return
    why = (
        f"it compiles for any GPU; the engine's own trial takes up to half an hour (capability {capability})"
    )
    for flag in ("llm_prefill_att_backend", "llm_decode_att_backend"):
        found.put(flag, "triton", why)


def _sizes(case: Case, found: Arguments, drafting: bool) -> None:
    memory = case.policy["memory"]
    suffix = "_unified" if case.hardware.unified_memory else ""
    chunk, requests = memory[f"chunked_prefill{suffix}"], memory[f"running_requests{suffix}"]
    found.put("chunked_prefill_size", chunk, "larger steps gain little")
    found.put(
        "running_max_req_size",
        requests,
        "no more come through the gateway; each takes a row of the request table",
    )
    rows = case.instance.options.get("running_max_req_size")
    rows = rows if isinstance(rows, int) and not isinstance(rows, bool) and rows > 0 else requests
    why = "a graph for every batch that runs"
    if drafting:
        steps = case.instance.options.get("mtp_step")
        steps = steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else STEPS
        rows = max(GRAPH_STEP, rows // (steps + 1) // GRAPH_STEP * GRAPH_STEP)
        why = f"each request takes {steps + 1} rows, and the graphs of the drafts come on top"
    if case.hardware.unified_memory:
        rows, why = (
            min(rows, memory["graph_batch_unified"]),
            "graphs for larger batches cost memory and start-up time",
        )
    found.put("graph_max_batch_size", rows, why)


def _drafts(case: Case, found: Arguments, path: str, why: str) -> None:
    options = case.instance.options
    found.put("mtp_mode", MODE, why)
    found.put("mtp_step", STEPS, f"{case.model.name}'s MTP layer, as LightLLM's makers start it")
    mode = str(options.get("mtp_mode") or MODE)
    steps = options.get("mtp_step", STEPS)
    count = steps if mode.startswith("vanilla") and isinstance(steps, int) and 0 < steps < 64 else 1
    found.put(
        "mtp_draft_model_dir",
        [path] * count,
        "the model's own folder holds its MTP layer; one folder for each draft",
    )


def rank_arguments(case: Case) -> list[Argument]:
    return sorted(
        case.arguments.values(),
        key=lambda item: (ORDER.index(item.flag) if item.flag in ORDER else len(ORDER), item.flag),
    )


def backend(value: Any) -> str:
    """Flags of backends take a list, whose first one is that of full attention."""
    return str(value[0]) if isinstance(value, list) and value else str(value or "")


def load_workers(case: Case) -> int:
    """Threads that read weights, of one rank."""
    threads = min((host.cpu_threads for host in case.hosts if host.cpu_threads), default=0)
    ranks = max(len(case.parallel.gpus.get(case.head.host, ())), 1)
    most = int(case.policy["load_workers"])
    return max(1, min(most, threads // ranks) if threads else most // ranks)


def behaviour(values: Mapping[str, Any]) -> Behaviour:
    return Behaviour(
        tool_parser=str(values.get("tool_call_parser") or ""),
        reasoning_parser=str(values.get("reasoning_parser") or ""),
        quantization="" if values.get("quant_type") in (None, "none") else str(values["quant_type"]),
        speculative=bool(values.get("mtp_mode")),
        prefix_cache=not values.get("disable_dynamic_prompt_cache"),
        most_tokens=whole(values.get("max_total_token_num")) or 0,
        backends={
            word: backend(values[flag])
            for word, flag in (
                ("prefill attention", "llm_prefill_att_backend"),
                ("attention", "llm_decode_att_backend"),
                ("sampling", "sampling_backend"),
            )
            if values.get(flag)
        },
    )


def whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
