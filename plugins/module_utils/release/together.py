# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step that hosts take together was taken by all of them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Steps = Mapping[str, Sequence[Mapping[str, Any]]]


def bound(steps: Steps, host: str) -> list[str]:
    """The hosts whose fate is that of this one: members of its groups, of their other groups, and so on."""
    found, waiting = {host}, [host]
    while waiting:
        for peer in _peers(steps, waiting.pop()):
            if peer not in found:
                found.add(peer)
                waiting.append(peer)
    return sorted(found)


def _peers(steps: Steps, host: str) -> set[str]:
    said = {peer for step in steps.get(host, ()) for peer in step.get("peers", ())}
    # One that could not be asked is named by the others.
    return said | {
        other for other, results in steps.items() if any(host in step.get("peers", ()) for step in results)
    }


def trouble(steps: Steps, host: str) -> str:
    """What stands against going on, host by host; empty where all of this host's group are ready to."""
    found = []
    for name in bound(steps, host):
        for step in steps.get(name, ({"unreachable": True},)):
            if step.get("problem"):
                found.append(f"{name}: {step['problem']}")
            elif step.get("unreachable"):
                found.append(f"{name}: could not be reached")
            elif step.get("failed"):
                found.append(f"{name}: {step.get('msg', 'failed')}")
    return "\n".join(found)
