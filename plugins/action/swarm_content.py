# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of swarm_content: sends what the host lacks over Ansible's own connection."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.streams import STREAM_BYTES, progress
from ansible_collections.baremetal.sglang.plugins.plugin_utils.sending import SendError, send


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        asked = dict(self._task.args)
        sends = bool(asked.get("source")) and not asked.get("source_on_host")
        result = self._half(asked, "probe" if sends else "whole", task_vars)
        if not sends or result.get("failed") or not result.get("lacking") or self._task.check_mode:
            return result
        source, transfer = Path(str(asked["source"])), result.pop("transfer")
        names = [name for name, *_unused in transfer["files"]]
        unfit = [name for name in names if (source / name).is_symlink() or not (source / name).is_file()]
        if unfit:
            return {
                "failed": True,
                "msg": f"{source} on the controller lacks, as plain files: {', '.join(unfit[:5])}",
            }
        host = str((task_vars or {}).get("inventory_hostname", ""))
        try:
            self._send(source, str(asked["folder"]), transfer, host)
        except (OSError, SendError) as error:
            return {
                "failed": True,
                "msg": f"{host}: {error}. Whole files that arrived are kept: run again to go on.",
            }
        described = self._half(asked, "describe", task_vars)
        return described | {"changed": True, **{key: result[key] for key in ("lacking", "bytes")}}

    def _send(self, source: Path, folder: str, transfer: dict[str, Any], host: str) -> None:
        """Small files as few long streams; a large one is the fastest as it is."""
        small = [entry for entry in transfer["files"] if entry[2] < STREAM_BYTES]
        send(self, transfer["python"], source, folder, small, host)
        large = [entry for entry in transfer["files"] if entry[2] >= STREAM_BYTES]
        total, sent, started = sum(entry[2] for entry in large), 0, time.monotonic()
        for name, target, size, _unused in large:
            self._connection.put_file(str(source / name), f"{folder}/{target}")
            sent += size
            self._display.display(f"  {host}: {progress(sent, total, time.monotonic() - started)}")

    def _half(self, asked: dict[str, Any], step: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return self._execute_module(
            module_name="baremetal.sglang.swarm_content",
            module_args=asked | {"step": step},
            task_vars=task_vars,
        )
