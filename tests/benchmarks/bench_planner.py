#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long planning takes: the planner alone, playbooks/plan.yml with everything around it, and one group of many hosts.

A group of 64 declared members is compared with one of 16: planned, and turned into what the roles apply on each member.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import (
    plan_inventory,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application as plan_application
from ansible_collections.baremetal.sglang.plugins.module_utils.service import members_host as members
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import make_inputs

DECLARED = {
    "os": "ubuntu-22.04",
    "arch": "x86_64",
    "driver": "550.54.15",
    "gpus": {"model": "a800-sxm4-80gb", "count": 8},
    "toolkit": {"cuda_home": "/usr/local/cuda", "nvcc": "12.8", "ptxas": "12.8", "cxx": "11", "ninja": ""},
    "interfaces": [{"name": "eth0", "state": "up", "addresses": ["10.0.0.11/16"]}],
}
LIMIT_PLANNER_MS = 5.0
LIMIT_PLAYBOOK_S = 10.0
FEW, MANY = 16, 64
# Each member is told who the others are, so a few lists grow with the square.
LIMIT_GROWTH = 1.5


def names(count: int) -> list[str]:
    return [f"gpu-{number:03}" for number in range(1, count + 1)]


def serve(hosts: list[str]) -> dict[str, Any]:
    return {f"glm-{host}": {"model": "glm-4.7-int8", "hosts": [host]} for host in hosts}


def inputs_for(wanted: dict[str, Any], hosts: list[str]) -> Any:
    given = {
        "serve": wanted,
        "catalogue_dirs": [],
        "facts_dir": "",
        "runtime_backend": "uv",
        "python_kits": [],
    }

    def declared(host: str, name: str) -> dict[str, Any] | None:
        if name != "declared_hardware":
            return None
        address = f"10.0.0.{11 + hosts.index(host)}/16"
        return {**DECLARED, "interfaces": [{"name": "eth0", "state": "up", "addresses": [address]}]}

    inputs, refusals = make_inputs(given, tuple(hosts), declared)
    assert not refusals, refusals
    return inputs


def planner(count: int, turns: int) -> float:
    """Milliseconds for one host, the median of some turns."""
    hosts = names(count)
    wanted = serve(hosts)
    inputs = inputs_for(wanted, hosts)
    found = []
    for _turn in range(turns):
        started = time.perf_counter()
        result = plan_inventory(inputs, wanted)
        found.append((time.perf_counter() - started) * 1000 / count)
        assert len(result.plans) == count, result.refusals
    return statistics.median(found)


def applied(plans: dict[str, Any], looked: dict[str, Any]) -> None:
    """All that the roles are told for each member."""
    for host, plan in plans.items():
        typed = Plan.from_dict(plan)
        unit = plan_application.units(typed)[0]
        assert unit["launch"]["group"]["members"][-1]["host"] in plans
        plan_application.release_layout(typed, {unit["unit_path"]: str(unit)})
        assert plan_application.firewall_table(typed)
        assert len(members.peers(plan, host)) == len(plans) - 1
        assert members.errors(looked, plan, host, 30.0) == []


def group(count: int, turns: int) -> tuple[float, float]:
    """Milliseconds of processor time for one member of one group, planned and applied; the medians of some turns."""
    hosts = names(count)
    wanted = {"glm": {"model": "glm-4.7-int8", "hosts": hosts}}
    inputs = inputs_for(wanted, hosts)
    looked = {host: {"unreachable": [], "offset": 0.0} for host in hosts}
    planned, told = [], []
    for _turn in range(turns):
        started = time.process_time()
        result = plan_inventory(inputs, wanted)
        planned.append((time.process_time() - started) * 1000 / count)
        assert len(result.plans) == count, result.refusals
        plans = {host: plan.to_dict() for host, plan in result.plans.items()}
        started = time.process_time()
        applied(plans, looked)
        told.append((time.process_time() - started) * 1000 / count)
    return statistics.median(planned), statistics.median(told)


def playbook(count: int) -> float:
    """Seconds for playbooks/plan.yml on declared hosts."""
    hosts = names(count)
    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "hosts.yml"
        entries = "\n".join(f"        {host}:" for host in hosts)
        wanted = "\n".join(
            f"      {name}: {{model: glm-4.7-int8, hosts: [{entry['hosts'][0]}]}}"
            for name, entry in serve(hosts).items()
        )
        inventory.write_text(
            f"all:\n  children:\n    a800:\n      hosts:\n{entries}\n  vars:\n"
            f"    declared_hardware: {DECLARED}\n    serve:\n{wanted}\n",
            encoding="utf-8",
        )
        started = time.perf_counter()
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                str(ROOT / "playbooks/plan.yml"),
                "-i",
                str(inventory),
                "-e",
                f"plan_dir={folder}/plans",
            ],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - started
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(list((Path(folder) / "plans").glob("*.json"))) == count
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--turns", type=int, default=5)
    arguments = parser.parse_args()
    few, many = group(FEW, arguments.turns), group(MANY, arguments.turns)
    growth = sum(many) / sum(few)
    alone = planner(arguments.hosts, arguments.turns)
    whole = playbook(arguments.hosts)
    print(f"planner           {alone:6.2f} ms a host   (limit {LIMIT_PLANNER_MS:g})")
    print(f"playbooks/plan.yml {whole:5.1f} s for {arguments.hosts} hosts (limit {LIMIT_PLAYBOOK_S:g})")
    for count, (planned, told) in ((FEW, few), (MANY, many)):
        print(
            f"group of {count:3} hosts {planned:6.2f} ms a member to plan, {told:5.2f} ms to turn into what roles apply"
        )
    print(f"cost of a member   {growth:6.2f} x as much in the large group (limit {LIMIT_GROWTH:g})")
    good = alone < LIMIT_PLANNER_MS and whole < LIMIT_PLAYBOOK_S and growth < LIMIT_GROWTH
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
