# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads while a playbook runs: stages, changes, reports, refusals."""

from __future__ import annotations

DOCUMENTATION = r"""
name: console
type: stdout
short_description: Stages, changes, reports and refusals, and nothing else
version_added: 0.1.0
description:
  - Prints a line for each stage, tasks that changed something, and what tasks report, as text.
  - A refusal is printed as the sentences it consists of, once for all hosts that got the same.
  - A task that takes long says so with its name and its seconds.
  - With C(-v), everything is printed as V(ansible.builtin.default) prints it.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - Set as C(stdout_callback).
"""

import os
import threading
import time
from typing import Any

from ansible import constants
from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

HIDDEN = ("display_ok_hosts", "display_skipped_hosts", "display_included_hosts")
LONG_SECONDS = 15
"""A task that runs so long is named, and again after each further one of these, less often with time."""
MOST_SECONDS = 120
ANSWERS = ("explain.yml", "plan.yml", "translate.yml")
"""Playbooks that answer a question: the answer is all that they print."""
OF_A_CRASH = ("cmd", "module_stderr", "module_stdout", "rc", "results", "stderr", "stdout")
"""Keys of a result that says more than its message."""


class CallbackModule(Default):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "baremetal.sglang.console"

    def __init__(self) -> None:
        super().__init__()
        self._answers = False
        self._said: tuple[str, str] = ("", "")
        self._running: tuple[str, float] = ("", 0.0)
        self._ended = threading.Event()
        threading.Thread(target=self._name_long_tasks, daemon=True).start()

    def get_option(self, k: str, hostvars: Any = None) -> Any:
        if k in HIDDEN and self._plain:
            return False
        return super().get_option(k, hostvars)

    @property
    def _plain(self) -> bool:
        return bool(self._display.verbosity == 0)

    # --- what runs ---

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._answers = os.path.basename(str(playbook._file_name)) in ANSWERS
        super().v2_playbook_on_start(playbook)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._running = ("", 0.0)
        if not self._plain:
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        if self._answers:
            return
        marker = " (check mode)" if play.check_mode else ""
        self._display.display(f"\n== {play.get_name().strip()}{marker}", color=constants.COLOR_HIGHLIGHT)

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        super()._task_start(task, prefix)
        self._running = (str(self._last_task_name or task.get_name()).strip(), time.monotonic())

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._ended.set()
        if not (self._answers and self._plain):
            super().v2_playbook_on_stats(stats)

    def _name_long_tasks(self) -> None:
        named: tuple[str, float] = ("", 0.0)
        after = LONG_SECONDS
        while not self._ended.wait(1):
            running = self._running
            if running != named:
                named, after = running, LONG_SECONDS
            seconds = time.monotonic() - running[1]
            if running[0] and self._plain and seconds >= after:
                after += min(max(LONG_SECONDS, after), MOST_SECONDS)
                self._display.display(f"   ... {running[0].rpartition(' : ')[2]}: {seconds:.0f} s")

    # --- what came of it ---

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._plain and self._is_report(result):
            if not (result.task.loop and "results" in result.result):
                self._report(result)
            return
        if self._plain and isinstance(result.task, TaskInclude):
            return
        super().v2_runner_on_ok(result)
        if self._plain and not result.result.get("changed", False):
            self._handle_warnings(result.result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        if self._plain and self._is_report(result):
            self._report(result)
            return
        super().v2_runner_item_on_ok(result)

    @staticmethod
    def _is_report(result: Any) -> bool:
        return str(result.task.action) in ("ansible.builtin.debug", "debug") and "msg" in result.result

    def _report(self, result: Any) -> None:
        msg = result.result["msg"]
        lines = [str(line) for line in msg] if isinstance(msg, list) else str(msg).splitlines()
        host = "" if result.task.run_once else f"{result.host.get_name()}: "
        for number, line in enumerate(lines):
            self._display.display(f"{host if number == 0 else ' ' * len(host)}{line}")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        said = self._message(result)
        if not said or ignore_errors or (result.task.loop and "results" in result.result):
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings(result.result)
        self._failed(result, said, "fatal")

    def v2_runner_item_on_failed(self, result: Any) -> None:
        said = self._message(result)
        if not said:
            super().v2_runner_item_on_failed(result)
            return
        self._handle_warnings(result.result)
        self._failed(result, said, "failed")

    def _message(self, result: Any) -> str:
        """The whole text of a failure that was written for people; empty for any other."""
        msg = result.result.get("msg")
        if not self._plain or not isinstance(msg, str) or not msg.strip():
            return ""
        crashed = "Traceback" in msg or any(
            result.result.get(key) for key in OF_A_CRASH if key != "exception"
        )
        return "" if crashed else msg.strip()

    def _failed(self, result: Any, said: str, word: str) -> None:
        """The same text for further hosts of the same task is not repeated."""
        again = self._said == (result.task._uuid, said)
        self._said = (result.task._uuid, said)
        if self._last_task_banner != result.task._uuid and not self._answers:
            self._print_task_banner(result.task)
        head = f"{word}: [{self.host_label(result)}]:"
        body = " as above" if again else (f"\n{said}" if "\n" in said else f" {said}")
        self._display.display(
            head + body, color=constants.COLOR_ERROR, stderr=self.get_option("display_failed_stderr")
        )
