# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says of the service of an instance."""

from __future__ import annotations

from typing import Any


def test_log_verdicts_travel_in_the_plan(world: Any) -> None:
    verdict = {"name": "disk-full", "says": "No space left", "cause": "a disk is full", "cure": "make room"}
    facts = world.hosts("h200")
    asked = {"it": {"hosts": list(facts), "model": "glm-4.7-fp8"}}
    (plan,) = world.plan(facts, asked, log_verdicts=(verdict,)).plans.values()
    own = world.sglang.log_verdicts
    told = [{key: item[key] for key in ("says", "cause", "cure")} for item in (*own, verdict)]
    assert len(own) > 5 and plan.instances["it"].service["logs"]["verdicts"] == told
    assert plan.instances["it"].service["logs"]["ready"]


def test_the_drivers_that_serve_a_plan(world: Any) -> None:
    """Of the branch that the host has, from the floor of what was chosen on."""
    (plan,) = world.one("a800", model="glm-4.7-int8").plans.values()
    checks = plan.instances["it"].service["checks"]
    assert checks["driver"] == "550.54.15"
    assert checks["drivers"] == {"from": "550", "below": "551"}
    (plan,) = world.one("a800-580", model="glm-4.7-int8").plans.values()
    assert plan.instances["it"].service["checks"]["drivers"]["below"] == "581"
