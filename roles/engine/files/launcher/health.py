# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the health watch of this host orders for one instance. It can only be told to stop, never to do anything else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from decisions import one_line

DRAIN, STOP = "drain", "stop"
MOST_BYTES = 1 << 20
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Order:
    decision: str
    why: str
    returns: bool
    """Whether it may go away while the unit waits."""


def order(verdict: Any, instance: str, boot: str) -> Order | None:
    """Nothing where the verdict is of another boot, or nonsense: the engine goes on."""
    if not isinstance(verdict, dict) or verdict.get("boot") != boot:
        return None
    orders = verdict.get("instances")
    found = orders.get(instance) if isinstance(orders, dict) else None
    if not isinstance(found, dict) or found.get("decision") not in (DRAIN, STOP):
        return None
    return Order(
        str(found["decision"]), one_line(str(found.get("why") or ""), 400), found.get("returns") is True
    )


def read(path: str, instance: str, boot: str) -> Order | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return order(json.loads(stream.read(MOST_BYTES)), instance, boot)
    except (OSError, ValueError, RecursionError):
        return None
