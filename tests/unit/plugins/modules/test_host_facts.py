# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module itself, run as Ansible runs it, below a tree that looks like a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.modules import host_facts
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FakeHost, spark

COLLECTIONS = Path(__file__).parents[4] / "collections"


def run_module(check: bool = False, **options: Any) -> dict[str, Any]:
    arguments = {**options, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.baremetal.sglang.plugins.modules.host_facts"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path)


@pytest.mark.parametrize("check", [False, True])
def test_spark(host: FakeHost, check: bool) -> None:
    spark(host)
    answer = run_module(check, root=str(host.root), name="spark-1", products={"NVIDIA GB10": "gb10"})
    assert answer["changed"] is False
    facts = HostFacts.from_dict(answer["facts"])
    assert (facts.host, facts.gpus[0].model, facts.os.dgx, facts.faults) == ("spark-1", "gb10", "7.6.0", ())


def test_hanging_nvidia_smi(host: FakeHost) -> None:
    host.program("/usr/bin/nvidia-smi", "trap '' TERM; while :; do sleep 0.2; done")
    facts = run_module(root=str(host.root), command_timeout=3)["facts"]
    assert [fault["code"] for fault in facts["faults"]] == ["nvidia-smi-hangs"]


def test_this_machine() -> None:
    facts = HostFacts.from_dict(run_module()["facts"])
    assert (facts.host, facts.kernel, facts.arch) == (
        os.uname().nodename,
        os.uname().release,
        os.uname().machine,
    )
    assert [disk.path for disk in facts.disks] == ["/opt/sglang", "/var/lib/sglang", "/var/cache/sglang"]
    assert facts.memory_gib
    assert "probe-failed" not in {fault.code for fault in facts.faults}


def test_no_time_at_all_is_refused() -> None:
    answer = run_module(command_timeout=0)
    assert answer["failed"] is True
    assert "command_timeout" in answer["msg"]


def test_documented_keys_are_those_that_it_returns() -> None:
    documented = yaml.safe_load(host_facts.RETURN)["facts"]["contains"]
    assert set(documented) == set(run_module()["facts"])
