# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What server, host and GPUs say of themselves while load runs, once a second, from a process of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional

from . import counters
from .client import Server, ask
from .summary import spread

# In the order of nvidia-smi's answer.
GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "power.draw", "clocks.sm", "temperature.gpu")
GPU_NAMES = ("index", "busy_percent", "memory_mib", "power_w", "clock_mhz", "celsius")
GPU_QUERY = ("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits")
Look = Callable[[], Optional[str]]


def gpus(text: str) -> list[dict[str, float]]:
    """Values that a GPU does not have ([N/A], on boards that share the host's memory) are left out."""
    found = []
    for line in text.splitlines():
        entry = {}
        for name, word in zip(GPU_NAMES, line.split(",")):
            try:
                entry[name] = float(word)
            except ValueError:
                continue
        if entry:
            found.append(entry)
    return found


def cpu_times(text: str) -> tuple[int, int]:
    """(busy, all) ticks out of /proc/stat."""
    words = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]
    idle = words[3] + words[4]
    return sum(words) - idle, sum(words)


def memory_available(text: str) -> float | None:
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Sampler:
    """Began in `start`, ended in `stop`; the samples lie in a file until then."""

    def __init__(self, path: str, server: Server, seconds: float, look_at_gpus: Look) -> None:
        self.path, self.server, self.seconds, self.look_at_gpus = path, server, seconds, look_at_gpus
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
                reply = ask(self.server, "/metrics")
                if reply.good:
                    entry["server"] = counters.gauges(counters.parse(str(reply.body)))
                text = self.look_at_gpus() if with_gpus else None
                with_gpus = bool(text)
                if text:
                    entry["gpus"] = gpus(text)
                stream.write(json.dumps(entry) + "\n")
                stream.flush()


def summary(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A line a quantity: middle value and range over the point."""
    columns: dict[str, list[float | None]] = {}

    def put(name: str, value: Any) -> None:
        if isinstance(value, (int, float)):
            columns.setdefault(name, []).append(float(value))

    for entry in samples:
        put("host_cpu_percent", entry.get("host_cpu_percent"))
        put("host_memory_available_mib", entry.get("host_memory_available_mib"))
        server: Mapping[str, Any] = entry.get("server", {})
        for name, value in server.items():
            put(name, value)
        for gpu in entry.get("gpus", []):
            for name in GPU_NAMES[1:]:
                put(f"gpu{int(gpu.get('index', 0))}_{name}", gpu.get(name))
    kept = ("median", "min", "max")
    found = {name: spread(values) for name, values in columns.items()}
    return {name: {key: value[key] for key in kept} for name, value in found.items() if value}
