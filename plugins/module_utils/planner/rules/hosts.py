# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of the host, and variables of the environment that are the plan's, whatever engine runs."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.refusals import Advice, Refusal
from ..case import Case
from .registry import Finding, Rule, true_text

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def swap(case: Case) -> Iterator[Finding]:
    most = case.inputs.policy["memory"]["swap_unwise_gib"]
    for host in case.hosts:
        if case.hardware.unified_memory and case.device == "cuda" and (host.swap_gib or 0) > most:
            yield Advice(
                "swap-on-unified-memory",
                host.host,
                f"swap = {host.swap_gib} GiB",
                "with shared memory a full host swaps itself to a standstill: site.yml turns swap off",
            )


def memlock(case: Case) -> Iterator[Finding]:
    for host in case.hosts:
        limit = host.limits.get("memlock", "")
        if case.parallel.nodes > 1 and host.rdma and limit and limit not in ("unlimited", "infinity"):
            yield Advice(
                "memlock",
                host.host,
                f"memlock = {limit}",
                "RDMA pins memory; the unit raises its own limit, a shell for tests needs ulimit -l unlimited",
            )


def offline(case: Case) -> Iterator[Finding]:
    for name in OFFLINE:
        value = case.instance.environment.get(name)
        if value is not None and not true_text(value):
            yield Refusal(
                "needs-network",
                case.head.host,
                f"serve.{case.instance.name}.environment.{name} = {value}",
                "the engine would ask a hub while it starts",
                f"remove {name}",
            )


def owned_variables(case: Case) -> Iterator[Finding]:
    if "CUDA_VISIBLE_DEVICES" in case.instance.environment:
        value = case.instance.environment["CUDA_VISIBLE_DEVICES"]
        yield Refusal(
            "variable-owned",
            case.head.host,
            f"serve.{case.instance.name}.environment.CUDA_VISIBLE_DEVICES = {value}",
            "the plan shares the GPUs out among the instances",
            f"say it here: serve.{case.instance.name}.gpus: [{value}]",
        )


RULES = (
    Rule("swap-on-unified-memory", "A freeze is worse than a failure.", swap),
    Rule("memlock", "RDMA registers memory.", memlock),
    Rule("needs-network", "A host in a closed room hangs on a look-up.", offline),
    Rule("variable-owned", "The plan shares out GPUs.", owned_variables),
)
