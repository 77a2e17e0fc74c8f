# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server arguments that follow from facts and catalogues, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...planner.arguments import HARDWARE, MODEL, PLAN, RELEASE, Arguments, dist_port, weights_path
from ...planner.case import Case
from ...planner.compilers import Source
from ...planner.plan import Argument
from ..base import Behaviour
from .alternatives import HUMMING_RISK, humming_accepted
from .automatic import automatic_sizes
from .rest import of_release

TEMPLATE_DEFAULTS = "default-chat-template-kwargs"
CHECKSUMS = "checksums.json"
PICKLE_RISK = "pickled-weights"
TYPED_KEYS = {
    "context_length": "context-length",
    "kv_cache_dtype": "kv-cache-dtype",
    "memory_fraction": "mem-fraction-static",
}


def derive(case: Case, source: Source, speculative: str) -> Case:
    """The case with every argument that does not differ from rank to rank.

    `speculative` is "" for none, else the reason why it is on.
    """
    found = Arguments(case)
    _identity(case, found)
    _parallel(case, found)
    _model(case, found)
    if case.device == "cuda":
        _backends(case, found, source)
        _memory(case, found, bool(speculative))
    if speculative:
        _speculative(case, found, speculative)
    _service(case, found)
    for flag, value in case.hardware.arguments.get(case.engine.name, {}).items():
        found.put(flag, value, f"{case.hardware.key} needs it", HARDWARE)
    for flag, value in case.model.arguments.get(case.engine.name, {}).items():
        found.put(flag, value, f"{case.model.key} needs it", MODEL)
    if case.device == "cpu":
        found.put("device", "cpu", "no GPU is used")
        for flag, value in case.release.cpu.get("arguments", {}).items():
            found.put(flag, value, f"{case.release.key} needs it on a CPU", RELEASE)
        if case.parallel.nodes > 1:
            for flag, value in case.release.cpu.get("arguments_multi", {}).items():
                found.put(flag, value, f"{case.release.key} needs it on several CPUs", RELEASE)
    found.put_asked(TYPED_KEYS)
    return replace(case, arguments=found.found)


def _identity(case: Case, found: Arguments) -> None:
    found.put("model-path", weights_path(case), "a local directory: no hub is asked")
    name = case.instance.served_model_name or case.instance.name
    found.put("served-model-name", name, "the name that requests use")
    found.put("host", "127.0.0.1", "only the gateway on the same host may reach the engine")
    found.put("port", case.instance.port, f"serve.{case.instance.name}.port")


def _parallel(case: Case, found: Arguments) -> None:
    parallel = case.parallel
    found.put("tp-size", parallel.tensor, parallel.why)
    if parallel.pipeline > 1:
        found.put("pp-size", parallel.pipeline, parallel.why)
    if parallel.nodes > 1:
        found.put("nnodes", parallel.nodes, f"serve.{case.instance.name}.hosts")
        seconds = case.policy["timeouts"]["distributed"]
        found.put("dist-timeout", seconds, "the slowest member's weights may take this long")


def _model(case: Case, found: Arguments) -> None:
    model = case.model
    if model.tool_call_parser:
        found.put("tool-call-parser", model.tool_call_parser, f"{model.name} writes its calls so", MODEL)
    if model.reasoning_parser:
        found.put("reasoning-parser", model.reasoning_parser, f"{model.name} writes its thoughts so", MODEL)
    if model.trust_remote_code:
        found.put("trust-remote-code", True, f"{model.key} wants it", MODEL)
    if not case.accepts(PICKLE_RISK):
        _safetensors_only(case, found)
    if humming_accepted(case, model):
        found.put("quantization", "humming", f"accepted: {HUMMING_RISK}")
    if model.kv_dtype and model.kv_dtype not in ("bfloat16", "auto"):
        found.put("kv-cache-dtype", model.kv_dtype, f"{model.key} wants it", MODEL)
    if case.instance.thinking_budget:
        found.put("enable-custom-logit-processor", True, "the thinking budget is such a processor")
    if case.instance.preserved_thinking and model.preserved_thinking:
        told = json.dumps(model.preserved_thinking, sort_keys=True)
        found.offer(
            TEMPLATE_DEFAULTS, told, "thoughts of earlier turns stay, unless a request says otherwise", MODEL
        )
    if case.instance.checksum_at_start:
        path = f"{case.inputs.policy['directories']['root']}/current/{case.instance.name}/{CHECKSUMS}"
        found.offer("model-checksum", path, f"serve.{case.instance.name}.checksum_at_start")


def _safetensors_only(case: Case, found: Arguments) -> None:
    """The collection fetches no pickles; a directory of the user may hold some, which the engine would fall back to."""
    why = "a directory of the user: nothing in it is unpickled"
    if case.model.key.startswith("/"):
        found.offer("load-format", "safetensors", why)
    if "speculative-draft-model-path" in case.instance.options:
        found.offer("speculative-draft-load-format", "safetensors", why)


