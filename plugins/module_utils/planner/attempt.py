# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one instance and one release to a case with every setting, and all that speaks against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..catalogue.entries import Hardware, Model
from ..core.refusals import Advice, Refusal
from ..engines import registry
from ..engines.flags.check import Foreign
from ..facts.schema import HostFacts
from . import compilers, rules
from .case import Case, Inputs
from .environment import environment
from .flag_names import FlagNames, as_mapping, flag_problems
from .release_choice import Candidate
from .serve_spec import Instance
from .topology import Parallel
from .versions import version_key


@dataclass(frozen=True)
class Setting:
    """What an instance needs before a release is chosen."""

    instance: Instance
    model: Model
    hosts: tuple[HostFacts, ...]
    hardware: Hardware
    device: str
    parallel: Parallel
    able: tuple[str, ...] = ()
    unable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    candidate: Candidate
    case: Case
    environments: Mapping[str, dict[str, Any]]
    """Host -> its environment."""
    compiles: dict[str, Any]
    memory: dict[str, Any]
    context: dict[str, Any]
    refusals: list[Refusal] = field(default_factory=list)
    of_release: list[Refusal] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)


def attempt(inputs: Inputs, setting: Setting, candidate: Candidate) -> Attempt:
    release, engine = candidate.release, registry.engine(setting.instance.engine)
    data = inputs.data_of(engine.name)
    case = Case(
        inputs=inputs,
        engine=engine,
        data=data,
        instance=setting.instance,
        model=setting.model,
        hosts=setting.hosts,
        hardware=setting.hardware,
        device=setting.device,
        release=release,
        variant=candidate.variant,
        parallel=setting.parallel,
        contract=FlagNames(data.contracts[release.key]),
        able=setting.able,
        unable=setting.unable,
    )
    environments = {host.host: environment(inputs, case, host, candidate.python) for host in setting.hosts}
    source = compilers.compiler_source(case, environments[case.head.host]["path"])
    settled = case.engine.settle(case, source)
    case, compiled = settled.case, settled.compiled
    ptxas, ptxas_refusals = compilers.triton_ptxas(case, source)
    compiler_refusals = compilers.compiler_problems(case, source, compiled)
    outcome = rules.judge(case, case.engine.rules)
    flag_refusals, flag_advice = flag_problems(
        case.contract,
        case.instance,
        case.arguments.values(),
        as_mapping(case.data.contracts, release.key),
        case.data.flag_rules,
        case.head.host,
        case.able,
        _foreign(inputs, engine.name),
    )
    refusals = [
        *settled.refusals,
        *flag_refusals,
        *outcome.refusals,
        *compiler_refusals,
        *ptxas_refusals,
    ]
    return Attempt(
        candidate=candidate,
        case=case,
        environments=environments,
        compiles=compilers.to_dict(case, source, ptxas, compiled, settled.proofs),
        memory=settled.memory,
        context=settled.context,
        refusals=refusals,
        of_release=[*outcome.of_release, *compiler_refusals, *ptxas_refusals],
        advice=[*settled.advice, *flag_advice, *outcome.advice],
    )


def _foreign(inputs: Inputs, own: str) -> list[Foreign]:
    """The flags of the newest release of every other engine."""
    found = []
    for name, data in inputs.engines.items():
        if name != own and data.contracts:
            newest = max(data.contracts.values(), key=lambda contract: version_key(contract.version))
            found.append(Foreign(registry.engine(name).title, name, newest, data.flag_rules))
    return found
