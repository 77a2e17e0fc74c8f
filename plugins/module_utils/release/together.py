# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a step that hosts take together was taken by all of them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Steps = Mapping[str, Sequence[Mapping[str, Any]]]
KINDS = ("peers", "former")


def bound(steps: Steps, host: str) -> list[str]:
    """The hosts whose fate is that of this one: members of its groups, of their other groups, and so on."""
    found, waiting = {host}, [host]
    while waiting:
        for peer in _peers(steps, waiting.pop()):
            if peer not in found:
                found.add(peer)
                waiting.append(peer)
    return sorted(found)


def _peers(steps: Steps, host: str, *kinds: str) -> set[str]:
    named = {peer for step in steps.get(host, ()) for kind in kinds or KINDS for peer in step.get(kind, ())}
    # One that could not be asked is named by the others.
    return named | {
        other
        for other, results in steps.items()
        if any(host in step.get(kind, ()) for step in results for kind in kinds or KINDS)
    }


def errors(steps: Steps, host: str) -> str:
    """What stands against going on, host by host; empty where all of this host's group are ready to."""
    found = []
    for name in bound(steps, host):
        for step in steps.get(name, ()):
            if step.get("problem"):
                found.append(f"{name}: {step['problem']}")
            elif step.get("unreachable"):
                found.append(f"{name}: could not be reached")
            elif step.get("failed"):
                found.append(f"{name}: {step.get('msg', 'failed')}")
        # Who only was a member may be gone for good.
        if name not in steps and _peers(steps, name, "peers"):
            found.append(f"{name}: is a member and not part of this run: leave --limit out")
    return "\n".join(found)
