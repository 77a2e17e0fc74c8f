# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles verify and bench run for real, on this machine, against a server of known truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.tests.lab.engine_host import make_plan
from ansible_collections.baremetal.sglang.tests.unit.fixtures.truth_server import TruthServer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SMALL = {
    "bench_profile": "quick",
    "bench_blocks": 2,
    "bench_sample_seconds": 0,
    "bench_parameters": {"context": {"contexts": [400, 800], "output": 8}, "thinking": {"output": 8}},
}


@pytest.fixture
def server() -> Iterator[TruthServer]:
    with TruthServer(ttft=0.02, each=0.002) as found:
        found.routes["/v1/models"] = (200, {"data": [{"id": "tiny"}]})
        yield found


def play(folder: Path, port: int, role: str, entry: str, **said: Any) -> subprocess.CompletedProcess[str]:
    plan = make_plan("h1")
    del plan["instances"]["toy"]
    tiny = plan["instances"]["tiny"]
    tiny["ports"][0]["port"] = port
    # A model whose answers count; tools can be asked for.
    tiny["model"] = "glm-4.7-fp8"
    tiny["behaviour"]["tools"] = True
    tiny["weights"]["path"] = str(folder / "weights")
    task = {
        "name": "Do it",
        "ansible.builtin.include_role": {"name": f"baremetal.sglang.{role}", "tasks_from": entry},
    }
    playbook, inventory = folder / "play.yml", folder / "hosts.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"h1": local}}}))
    variables = folder / "said.json"
    variables.write_text(json.dumps({"plan_of_host": plan, **said}))
    return subprocess.run(
        [str(PLAYBOOK), "-i", str(inventory), str(playbook), "-e", f"@{variables}"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
        check=False,
    )


def test_a_run_is_reported_resumed_and_compared(server: TruthServer, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    asked = {**SMALL, "bench_scenarios": "context,thinking,speculative", "bench_report_dir": str(reports)}
    done = play(tmp_path, server.port, "bench", "main", **asked)
    assert done.returncode == 0, done.stdout[-4000:]
    result = json.loads((reports / "results.json").read_text())
    assert [record["point"]["key"] for record in result["records"]][:4] == [
        "context/400/0", "context/800/0", "context/800/1", "context/400/1",
    ]  # fmt: skip
    for record in result["records"]:
        assert record["valid"], record["why"]
        assert record["server"]["off"] == 0
    assert result["skipped"][0]["scenario"] == "speculative"
    assert (reports / "report.html").stat().st_size > 10_000
    assert "tiny 1/8  context/400/0" in done.stdout
    count = len(server.asked)
    again = play(
        tmp_path, server.port, "bench", "main", **asked, bench_baseline=str(reports / "results.json")
    )
    assert again.returncode == 0, again.stdout[-4000:]
    assert "8 of 8 points are kept" in again.stdout
    assert len(server.asked) == count
    compared = json.loads((reports / "results.json").read_text())["comparison"]
    assert {row["verdict"] for row in compared} == {"same"}


def test_what_was_measured_is_kept_when_nobody_answers_any_more(server: TruthServer, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    server.answer = lambda _asked: {"fault": "die"} if len(server.asked) > 8 else None
    done = play(
        tmp_path,
        server.port,
        "bench",
        "main",
        **SMALL,
        bench_scenarios=["context"],
        bench_report_dir=str(reports),
    )
    assert done.returncode != 0
    assert "nobody answers at" in done.stdout
    assert "run again to go on from there" in done.stdout
    result = json.loads((reports / "results.json").read_text())
    assert result["records"][0]["valid"]
    assert result["failures"]
    assert 1 < len(result["records"]) <= 4


def test_bad_words_are_refused_before_anything_is_asked(server: TruthServer, tmp_path: Path) -> None:
    wrong = {"bench_scenarios": ["contxt"], "bench_parameters": {"context": {"contexs": [1]}}}
    done = play(tmp_path, server.port, "bench", "main", **wrong, bench_report_dir=str(tmp_path / "no"))
    assert done.returncode != 0
    assert "did you mean context" in done.stdout
    assert "did you mean contexts" in done.stdout
    assert server.asked == []
    assert not (tmp_path / "no").exists()


def test_verify_shows_a_table_and_writes_junit(server: TruthServer, tmp_path: Path) -> None:
    server.answer = lambda asked: {"text": "There was a rack.", "tokens": 5, "reasoning": 0}
    done = play(
        tmp_path,
        server.port,
        "verify",
        "checks",
        verify_tags=["api", "thinking"],
        verify_report_dir=str(tmp_path / "v"),
    )
    rows = {row["name"]: row for row in json.loads((tmp_path / "v/verify.json").read_text())["rows"]}
    assert rows["chat"]["status"] == rows["streaming"]["status"] == "passed"
    assert rows["reasoning apart"]["status"] == "failed"
    assert "no reasoning_content" in rows["reasoning apart"]["said"]
    assert "<failure" in (tmp_path / "v/verify.xml").read_text()
    assert done.returncode != 0
    assert "FAILED  thinking: reasoning apart" in done.stdout
