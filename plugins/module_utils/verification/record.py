# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last result of each instance, kept on its host for monitoring."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from .run import FAILED, PASSED


def recorded(before: str, instance: str, results: Iterable[Mapping[str, Any]], now: float) -> str:
    """The text of the record with this result in it; what cannot be read is begun anew."""
    try:
        known = json.loads(before)
    except ValueError:
        known = {}
    kept = dict(known) if isinstance(known, dict) else {}
    states = [(item["status"], f"{item['tag']}: {item['name']}") for item in results]
    kept[instance] = {
        "time": round(now),
        "passed": sum(status == PASSED for status, _name in states),
        "failed": [name for status, name in states if status == FAILED],
    }
    return json.dumps(kept, indent=1, sort_keys=True) + "\n"
