# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the role weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application as plan_application
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.offers import (
    OffersError,
    held,
    rounds,
    to_bring,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain


def missing_weights(planned: Any, looked: Any, offers: Any, host: Any) -> list[dict[str, Any]]:
    try:
        return to_bring(plain(planned), plain(looked), plain(offers), str(host))
    except OffersError as error:
        raise AnsibleFilterError(str(error)) from error


def planned_weights(plan: Any) -> list[dict[str, Any]]:
    return plan_application.weights(Plan.from_dict(plain(plan)))


def weights_rounds(plans: Any, missing: Any) -> list[dict[str, Any]]:
    """Of a fan-out: the same for every host, so that they go through it together."""
    by_host = plain(missing)
    planned = {host: plan_application.weights(Plan.from_dict(plain(plans)[host])) for host in by_host}
    return rounds(planned, by_host)


def weights_held(plans: Any, looked: Any) -> dict[str, dict[str, Any]]:
    """What a late host can get from others, by host that was looked at."""
    by_host = plain(looked)
    return held(
        {host: plan_application.weights(Plan.from_dict(plain(plans)[host])) for host in by_host}, by_host
    )


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "planned_weights": planned_weights,
            "weights_held": weights_held,
            "weights_rounds": weights_rounds,
            "missing_weights": missing_weights,
        }
