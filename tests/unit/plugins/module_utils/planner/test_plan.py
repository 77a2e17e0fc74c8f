# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan comes back from JSON as it was; a plan of another version is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.sglang.plugins.filter.apply_plan import FilterModule
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan, PlanError, plain


@pytest.mark.parametrize(
    ("kind", "count", "wanted"),
    [
        ("h200", 1, {"model": "glm-4.7-fp8"}),
        ("spark", 4, {"model": "glm-4.7-fp8"}),
        ("a800", 1, {"model": "glm-4.7-int8", "standby": True, "gpus": [0, 1, 2, 3]}),
        ("cpu", 1, {"model": "glm-4.7-tiny", "device": "cpu"}),
    ],
)
def test_it_comes_back_from_json_as_it_was(world: Any, kind: str, count: int, wanted: dict[str, Any]) -> None:
    result = world.one(kind, count, **wanted)
    for plan in result.plans.values():
        text = json.dumps(plan.to_dict(), sort_keys=True)
        back = Plan.from_dict(json.loads(text))
        assert json.dumps(back.to_dict(), sort_keys=True) == text
        assert plain(back.instances["it"].ports) == plain(plan.instances["it"].ports)
        assert back.instances["it"].behaviour == plan.instances["it"].behaviour


def test_nothing_planned_is_an_empty_plan() -> None:
    assert Plan.from_dict({}).instances == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 7}, "schema 7, and this version reads 1: plan again"),
        ({"schema": None}, "schema None"),
        ({"instances": []}, "instances: wants a mapping"),
        ({"colour": "red"}, "colour: unknown key"),
        ({"host": 5}, "host: wants text"),
    ],
)
def test_another_version_s_plan_is_refused(world: Any, change: dict[str, Any], says: str) -> None:
    (plan,) = world.one("h200", model="glm-4.7-fp8").plans.values()
    given = {**plan.to_dict(), **change}
    with pytest.raises(PlanError, match=says):
        Plan.from_dict(given)
    with pytest.raises(AnsibleFilterError, match=f"REFUSED  .*{says}"):
        FilterModule().filters()["planned_units"](given)


def test_a_missing_part_is_named(world: Any) -> None:
    given = next(iter(world.one("h200", model="glm-4.7-fp8").plans.values())).to_dict()
    del given["instances"]["it"]["weights"]
    given["instances"]["it"]["ports"][0]["port"] = "x"
    with pytest.raises(PlanError) as error:
        Plan.from_dict(given)
    assert "instances.it.weights: is missing" in str(error.value)
    assert "instances.it.ports[0].port: wants a whole number" in str(error.value)
