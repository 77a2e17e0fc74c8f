# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of group_preflight_info: what its own clock says while the host says its own."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        begun = time.time()
        result: dict[str, Any] = self._execute_module(
            module_name="baremetal.sglang.group_preflight_info",
            module_args=self._task.args,
            task_vars=task_vars,
        )
        if "clock" in result:
            # The host looked at its clock before it spent time on the others.
            end = time.time() - float(result.pop("spent"))
            result["offset"] = round(float(result.pop("clock")) - (begun + end) / 2, 1)
        return result
