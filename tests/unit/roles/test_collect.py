# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collector of figures, on a host laid out in a folder."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "roles/monitoring/files/collect.py"
SPEC = importlib.util.spec_from_file_location("collect", SOURCE)
assert SPEC and SPEC.loader
collect = importlib.util.module_from_spec(SPEC)
# On a host it lies beside the collector.
sys.path.insert(0, str(ROOT / "plugins/module_utils/service"))
SPEC.loader.exec_module(collect)
sys.path.remove(str(ROOT / "plugins/module_utils/service"))

UNIT = "ActiveState=active\nSubState=running\nNRestarts=2\nActiveEnterTimestampMonotonic=1000000\nExecMainStatus=0\n"
GPUS = (
    "0, GPU-1, NVIDIA A800-SXM4-80GB, 41, 61.20, 97, 1024, 81920, 0\n"
    "1, GPU-2, NVIDIA A800-SXM4-80GB, 43, [N/A], 0, 0, 81920, [N/A]\n"
)


@pytest.fixture
def host(tmp_path: Path) -> dict[str, Any]:
    release = tmp_path / "opt/releases/abc"
    release.mkdir(parents=True)
    (tmp_path / "opt/current").symlink_to("releases/abc")
    instance = {
        "served_model_name": 'ti"ny',
        "unit": "sglang-a.service",
        "release": {"version": "0.5.23"},
        "parallel": {"node_rank": 1, "nnodes": 4},
    }
    plan = {"facts": {"gpus": [{}, {}], "driver": "580.95.05"}, "instances": {"a": instance}}
    (release / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "opt/releases/.switches.json").write_text(
        json.dumps({"unfinished": None, "failed": {"why": "x"}})
    )
    (tmp_path / "state/a").mkdir(parents=True)
    (tmp_path / "state/a/starts.json").write_text(json.dumps({"failures": [1.0, 2.0], "reason": "killed"}))
    (tmp_path / "state/a/group.json").write_text(
        json.dumps({"generation": 3, "missing": {"b": 1790000000.0}})
    )
    (tmp_path / "opt/releases/.verified.json").write_text(
        json.dumps({"a": {"time": 1790000000, "passed": 30, "failed": ["api: chat"]}})
    )
    rows = [
        {"from": "h1", "to": "h2", "kind": "bandwidth", "devices": [{"name": "x", "value": 90}, {"name": "y", "value": 95}]},
        {"from": "h2", "to": "h1", "kind": "bandwidth", "devices": [{"name": "x", "error": "lost"}]},
        {"from": "h1", "to": "h2", "kind": "latency", "devices": [{"name": "x", "value": 2.5}]},
        {"from": "h1", "to": "h3", "kind": "", "error": "gone"},
    ]  # fmt: skip
    (tmp_path / "measured.json").write_text(json.dumps({"time": 1790000000, "rows": rows}))
    weights = tmp_path / "weights/tiny/local"
    weights.mkdir(parents=True)
    (weights / ".published.json").write_text(json.dumps({"damaged": ["a", "b"]}))
    (tmp_path / "gateway/tls").mkdir(parents=True)
    (tmp_path / "gateway/tls/internal.crt").write_text("")
    port = tmp_path / "sys/class/infiniband/mlx5_0/ports/1"
    (port / "counters").mkdir(parents=True)
    (port / "state").write_text("4: ACTIVE\n")
    (port / "rate").write_text("200 Gb/sec (4X HDR)\n")
    (port / "counters/link_downed").write_text("1\n")
    (tmp_path / "driver/gpus/0").mkdir(parents=True)
    (tmp_path / "driver/version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.105.08  Release Build  (x)\n"
    )
    return {
        "root": str(tmp_path / "opt"),
        "state": str(tmp_path / "state"),
        "weights": str(tmp_path / "weights"),
        "gateway": str(tmp_path / "gateway"),
        "driver": str(tmp_path / "driver"),
        "sys": str(tmp_path / "sys"),
        "textfiles": str(tmp_path),
        "page": str(tmp_path / "page"),
        "snapshot": str(tmp_path / "snapshot.json"),
        "fabric": str(tmp_path / "measured.json"),
        "disks": [str(tmp_path), str(tmp_path / "opt"), "/nowhere"],
        "gpu": "nvidia-smi",
    }


def ask(words: list[str]) -> str:
    if words[0] == "systemctl":
        return UNIT
    if words[0] == "openssl":
        return "notAfter=Nov 21 20:06:18 2126 GMT\n"
    return GPUS


def figures(text: str) -> dict[str, float]:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line[:1] != "#"
    }


