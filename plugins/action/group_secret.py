# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of group_secret: makes the secrets that no first host keeps."""

from __future__ import annotations

import secrets
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash
from ansible_collections.baremetal.sglang.plugins.module_utils.service import group_secret


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        asked = dict(self._task.args)
        result: dict[str, Any] = self._execute_module(
            module_name="baremetal.sglang.group_secret", module_args=asked, task_vars=task_vars
        )
        if asked.get("state") != "kept" or result.get("failed"):
            return result
        anew = str(asked.get("rotate", False)).lower() in ("true", "yes", "1", "on")
        made = {
            name: secrets.token_hex(group_secret.BYTES)
            for name, found in result["secrets"].items()
            if anew or not found
        }
        return merge_hash(result, {"secrets": made})
