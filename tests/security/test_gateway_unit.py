# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the gateway's unit is confined, as systemd itself judges it, and that HAProxy outlives what it may not do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

from .gateway_world import planner

TEMPLATE = Path(__file__).resolve().parents[2] / "roles/gateway/templates/sglang-gateway.service.j2"
# What is open, and why: docs/gateway.md, section Confinement.
HIGHEST = 2.2


@pytest.fixture(scope="module")
def unit() -> str:
    serve = {"a": {"model": "glm-4.7-tiny", "device": "cpu", "hosts": ["g1"]}}
    result = planner().plan({"g1": planner().host("cpu", "g1")}, serve, gateway={"hosts": ["g1"]})
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return template.render(ansible_managed="test", gateway_section=result.gateways["g1"])


def test_exposure(tmp_path: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "sglang-gateway.service").write_text(unit)
    done = subprocess.run(
        [
            "systemd-analyze",
            "security",
            "--offline=true",
            "--no-pager",
            tmp_path / "sglang-gateway.service",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= HIGHEST, done.stdout


def test_a_forbidden_call_fails_and_does_not_end_the_gateway(unit: str) -> None:
    """On hosts with several sockets HAProxy binds its threads, and sched_setaffinity is one of @resources."""
    assert "SystemCallErrorNumber=EPERM" in unit.splitlines()
