# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of a server, its host and its GPUs: parsed and summed up. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .summary import spread

# In the order of nvidia-smi's answer.
GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "power.draw", "clocks.sm", "temperature.gpu")
GPU_NAMES = ("index", "busy_percent", "memory_mib", "power_w", "clock_mhz", "celsius")
GPU_QUERY = ("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits")


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
