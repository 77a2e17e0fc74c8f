# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the units of monitoring are confined, as systemd itself judges them."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.device_nodes import NVIDIA_SMI

from .gateway_world import planner

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/monitoring/templates"
HIGHEST = 2.0
FOLDER = "/etc/sglang-monitoring"


@functools.cache
def section() -> dict[str, Any]:
    """What the planner says for a host that serves and has Prometheus."""
    serve = {"a": {"model": "glm-4.7-tiny", "device": "cpu", "hosts": ["g1"]}}
    result = planner().plan({"g1": planner().host("cpu", "g1")}, serve, monitoring={"prometheus": "g1"})
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    return dict(result.monitoring["g1"])


def rendered(name: str, gpu: str = "none") -> str:
    template = jinja2.Template(
        (TEMPLATES / f"{name}.j2").read_text(encoding="utf-8"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    told = {**section(), "devices": NVIDIA_SMI if gpu == "nvidia-smi" else ()}
    return template.render(ansible_managed="test", monitoring_section=told)


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("sglang-node-exporter.service", "none"),
        ("sglang-prometheus.service", "none"),
        ("sglang-metrics.service", "none"),
        ("sglang-metrics.service", "nvidia-smi"),
    ],
)
def test_exposure(tmp_path: Path, name: str, gpu: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / name).write_text(rendered(name, gpu))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= HIGHEST, done.stdout


def test_the_exporter_cannot_read_the_key_of_prometheus() -> None:
    """The distribution's exporters run as user prometheus as well."""
    exporter, prometheus = rendered("sglang-node-exporter.service"), rendered("sglang-prometheus.service")
    assert "DynamicUser=true" in exporter and "User=prometheus" not in exporter
    assert f"{FOLDER}/tls" in exporter.partition("InaccessiblePaths=")[2].splitlines()[0]
    assert "SupplementaryGroups=sglang-monitoring" in prometheus
