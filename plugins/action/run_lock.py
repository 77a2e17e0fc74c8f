# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of run_lock: renews the lock while the run lives, and gives it back when the run is gone."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.core import run_lock_host as run_lock

LOOK_SECONDS = 0.2
LISTED = Path("/proc/self/fd")


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        main = os.getppid()
        started = start_of(main)
        given = {**self._task.args, "run": name_of(main, started), "owner": owner_of(main)}
        result: dict[str, Any] = self._execute_module(
            module_name="baremetal.sglang.run_lock", module_args=given, task_vars=task_vars
        )
        result.pop("invocation", None)
        if not result.get("failed") and not self._task.check_mode:
            self._renew_apart(main, started, given["run"])
        return result

    def _renew_apart(self, main: int, started: str, run: str) -> None:
        """In a process of its own: this one ends with its task, and the run may be killed at any time."""
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        # Twice, so that nobody has to wait for it; nothing below may return into Ansible's own code.
        try:
            if os.fork() == 0:
                self._renew(main, started, run)
        finally:
            os._exit(0)

    def _renew(self, main: int, started: str, run: str) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        close_streams()
        beat = time.monotonic()
        while start_of(main) == started:
            if time.monotonic() - beat >= run_lock.BEAT_SECONDS:
                beat = time.monotonic()
                with contextlib.suppress(Exception):
                    self._low_level_execute_command(run_lock.beat_command(run))
            time.sleep(LOOK_SECONDS)
        with contextlib.suppress(Exception):
            self._low_level_execute_command(run_lock.free_command(run))


def close_streams() -> None:
    """Whoever reads what the run prints must not wait for us."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir(LISTED)) if LISTED.is_dir() else range(256):
        _replace(number, nothing)


def _replace(number: int, nothing: int) -> None:
    with contextlib.suppress(OSError):
        # A file may be Ansible's own lock, which the connection still needs.
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.dup2(nothing, number)


def start_of(pid: int) -> str:
    """When a process began, which together with its number names it; empty when it is gone."""
    if not LISTED.is_dir():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return "unknown"
        return ""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    words = said.rpartition(")")[2].split()
    return "" if words[0] in "ZX" else words[19]


def name_of(main: int, started: str) -> str:
    said = f"{socket.gethostname()} {main} {started}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def owner_of(main: int) -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {main})"
