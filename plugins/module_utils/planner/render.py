# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as people read it: one screen, ten seconds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from ..core.refusals import Advice, text_lines
from .plan import InstancePlan, Plan, PlanResult

BAR = 24
GIGA, MEGA = 1e9, 1e6
WIDTH = 100
LABEL = 10


def render(result: PlanResult) -> str:
    """The table, or the refusals; the last line counts."""
    lines: list[str] = []
    if result.refusals:
        lines += text_lines(result.refusals)
        lines.append(f"{_count(len(result.refusals), 'refusal')}, nothing was changed")
        return "\n".join(lines)
    for hosts, blocks in _groups(result.plans):
        lines += [_host_line(hosts, result.plans[hosts[0]])]
        lines += [f"  {line}" for line in warning_lines(result.plans[hosts[0]].warnings)]
        lines += [f"  {line}" for block in blocks for line in block]
        lines.append("")
    further = [*_gateway_lines(result.gateways), *_policy_lines(result.plans)]
    lines += [*further, *([""] if further else [])]
    served = sorted({name for plan in result.plans.values() for name in plan.instances})
    lines.append(f"{_count(len(result.plans), 'host')}, {_count(len(served), 'model')}, nothing was refused")
    return "\n".join(lines)


def _gateway_lines(gateways: Mapping[str, Any]) -> list[str]:
    """Where clients come in, and how many engines are behind each name."""
    return [
        _line("gateway", f"https://{host}:{section['front']['port']}  ")
        + ", ".join(
            f"{model} ({_count(sum(not server['standby'] for server in servers), 'engine')})"
            for model, servers in sorted(section["front"]["models"].items())
        )
        for host, section in sorted(gateways.items())
        if section["front"]
    ]


def _policy_lines(plans: Mapping[str, Plan]) -> list[str]:
    """What the inventory says otherwise than files/policy.yml; the same for all hosts."""
    changed = next((plan.policy for plan in plans.values()), {})
    return [
        _line(
            "policy" if not number else "",
            f"{key} = {item['value']}, by the inventory; else {item['default']}",
        )
        for number, (key, item) in enumerate(sorted(changed.items()))
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _groups(plans: Mapping[str, Plan]) -> list[tuple[list[str], list[list[str]]]]:
    """Hosts whose block reads the same, together: a hundred equal hosts are one paragraph."""
    found: dict[str, tuple[list[str], list[list[str]]]] = {}
    for host, plan in plans.items():
        blocks = [_instance_lines(item) for item in plan.instances.values()]
        words = [*warning_lines(plan.warnings), *(line for block in blocks for line in block)]
        key = _hardware_words(plan) + "\n".join(words)
        found.setdefault(key, ([], blocks))[0].append(host)
    return list(found.values())


def _host_line(hosts: list[str], plan: Plan) -> str:
    names = ", ".join(hosts) if len(hosts) <= 4 else f"{hosts[0]} ... {hosts[-1]} ({len(hosts)} hosts)"
    return f"{names}  {_hardware_words(plan)}"


def _hardware_words(plan: Plan) -> str:
    facts = plan.facts
    gpus = facts["gpus"]
    if not gpus:
        memory = f", {facts['memory_gib']:g} GiB" if facts["memory_gib"] else ""
        threads = f", {facts['cpu_threads']} threads" if facts["cpu_threads"] else ""
        return f"no GPU  {facts['arch']}{threads}{memory}"
    product = str(gpus[0]["product"]).replace("NVIDIA ", "")
    level = f" (CUDA {facts['driver_cuda']} level)" if facts["driver_cuda"] else ""
    return f"{len(gpus)}x {product}  driver {facts['driver']}{level}"


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL}}{text}"


def _instance_lines(plan: InstancePlan) -> list[str]:
    parallel = plan.parallel
    title = f"[{plan.name}] port {plan.ports[0].port}, unit {plan.unit}"
    if parallel["nnodes"] > 1:
        title += f", rank {parallel['node_rank']} of {parallel['nnodes']} (head {parallel['hosts'][0]})"
        if parallel["node_rank"]:
            return [title]
    lines = [title]
    release = plan.release
    lines.append(_line("release", f"{release['key']} / {release['cuda']}   {release['why']}"))
    if release["bundle"]:
        lines.append(_line("", release["bundle"]))
    lines.append(_line("python", _python_words(plan)))
    lines.append(_line("model", _model_words(plan)))
    if plan.memory:
        lines.append(_line("memory", memory_bar(plan.memory)))
    lines.append(_line("context", _context_words(plan)))
    lines.append(_line("draft", str(plan.context.get("speculative", ""))))
    lines.append(_line("parsers", _behaviour_words(plan)))
    if plan.kernels:
        lines.append(_line("kernels", str(plan.kernels.get("words", ""))))
    lines.append(_line("compiles", _compile_words(plan)))
    if parallel["nnodes"] > 1:
        lines.append(_line("network", _network_words(plan)))
        lines.append(_line("fabric", _fabric_words(plan)))
    for number, advice in enumerate(plan.warnings, 1):
        lines.append(_line("warns" if number == 1 else "", f"{number}: {advice.what} [{advice.where}]"))
    return [part for line in lines for part in _wrapped(line)]


