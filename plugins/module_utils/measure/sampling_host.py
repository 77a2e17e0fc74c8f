# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What server, host and GPUs say of themselves while load runs, once a second, from a process of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any, Callable, Optional

from . import counters
from .samples import cpu_times, gpus, memory_available

Look = Callable[[], Optional[str]]
LookAtServer = Callable[[], "dict[str, float]"]


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Sampler:
    """Began in `start`, ended in `stop`; the samples lie in a file until then."""

    def __init__(self, path: str, seconds: float, look_at_gpus: Look, look_at_server: LookAtServer) -> None:
        self.path, self.seconds, self.look_at_gpus, self.look_at_server = (
            path,
            seconds,
            look_at_gpus,
            look_at_server,
        )
        self.pid = 0
        self.cpu_seconds = 0.0
        """What looking has cost, known after `stop`."""

    def start(self) -> None:
        if self.seconds <= 0:
            return
        self.pid = os.fork()
        if not self.pid:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.nice(5)
                self._run()
            finally:
                os._exit(0)

    def stop(self) -> list[dict[str, Any]]:
        if not self.pid:
            return []
        os.kill(self.pid, signal.SIGTERM)
        _pid, _status, used = os.wait4(self.pid, 0)
        self.pid, self.cpu_seconds = 0, used.ru_utime + used.ru_stime
        try:
            # The last line may have been cut by the signal.
            return [json.loads(line) for line in _text(self.path).split("\n")[:-1]]
        except OSError:
            return []

    def _run(self) -> None:
        parent, with_gpus = os.getppid(), True
        before = cpu_times(_text("/proc/stat"))
        following = time.monotonic()
        with open(self.path, "w", encoding="utf-8") as stream:
            while os.getppid() == parent:
                following += self.seconds
                time.sleep(max(0.0, following - time.monotonic()))
                entry: dict[str, Any] = {"at": round(time.monotonic(), 3), "wall": round(time.time(), 3)}
                now = cpu_times(_text("/proc/stat"))
                entry["host_cpu_percent"] = round(100 * (now[0] - before[0]) / max(1, now[1] - before[1]), 1)
                before = now
                entry["host_memory_available_mib"] = memory_available(_text("/proc/meminfo"))
                counted = self.look_at_server()
                if counted:
                    entry["server"] = counters.gauges(counted)
                text = self.look_at_gpus() if with_gpus else None
                with_gpus = bool(text)
                if text:
                    entry["gpus"] = gpus(text)
                stream.write(json.dumps(entry) + "\n")
                stream.flush()
