# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of weights_staging: sends the manifest, which decides what else is sent."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import MANIFEST


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        manifest, text = arguments.pop("manifest", ""), arguments.pop("manifest_text", "")
        opened = self._half(arguments, "open", task_vars)
        if opened.get("failed") or self._task.check_mode:
            return opened
        if opened.get("manifest_wanted"):
            target = f"{opened['staging']}/{MANIFEST}"
            if manifest:
                self._connection.put_file(str(manifest), target)
            else:
                descriptor, path = tempfile.mkstemp()
                with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                    stream.write(str(text))
                self._connection.put_file(path, target)
                os.unlink(path)
        return self._half(arguments, "look", task_vars)

    def _half(self, arguments: dict[str, Any], step: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(
            module_name="baremetal.sglang.weights_staging",
            module_args=arguments | {"step": step},
            task_vars=task_vars,
        )
