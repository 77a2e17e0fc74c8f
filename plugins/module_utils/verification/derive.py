# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which checks a plan asks for. What is not planned is skipped, with the reason; nothing is left out silently. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..engines import registry

Planned = Mapping[str, Any]
TAGS = ("health", "api", "tools", "thinking", "kernels", "weights", "fabric", "security", "parity")
API = ("alive", "token", "models", "metrics", "parse", "settings", "secrets", "secret_options")
FULL_ONLY = "only in the full form: playbooks/verify.yml"


@dataclass(frozen=True)
class Subject:
    """One instance on one host, and what the check may depend on."""

    instance: Planned
    data: Mapping[str, Any]
    quick: bool
    gateway: Mapping[str, Any]

    @property
    def behaviour(self) -> Planned:
        found: Planned = self.instance["behaviour"]
        return found

    @property
    def rank(self) -> int:
        return int(self.instance["parallel"]["node_rank"])

    def cannot(self, what: str) -> str:
        """Why the model itself is unable to; empty where nothing is known against it."""
        return str(self.data["cannot"].get(self.instance["model"], {}).get(what, ""))


Reason = Callable[[Subject], str]


@dataclass(frozen=True)
class Row:
    tag: str
    name: str
    skip: Reason = lambda subject: ""
    full: bool = False
    """Too long for the end of site.yml."""
    every_rank: bool = False


def _no_tools(subject: Subject) -> str:
    if not subject.behaviour["tool_parser"]:
        return "no tool-call parser is planned"
    if not subject.behaviour["grammar"]:
        return "tools need a grammar backend and this instance has none"
    return subject.cannot("tools")


def _no_parser_cases(subject: Subject) -> str:
    parser = subject.behaviour["tool_parser"]
    if not parser:
        return "no tool-call parser is planned"
    if not subject.instance["api"]["parse"]:
        return "the engine has no route that takes texts with calls apart"
    known = subject.data["parsers"]
    return (
        "" if parser in known else f"no cases are written for {parser}; there are some for {', '.join(known)}"
    )


def _no_streamed_cases(subject: Subject) -> str:
    if "parser" not in registry.engine(subject.instance["engine"]).scripts:
        return "no program is known that runs the engine's parser"
    return _no_parser_cases(subject)


def _no_thinking(subject: Subject) -> str:
    return "" if subject.behaviour["reasoning_parser"] else "no reasoning parser is planned"


def _no_budget(subject: Subject) -> str:
    if not subject.behaviour["logit_processors"]:
        return "no thinking budget is planned (serve.<instance>.thinking_budget)"
    if "budget" not in registry.engine(subject.instance["engine"]).scripts:
        return "no program is known that makes the engine's budget"
    if not subject.data["budgets"].get(subject.behaviour["reasoning_parser"] or ""):
        return f"no budget is known for {subject.behaviour['reasoning_parser']}"
    return ""


def _no_vision(subject: Subject) -> str:
    sees = any(word in subject.instance["model"] for word in subject.data["vision_models"])
    return "" if sees else f"{subject.instance['model']} takes no images"


def _not_promised(subject: Subject) -> str:
    if subject.behaviour["deterministic"] or subject.instance["device"] == "cpu":
        return ""
    return "not promised: answers may differ with the batch"


def _no_metrics(subject: Subject) -> str:
    return "" if subject.behaviour["metrics"] else "no metrics are planned"


def _not_speculative(subject: Subject) -> str:
    return "" if subject.behaviour["speculative"] else "no speculative decoding is planned"


def _no_kernel_files(subject: Subject) -> str:
    return "" if subject.instance["kernels"].get("log") else "the instance reads no kernel files"


def _one_host(subject: Subject) -> str:
    return "" if int(subject.instance["parallel"]["nnodes"]) > 1 else "one host: no transport between hosts"


def _no_gateway(subject: Subject) -> str:
    return "" if subject.gateway.get("url") else "no gateway is planned: the engine answers on loopback only"


