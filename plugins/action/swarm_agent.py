# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of swarm_agent: waits by reading one small file, and tells how far each host is."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.host import LARGEST_STATUS
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.plan import blame, status_of
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.unit_host import NOTES

ASK_SECONDS = 1.0
PROGRESS_SECONDS = 5.0


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        asked = dict(self._task.args)
        result = self._execute_module(
            module_name="baremetal.sglang.swarm_agent", module_args=asked, task_vars=task_vars
        )
        if asked.get("state") != "complete" or result.get("failed") or self._task.check_mode:
            return result
        host = str((task_vars or {}).get("inventory_hostname", ""))
        names = dict(asked.get("part", {}).get("names", []))
        return result | self._wait(result["home"], result["unit"], host, names)

    def _wait(self, home: str, unit: str, host: str, names: dict[str, str]) -> dict[str, Any]:
        started = told = time.monotonic()
        while True:
            status, active = self._ask(home, unit)
            waited = {"status": status, "seconds": round(time.monotonic() - started, 1), "problem": ""}
            if status.get("complete"):
                return waited
            if not active:
                problem = status.get("problem") or "the agent was ended from outside"
                return waited | {"problem": f"{problem} ({progress(status, names)})" if status else problem}
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self._display.display(f"  {host}: {progress(status, names)}")
            time.sleep(ASK_SECONDS)

    def _ask(self, home: str, unit: str) -> tuple[dict[str, Any], bool]:
        """The status that the agent wrote, and whether its unit is there or about to start again."""
        # The agent may have put anything in the place of its file: no link is followed, no pipe is waited for.
        path = shlex.quote(f"{home}/{NOTES}/status.json")
        words = (
            f"dd if={path} iflag=nofollow,nonblock,fullblock bs={LARGEST_STATUS} count=1 2>/dev/null; echo; "
            f"systemctl is-active {shlex.quote(unit)}; true"
        )
        said = self._low_level_execute_command(words)
        lines = (said.get("stdout") or "").strip().splitlines()
        state = lines[-1] if lines else ""
        try:
            return status_of(json.loads(lines[0])), state in ("active", "activating")
        except (IndexError, ValueError, RecursionError):
            return {}, state in ("active", "activating")


def progress(status: dict[str, Any], names: dict[str, str]) -> str:
    if not status:
        return "nothing yet"
    done, total, rate = status["bytes"], max(status["total"], 1), status["rate"]
    words = f"{100 * done // total} %, {done / 1e9:.2f} of {total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s"
    if rate:
        words += f", {(total - done) / rate:.0f} s left"
    whom = ", ".join(f"{names.get(a, a)} {n / 1e9:.2f}" for a, n in status["from"].items())
    return ", ".join([words, *([f"GB from {whom}"] if whom else []), *blame(status, names)])
