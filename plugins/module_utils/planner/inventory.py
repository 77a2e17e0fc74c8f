# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts, catalogues and `serve:` in; one plan per host or every reason against it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.refusals import Advice, Refusal, did_you_mean
from ..engines import registry
from ..facts.schema import HostFacts
from . import hosts as host_checks
from .arguments import dist_port
from .assemble import host_plan, instance_plan, one_release
from .attempt import Attempt, Setting, attempt
from .case import Inputs
from .drivers import driver_advice
from .engine_wheel import wheel_problems
from .fabric.checks import problems as fabric_problems
from .fabric.plan import prepare
from .firewall import firewall, missing_nft, open_swarm, swarm_addresses
from .gateway import gateway_sections
from .network import links, slowest
from .plan import InstancePlan, PlanResult
from .release_choice import Candidate, Choice, Rejection, choose, matches_pin, newest_first
from .serve_spec import Instance, parse_serve
from .serve_text import host_problems, text_problems
from .standby import standbys
from .topology import allocate, spread


def plan_inventory(inputs: Inputs, serve: Any) -> PlanResult:
    """All hosts at once: instances share GPUs, ports and disks."""
    inventory = inputs.hosts or tuple(inputs.facts)
    instances, refusals = parse_serve(serve, inventory)
    fabric = prepare(inputs)
    inputs = fabric.inputs
    refusals += fabric.refusals
    advice: list[Advice] = []
    refusals += host_problems(inventory)
    for instance in instances:
        refusals += text_problems(instance, inputs.policy["directories"])
        refusals += _words(inputs, instance)
    usable = [item for item in instances if not _unplannable(inputs, item, refusals)]
    sizes = {item.name: _gpus_a_host(item) for item in usable}
    on_gpus = [
        item
        for item in usable
        if host_checks.device_of(item, _members(inputs, item), inputs.policy) == "cuda"
    ]
    gpus, problems = allocate(on_gpus, inputs.facts, sizes)
    refusals += problems
    made: dict[str, dict[str, InstancePlan]] = {}
    attempts: list[Attempt] = []
    for instance in usable:
        plans, tried, said, words = _plan_instance(inputs, instance, gpus.get(instance.name, {}))
        refusals += said
        advice += words
        if tried is not None:
            attempts.append(tried)
        for host, plan in plans.items():
            made.setdefault(host, {})[instance.name] = plan
    spare, said = standbys(inputs, usable, made, lambda item, free: _plan_or_none(inputs, item, free))
    refusals += said
    everything = {
        host: {**plans, **{one.name: one for one in spare.get(host, {}).values()}}
        for host, plans in made.items()
    }
    refusals += [*host_checks.port_clashes(everything), *_disks(inputs, made)]
    refusals += [found for host in made for found in host_checks.elsewhere(inputs, host)]
    for host, found in made.items():
        refusals += missing_nft(inputs, inputs.facts[host], firewall(inputs, host, found))
    refusals += swarm_addresses(inputs)
    gateways, monitoring, said = gateway_sections(inputs, made, spare)
    refusals = _once([*refusals, *said])
    if refusals:
        return PlanResult({}, tuple(refusals), tuple(_once(advice)))
    advice += open_swarm(inputs)
    advice += [item for host in sorted(made) for item in driver_advice(inputs, inputs.facts[host])]
    hosts = {
        host: replace(
            host_plan(inputs, inputs.facts[host], found, fabric.ports.get(host, ()), spare.get(host, {})),
            warnings=_of_host(advice, host, found),
        )
        for host, found in sorted(made.items())
    }
    return PlanResult(hosts, (), tuple(_once(advice)), gateways, monitoring)


def _of_host(advice: list[Advice], host: str, instances: Mapping[str, InstancePlan]) -> tuple[Advice, ...]:
    """What was said of the host itself, and not with one of its instances."""
    told = {item for plan in instances.values() for item in plan.warnings}
    return tuple(item for item in _once(advice) if item.host == host and item not in told)


def _words(inputs: Inputs, instance: Instance) -> list[Refusal]:
    """Names that must be known before anything else."""
    refusals = []
    if instance.engine not in registry.names():
        what = f"unknown engine {instance.engine}"
        fix = f"use engine: {' or '.join(registry.names())}"
        refusals.append(Refusal("engine", "", instance.where("engine"), what, fix))
    refusals += wheel_problems(inputs, instance)
    refusals += [
        Refusal(
            "unknown-risk",
            "",
            instance.where("accept", list(instance.accept)),
            f"{risk} is the name of no risk",
            did_you_mean(risk, inputs.risks),
        )
        for risk in instance.accept
        if risk not in inputs.risks
    ]
    releases = inputs.data_of(instance.engine).releases
    pinned = instance.release and instance.engine in registry.names()
    if pinned and not any(matches_pin(item, instance.release) for item in releases.values()):
        refusals.append(
            Refusal(
                "unknown-release",
                "",
                instance.where("release"),
                "this release is in no catalogue",
                did_you_mean(instance.release, releases),
            )
        )
    if instance.model not in inputs.catalogues.models:
        refusals.append(
            Refusal(
                "unknown-model",
                "",
                instance.where("model"),
                "this model is in no catalogue",
                did_you_mean(instance.model, inputs.catalogues.models)
                + " Or give a directory that holds its config.json",
            )
        )
    refusals += [
        Refusal(
            "no-facts",
            host,
            instance.where("hosts", list(instance.hosts)),
            "nothing is known of this host",
            f"run playbooks/facts.yml with facts_dir, or write declared_hardware for {host}",
        )
        for host in instance.hosts
        if host not in inputs.facts and host in (inputs.hosts or inputs.facts)
    ]
    return refusals