def test_every_part_of_a_host(host: dict[str, Any]) -> None:
    page = collect.collected(host, ask)
    assert page.errors == 0
    said = figures(page.text())
    labels = 'name="a",serves="ti\\"ny"'
    assert said[f"sglang_instance_serving{{{labels}}}"] == 1
    assert said[f"sglang_instance_restarts{{{labels}}}"] == 2
    assert said[f"sglang_instance_failed_starts{{{labels}}}"] == 2
    assert said[f"sglang_group_generation{{{labels}}}"] == 3
    assert said[f"sglang_group_members_missing{{{labels}}}"] == 1
    assert said[f"sglang_instance_members{{{labels}}}"] == 4
    assert said['sglang_verify_failed_checks{name="a"}'] == 1
    assert said['sglang_verify_time_seconds{name="a"}'] == 1790000000
    ends = 'sender="h1",receiver="h2"'
    assert said[f'sglang_fabric_gbps{{kind="bandwidth",{ends}}}'] == 185
    assert said['sglang_fabric_gbps{kind="bandwidth",sender="h2",receiver="h1"}'] == 0
    assert said[f"sglang_fabric_latency_seconds{{{ends}}}"] == 2.5e-6
    assert said["sglang_gpus_planned"] == 2 and said["sglang_gpus_found"] == 1
    assert said['sglang_driver_as_planned{planned="580.95.05",loaded="580.105.08"}'] == 0
    assert said["sglang_switch_failed"] == 1 and said["sglang_switch_unfinished"] == 0
    assert said[f'sglang_weights_damaged_files{{path="{host["weights"]}/tiny/local"}}'] == 2
    assert said['sglang_certificate_days_left{file="internal.crt"}'] > 30000
    assert said['sglang_gpu_power_watts{gpu="0",product="NVIDIA A800-SXM4-80GB"}'] == pytest.approx(61.2)
    assert said['sglang_gpu_busy_ratio{gpu="0",product="NVIDIA A800-SXM4-80GB"}'] == pytest.approx(0.97)
    assert not any("power_watts" in name and 'gpu="1"' in name for name in said), "[N/A] is no figure"
    assert said['sglang_rdma_port_active{device="mlx5_0",port="1"}'] == 1
    assert said['sglang_rdma_port_gbps{device="mlx5_0",port="1"}'] == 200
    assert said['sglang_rdma_port_link_downed{device="mlx5_0",port="1"}'] == 1
    assert len([name for name in said if name.startswith("sglang_disk_free")]) == 1, "one disk, once"


def test_a_part_that_cannot_be_read_hides_no_other(host: dict[str, Any]) -> None:
    Path(host["root"], "current/plan.json").write_text("{")

    def broken(words: list[str]) -> str:
        if words[0] == "nvidia-smi":
            raise subprocess.TimeoutExpired(words, 30)
        return ask(words)

    page = collect.collected(host, broken)
    said = figures(page.text())
    assert page.errors == 2
    assert said['sglang_collector_ok{part="instances"}'] == said['sglang_collector_ok{part="gpus"}'] == 0
    assert said['sglang_collector_ok{part="weights"}'] == 1


def test_what_root_sees_and_what_the_own_user_sees_are_one_page(
    host: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "collect.json"
    settings.write_text(json.dumps(host))
    (tmp_path / "page").mkdir()
    monkeypatch.setattr(collect.collected, "__defaults__", (ask, *collect.collected.__defaults__[1:]))
    opened: list[str] = []
    monkeypatch.setattr(collect, "read_object", lambda path: opened.append(path) or {"failures": [1]})
    monkeypatch.setattr(sys, "argv", ["collect.py", "--root", str(settings)])
    collect.main()
    assert opened == [], "root reads nothing of the service user"
    assert [path.name for path in (tmp_path / "page").iterdir()] == []
    monkeypatch.setattr(sys, "argv", ["collect.py", str(settings)])
    collect.main()
    said = figures((tmp_path / "page" / "sglang.prom").read_text())
    assert said['sglang_instance_failed_starts{name="a",serves="ti\\"ny"}'] == 1
    assert said['sglang_verify_failed_checks{name="a"}'] == 1 and said["sglang_collected_time_seconds"] > 0
    assert {name for name in said if name.startswith("sglang_collector_ok")} == {
        f'sglang_collector_ok{{part="{part.__name__}"}}' for part in (*collect.ROOT_PARTS, *collect.OWN_PARTS)
    }


def test_a_host_that_serves_nothing(host: dict[str, Any], tmp_path: Path) -> None:
    page = collect.collected({**host, "root": str(tmp_path / "none"), "gpu": "none"}, ask)
    assert page.errors == 0 and "sglang_instance_serving" not in page.text()


def test_the_page_appears_in_one_step(tmp_path: Path) -> None:
    collect.write(str(tmp_path), "a 1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sglang.prom"]
    assert (tmp_path / "sglang.prom").stat().st_mode & 0o777 == 0o644


def test_every_alert_names_a_section_of_the_runbook() -> None:
    rules = (ROOT / "roles/monitoring/files/rules.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", rules)
    books = re.findall(r"runbook: docs/monitoring\.md#(\w+)", rules)
    headings = re.findall(r"(?m)^### (\w+)$", (ROOT / "docs/monitoring.md").read_text(encoding="utf-8"))
    assert len(alerts) > 10 and [alert.lower() for alert in alerts] == books
    assert sorted(alerts) == sorted(headings)
    tested = (ROOT / "tests/lab/rules_test.yml").read_text(encoding="utf-8")
    assert [alert for alert in alerts if f'alertname="{alert}"' not in tested] == []
