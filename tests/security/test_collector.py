# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service user writes neither stops the metrics of a host nor the look at it, and hides no other instance."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.device_nodes import NVIDIA_SMI
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import host as doctor_look

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("collect", ROOT / "roles/monitoring/files/collect.py")
assert SPEC and SPEC.loader
collect = importlib.util.module_from_spec(SPEC)
sys.path.insert(0, str(ROOT / "plugins/module_utils/service"))
SPEC.loader.exec_module(collect)
sys.path.remove(str(ROOT / "plugins/module_utils/service"))

HOSTILE = {
    "fifo": None,
    "deep": b"[" * 200_000,
    "huge-integer": b'{"generation": ' + b"9" * 200_000 + b"}",
    "infinite": b'{"generation": 1e999}',
    "wrong-type": b'{"generation": "12", "failures": 7}',
    "large": b" " * (1 << 21),
    "binary": bytes(range(256)),
    "device": "/dev/zero",
    "link": "/etc/passwd",
}


def place(path: Path, content: bytes | str | None) -> None:
    if content is None:
        os.mkfifo(path)
    elif isinstance(content, str):
        path.symlink_to(content)
    else:
        path.write_bytes(content)


def collected(state: Path) -> tuple[str, int]:
    page = collect.Page()
    page.serves = {"a": "model-a", "b": "model-b"}
    page = collect.collected({"state": str(state)}, parts=[collect.records], page=page)
    return page.text(), page.errors


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["starts.json", "group.json"])
def test_a_hostile_record_hides_no_other_instance(
    tmp_path: Path, name: str, content: bytes | str | None
) -> None:
    for instance in ("a", "b"):
        (tmp_path / instance).mkdir()
    (tmp_path / "b" / "starts.json").write_text(json.dumps({"failures": [1, 2]}))
    (tmp_path / "b" / "group.json").write_text(json.dumps({"generation": 4, "missing": {}}))
    place(tmp_path / "a" / name, content)
    text, errors = collected(tmp_path)
    assert 'sglang_instance_failed_starts{name="b",serves="model-b"} 2.0' in text
    assert 'sglang_group_generation{name="b",serves="model-b"} 4.0' in text
    assert not re.search(r"inf|nan", text)
    # A record of the wrong type without a number to tell is no error.
    quiet = name == "starts.json" and content in (
        HOSTILE["wrong-type"],
        HOSTILE["infinite"],
        HOSTILE["huge-integer"],
    )
    assert errors == 1 or quiet


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_doctor_and_status_go_on_with_a_hostile_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str | None
) -> None:
    monkeypatch.setattr(doctor_look, "STATE", str(tmp_path))
    (tmp_path / "a").mkdir()
    place(tmp_path / "a" / "group.json", content)
    (tmp_path / "a" / "starts.json").write_text(
        json.dumps({"reason": "it ended \u001b]0;owned\u0007\n{{ lookup }}"})
    )
    found = doctor_look._record("a")
    assert found == {"generation": 0, "last_reason": "it ended ?]0;owned??{{ lookup }}"}


def exposure(tmp_path: Path, name: str, section: dict[str, Any]) -> float:
    """As systemd itself counts it, without a running unit."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "roles/monitoring/templates"), undefined=jinja2.StrictUndefined
    )
    text = templates.get_template(f"{name}.j2").render(monitoring_section=section, ansible_managed="x")
    (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


@pytest.mark.parametrize("gpu", ["nvidia-smi", "none"])
@pytest.mark.parametrize("name", ["sglang-metrics.service", "sglang-node-exporter.service"])
def test_units_of_monitoring_are_confined(tmp_path: Path, name: str, gpu: str) -> None:
    try:
        subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("systemd-analyze is not installed")
    folders = {"configuration": "/etc/sglang-monitoring", "textfiles": "/var/lib/a", "page": "/var/lib/b"}
    section = {
        "folders": folders,
        "collector": {"user": "sglang-metrics"},
        "devices": NVIDIA_SMI if gpu == "nvidia-smi" else (),
        "exporter": {"port": 9100},
    }
    assert exposure(tmp_path, name, section) <= 2.0
