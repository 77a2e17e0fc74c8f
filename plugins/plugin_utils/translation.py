# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Translated launch commands as people read and paste them, and what a planner says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, text_lines
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import PlanResult
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import Entry, Translation
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import make_inputs, with_refusals


def judged(entry: Entry, asked: Mapping[str, Any]) -> PlanResult:
    """The entry alone, planned on hosts of the declared hardware, each with an address in one network."""
    hosts = tuple(entry.values["hosts"])
    serve = {entry.name: entry.values}

    def variable(host: str, name: str) -> Any:
        if name == "declared_hardware":
            return asked["hardware"]
        if name == "ansible_host":
            return f"192.0.2.{hosts.index(host) + 1}"
        return None

    inputs, refusals = make_inputs(
        {
            "catalogue_dirs": asked["catalogue_dirs"],
            "facts_dir": "",
            "serve": serve,
            "runtime_backend": "uv",
            "python_kits": [],
        },
        hosts,
        variable,
    )
    return with_refusals(plan_inventory(inputs, serve), refusals)


class _Dumper(yaml.SafeDumper):
    """Lists of plain values on one line."""


def _sequence(dumper: yaml.SafeDumper, value: list[Any]) -> Any:
    flat = not any(isinstance(item, (list, dict)) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flat)


_Dumper.add_representer(list, _sequence)


def entry_text(entry: Entry) -> str:
    document = {"serve": {entry.name: entry.values}}
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True))


def shown(found: Translation, verdicts: Mapping[str, PlanResult]) -> list[str]:
    lines: list[str] = []
    for entry in found.entries:
        places = ", ".join(map(str, entry.lines))
        lines.append(f"# from line{'s' if len(entry.lines) > 1 else ''} {places}")
        lines += entry_text(entry).splitlines()
        lines += [f"# {remark}" for remark in entry.remarks]
        lines += _flags(entry)
        if entry.name in verdicts:
            lines += _verdict(verdicts[entry.name])
        lines.append("")
    lines += _refused(found.refusals)
    count = len(found.entries)
    lines.append(f"{count} entr{'y' if count == 1 else 'ies'}, nothing was changed")
    return lines


def _refused(refusals: Iterable[Refusal]) -> list[str]:
    return text_lines(refusals)


def _flags(entry: Entry) -> list[str]:
    """Releases that take the options as they stand on one line; the others with each problem."""
    good = [release for release, problems in entry.problems.items() if not problems]
    lines = [f"options fit: {', '.join(good)}"] if good else []
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for release, problems in entry.problems.items():
        for problem in problems:
            word = "WARNING" if problem.advice else "REFUSED"
            what = problem.what.replace(release, "this release")
            groups.setdefault((word, problem.where, what, problem.fix), []).append(release)
    for (word, where, what, fix), releases in groups.items():
        lines += [f"{word}  {where}", f"  {', '.join(releases)}: {what}; {fix}"]
    return lines


def _verdict(result: PlanResult) -> list[str]:
    lines = _refused(result.refusals)
    for where, what in dict.fromkeys((advice.where, advice.what) for advice in result.advice):
        lines += [f"WARNING  {where}", f"  {what}"]
    for plan in list(result.plans.values())[:1]:
        lines += [
            f"can be served with release {instance.release['key']}: {instance.release['why']}"
            for instance in plan.instances.values()
        ]
    return lines