def _unplannable(inputs: Inputs, instance: Instance, refusals: list[Refusal]) -> bool:
    return (
        instance.engine not in registry.names()
        or instance.model not in inputs.catalogues.models
        or any(host not in inputs.facts for host in instance.hosts)
        or len(set(instance.hosts)) != len(instance.hosts)
        or any(
            item.code == "unknown-release" and item.where == instance.where("release") for item in refusals
        )
    )


def _members(inputs: Inputs, instance: Instance) -> tuple[HostFacts, ...]:
    return tuple(inputs.facts[host] for host in instance.hosts)


def _gpus_a_host(instance: Instance) -> int | None:
    if instance.tensor_parallel is None:
        return None
    ranks = instance.tensor_parallel * (instance.pipeline_parallel or 1)
    return max(math.ceil(ranks / len(instance.hosts)), 1)


Result = tuple[dict[str, InstancePlan], "Attempt | None", list[Refusal], list[Advice]]


def _plan_instance(inputs: Inputs, instance: Instance, gpus: Mapping[str, tuple[int, ...]]) -> Result:
    members = _members(inputs, instance)
    model = inputs.catalogues.models[instance.model]
    device = host_checks.device_of(instance, members, inputs.policy)
    refusals: list[Refusal] = []
    advice: list[Advice] = []
    found = []
    for host in members:
        refused, words = host_checks.faults(host, device, inputs.policy, len(members))
        refusals += refused
        advice += words
        chosen = [gpu for gpu in host.gpus if gpu.index in gpus.get(host.host, ())]
        hardware, problems = host_checks.hardware_of(
            host, device, chosen, inputs.catalogues.hardware, instance
        )
        # A fault says better why no GPU is there.
        refusals += [item for item in problems if item.code != "no-gpu" or not refused]
        if hardware is not None:
            found.append(hardware)
            refusals += (
                host_checks.gpu_state(host, chosen, hardware, inputs.policy) if device == "cuda" else []
            )
    refusals += host_checks.alike(instance, members)
    least = float(inputs.policy["parallel"]["tensor_over_hosts_gbit"])
    parallel, problems = spread(instance, model, device, gpus, slowest(members), least)
    refusals += problems
    if parallel is None or len(found) != len(members):
        return {}, None, refusals, advice
    setting = Setting(instance, model, members, found[0], device, parallel)
    tried, choice, problems = _choose(inputs, setting)
    refusals += problems
    if tried is None:
        return {}, None, refusals, advice
    ends, problems = links(instance, members, inputs.addresses, inputs.fabric)
    refusals += [*problems, *_ports(inputs, setting, tried)]
    advice += [*tried.advice, *_idle(setting)]
    if not ends:
        return {}, tried, refusals, advice
    refused, words = fabric_problems(inputs, members, ends)
    refusals += refused
    advice += words
    plans = {
        host.host: instance_plan(inputs, tried, choice, rank, host, ends) for rank, host in enumerate(members)
    }
    return one_release(plans), tried, refusals, advice


def _plan_or_none(
    inputs: Inputs, instance: Instance, gpus: Mapping[str, tuple[int, ...]]
) -> dict[str, InstancePlan]:
    plans, _tried, refusals, _advice = _plan_instance(inputs, instance, gpus)
    return {} if refusals else plans


def _idle(setting: Setting) -> list[Advice]:
    """GPUs that the instance could have and cannot use."""
    parallel, name = setting.parallel, setting.instance.name
    host = parallel.hosts[0]
    idle, offered = parallel.idle(host), len(parallel.offered.get(host, ()))
    if not idle or setting.instance.tensor_parallel is not None:
        return []
    return [
        Advice(
            "gpus-idle",
            host,
            f"serve.{name}.hosts",
            f"{idle} of {offered} GPUs stay idle: TP {parallel.tensor} is the {parallel.why}; with "
            f"tensor_parallel: {parallel.tensor} said here, another instance can have them",
        )
    ]


def _ports(inputs: Inputs, setting: Setting, tried: Attempt) -> list[Refusal]:
    refusals = []
    for host in setting.hosts:
        wanted = {setting.instance.port: "API"}
        if host.host == setting.hosts[0].host and len(setting.hosts) > 1:
            wanted[dist_port(tried.case)] = "rendezvous"
            wanted[setting.instance.port + int(inputs.policy["ports"]["group_offset"])] = "group"
            wanted[setting.instance.port + int(inputs.policy["ports"]["members_offset"])] = "members"
        refusals += host_checks.port_problems(host, setting.instance, wanted)
    return refusals


