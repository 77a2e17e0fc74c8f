# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's values out of a successful attempt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..facts.schema import HostFacts
from .arguments import dist_port, revision, weights_path
from .attempt import Attempt
from .case import Case, Inputs
from .environment import variables
from .fabric.plan import host_fabric
from .firewall import firewall
from .network import Link
from .plan import InstancePlan, Plan, Port, plain
from .release_choice import Choice, summary
from .rules.fabric import known_faults
from .service import service


def instance_plan(
    inputs: Inputs, tried: Attempt, choice: Choice, rank: int, host: HostFacts, links: Mapping[str, Link]
) -> InstancePlan:
    case, instance = tried.case, tried.case.instance
    head = links[case.head.host]
    environment = tried.environments[host.host]
    arguments = case.engine.rank_arguments(case, rank, head.address)
    kernel_files = case.engine.kernel_files(case)
    weights = _weights(case)
    return InstancePlan(
        name=instance.name,
        unit=f"sglang-{instance.name}.service",
        model=case.model.key,
        served_model_name=instance.served_model_name or instance.name,
        engine=instance.engine,
        engine_title=case.engine.title,
        release=_release(case, choice),
        environment=environment,
        weights=weights,
        device=case.device,
        gpus=case.parallel.gpus.get(host.host, ()),
        parallel=_parallel(case, rank, links),
        module=case.engine.module,
        program=case.engine.program,
        arguments=tuple(arguments),
        argv=tuple(case.contract.command_line(arguments)),
        environment_variables=tuple(
            variables(inputs, case, host, links[host.host], environment, tried.compiles, kernel_files)
        ),
        ports=tuple(_ports(case, rank, head)),
        memory=tried.memory,
        context=tried.context,
        kernels=kernel_files,
        behaviour=case.engine.behaviour({item.flag: item.value for item in arguments}),
        api=case.data.api,
        metrics=dict(case.data.metrics),
        compiles=tried.compiles,
        service=service(case, host, links, environment, kernel_files, weights, tried.compiles),
        accept=instance.accept,
        warnings=tuple(item for item in tried.advice if item.host in ("", host.host)),
    )


def one_release(plans: Mapping[str, InstancePlan]) -> dict[str, InstancePlan]:
    """The members of a group are one release: what changes for any of them is a new one for all."""
    if len(plans) < 2:
        return dict(plans)
    said = json.dumps([plain(plan) for _host, plan in sorted(plans.items())], sort_keys=True, default=str)
    release = hashlib.sha256(said.encode()).hexdigest()[:16]
    return {
        host: replace(plan, service={**plan.service, "group": {**plan.service["group"], "release": release}})
        for host, plan in plans.items()
    }


def _release(case: Case, choice: Choice) -> dict[str, Any]:
    pinned = case.instance.release
    why = (
        f"pinned by serve.{case.instance.name}.release"
        if pinned
        else summary(case.release, choice.rejections)
    )
    return {
        "key": case.release.key,
        "version": case.release.version,
        "variant": f"{case.variant.cuda}-{case.variant.arch}",
        "cuda": case.variant.cuda,
        "index": case.variant.index,
        "known_faults": {
            check: f"{entry['what']}; {entry['fix']}"
            for entry, _component, _version in known_faults(case)
            for check in entry.get("checks", ())
        },
        "host_libraries": list(case.release.host_libraries) if case.device == "cuda" else [],
        "bundle": ""
        if case.variant.locks
        else f"cannot be bundled from the default index: needs index {case.variant.index}",
        "why": why,
        "rejected": [{"release": item.release, "why": item.reason} for item in choice.rejections],
    }


def _weights(case: Case) -> dict[str, Any]:
    return {
        "model": case.model.key,
        "revision": revision(case),
        "path": weights_path(case),
        "bytes": case.model.weight_bytes,
        "bytes_origin": case.model.weight_bytes_origin,
        "sources": dict(case.model.ids),
        "revisions": dict(case.model.revisions),
        "drop_page_cache": case.hardware.drop_page_cache,
        "checksums": case.engine.checksums(case),
    }


def _parallel(case: Case, rank: int, links: Mapping[str, Link]) -> dict[str, Any]:
    parallel = case.parallel
    return {
        "tp": parallel.tensor,
        "pp": parallel.pipeline,
        "nnodes": parallel.nodes,
        "node_rank": rank,
        "hosts": list(parallel.hosts),
        "addresses": {name: link.address for name, link in links.items()},
        "interfaces": {name: link.netdev for name, link in links.items()},
        "rdma_devices": {name: list(link.devices) for name, link in links.items()},
        "head_ports": [port for _purpose, port in case.engine.head_ports(case)] if parallel.nodes > 1 else [],
        "why": parallel.why,
    }


def _ports(case: Case, rank: int, head: Link) -> list[Port]:
    ports = [Port(case.instance.port, "api" if rank == 0 else "health", "127.0.0.1")]
    if case.parallel.nodes > 1:
        if rank == 0:
            ports.append(Port(dist_port(case), "rendezvous", head.address))
            ports += [Port(port, purpose, head.address) for purpose, port in case.engine.head_ports(case)]
        offset = int(case.inputs.policy["ports"]["group_offset"])
        ports.append(Port(case.instance.port + offset, "group", head.address))
        members = int(case.inputs.policy["ports"]["members_offset"])
        ports.append(Port(case.instance.port + members, "members", head.address))
    return ports


