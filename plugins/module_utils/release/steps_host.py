# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a switch that hosts take together, and a stop, as the module release answers them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..runtime.store_host import RefusedError
from . import standby_host as standbys
from .host import Host
from .switching import RUNNING, Found, Switch, together

NOTHING_BEFORE = "no other release has served here, so there is none to go back to"


ALONE: dict[str, Any] = {"changed": False, "alone": True, "peers": [], "former": [], "report": []}


def start(host: Host, found: Found, decided: Switch, dry: bool) -> dict[str, Any]:
    """Everything but the proof; nothing where the host serves alone, before and after."""
    live, wanted = found.releases.get(found.current), found.releases[decided.to]
    former, peers = together(live.plan if live else None), together(wanted.plan)
    if not peers and not former:
        return ALONE
    lines = host.words(found, decided)
    # In check mode a release that is only imagined has nothing that could lack.
    there = decided.changes and os.path.dirname(wanted.folder) == host.releases
    gone = host.lacking(wanted, live) if there else []
    if gone:
        raise RefusedError(
            f"release {decided.to} cannot serve: {'; '.join(gone)}: site.yml brings what it needs"
        )
    if not dry:
        host.begin(found, decided)
    shown = {"before": "", "after": "".join(f"{line}\n" for line in lines)} if decided.changes else {}
    return {
        "changed": decided.changes,
        "alone": False,
        "peers": peers,
        "former": former,
        "release": decided.to,
        "report": lines,
        "diff": shown,
    }


def verify(host: Host) -> dict[str, Any]:
    answers = host.prove(host.found())
    return {"changed": False, "report": [f"{unit}: serves" for unit in sorted(answers)]}


def commit(host: Host, keep: int, dry: bool) -> dict[str, Any]:
    changed = host.settle(host.found())
    pruned = host.prune(keep, dry)
    return {"changed": changed or bool(pruned), "pruned": pruned, "report": []}


def roll_back(host: Host, why: str) -> dict[str, Any]:
    back = host.give_back(host.found(), why)
    report = [f"back on release {back}" if back else NOTHING_BEFORE]
    return {"changed": bool(back), "release": back, "report": report}


def stopped(host: Host, asked: Iterable[str], dry: bool) -> dict[str, Any]:
    """They start again with the next boot, or with restart.yml; what runs has the time that its unit gives it."""
    found = host.found()
    running = [unit for unit in asked if unit in found.units and found.units[unit].state in RUNNING]
    if not dry:
        host.systemctl("stop", *running)
        standbys.end(host)
    return {
        "changed": bool(running),
        "release": found.current,
        "report": [f"{unit} stops" for unit in running],
    }
