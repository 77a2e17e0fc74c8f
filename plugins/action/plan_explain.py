# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells why not another release or model; the documentation is the module's."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import text_lines
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.explain import explain
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    COMMON_ARGUMENTS,
    make_inputs,
    plain,
)


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                **COMMON_ARGUMENTS,
                "release": {"type": "str", "default": ""},
                "model": {"type": "str", "default": ""},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        hosts = tuple(str(host) for host in (task_vars or {})["groups"]["all"])

        def variable(host: str, name: str) -> Any:
            value = hostvars[host].get(name)
            return None if value is None else plain(value)

        asked = plain(given)
        inputs, refusals = make_inputs(asked, hosts, variable)
        lines = text_lines(refusals)
        lines += explain(inputs, asked["serve"], asked["release"], asked["model"])
        self._display.display("\n".join(lines))
        return {"changed": False, "lines": lines}