def _backends(case: Case, found: Arguments, source: Source) -> None:
    capability = case.capability
    latent = case.model.shape.attention == "mla"
    if capability == "9.0" and case.variant.arch == "x86_64":
        found.offer("attention-backend", "fa3", "its code for compute capability 9.0 is in the wheel")
    elif latent:
        found.offer("attention-backend", "triton", f"the engine's choice for MLA on capability {capability}")
    elif source:
        found.offer("attention-backend", "flashinfer", f"fastest that can be compiled: {source.words}")
    else:
        found.offer("attention-backend", "triton", f"compiles nothing with nvcc: {source.words}")
    if source:
        found.offer("sampling-backend", "flashinfer", f"can be compiled: {source.words}")
    else:
        found.offer("sampling-backend", "pytorch", f"compiles nothing with nvcc: {source.words}")


def _memory(case: Case, found: Arguments, draft: bool) -> None:
    memory = case.policy["memory"]
    unified = case.hardware.unified_memory
    suffix = "_unified" if unified else ""
    chunk, batch = memory[f"chunked_prefill{suffix}"], memory[f"graph_batch{suffix}"]
    why = "small steps keep the peak low where host and GPU share memory"
    if not unified:
        total = min((gpu.memory_mib for gpu in case.head.gpus if gpu.memory_mib), default=0)
        own = automatic_sizes(total or case.hardware.memory_mib, case.parallel.tensor)
        chunk, batch = min(chunk, own[0]), min(batch, own[1])
        why = (
            "the engine's own size for a GPU of this memory"
            if chunk == own[0]
            else "larger steps gain little"
        )
    found.offer("chunked-prefill-size", chunk, why)
    requests = memory[f"running_requests{suffix}"]
    why = "no more come through the gateway; each takes a row of the request table"
    if draft:
        requests, why = of_release(case.release).requests_draft, "the engine's own number with a draft"
    found.offer("max-running-requests", requests, why)
    wanted = case.instance.options.get("max-running-requests")
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        requests = wanted
    batch = min(batch, requests)
    flag = case.contract.first("cuda-graph-max-bs-decode", "cuda-graph-max-bs")
    if flag:
        found.put(flag, batch, "graphs for larger batches cost memory and start-up time")


def _speculative(case: Case, found: Arguments, why: str) -> None:
    settings = case.model.speculative
    found.put("speculative-algorithm", settings["algorithm"], why)
    for key, flag in (
        ("num_steps", "speculative-num-steps"),
        ("eagle_topk", "speculative-eagle-topk"),
        ("num_draft_tokens", "speculative-num-draft-tokens"),
    ):
        if key in settings:
            found.put(flag, settings[key], f"{case.model.name}'s MTP layer")


def _service(case: Case, found: Arguments) -> None:
    seconds = case.policy["timeouts"]["watchdog"]
    found.put("watchdog-timeout", seconds, "a long prefill is not a hang; a hang ends the engine")
    found.put("enable-metrics", True, "monitoring reads /metrics")


def rank_arguments(case: Case, rank: int, head_address: str) -> list[Argument]:
    """All arguments of one member, in a stable order: what it serves, how it is spread, the rest."""
    found = Arguments(case)
    if case.parallel.nodes > 1:
        found.put("node-rank", rank, "position in the list of hosts")
        place = f"{head_address}:{dist_port(case)}"
        found.put("dist-init-addr", place, "the first host, where the ranks meet")
    order = [
        case.contract.primary(flag)
        for flag in (
            "model-path", "served-model-name", "host", "port", "tp-size", "pp-size", "nnodes", "node-rank",
            "dist-init-addr", "dist-timeout", "context-length",
        )
    ]  # fmt: skip
    return sorted(
        found.found.values(),
        key=lambda item: (order.index(item.flag) if item.flag in order else len(order), item.flag),
    )


def head_ports(case: Case) -> list[tuple[str, int]]:
    """Sockets of data-parallel attention, behind the rendezvous port."""
    if not case.value("enable-dp-attention"):
        return []
    first, span = dist_port(case), int(case.policy["ports"]["dp_attention"])
    return [("dp-attention", first + number) for number in range(1, span + 1)]


def checksums(case: Case) -> str:
    """A file that the user names is the user's."""
    argument = case.argument("model-checksum")
    return CHECKSUMS if argument is not None and argument.origin == PLAN else ""


def behaviour(values: Mapping[str, Any]) -> Behaviour:
    """`values` are the arguments' by the main spelling of their flags."""
    most = values.get("max-total-tokens")
    return Behaviour(
        tool_parser=str(values.get("tool-call-parser") or ""),
        reasoning_parser=str(values.get("reasoning-parser") or ""),
        tools=values.get("grammar-backend") != "none",
        quantization=str(values.get("quantization") or ""),
        preserved_thinking=bool(values.get(TEMPLATE_DEFAULTS)),
        logit_processors=bool(values.get("enable-custom-logit-processor")),
        checksums=bool(values.get("model-checksum")),
        deterministic=bool(values.get("enable-deterministic-inference")),
        speculative=bool(values.get("speculative-algorithm")),
        metrics=bool(values.get("enable-metrics")),
        prefix_cache=not values.get("disable-radix-cache"),
        random_weights=values.get("load-format") == "dummy",
        most_tokens=most if isinstance(most, int) else 0,
        backends={
            word: str(values[flag])
            for word, flag in (("attention", "attention-backend"), ("sampling", "sampling-backend"))
            if values.get(flag)
        },
    )
