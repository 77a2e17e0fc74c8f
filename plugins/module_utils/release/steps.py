# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a switch that hosts take together, and a stop, as the module release answers them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .host import Host
from .switching import RUNNING

NOTHING_BEFORE = "no other release has served here, so there is none to go back to"


def proved(host: Host) -> dict[str, Any]:
    answers = host.prove(host.found())
    return {"changed": False, "report": [f"{unit}: serves" for unit in sorted(answers)]}


def settled(host: Host, keep: int, dry: bool) -> dict[str, Any]:
    changed = host.settle(host.found())
    pruned = host.prune(keep, dry)
    return {"changed": changed or bool(pruned), "pruned": pruned, "report": []}


def returned(host: Host, why: str) -> dict[str, Any]:
    back = host.give_back(host.found(), why)
    report = [f"back on release {back}" if back else NOTHING_BEFORE]
    return {"changed": bool(back), "release": back, "report": report}


def stopped(host: Host, asked: Iterable[str], dry: bool) -> dict[str, Any]:
    """They start again with the next boot, or with restart.yml; what runs has the time that its unit gives it."""
    found = host.found()
    running = [unit for unit in asked if unit in found.units and found.units[unit].state in RUNNING]
    if not dry:
        host.systemctl("stop", *running)
    return {
        "changed": bool(running),
        "release": found.current,
        "report": [f"{unit} stops" for unit in running],
    }
