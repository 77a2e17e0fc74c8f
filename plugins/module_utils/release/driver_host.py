# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the loaded driver can run a release, seen before anything stops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..facts.nvidia_driver import parse_proc_version
from ..planner.versions import version_key


def unfit_drivers(plan: Mapping[str, Any], path: str) -> list[str]:
    """`path: what is wrong`, for instances that would find another driver than those that serve their plan."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            loaded = parse_proc_version(stream.read())[0]
    except OSError:
        loaded = ""
    found = []
    for name, instance in sorted(plan.get("instances", {}).items()):
        checks = instance.get("service", {}).get("checks", {})
        planned, drivers = checks.get("driver", ""), checks.get("drivers")
        if not planned or loaded == planned:
            continue
        if drivers and version_key(drivers["from"]) <= version_key(loaded) < version_key(drivers["below"]):
            continue
        found.append(f"{path}: {name} was planned for driver {planned}, {loaded or 'none'} is loaded")
    return found