def warning_lines(warnings: Iterable[Advice]) -> list[str]:
    """What is said of a host, each remark once."""
    return [
        part
        for number, advice in enumerate(warnings, 1)
        for part in _wrapped(
            _line("warns" if number == 1 else "", f"{number}: {advice.where}: {advice.what}")
        )
    ]


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=" " * LABEL, break_long_words=False, break_on_hyphens=False
    )


def _python_words(plan: InstancePlan) -> str:
    environment = plan.environment
    source = "the host's own" if environment["interpreter_from"] == "host" else "from the bundle"
    identity = environment["id"] or "not locked yet"
    return f"{environment['python']} ({source}), environment {identity}"


def _model_words(plan: InstancePlan) -> str:
    parallel = plan.parallel
    spread = f"TP {parallel['tp']}" + (f", PP {parallel['pp']}" if parallel["pp"] > 1 else "")
    if not plan.memory:
        size = plan.weights["bytes"]
        shown = f"{size / GIGA:.1f} GB" if size >= GIGA / 10 else f"{size / MEGA:.1f} MB"
        return f"{plan.model}   {shown}, {spread}"
    weights, usable = plan.memory["weights_bytes"], plan.memory["usable_bytes"]
    origin = plan.weights["bytes_origin"]
    guess = f" ({origin})" if origin != "published" else ""
    return f"{plan.model}   {weights / GIGA:.1f} of {usable / GIGA:.1f} GB a GPU{guess}, {spread}"


def memory_bar(memory: Mapping[str, Any]) -> str:
    """Weights, cache and the rest as parts of what the GPU has."""
    usable = max(int(memory["usable_bytes"]), 1)
    full = round(BAR * (memory["weights_bytes"] + memory["kv_bytes"]) / usable)
    full = max(0, min(BAR, full))
    weights = round(BAR * memory["weights_bytes"] / usable)
    drawn = "#" * min(weights, full) + "=" * max(full - weights, 0) + "." * (BAR - full)
    draft = f"  draft {memory['draft_bytes'] / GIGA:.1f}" if memory["draft_bytes"] else ""
    rest = memory["reserve_bytes"] - memory["graph_bytes"] - memory["draft_bytes"]
    return (
        f"[{drawn}]  weights {memory['weights_bytes'] / GIGA:.1f}  KV {memory['kv_bytes'] / GIGA:.1f}"
        f"{draft}  graphs {memory['graph_bytes'] / GIGA:.1f}  reserve {rest / GIGA:.1f}"
    )


def _context_words(plan: InstancePlan) -> str:
    context = plan.context
    words = f"{context['length']:,}"
    if context["length"] < context["of_model"]:
        words += f" (the model's own is {context['of_model']:,})"
    if context.get("full_length_requests"):
        words += f"; {context['full_length_requests']} full-length requests at once"
    return words


def _behaviour_words(plan: InstancePlan) -> str:
    """Parsers and modes, each only where it is on."""
    behaviour = plan.behaviour
    words = [
        f"{word} {value}"
        for word, value in (
            ("tools", behaviour.tool_parser),
            ("reasoning", behaviour.reasoning_parser),
            ("quantization", behaviour.quantization),
        )
        if value
    ]
    words += [
        word
        for word, on in (
            ("reasoning of earlier turns kept", behaviour.preserved_thinking),
            ("thinking budget and other logit processors", behaviour.logit_processors),
            ("weights hashed at each start", behaviour.checksums),
        )
        if on
    ]
    if not words and plan.model.startswith("/"):
        return "nothing parsed: config.json names no parsers; give the parsers in options"
    return ", ".join(words) or "nothing parsed"


def _network_words(plan: InstancePlan) -> str:
    ports = ", ".join(f"{port.port} {port.purpose}" for port in plan.ports)
    return f"{ports}: open to its {plan.parallel['nnodes']} hosts only"


def _fabric_words(plan: InstancePlan) -> str:
    devices = plan.service["checks"]["fabric"].get("devices", ())
    host = plan.parallel["hosts"][plan.parallel["node_rank"]]
    netdev = plan.parallel["interfaces"][host]
    if not devices:
        return f"TCP over {netdev or 'the address of the inventory'}: no RDMA"
    shown = ", ".join(f"{item['name']} {item['address']}" for item in devices)
    sizes = sorted({str(item["mtu"]) for item in devices if item["mtu"]})
    fallback = "; may start on sockets" if plan.service["checks"]["fabric"]["sockets"] else ""
    mtu = f" (MTU {', '.join(sizes)})" if sizes else ""
    return f"RDMA on {shown}{mtu}; rendezvous on {netdev}{fallback}"


def _compile_words(plan: InstancePlan) -> str:
    compiles = plan.compiles
    if compiles["nvcc"]:
        return f"{', '.join(compiles['nvcc'])}: {compiles['source_words']}"
    if plan.device == "cpu":
        return "nothing"
    backends = ", ".join(f"{word} {value}" for word, value in plan.behaviour.backends.items())
    return f"nothing with nvcc ({backends})"
