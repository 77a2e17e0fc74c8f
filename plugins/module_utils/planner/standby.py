# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second server that takes an instance's requests while that one is exchanged, where there is room for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ..core.refusals import Refusal
from ..facts.schema import HostFacts
from ..gateway.spec import Gateway, parse_gateway
from .case import Inputs
from .plan import InstancePlan
from .serve_spec import HIGHEST_PORT, Instance

Made = Mapping[str, Mapping[str, InstancePlan]]
PlanOne = Callable[[Instance, Mapping[str, tuple[int, ...]]], "dict[str, InstancePlan]"]
"""An instance with its GPUs by host -> its plan by host; empty where it cannot be."""
GIB = 2**30


def name_of(instance: str) -> str:
    return f"{instance}-standby"


def standbys(
    inputs: Inputs, instances: Iterable[Instance], made: Made, plan_one: PlanOne
) -> tuple[dict[str, dict[str, InstancePlan]], list[Refusal]]:
    """{host: {instance: the plan of its standby}}, and why one that was asked for cannot be.

    Only behind a gateway, which alone can send requests to one or the other; and where no replica takes them anyway.
    """
    asked, _unused = parse_gateway(
        inputs.gateway, inputs.hosts or tuple(inputs.facts), inputs.policy["gateway"]["limits"]
    )
    wanted = [item for item in instances if any(item.name in plans for plans in made.values())]
    replicas = Counter(item.served_model_name or item.name for item in wanted)
    found: dict[str, dict[str, InstancePlan]] = {}
    refusals = []
    for item in wanted:
        if item.standby is False:
            continue
        host = item.hosts[0]
        why = _why_not(inputs, asked, item, wanted, replicas)
        if not why:
            plan, why = _planned(inputs, item, made[host], found.get(host, {}), plan_one)
            if plan:
                found.setdefault(host, {})[item.name] = plan
                continue
        if item.standby:
            fix = "leave standby out: the instance is then stopped and started"
            refusals.append(Refusal("standby", host, item.where("standby"), why, fix))
    return found, refusals


def _why_not(
    inputs: Inputs,
    asked: Gateway | None,
    item: Instance,
    instances: Iterable[Instance],
    replicas: Mapping[str, int],
) -> str:
    if asked is None or (asked.instances and item.name not in asked.instances):
        return "no gateway is in front of it, and nothing else can send requests to another server meanwhile"
    if len(item.hosts) > 1:
        return "it is served by several hosts together"
    if item.standby is None and replicas[item.served_model_name or item.name] > 1:
        return "another replica takes its requests"
    if any(other.name == name_of(item.name) for other in instances):
        return f"serve.{name_of(item.name)} has the name of the second server"
    port = item.port + int(inputs.policy["ports"]["standby_offset"])
    return f"its port would be {port}" if port > HIGHEST_PORT else ""


def _planned(
    inputs: Inputs,
    item: Instance,
    beside: Mapping[str, InstancePlan],
    others: Mapping[str, InstancePlan],
    plan_one: PlanOne,
) -> tuple[InstancePlan | None, str]:
    host = item.hosts[0]
    facts, plan = inputs.facts[host], beside[item.name]
    there = [*beside.values(), *others.values()]
    gpus: tuple[int, ...] = ()
    if plan.device == "cuda":
        free = _free(facts, there)
        if len(free) < len(plan.gpus):
            return None, f"{host} has {len(free)} GPUs that no instance uses, and it needs {len(plan.gpus)}"
        gpus = tuple(free[: len(plan.gpus)])
    else:
        each = float(inputs.policy["memory"]["cpu_engine_gib"])
        on_cpu = [one for one in [*there, plan] if one.device == "cpu"]
        needed = sum(each + (one.weights["bytes"] or 0) / GIB for one in on_cpu)
        if needed > (facts.memory_gib or 0):
            return None, f"{host} has {facts.memory_gib or 0:g} GiB of memory, and both need {needed:.1f}"
    second = replace(
        item,
        name=name_of(item.name),
        port=item.port + int(inputs.policy["ports"]["standby_offset"]),
        gpus=gpus,
        served_model_name=item.served_model_name or item.name,
    )
    plans = plan_one(second, {host: gpus})
    if host not in plans:
        return None, f"a second one cannot be planned on {host}"
    return plans[host], ""


def _free(facts: HostFacts, plans: Iterable[InstancePlan]) -> list[int]:
    taken = {index for plan in plans for index in plan.gpus}
    return [gpu.index for gpu in facts.gpus if gpu.index not in taken]
