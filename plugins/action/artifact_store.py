# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of artifact_store: sends what the host lacks over Ansible's own connection."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.sending import bring

MODULE = "baremetal.sglang.artifact_store"


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("source_on_host") or arguments.get("arrived"):
            return dict(self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars))
        return bring(self, MODULE, arguments, task_vars)
