# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on the controller what the planner needs: catalogues, locks, facts. Decides nothing."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Catalogues, Model
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import (
    load_hardware,
    load_nics,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.models import (
    load_models,
    model_of_config,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.core.text_checks import straight
from ansible_collections.baremetal.sglang.plugins.module_utils.engines import registry
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.base import EngineData
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.compare import (
    contradictions,
    with_declared,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.health.settings import health_refusals
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.case import Inputs
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.spec import (
    VARIABLES,
    FabricSpec,
    parse_fabric_spec,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.network import is_address
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan, PlanResult
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.policy import of_hosts
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_files import read_certificate
from ansible_collections.baremetal.sglang.plugins.plugin_utils.data_files import read
from ansible_collections.baremetal.sglang.plugins.plugin_utils.engine_data import (
    OURS,
    ROOT,
    documents,
    load_engine,
    read_one,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.fact_sources import collect_facts
from ansible_collections.baremetal.sglang.plugins.plugin_utils.given_wheels import read_wheels


@dataclass
class DataFiles:
    """Everything below files/ and the users' own directories beside it."""

    catalogues: Catalogues
    policy: dict[str, Any]
    risks: dict[str, str]
    systems: dict[str, Any]
    engines: dict[str, EngineData]
    drivers: dict[str, Any] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def load_data_files(catalogue_dirs: Iterable[str], engine_wheels: Any = None) -> DataFiles:
    refusals: list[Refusal] = []
    wheels = read_wheels(engine_wheels, refusals)
    directories = [OURS]
    for given in catalogue_dirs:
        directory = Path(given).expanduser()
        if directory.is_dir():
            directories.append(directory)
            continue
        refusals.append(
            Refusal(
                "no-such-directory",
                "",
                f"catalogue_dirs: {given}",
                "there is no such directory on the controller",
                "make it with the folders models, hardware, nics or engines, or take it out of catalogue_dirs",
            )
        )
    hardware, problems = load_hardware(documents(directories, "hardware", refusals))
    refusals += problems
    models, problems = load_models(documents(directories, "models", refusals))
    refusals += problems
    nics, problems = load_nics(documents(directories, "nics", refusals))
    refusals += problems
    return DataFiles(
        catalogues=Catalogues(models, hardware, nics),
        policy=_policy(refusals),
        risks=_ours("risks.yml", refusals),
        systems=_ours("operating_systems.yml", refusals),
        engines={
            name: load_engine(name, directories, refusals, wheels.get(name)) for name in registry.names()
        },
        drivers=_ours("drivers.yml", refusals).get("branches", {}),
        refusals=refusals,
    )


def _ours(name: str, refusals: list[Refusal]) -> dict[str, Any]:
    return read_one(OURS / name, refusals)


def _policy(refusals: list[Refusal]) -> dict[str, Any]:
    """files/policy.yml with what each engine adds, so that the inventory can replace that as well."""
    policy = _ours("policy.yml", refusals)
    names = registry.names()
    logs = {name: _ours(f"engines/{name}/signals.yml", refusals) for name in names}
    engines = {name: _ours(f"engines/{name}/policy.yml", refusals) for name in names}
    return {**policy, "engine": {**policy.get("engine", {}), "logs": logs}, "engines": engines}


def local_models(
    serve: Any, refusals: list[Refusal], known: Mapping[str, Model] | None = None
) -> dict[str, Model]:
    """Models that `serve` names by a directory: the shape comes from their config.json."""
    found = {}
    wanted = serve.values() if isinstance(serve, Mapping) else ()
    for given in {
        str(item.get("model")) for item in wanted if isinstance(item, Mapping) and item.get("model")
    }:
        if not given.startswith("/"):
            continue
        if not straight(given):
            refusals.append(
                Refusal(
                    "model-directory",
                    "",
                    f"model = {given}",
                    "the path has a part that is empty, . or .., and programs of root follow it on the hosts",
                    f"write it without, such as {os.path.normpath('/' + given.lstrip('/'))}",
                )
            )
            continue
        config_path = Path(given) / "config.json"
        if not config_path.exists():
            refusals.append(
                Refusal(
                    "model-directory",
                    "",
                    f"model = {given}",
                    "there is no config.json in it on the controller",
                    "copy the model's config.json there, or give a key of files/models",
                )
            )
            continue
        config = read(config_path, refusals)
        if not isinstance(config, Mapping):
            continue
        size = sum(path.stat().st_size for path in Path(given).glob("*.safetensors"))
        pickled = not size and any(
            next(Path(given).glob(pattern), None) for pattern in ("*.bin", "*.pt", "*.pth")
        )
        try:
            found[given] = model_of_config(given, config, size, str(config_path), pickled, known or {})
        except RefusedError as error:
            refusals += _together(error.refusals)
    return found


def _together(refusals: list[Refusal]) -> list[Refusal]:
    """Refusals with the same way out as one: the entry to paste is long."""
    groups: dict[tuple[str, str, str], list[Refusal]] = {}
    for item in refusals:
        groups.setdefault((item.code, item.what, item.fix), []).append(item)
    found = []
    for (code, what, fix), items in groups.items():
        place, _colon, _key = items[0].where.partition(": ")
        keys = ", ".join(item.where.partition(": ")[2] for item in items)
        found.append(Refusal(code, items[0].host, f"{place}: {keys}" if keys else place, what, fix))
    return found


COMMON_ARGUMENTS: dict[str, Any] = {
    "serve": {"type": "raw"},
    "facts_dir": {"type": "path", "default": ""},
    "catalogue_dirs": {"type": "list", "elements": "path", "default": []},
    "python_kits": {"type": "list", "elements": "str", "default": []},
    "engine_wheels": {"type": "raw"},
    "runtime_backend": {"type": "str", "default": "uv", "choices": ["uv", "pixi"]},
}


def plain(value: Any) -> Any:
    """Lazy containers and tagged text of the engine as the plain types that the planner reads."""
    return json.loads(json.dumps(value, default=str))


def make_inputs(
    given: Mapping[str, Any], hosts: tuple[str, ...], variable: Callable[[str, str], Any]
) -> tuple[Inputs, list[Refusal]]:
    """All that the planner is given, and what is wrong with the files that it comes from."""
    data_files = load_data_files(given["catalogue_dirs"] or [], given.get("engine_wheels"))
    known = collect_facts(
        hosts, variable, given["facts_dir"] or "", data_files.catalogues.hardware, data_files.systems
    )
    policy = of_hosts(data_files.policy, {host: variable(host, "policy") for host in hosts})
    refusals = [*data_files.refusals, *known.refusals, *policy.refusals]
    refusals += health_refusals({host: variable(host, "health") for host in hosts})
    fabric = _fabric(hosts, variable, refusals)
    models = local_models(given["serve"], refusals, data_files.catalogues.models)
    inputs = Inputs(
        facts=known.facts,
        catalogues=replace(data_files.catalogues, models={**data_files.catalogues.models, **models}),
        policy=policy.values,
        policy_changed=policy.changed,
        risks=data_files.risks,
        collection=_collection_version(),
        runtime_backend=given["runtime_backend"],
        python_kits=tuple(given["python_kits"] or ()),
        addresses=_addresses(hosts, variable),
        engines=data_files.engines,
        systems=data_files.systems.get("operating_systems", {}),
        families=data_files.systems.get("families", {}),
        drivers=data_files.drivers,
        log_verdicts=tuple(_ours("log_verdicts.yml", refusals).get("verdicts", ())),
        today=datetime.date.today().isoformat(),
        swarm=_swarm(hosts, variable),
        before={host: variable(host, "plan_on_host") or {} for host in hosts},
        fabric=fabric,
        declared=known.declared,
        hosts=hosts,
        gateway=given.get("gateway"),
        monitoring=given.get("monitoring"),
        certificate=read_certificate(given.get("gateway")),
    )
    return inputs, refusals


def without_harmless(
    inputs: Inputs, serve: Any, result: PlanResult, refusals: list[Refusal]
) -> list[Refusal]:
    """Declared hardware that the host contradicts matters only where it would have been planned otherwise."""
    differing = {item.host for item in refusals if item.code == "declared-differs"}
    if not differing or result.refusals:
        return refusals
    facts = {
        **inputs.facts,
        **{
            host: with_declared(
                inputs.facts[host],
                inputs.declared[host],
                [item.field for item in contradictions(inputs.declared[host], inputs.facts[host])],
            )
            for host in differing
        },
    }
    imagined = plan_inventory(replace(inputs, facts=facts), serve)
    if imagined.refusals:
        return refusals
    harmless = {
        host for host in differing if _brought(imagined.plans.get(host)) == _brought(result.plans.get(host))
    }
    return [item for item in refusals if item.code != "declared-differs" or item.host not in harmless]


PLACES = ("cuda_home", "ptxas_path", "source_words")
"""Of what is compiled: where the host has its compiler."""


def _brought(plan: Plan | None) -> list[Any]:
    """What a bundle had to bring for a plan, and what the server is told; where the host keeps its own is no matter."""
    return [
        (
            item.name,
            item.release["key"],
            item.release["variant"],
            {key: value for key, value in item.environment.items() if key != "interpreter"},
            item.weights["path"],
            item.kernels,
            {key: value for key, value in item.compiles.items() if key not in PLACES},
            [
                (said.flag, said.value)
                for said in item.arguments
                if said.flag != registry.engine(item.engine).notes.rendezvous
            ],
        )
        for item in (plan.instances.values() if plan else ())
    ]


def with_refusals(result: PlanResult, refusals: list[Refusal]) -> PlanResult:
    """Problems of the files first; what only follows from them is not said twice."""
    if not refusals:
        return result
    told = {(item.host, item.where) for item in refusals}
    unread = {item.host for item in refusals if item.host}
    more = [
        item
        for item in result.refusals
        if (item.host, item.where) not in told
        and not (item.code == "no-facts" and item.host in unread)
        and not (item.code == "wheel-missing" and any(found.code == "engine-wheel" for found in refusals))
        and not (
            item.code == "unknown-model"
            and item.where.partition("model = ")[2] in " ".join(w for _h, w in told)
        )
    ]
    return PlanResult({}, (*refusals, *more), result.advice)


def _collection_version() -> str:
    if (ROOT / "galaxy.yml").exists():
        return str((read(ROOT / "galaxy.yml", []) or {}).get("version", ""))
    if (ROOT / "MANIFEST.json").exists():
        return str((read(ROOT / "MANIFEST.json", []) or {}).get("collection_info", {}).get("version", ""))
    return ""


def _swarm(hosts: tuple[str, ...], variable: Callable[[str, str], Any]) -> dict[str, str]:
    """Hosts that pass weights on to each other, with the address that role swarm takes."""
    return {
        host: str(variable(host, "swarm_address") or variable(host, "ansible_host") or host)
        for host in hosts
        if variable(host, "weights_transport") == "swarm"
    }


def _fabric(
    hosts: tuple[str, ...], variable: Callable[[str, str], Any], refusals: list[Refusal]
) -> dict[str, FabricSpec]:
    found = {}
    for host in hosts:
        given = {name: variable(host, name) for name in VARIABLES}
        found[host], problems = parse_fabric_spec(given, host)
        refusals += problems
    return found


def _addresses(hosts: tuple[str, ...], variable: Callable[[str, str], Any]) -> dict[str, str]:
    """Addresses that the inventory itself gives; names are left to the facts."""
    found = {}
    for host in hosts:
        for given in (variable(host, "ansible_host"), host):
            if is_address(str(given)):
                found[host] = str(ipaddress.ip_address(str(given)))
                break
    return found