def host_plan(
    inputs: Inputs,
    facts: HostFacts,
    instances: Mapping[str, InstancePlan],
    ports: Iterable[Mapping[str, Any]] = (),
    standbys: Mapping[str, InstancePlan] | None = None,
) -> Plan:
    fabric = host_fabric(inputs, facts, instances, ports)
    return Plan(
        host=facts.host,
        collection=inputs.collection,
        facts=_relied_on(facts),
        host_settings=_host_settings(
            inputs,
            facts,
            instances,
            bool(fabric.get("devices")),
            [plan.name for plan in (standbys or {}).values()],
        ),
        instances=dict(sorted(instances.items())),
        keep=plain(inputs.policy["keep"]),
        firewall=firewall(inputs, facts.host, instances),
        fabric=fabric,
        standbys=dict(sorted((standbys or {}).items())),
        policy=plain(inputs.policy_changed),
    )


def _relied_on(facts: HostFacts) -> dict[str, Any]:
    driver = facts.driver
    return {
        "source": facts.source,
        "arch": facts.arch,
        "os": f"{facts.os.id} {facts.os.version_id}".strip(),
        "glibc": facts.glibc,
        "driver": driver.version if driver else "",
        "driver_cuda": driver.cuda if driver else "",
        "gpus": [{"index": gpu.index, "model": gpu.model, "product": gpu.product} for gpu in facts.gpus],
        "cpu_threads": facts.cpu_threads,
        "memory_gib": facts.memory_gib,
        "pythons": [item.version for item in facts.python],
        "rdma": [device.name for device in facts.rdma],
        **({"nvlink": "partial"} if facts.nvlink.get("full") is False else {}),
    }


def _host_settings(
    inputs: Inputs,
    facts: HostFacts,
    instances: Mapping[str, InstancePlan],
    rdma: bool,
    standbys: Iterable[str] = (),
) -> dict[str, Any]:
    policy = inputs.policy
    directories = policy["directories"]
    packages = set(policy["host"]["packages"])
    names = policy["host"]["packages_for"].get(_package_format(inputs, facts), {})
    if rdma:
        packages.update(policy["fabric"]["packages"].get(_package_format(inputs, facts), ()))
    there = {"cc", "c++"} if facts.toolkit.cxx else set()
    for plan in instances.values():
        for program in set(plan.compiles.get("needs", ())) - there:
            packages.update(_package_names(names.get(program, ()), plan.environment, program))
        for library in plan.release["host_libraries"]:
            packages.update(names.get(library, ()))
    parents = [directories["state"], directories["cache"]]
    names_of_all = sorted([*instances, *standbys])
    per_instance = [f"{directory}/{name}" for name in names_of_all for directory in parents]
    return {
        "packages": sorted(packages),
        **plain(policy["account"]),
        "directories": [
            *(
                {"path": directories[key], "owner": "root", "mode": "0755"}
                for key in policy["host"]["root_directories"]
            ),
            {"path": directories["configuration"], "owner": "root", "mode": "0755"},
            # Root's, so that the service user cannot put a link in place of an instance's folder.
            *({"path": path, "owner": "root", "mode": "0755"} for path in parents),
            *({"path": path, "owner": policy["account"]["user"], "mode": "0750"} for path in per_instance),
        ],
        "paths": plain(directories),
        "limits": plain(policy["host"]["limits"]),
        "shared_memory": policy["host"]["shared_memory"],
        "gpu_nodes": _gpu_nodes(facts, instances),
        "swap": "off" if _shares_memory(facts, instances) else "as it is",
    }


def _gpu_nodes(facts: HostFacts, instances: Mapping[str, InstancePlan]) -> list[int]:
    """Minor numbers of the GPUs whose device nodes must be there before an instance starts."""
    if not any(plan.device == "cuda" for plan in instances.values()):
        return []
    known = [gpu.minor for gpu in facts.gpus]
    return sorted(minor for minor in known if minor is not None) or list(range(len(known)))


def _shares_memory(facts: HostFacts, instances: Mapping[str, InstancePlan]) -> bool:
    return any(gpu.unified_memory for gpu in facts.gpus) and any(
        plan.device == "cuda" for plan in instances.values()
    )


def _package_names(names: Iterable[str], environment: Mapping[str, Any], program: str) -> list[str]:
    """Headers are those of the Python that the environment is made of; the bundle's Python has its own."""
    if program == "python-headers" and environment["interpreter_from"] != "host":
        return []
    return [name.format(python=environment["python"]) for name in names]


def _package_format(inputs: Inputs, facts: HostFacts) -> str:
    """deb or rpm, by the distribution's id; another version of a known one is packaged alike."""
    found = (entry["family"] for entry in inputs.systems.values() if entry.get("id") == facts.os.id)
    return str(next(found, ""))
