# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of swarm_content: sends what the host lacks over Ansible's own connection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

PROGRESS_SECONDS = 10


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        asked = dict(self._task.args)
        sends = bool(asked.get("source")) and not asked.get("source_on_host")
        result = self._half(asked, "probe" if sends else "whole", task_vars)
        if not sends or result.get("failed") or not result.get("lacking") or self._task.check_mode:
            return result
        source = Path(str(asked["source"]))
        unfit = [n for n in result["lacking"] if (source / n).is_symlink() or not (source / n).is_file()]
        if unfit:
            return {
                "failed": True,
                "msg": f"{source} on the controller lacks, as plain files: {', '.join(unfit[:5])}",
            }
        self._send(source, str(asked["folder"]), result, (task_vars or {}).get("inventory_hostname", ""))
        described = self._half(asked, "describe", task_vars)
        return described | {"changed": True, **{key: result[key] for key in ("lacking", "bytes")}}

    def _half(self, asked: dict[str, Any], step: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(
            module_name="baremetal.sglang.swarm_content",
            module_args=asked | {"step": step},
            task_vars=task_vars,
        )

    def _send(self, source: Path, folder: str, result: dict[str, Any], host: str) -> None:
        started = told = time.monotonic()
        sent = 0
        for name in result["lacking"]:
            self._connection.put_file(str(source / name), f"{folder}/{name}")
            sent += (source / name).stat().st_size
            now = time.monotonic()
            if now - told >= PROGRESS_SECONDS:
                told = now
                rate = sent / (now - started)
                self._display.display(
                    f"  {host}: {sent / 1e9:.2f} of {result['bytes'] / 1e9:.2f} GB over ssh, {rate / 1e6:.0f} MB/s, "
                    f"{(result['bytes'] - sent) / rate:.0f} s left"
                )
