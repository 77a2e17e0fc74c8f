# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of each host on the controller: gathered, from a carried file, or declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.compare import contradictions
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.plugin_utils.data_files import read

FACTS_SUFFIXES = (".json", ".yml", ".yaml")


@dataclass
class Known:
    """Facts of hosts, and the declared ones of hosts that were looked at too."""

    facts: dict[str, HostFacts] = field(default_factory=dict)
    declared: dict[str, HostFacts] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def collect_facts(
    hosts: Iterable[str],
    variables: Callable[[str, str], Any],
    facts_dir: str,
    hardware: Mapping[str, Hardware],
    systems: Mapping[str, Any],
) -> Known:
    """Gathered facts first, then a facts file, then declared hardware; a contradiction is a refusal."""
    known = Known()
    hosts = tuple(hosts)
    known.refusals += _useless(facts_dir, hosts)
    for host in hosts:
        candidates = [
            ("gathered facts", (variables(host, "plan_host_facts"))),
            *_facts_files(facts_dir, host, known.refusals),
            ("declared_hardware", variables(host, "declared_hardware")),
        ]
        found = [
            (where, facts)
            for where, data in candidates
            if data and (facts := _facts(data, host, where, hardware, systems, known.refusals)) is not None
        ]
        if not found:
            continue
        known.facts[host] = found[0][1]
        declared = dict(found).get("declared_hardware")
        if declared is not None and found[0][0] != "declared_hardware":
            known.declared[host] = declared
            known.refusals += _contradictions(host, declared, found[0][1])
    return known


def _useless(facts_dir: str, hosts: tuple[str, ...]) -> list[Refusal]:
    """A directory without a file of any host would look like a plan from facts and be none."""
    if not facts_dir:
        return []
    folder = Path(facts_dir).expanduser()
    names = sorted(path.stem for path in folder.glob("*") if path.suffix in FACTS_SUFFIXES)
    if set(names) & set(hosts):
        return []
    there = f"it has facts of {', '.join(names)}" if names else "it has no facts file"
    return [
        Refusal(
            "facts-dir-useless",
            "",
            f"facts_dir = {facts_dir}",
            f"{there if folder.is_dir() else 'this directory is not there'}; the inventory has {', '.join(hosts)}",
            "write the files with playbooks/facts.yml -e facts_dir=..., one for each host by its name in the inventory",
        )
    ]


def _facts_files(facts_dir: str, host: str, refusals: list[Refusal]) -> list[tuple[str, Any]]:
    if not facts_dir:
        return []
    for suffix in FACTS_SUFFIXES:
        path = Path(facts_dir).expanduser() / f"{host}{suffix}"
        if path.exists():
            return [(str(path), read(path, refusals))]
    return []


def _facts(
    data: Any,
    host: str,
    where: str,
    hardware: Mapping[str, Hardware],
    systems: Mapping[str, Any],
    refusals: list[Refusal],
) -> HostFacts | None:
    try:
        facts = HostFacts.from_dict(
            data,
            host,
            where,
            hardware,
            systems.get("operating_systems", {}),
            systems.get("driver_cuda", {}),
        )
    except RefusedError as error:
        refusals += error.refusals
        return None
    if facts.host != host:
        refusals.append(
            Refusal(
                "facts-of-another-host",
                host,
                where,
                f"these are the facts of {facts.host or 'a host without a name'}",
                f"gather them again with playbooks/facts.yml, or name the file after {facts.host or 'its host'}",
            )
        )
        return None
    return facts.with_models(hardware)


def _contradictions(host: str, declared: HostFacts, gathered: HostFacts) -> list[Refusal]:
    return [
        Refusal(
            "declared-differs",
            host,
            f"declared_hardware.{item.field} = {item.declared}",
            f"the host {f'says {item.gathered}' if item.gathered else 'has none'}: what was planned and bundled for it may not run there",
            "correct declared_hardware and plan and bundle again, or repair the host",
        )
        for item in contradictions(declared, gathered)
    ]
