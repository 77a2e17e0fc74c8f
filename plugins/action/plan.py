# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans the whole inventory at once on the controller; the documentation is the module's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.compare import differences
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    COMMON_ARGUMENTS,
    make_inputs,
    plain,
    with_refusals,
    without_harmless,
)

ARGUMENTS = {
    **COMMON_ARGUMENTS,
    "gateway": {"type": "raw"},
    "monitoring": {"type": "raw"},
    "plan_dir": {"type": "path", "default": ""},
    "show": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        hostvars = (task_vars or {})["hostvars"]
        hosts = tuple(str(host) for host in (task_vars or {})["groups"]["all"])

        def variable(host: str, name: str) -> Any:
            value = hostvars[host].get(name)
            return None if value is None else plain(value)

        asked = plain(given)
        inputs, refusals = make_inputs(asked, hosts, variable)
        made = plan_inventory(inputs, asked["serve"])
        result = with_refusals(made, without_harmless(inputs, asked["serve"], made, refusals))
        plans = {host: plan.to_dict() for host, plan in result.plans.items()}
        found = {host: variable(host, "plan_on_host") for host in plans}
        changes = {host: differences(found[host], plan) for host, plan in plans.items()}
        table = render(result)
        if given["show"]:
            self._display.display(table + "\n" + _words(found, changes))
        answer: dict[str, Any] = {"changed": False}
        if result.refusals:
            answer["refusals"] = [refusal.to_dict() for refusal in result.refusals]
            words = table.splitlines()[-1] if given["show"] else table
            return {**answer, "failed": True, "msg": words}
        answer.update(plans=plans, changes=changes, advice=[item.to_dict() for item in result.advice])
        answer.update(gateways=result.gateways, monitoring=result.monitoring)
        answer["table"] = table
        if given["plan_dir"]:
            answer["changed"] = self._write(Path(given["plan_dir"]).expanduser(), plans)
        return answer

    def _write(self, directory: Path, plans: Mapping[str, Any]) -> bool:
        changed = False
        for host, plan in plans.items():
            path = directory / f"{host}.json"
            text = json.dumps(plan, indent=2, sort_keys=True) + "\n"
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            changed = True
            if not self._task.check_mode:
                directory.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        return changed


def _words(found: Mapping[str, Any], changes: Mapping[str, list[str]]) -> str:
    lines = []
    for host, difference in changes.items():
        if not found[host]:
            continue
        if not difference:
            lines.append(f"{host}: equals the plan that the host has")
        else:
            lines += [f"{host}: {line}" for line in difference]
    return "\n".join(lines)
