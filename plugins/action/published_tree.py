# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of published_tree: sends what the host lacks over Ansible's own connection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

PROGRESS_SECONDS = 10


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        step = "whole" if arguments.get("source_on_host") or arguments.get("state") == "absent" else "probe"
        result = self._half(arguments, step, task_vars)
        if step == "whole" or result.get("failed") or not result.get("changed") or self._task.check_mode:
            return result
        source = Path(str(arguments.get("source") or ""))
        absent = [name for name in result["lacking"] if not (source / name).is_file()]
        if absent:
            return {"failed": True, "msg": f"{source} on the controller lacks: {', '.join(absent[:5])}"}
        self._send(
            source, arguments["dest"] + ".partial", result, (task_vars or {}).get("inventory_hostname", "")
        )
        published = self._half(arguments, "publish", task_vars)
        return published | {key: result[key] for key in ("lacking", "bytes")}

    def _half(self, arguments: dict[str, Any], step: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(
            module_name="baremetal.sglang.published_tree",
            module_args=arguments | {"step": step},
            task_vars=task_vars,
        )

    def _send(self, source: Path, staging: str, result: dict[str, Any], host: str) -> None:
        started = told = time.monotonic()
        sent = 0
        for name in result["lacking"]:
            self._connection.put_file(str(source / name), f"{staging}/{name}")
            sent += (source / name).stat().st_size
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS:
                told = now
                rate = sent / (now - started)
                left = (result["bytes"] - sent) / rate
                self._display.display(
                    f"  {host}: {sent / 1e9:.2f} of {result['bytes'] / 1e9:.2f} GB, "
                    f"{rate / 1e6:.0f} MB/s, {left:.0f} s left"
                )
