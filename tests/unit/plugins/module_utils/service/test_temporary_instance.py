# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server beside what serves: what it is asked to be, and that it shares nothing that it would leave or take."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.kernels import VARIABLE
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service import temporary_instance as scratch
from ansible_collections.baremetal.sglang.tests.lab.engine_host import make_plan

LIVE = {
    "glm": {
        "model": "glm-4.7-fp8",
        "hosts": ["h1", "h2"],
        "port": 30000,
        "dist_port": 31000,
        "options": {"a": 1, "b": 2},
    }
}


def planned() -> dict[str, Any]:
    plan = make_plan("h1")
    plan["instances"]["bench-tiny"] = json.loads(
        json.dumps(plan["instances"].pop("tiny")).replace("/tiny", "/bench-tiny")
    )
    plan["instances"]["bench-tiny"] |= {"name": "bench-tiny", "unit": "sglang-bench-tiny.service"}
    return plan


def test_it_is_like_the_instance_with_the_setting_in_it() -> None:
    setting = {"speculative": False, "options": {"b": 3}, "kernel_files": False}
    found = scratch.serve(LIVE, "glm", "bench-glm", setting, "h1", 31007)
    assert found == {
        "bench-glm": {
            "model": "glm-4.7-fp8", "hosts": ["h1"], "port": 31007, "options": {"a": 1, "b": 3}, "speculative": False,
            "served_model_name": "glm",
        }
    }  # fmt: skip
    assert LIVE["glm"]["options"] == {"a": 1, "b": 2}


def test_it_takes_free_gpus_only() -> None:
    found = scratch.serve(LIVE, "glm", "bench-glm", {}, "h1", 31000, 2, [3, 5, 6])
    assert found["bench-glm"]["gpus"] == [3, 5]
    with pytest.raises(
        scratch.RefusedError, match=r"needs 4 GPUs on h1 and nobody uses: 3; .*bench_scratch=instead"
    ):
        scratch.serve(LIVE, "glm", "bench-glm", {}, "h1", 31000, 4, [3])
    assert "gpus" not in scratch.serve(LIVE, "glm", "bench-glm", {}, "h1", 31000, 4, None)["bench-glm"]


def test_nothing_of_it_lies_where_others_live() -> None:
    plan = planned()
    unit = scratch.unit_of(Plan.from_dict(plan), "bench-tiny")
    made = scratch.definition(
        Plan.from_dict(plan), "bench-tiny", "tiny", "[Service]\n", {"__main__.py": "pass\n"}
    )
    text = json.dumps([unit, made])
    assert "/opt/sglang/current" not in text
    assert made["writable"] == ["/var/lib/sglang/bench-tiny", "/var/cache/sglang/bench-tiny"]
    assert set(made["files"]) == {"launcher/__main__.py", "bench-tiny/launch.json"}
    launch = json.loads(made["files"]["bench-tiny/launch.json"])
    assert launch["argv"][0] == made["python"] == "/run/sglang-scratch/bench-tiny/bench-tiny/env/bin/python"
    assert unit["command"].split()[-1] == "/run/sglang-scratch/bench-tiny/bench-tiny/launch.json"


@pytest.mark.parametrize("kernel_files", [True, False])
def test_kernel_files_are_those_of_the_instance_or_none(kernel_files: bool) -> None:
    plan = planned()
    path = "/opt/sglang/current/bench-tiny/moe"
    plan["instances"]["bench-tiny"]["environment_variables"].append(
        {"name": VARIABLE, "value": path, "why": ""}
    )
    made = scratch.definition(Plan.from_dict(plan), "bench-tiny", "tiny", "", {}, kernel_files)
    launch = json.loads(made["files"]["bench-tiny/launch.json"])
    if kernel_files:
        assert made["links"]["bench-tiny/moe"] == "/opt/sglang/current/tiny/moe"
        assert launch["environment"][VARIABLE] == "/run/sglang-scratch/bench-tiny/bench-tiny/moe"
    else:
        assert made["folders"] == ["no-moe/configs"]
        assert launch["environment"][VARIABLE] == "/run/sglang-scratch/bench-tiny/no-moe"
        assert launch["checks"]["kernel_files"] == []


@pytest.mark.parametrize(
    ("listed", "used", "free"),
    [
        ("0, GPU-a, 3\n1, GPU-b, 3\n", "GPU-b\n", [0]),
        ("0, GPU-a, 40000\n1, GPU-b, 3\n", "", [1]),
        ("0, GPU-a, [N/A]\n", "", [0]),
        ("No devices were found\n", "", []),
        ("", "", []),
    ],
)
def test_a_gpu_is_free_when_nobody_uses_it(listed: str, used: str, free: list[int]) -> None:
    assert scratch.gpus_free(listed, used, 1500) == free
