# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of two plans: whatever restarts a server has a line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.compare import differences

PLAN: dict[str, Any] = {
    "collection": "0.9.0",
    "host_settings": {"directories": [{"path": "/opt/sglang", "owner": "root", "mode": "0755"}]},
    "instances": {
        "glm": {
            "model": "glm-4.7",
            "release": {"key": "0.5.23", "cuda": "cu130"},
            "environment": {"id": "a1", "python": "3.12", "interpreter": "", "backend": "uv"},
            "weights": {"path": "/srv/w", "bytes": 10},
            "parallel": {"hosts": ["gpu-1"]},
            "service": {
                "checks": {"driver": "580.95.05", "kernel_files": []},
                "drain_seconds": 60,
                "logs": {"verdicts": [{"says": "x" * 90}]},
            },
            "api": {"alive": "/health"},
        }
    },
}


def changed(*keys: str, value: Any) -> dict[str, Any]:
    plan = copy.deepcopy(PLAN)
    place = plan
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return plan


GLM = ("instances", "glm")
CASES = [
    (("collection",), "0.9.1", ["collection 0.9.0 -> 0.9.1"]),
    ((*GLM, "weights", "bytes"), 11, ["glm: bytes of the weights 10 -> 11"]),
    ((*GLM, "service", "drain_seconds"), 90, ["glm: service.drain_seconds 60 -> 90"]),
    (
        (*GLM, "service", "checks", "driver"),
        "580.105.08",
        ["glm: service.checks.driver 580.95.05 -> 580.105.08"],
    ),
    ((*GLM, "service", "checks", "kernel_files"), ["/a"], ["glm: service.checks.kernel_files [] -> ['/a']"]),
    ((*GLM, "service", "logs", "verdicts"), [], ["glm: service.logs.verdicts changed"]),
    ((*GLM, "api", "alive"), "/ready", ["glm: api.alive /health -> /ready"]),
    ((*GLM, "release", "key"), "0.5.24", ["glm: release 0.5.23 / cu130 -> 0.5.24 / cu130"]),
]


@pytest.mark.parametrize(("keys", "value", "lines"), CASES, ids=[".".join(case[0][-2:]) for case in CASES])
def test_what_restarts_a_server_is_said(keys: tuple[str, ...], value: Any, lines: list[str]) -> None:
    assert differences(PLAN, changed(*keys, value=value)) == lines


def test_equal_plans_differ_in_nothing() -> None:
    assert differences(PLAN, copy.deepcopy(PLAN)) == []


def test_new_and_removed_instances() -> None:
    assert differences(None, PLAN) == ["instance glm new: glm-4.7 on 0.5.23 / cu130"]
    assert differences(PLAN, None) == ["instance glm removed"]
    assert differences(None, None) == []