TABLE = (
    Row("health", "health", every_rank=True),
    Row("health", "tokens flow"),
    Row("health", "served name"),
    Row("health", "metrics", _no_metrics),
    Row("api", "chat"),
    Row("api", "streaming"),
    Row("api", "several turns"),
    Row("api", "long prompt"),
    Row("api", "too long a prompt"),
    Row("api", "bad request"),
    Row("api", "concurrency"),
    Row("api", "determinism", _not_promised),
    Row("api", "image", _no_vision),
    Row("api", "speculative acceptance", _not_speculative),
    Row("tools", "parser cases", _no_parser_cases),
    Row("tools", "parser cases, streamed", _no_streamed_cases, full=True),
    Row("tools", "single call", _no_tools),
    Row("tools", "parallel calls", _no_tools),
    Row("tools", "streamed call", _no_tools),
    Row("tools", "answer to a result", _no_tools),
    Row("tools", "no call where none is due", _no_tools),
    Row("thinking", "reasoning apart", _no_thinking),
    Row("thinking", "off", _no_thinking),
    Row("thinking", "budget", _no_budget, full=True),
    Row("kernels", "kernel files", _no_kernel_files, every_rank=True),
    Row("fabric", "transport", _one_host, every_rank=True),
    Row("weights", "files", every_rank=True),
    Row("security", "loopback only", every_rank=True),
    Row("security", "no key in sight", every_rank=True),
    Row("security", "runs as its own user", every_rank=True),
    Row("security", "401 without key", _no_gateway),
    Row("security", "closed endpoints", _no_gateway),
    Row("parity", "identity", every_rank=True),
)  # fmt: skip


def checks(
    plan: Planned,
    data: Mapping[str, Any],
    tags: Iterable[str] = (),
    quick: bool = False,
    gateway: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """For each instance of the host, what the module verify is given."""
    wanted = set(tags)
    unknown = sorted(wanted - set(TAGS))
    if unknown:
        raise ValueError(f"no such tag: {', '.join(unknown)}; there are {', '.join(TAGS)}")
    found = []
    for name, instance in sorted(plan["instances"].items()):
        planned = gateway or instance.get("gateway") or plan.get("gateway") or {}
        subject = Subject(instance, data, quick, planned)
        known = instance.get("release", {}).get("known_faults", {})
        found.append(
            {
                "instance": name,
                "unit": instance["unit"],
                "rank": subject.rank,
                "port": _port(instance),
                "serves": instance["served_model_name"],
                "checks": [
                    {
                        "tag": row.tag,
                        "name": row.name,
                        "skip": _reason(row, subject),
                        "known": known.get(f"{row.tag}: {row.name}", ""),
                    }
                    for row in TABLE
                    if not wanted or row.tag in wanted
                ],
                "expected": _expected(plan, subject, planned),
            }
        )
    return found


def _port(instance: Planned) -> int:
    return next(int(port["port"]) for port in instance["ports"] if port["purpose"] in ("api", "health"))


def _reason(row: Row, subject: Subject) -> str:
    if subject.rank and not row.every_rank:
        return f"rank {subject.rank} answers no requests"
    reason = row.skip(subject)
    if not reason and row.full and subject.quick:
        return FULL_ONLY
    return reason


def _expected(plan: Planned, subject: Subject, gateway: Mapping[str, Any]) -> dict[str, Any]:
    instance, data = subject.instance, subject.data
    limits = data["quick" if subject.quick else "full"]
    context = int(instance["context"].get("length") or 0)
    most = int(subject.behaviour["most_tokens"])
    room = min(value for value in (context or most, most or context) if value) if context or most else 0
    return {
        "context": room,
        "long_prompt": min(int(limits["long_prompt"]), max(64, room - int(data["margin"]))) if room else 0,
        "concurrency": int(limits["concurrency"]),
        "tokens": int(limits["tokens"]),
        "request_seconds": int(limits["request_seconds"]),
        "reasoning": bool(subject.behaviour["reasoning_parser"]),
        "parser": subject.behaviour["tool_parser"] or "",
        "parser_cases": list(data["parsers"].get(subject.behaviour["tool_parser"] or "", ())),
        "tools": list(data["tools"]),
        "api": {key: instance["api"][key] for key in API},
        "scripts": dict(registry.engine(instance["engine"]).scripts),
        "metrics": list(data["metrics"]),
        "metric_names": dict(instance["metrics"]),
        "closed": list(instance["api"]["closed"]),
        "budget": dict(data["budgets"].get(subject.behaviour["reasoning_parser"] or "", {})),
        "kernels": dict(instance["kernels"].get("log") or {}),
        "rdma": list(instance["parallel"]["rdma_devices"].get(plan["host"], ())),
        "weights": instance["weights"]["path"],
        # The plan names a folder of the user's by its path: no manifest is there to compare it with.
        "weights_of_user": instance["weights"]["path"] == instance["weights"].get("model"),
        "environment": instance["environment"]["path"],
        "environment_id": instance["environment"]["id"],
        "user": plan["host_settings"]["user"],
        "addresses": sorted({port["address"] for port in instance["ports"]} | {"127.0.0.1"}),
        "gateway": dict(gateway),
        "parallel": [instance["name"], int(instance["parallel"]["nnodes"])],
    }  # fmt: skip
