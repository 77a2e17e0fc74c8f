# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How it is going, on one screen: figures of instances, and of hosts what will end sooner or later. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..health import report as health_report

Seen = Mapping[str, Any]
# What the engine calls them; summed over its ranks and labels, or the largest of them.
FIGURES: dict[str, tuple[str, Callable[[Iterable[float]], float]]] = {
    "tokens_per_second": ("tokens_per_second", sum),
    "running": ("running", sum),
    "queue": ("queued", sum),
    "cache_use": ("cache_use", max),
    "accept_length": ("accept_length", max),
}
"""Figure -> key of the engine's metrics, and what several series of it are together."""
LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{.*\})? +(\S+)")


@dataclass(frozen=True)
class Limits:
    certificate_days: int = 14
    free_gib: float = 5.0


def figures(page: str, names: Mapping[str, str]) -> dict[str, float]:
    """Out of the counters of an engine, by its names of them; what it does not say is not there."""
    values: dict[str, list[float]] = {}
    for line in page.splitlines():
        found = LINE.match(line)
        if found:
            try:
                value = float(found[2])
            except ValueError:
                continue
            if math.isfinite(value):
                values.setdefault(found[1], []).append(value)
    known = {
        key: (values.get(names.get(value, ""), []), together) for key, (value, together) in FIGURES.items()
    }
    return {key: float(together(found)) for key, (found, together) in known.items() if found}


def figures_words(said: Mapping[str, float]) -> str:
    words = []
    if "tokens_per_second" in said:
        words.append(f"{said['tokens_per_second']:.1f} tokens/s")
    if "running" in said:
        words.append(f"{said['running']:.0f} run")
    if "queue" in said:
        words.append(f"{said['queue']:.0f} wait")
    if "cache_use" in said:
        words.append(f"KV {said['cache_use'] * 100:.0f} %")
    if said.get("accept_length"):
        words.append(f"accepts {said['accept_length']:.2f}")
    return ", ".join(words)


def instance_words(unit: Seen) -> str:
    """What follows the address of an instance that serves."""
    words = [figures_words(unit.get("figures", {}))]
    if unit.get("members", 1) > 1:
        words.append(f"rank {unit.get('rank', 0)} of {unit['members']}")
    if unit.get("generation"):
        words.append(f"generation {unit['generation']}")
    if unit.get("restarts"):
        reason = f": {unit['last_reason']}" if unit.get("last_reason") else ""
        words.append(f"restarted {unit['restarts']} times{reason}")
    return "  ".join(filter(None, words))


def host_problems(seen: Seen, limits: Limits) -> list[str]:
    found = [
        f"certificate {item['file']} has {item['days_left']:.0f} days left (playbooks/gateway.yml renews it)"
        for item in seen["certificates"]
        if item["days_left"] < limits.certificate_days
    ]
    found += [
        f"{disk['path']} has {disk['free_gib']:.1f} GiB left"
        for disk in seen["disks"]
        if disk["free_gib"] < limits.free_gib
    ]
    found += [
        f"{item['subject']}: {item['what']}: {item['fix']}"
        for item in health_report.findings(seen.get("health") or {}, "HOST")
        if health_report.must_not_serve(item)
    ]
    found += [
        f"{unit} is {state} (journalctl -u {unit})"
        for unit, state in sorted(seen["services"].items())
        if state != "active"
    ]
    return found


def warning_line(host: str, said: Mapping[str, str]) -> str:
    words = "; ".join(filter(None, (said["what"], said["fix"])))
    return f"{host}  WARNING  {said['subject']}: {words}"


def host_line(host: str, seen: Seen, problems: Iterable[str]) -> str:
    words = [f"{disk['path']} {disk['free_gib']:.0f} GiB free" for disk in seen["disks"]]
    if seen["certificates"]:
        words.append(f"certificate {min(item['days_left'] for item in seen['certificates']):.0f} days")
    words += [
        f"{unit.partition('.')[0].replace('sglang-', '')} {state}"
        for unit, state in sorted(seen["services"].items())
    ]
    watch = health_report.line(seen.get("health") or {}, float(seen.get("now") or 0))
    words += [watch] if watch else []
    bad = list(problems)
    return f"{host}  {'PROBLEM' if bad else 'host'}  {', '.join(bad or words)}"