def _choose(inputs: Inputs, setting: Setting) -> tuple[Attempt | None, Choice, list[Refusal]]:
    """The newest release that host, model and rules allow; a pinned one is judged alone."""
    instance = setting.instance
    data = inputs.data_of(instance.engine)
    choice = choose(
        instance,
        setting.model,
        setting.hosts,
        setting.hardware,
        setting.device,
        {
            key: item
            for key, item in data.releases.items()
            if data.wheel.get("version", item.version) == item.version
        },
        inputs.python_kits,
    )
    setting = replace(
        setting,
        able=tuple(item.release.key for item in choice.candidates),
        unable={item.release: item.reason for item in choice.rejections},
    )
    if instance.release:
        pinned = [item for item in choice.candidates if matches_pin(item.release, instance.release)]
        if not pinned:
            return None, choice, [_pin_refusal(inputs, setting, choice)]
        tried = attempt(inputs, setting, pinned[0])
        return tried, choice, tried.refusals
    if not choice.candidates:
        return None, choice, [_no_release(inputs, setting, choice)]
    first: Attempt | None = None
    passed_over: list[Rejection] = []
    for candidate in choice.candidates:
        tried = attempt(inputs, setting, candidate)
        first = first or tried
        if not tried.of_release:
            others = [item for item in choice.rejections if item not in passed_over]
            return tried, Choice(choice.candidates, (*passed_over, *others)), tried.refusals
        reason = tried.of_release[0].what
        passed_over.append(Rejection(candidate.release.key, candidate.variant.cuda, reason, reason))
    return first, choice, first.refusals if first else []


def _pin_refusal(inputs: Inputs, setting: Setting, choice: Choice) -> Refusal:
    instance = setting.instance
    reason = next(
        (
            item.reason
            for item in choice.rejections
            if matches_pin(inputs.data_of(instance.engine).releases[item.release], instance.release)
        ),
        "it cannot run here",
    )
    able = _first_able(inputs, setting, choice.candidates)
    fix = (
        f"use release: {able.release.key}, or leave release out"
        if able
        else "leave release out: the plan then says what stands against the others"
    )
    return Refusal("release-unfit", setting.hosts[0].host, instance.where("release"), reason, fix)


def _first_able(inputs: Inputs, setting: Setting, candidates: tuple[Candidate, ...]) -> Candidate | None:
    free = replace(setting, instance=replace(setting.instance, release=""))
    for candidate in candidates:
        if not attempt(inputs, free, candidate).of_release:
            return candidate
    return None


def _no_release(inputs: Inputs, setting: Setting, choice: Choice) -> Refusal:
    order = [item.key for item in newest_first(inputs.data_of(setting.instance.engine).releases.values())]
    reasons: dict[str, list[str]] = {}
    for item in sorted(choice.rejections, key=lambda item: order.index(item.release)):
        reasons.setdefault(item.reason, []).append(item.release)
    shown = "; ".join(f"{', '.join(keys)}: {reason}" for reason, keys in reasons.items())
    return Refusal(
        "no-release",
        setting.hosts[0].host,
        f"serve.{setting.instance.name}",
        f"no release fits this host and model ({shown or 'the catalogue is empty'})",
        _what_would_help(choice, setting),
    )


def _what_would_help(choice: Choice, setting: Setting) -> str:
    needs = {item.needs for item in choice.rejections}
    drivers = sorted(need for need in needs if need.startswith("driver "))
    if drivers:
        return f"install a driver of at least {drivers[0].split()[1]} on {setting.hosts[0].host}"
    if "python" in needs:
        return "set runtime_python_kits as named: the bundle then brings that Python"
    if "device" in needs:
        return "use hosts with GPUs, or a host of another architecture"
    if "security" in needs:
        return "accept: [below-security-floor] takes the risk"
    return "use another model or host; playbooks/explain.yml tells more"


def _disks(inputs: Inputs, made: Mapping[str, Mapping[str, InstancePlan]]) -> list[Refusal]:
    """Weights and environments that are not there yet, over all instances of a host."""
    refusals = []
    for host, plans in made.items():
        facts = inputs.facts[host]
        present = {
            f"{inputs.policy['directories'][kind]}/{entry}"
            for kind in ("weights", "environments")
            for entry in facts.installed.get(kind, ())
        }
        needed: dict[str, tuple[int, str]] = {}
        for plan in plans.values():
            for part, word in ((plan.weights, f"weights of {plan.model}"), (plan.environment, "environment")):
                path = str(part.get("path") or "")
                if path.startswith("/opt") and path not in present:
                    # What it is made of stays in the host's store beside it.
                    size = int(part.get("bytes") or 0) + int(part.get("download_bytes") or 0)
                    needed[path] = (size, word)
        refusals += host_checks.disk_problems(facts, needed)
    return refusals


def _once(items: list[Any]) -> list[Any]:
    """The same words said twice help nobody."""
    return list(dict.fromkeys(items))
