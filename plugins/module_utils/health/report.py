# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict of a host's health watch in words, for status and doctor. Pure; the verdict is the watch's own file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.text_checks import one_line
from .decide import DRAIN, STOP

STALE_SECONDS = 600.0
CLEAR = (
    "after a repair: ansible-playbook playbooks/health.yml -i INVENTORY --limit {host} -e health_clear=true"
)


def findings(verdict: Mapping[str, Any], host: str) -> list[dict[str, str]]:
    """{code, subject, what, fix, decision} of everything that was found."""
    found = []
    for item in verdict.get("findings") or ():
        if not isinstance(item, Mapping):
            continue
        fix = one_line(str(item.get("cure", "")))
        if item.get("returns") == "cleared":
            fix = f"{fix}; {CLEAR.format(host=host)}"
        found.append(
            {
                "code": re.sub(r"[^a-z0-9]+", "-", str(item.get("code", "")).lower()).strip("-"),
                "subject": one_line(str(item.get("subject", "GPUs"))),
                "what": one_line(str(item.get("what", ""))),
                "fix": fix,
                "decision": one_line(str(item.get("decision", ""))),
            }
        )
    return found


def must_not_serve(item: Mapping[str, str]) -> bool:
    return item["decision"] in (DRAIN, STOP)


def line(verdict: Mapping[str, Any], now: float) -> str:
    """What a host's line of the status screen says of the watch; empty where there is none."""
    if not verdict:
        return ""
    age = now - float(verdict.get("at") or 0)
    if age > STALE_SECONDS:
        return f"health watch silent for {age / 60:.0f} min"
    found = [item for item in verdict.get("findings") or () if isinstance(item, Mapping)]
    hard = [item for item in found if item.get("decision") in (DRAIN, STOP)]
    orders = verdict.get("instances") or verdict.get("would") or {}
    words = f"health {verdict.get('mode')}"
    if orders:
        done = "" if verdict.get("instances") else "would "
        words += ", " + ", ".join(
            f"{done}{order.get('decision')} {name}" for name, order in sorted(orders.items())
        )
    elif hard or found:
        words += f", {len(found)} findings"
    return words
