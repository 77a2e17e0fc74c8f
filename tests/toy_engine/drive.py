# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the toy with the collection that it was put into, and prints what follows: run in a process of its own."""

from __future__ import annotations

import json
import sys

from ansible_collections.baremetal.sglang.plugins.module_utils.engines import registry
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.case import Inputs
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import translate
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import derive
from ansible_collections.baremetal.sglang.plugins.plugin_utils.engine_data import OURS, read_one
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files

PORT, HOST = int(sys.argv[1]), sys.argv[2]
SERVE = {
    "mine": {
        "engine": "toy",
        "model": "glm-4.7-tiny",
        "hosts": [HOST],
        "device": "cpu",
        "port": PORT,
    },
    "other": {"model": "glm-4.7-tiny", "hosts": [HOST], "device": "cpu", "port": PORT + 1},
}
data_files = load_data_files([])
facts = HostFacts.from_dict(
    {"os": "debian-12", "arch": "x86_64", "memory_gib": 40},
    HOST,
    hardware=data_files.catalogues.hardware,
    systems=data_files.systems["operating_systems"],
    driver_cuda=data_files.systems["driver_cuda"],
)
inputs = Inputs(
    facts={HOST: facts},
    catalogues=data_files.catalogues,
    policy=data_files.policy,
    risks=data_files.risks,
    engines=data_files.engines,
    systems=data_files.systems["operating_systems"],
    gateway={"hosts": [HOST]},
    monitoring={"prometheus": HOST},
)
result = plan_inventory(inputs, SERVE)
wrong = plan_inventory(inputs, {"it": {**SERVE["mine"], "engine": "toi"}})
notes = translate(
    data_files.engines, data_files.catalogues.models, "toy serve /models/mine --words-per-second 5"
)
verify = read_one(OURS / "verify.yml", [])
plans = {host: plan.to_dict() for host, plan in result.plans.items()}
print(
    json.dumps(
        {
            "engines": registry.names(),
            "refusals": [line for item in (*data_files.refusals, *result.refusals) for line in item.lines()],
            "unknown": [line for item in wrong.refusals for line in item.lines()],
            "shown": render(result).splitlines(),
            "plans": plans,
            "units": {host: application.units(plan) for host, plan in result.plans.items()},
            "members": {host: application.members(plan) for host, plan in result.plans.items()},
            "bundle": application.bundle_environments(result.plans.values(), "E"),
            "gateways": result.gateways,
            "monitoring": result.monitoring,
            "checks": [check for plan in plans.values() for check in derive.checks(plan, verify, quick=True)],
            "translated": [entry.values for entry in notes.entries],
        }
    )
)
