# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the branch of a host's driver is maintained."""

from __future__ import annotations

from typing import Any

from ..core.refusals import Advice
from ..facts.schema import HostFacts
from .case import Inputs


def driver_advice(inputs: Inputs, host: HostFacts) -> list[Advice]:
    """A branch that gets no more fixes, by files/drivers.yml and the controller's date."""
    version = host.driver.version if host.driver else ""
    branch = version.partition(".")[0]
    entry: dict[str, Any] = inputs.drivers.get(branch, {})
    ends = str(entry.get("ends", ""))
    ended = bool(entry.get("ended")) or bool(ends and inputs.today and ends < inputs.today[:7])
    if not host.gpus or not ended:
        return []
    lasting = sorted(
        (name for name, item in inputs.drivers.items() if item.get("long_term") and not item.get("ended")),
        key=int,
    )
    kept = [
        name for name in lasting if not inputs.today or str(inputs.drivers[name]["ends"]) >= inputs.today[:7]
    ]
    when = f" since {ends}" if ends else ""
    return [
        Advice(
            "driver-branch-ended",
            host.host,
            f"driver {version}",
            f"branch {branch} gets no more fixes{when}; long-term branches: {', '.join(kept) or 'none known'}",
        )
    ]
