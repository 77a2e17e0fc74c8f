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
from ..facts.schema import HostFacts
from . import compilers, memory, rules, settings
from .case import Case, Inputs
from .environment import environment
from .fit import draft_costs_too_much
from .flag_names import FlagNames, as_mapping, flag_problems
from .release_choice import Candidate
from .serve_spec import Instance
from .topology import Parallel


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
    release = candidate.release
    case = Case(
        inputs=inputs,
        instance=setting.instance,
        model=setting.model,
        hosts=setting.hosts,
        hardware=setting.hardware,
        device=setting.device,
        release=release,
        variant=candidate.variant,
        parallel=setting.parallel,
        contract=FlagNames(inputs.contracts[release.key]),
        able=setting.able,
        unable=setting.unable,
    )
    environments = {host.host: environment(inputs, case, host, candidate.python) for host in setting.hosts}
    source = compilers.compiler_source(case, environments[case.head.host]["path"])
    on, why_not = speculation(case)
    derived = settings.derive(case, source, on)
    budget = memory.assess(derived)
    if on and setting.instance.speculative is None and (budget.refusals or budget.shortened):
        # The draft is worth less than the context that was asked for.
        without = memory.assess(settings.derive(case, source, ""))
        if budget.refusals and not without.refusals:
            budget, why_not = without, "off: its draft would not fit beside the context"
        elif draft_costs_too_much(budget.context["length"], without.context["length"]):
            budget, why_not = without, "off: its draft would cost more than half of the context"
    case = budget.case
    ptxas, ptxas_refusals = compilers.triton_ptxas(case, source)
    compiler_refusals = compilers.compiler_problems(case, source)
    outcome = rules.judge(case)
    flag_refusals, flag_advice = flag_problems(
        case.contract,
        case.instance,
        case.arguments.values(),
        as_mapping(inputs.contracts, release.key),
        inputs.flag_rules,
        case.head.host,
        case.able,
    )
    refusals = [
        *budget.refusals,
        *flag_refusals,
        *outcome.refusals,
        *compiler_refusals,
        *ptxas_refusals,
    ]
    return Attempt(
        candidate=candidate,
        case=case,
        environments=environments,
        compiles=compilers.to_dict(case, source, ptxas),
        memory=budget.memory,
        context={**budget.context, "speculative": why_not or on},
        refusals=refusals,
        of_release=[*outcome.of_release, *compiler_refusals, *ptxas_refusals],
        advice=[*budget.advice, *flag_advice, *outcome.advice],
    )


def speculation(case: Case) -> tuple[str, str]:
    """Why it is on, or why it is off: one of the two is empty."""
    wanted, model = case.instance.speculative, case.model
    off = ""
    if case.device != "cuda" and not wanted:
        off = "off: not worth it on a CPU"
    elif case.parallel.pipeline > 1 and not wanted:
        off = "off: it does not go together with pipeline stages"
    elif wanted is False:
        off = f"off: serve.{case.instance.name}.speculative = false"
    elif not model.speculative and "speculative-algorithm" in case.instance.options:
        off = f"as serve.{case.instance.name}.options say"
    elif not model.speculative and model.shape.mtp_layers:
        off = (
            f"off: {model.key} has an MTP layer, but no settings for it are known; give speculative-algorithm and its "
            "numbers in options"
        )
    elif not model.speculative:
        off = f"off: {model.key} has no MTP layer"
    elif wanted is None and case.instance.thinking_budget:
        off = "off: a thinking budget is asked for, and only one of them is applied"
    elif wanted is None and "speculative-algorithm" in case.instance.options:
        off = ""
    elif wanted is None and model.speculative.get("draft_architecture") not in (
        None,
        "",
        *case.release.architectures,
    ):
        off = f"off: {case.release.key} has no right draft class for {model.key}"
    if off:
        return "", off
    if wanted:
        return f"serve.{case.instance.name}.speculative = true", ""
    return f"{model.name} brings its own draft (MTP): more tokens a step, same answers", ""
