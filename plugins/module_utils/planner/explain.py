# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why not this release, why not that model: the same plan with one thing changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.refusals import did_you_mean
from .case import Inputs
from .inventory import plan_inventory
from .plan import PlanResult
from .release_choice import matches_pin, newest_first
from .render import memory_bar
from .serve_spec import Instance


def explain(inputs: Inputs, serve: Any, release: str = "", model: str = "") -> list[str]:
    """Answers for each instance; without a release, one line for each that there is."""
    if not isinstance(serve, Mapping) or not serve:
        return ["serve is empty: nothing is asked for"]
    wrong = _unknown(inputs, release, model)
    if wrong:
        return wrong
    lines = []
    for name, wanted in serve.items():
        if not isinstance(wanted, Mapping):
            continue
        changed = {**wanted, **({"model": model} if model else {})}
        shown = f"{name}: {changed.get('model')}"
        if release:
            lines += _answer(inputs, name, changed, release, f"{shown} on {release}")
            continue
        now = _alone(inputs, name, {**changed, "release": ""})
        if model:
            lines += _verdict(now, name, shown)
        lines.append(f"{name}: releases, newest first")
        engine = str(wanted.get("engine") or Instance.engine)
        for item in newest_first(inputs.data_of(engine).releases.values()):
            lines.append(f"  {item.key:<14}{_one_line(inputs, name, changed, item.key, now)}")
    return lines


def _unknown(inputs: Inputs, release: str, model: str) -> list[str]:
    lines = []
    releases = {key: item for data in inputs.engines.values() for key, item in data.releases.items()}
    if release and not any(matches_pin(item, release) for item in releases.values()):
        lines.append(f"release {release} is in no catalogue; {did_you_mean(release, releases)}")
    if model and model not in inputs.catalogues.models:
        lines.append(f"model {model} is in no catalogue; {did_you_mean(model, inputs.catalogues.models)}")
    return lines


def _alone(inputs: Inputs, name: str, wanted: Mapping[str, Any]) -> PlanResult:
    given = {key: value for key, value in wanted.items() if not (key == "release" and not value)}
    return plan_inventory(inputs, {name: given})


def _answer(inputs: Inputs, name: str, wanted: Mapping[str, Any], release: str, shown: str) -> list[str]:
    return _verdict(_alone(inputs, name, {**wanted, "release": release}), name, shown)


def _verdict(result: PlanResult, name: str, shown: str) -> list[str]:
    if result.refusals:
        lines = [f"{shown}: cannot"]
        for refusal in result.refusals:
            lines += [f"  {line}" for line in refusal.lines()]
        return lines
    plan = next(item.instances[name] for item in result.plans.values() if name in item.instances)
    lines = [f"{shown}: would work, on {plan.release['key']} / {plan.release['cuda']}"]
    if plan.memory:
        lines.append(f"  {memory_bar(plan.memory)}")
    lines.append(f"  context {plan.context['length']:,}")
    return lines + [f"  but: {advice.what}" for advice in plan.warnings]


def _one_line(inputs: Inputs, name: str, wanted: Mapping[str, Any], release: str, now: PlanResult) -> str:
    chosen = next((item.instances[name].release["key"] for item in now.plans.values()), "")
    if release == chosen:
        return "chosen"
    result = _alone(inputs, name, {**wanted, "release": release})
    if result.refusals:
        return "; ".join(refusal.what.splitlines()[0].rstrip(":") for refusal in result.refusals)
    return "would work; older than the chosen one"
