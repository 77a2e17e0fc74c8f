# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that decide a fan-out and put it into words."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.sglang.plugins.filter.apply_plan import plain
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import plan as swarm_plan


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def shim(*values: Any) -> Any:
        try:
            return function(*(plain(value) for value in values))
        except swarm_plan.SwarmError as error:
            raise AnsibleFilterError(f"REFUSED  {error}") from error

    return shim


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "swarm_plan": _filter(swarm_plan.swarm_plan),
            "swarm_plan_text": _filter(swarm_plan.swarm_plan_text),
            "swarm_summary": _filter(swarm_plan.swarm_summary),
        }
