# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of packages: the bundle's index goes along, archives that the host asks for follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.state import INDEX
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain
from ansible_collections.baremetal.sglang.plugins.plugin_utils.sending import bring

MODULE = "baremetal.sglang.packages"


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = plain(dict(self._task.args))
        if arguments.get("source_on_host"):
            return dict(self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars))
        index = Path(str(arguments.get("source") or "")) / INDEX
        if arguments.get("files") and index.is_file():
            # Bytes that are no UTF-8 make another hash, and the host refuses them.
            arguments["index"] = index.read_bytes().decode(errors="replace")
        return bring(self, MODULE, arguments, task_vars)
