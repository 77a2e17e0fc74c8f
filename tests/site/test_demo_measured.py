# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify, measure, try and take away, with the real engine on the demo's host."""

from __future__ import annotations

import json
import re
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import command, inside

CONTEXT = {"bench_parameters": {"context": {"contexts": [128, 512], "output": 24}}, "bench_blocks": 2}
BENCH = ("ansible-playbook", "playbooks/bench.yml", "-i", "inventories/lab", "-e", "bench_profile=quick")


def remains(clone: Path) -> str:
    """All that a server for a while could leave."""
    return inside(
        clone, "ansible", "lab-1", "-i", "inventories/lab", "-m", "ansible.builtin.shell", "-a",
        "ls -d /run/sglang-scratch /run/systemd/system/sglang-* /var/lib/sglang/* /var/cache/sglang/* 2>/dev/null;"
        "systemctl list-units --all --plain --no-legend 'sglang-*' | cut -d' ' -f1; ss -Htln | awk '$4 ~ /:31[0-9][0-9][0-9]$/'",
    )  # fmt: skip


def until_measured(folder: Path) -> None:
    """A point is kept, and the next one is being measured."""
    end = time.monotonic() + 900
    while not (folder / "records.jsonl").exists():
        assert time.monotonic() < end, f"no records.jsonl in {folder}"
        time.sleep(0.2)
    time.sleep(1)


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "results.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


def test_everything_that_is_planned_is_checked(clone: Path, folder: Path) -> None:
    output = inside(
        clone,
        "ansible-playbook",
        "playbooks/verify.yml",
        "-i",
        "inventories/lab",
        "-e",
        f"report_dir={folder}",
    )
    rows = {row["name"]: row for row in json.loads((folder / "verify.json").read_text())["rows"]}
    assert not [row for row in rows.values() if row["status"] == "failed"], output[-4000:]
    for name in ("chat", "streaming", "long prompt", "concurrency", "determinism", "parser cases, streamed",
                 "reasoning apart", "off", "loopback only", "no key in sight", "runs as its own user", "files", "metrics"):  # fmt: skip
        assert rows[name]["status"] == "passed", rows[name]
    for name, reason in (
        ("budget", "no thinking budget"),
        ("401 without key", "no gateway"),
        ("image", "takes no images"),
    ):
        assert rows[name]["status"] == "skipped"
        assert reason in rows[name]["said"]
    suite = ET.parse(folder / "verify.xml").getroot()[0]
    assert int(suite.get("tests", 0)) == len(rows)


@pytest.mark.long
def test_a_tag_asks_for_its_checks_only(clone: Path, folder: Path) -> None:
    inside(
        clone, "ansible-playbook", "playbooks/verify.yml", "-i", "inventories/lab", "-e", f"report_dir={folder}",
        "--tags", "security",
    )  # fmt: skip
    rows = json.loads((folder / "verify.json").read_text())["rows"]
    assert {row["tag"] for row in rows} == {"security"}


@pytest.mark.long
def test_numbers_agree_with_the_server_and_a_second_run_is_compared(clone: Path, folder: Path) -> None:
    asked = (*BENCH, "-e", "bench_scenarios=context,accuracy", "-e", json.dumps(CONTEXT))
    inside(clone, *asked, "-e", f"report_dir={folder / 'one'}")
    first = results(folder / "one")
    assert len(first["records"]) == 4
    for record in first["records"]:
        assert record["valid"], record["why"]
        assert record["server"]["off"] == 0
    assert "random weights" in first["skipped"][0]["why"]
    assert first["instances"]["tiny"]["weights_manifest"]
    again = inside(clone, *asked, "-e", f"report_dir={folder / 'one'}")
    assert "4 of 4 points are kept" in again
    inside(
        clone,
        *asked,
        "-e",
        f"report_dir={folder / 'two'}",
        "-e",
        f"baseline={folder / 'one' / 'results.json'}",
    )
    assert {row["verdict"] for row in results(folder / "two")["comparison"]} <= {"same", "better", "worse"}
    assert "What changed?" in (folder / "two" / "report.html").read_text()


@pytest.mark.long
def test_a_baseline_of_another_model_is_refused_before_anything_is_asked(clone: Path, folder: Path) -> None:
    other = results(folder / "one")
    other["instances"]["tiny"]["model"] = "another"
    (folder / "other.json").write_text(json.dumps(other))
    done = command(
        *BENCH, "-e", f"report_dir={folder / 'no'}", "-e", f"baseline={folder / 'other.json'}", cwd=clone
    )
    assert done.returncode != 0
    assert "is of another model" in done.stdout
    assert "Nothing was asked" in done.stdout
    assert not (folder / "no").exists()


@pytest.mark.long
def test_smoke_leaves_nothing(clone: Path) -> None:
    before = remains(clone)
    output = inside(
        clone, "ansible-playbook", "playbooks/smoke.yml", "-i", "inventories/lab", "-e", "model=glm-4.7-tiny",
        "-e", json.dumps({"with": {"device": "cpu"}}),
    )  # fmt: skip
    assert re.search(r"answer   \w+", output)
    assert re.search(r"[1-9]\d* passed, 0 failed", output)
    assert remains(clone) == before


@pytest.mark.long
def test_a_sweep_prints_lines_for_the_inventory_and_a_killed_server_keeps_what_was_measured(
    clone: Path, folder: Path
) -> None:
    before = remains(clone)
    sweep = {
        "bench_blocks": 1,
        "sweep": {"settings": [{"options": {"chunked-prefill-size": 256}}],
                  "load": {"streams": 2, "input": 96, "output": 24, "requests": 4}},
    }  # fmt: skip
    inside(
        clone, *BENCH, "-e", f"report_dir={folder / 'sweep'}", "-e", "bench_scratch=beside", "-e", "bench_scenarios=sweep",
        "-e", json.dumps(sweep),
    )  # fmt: skip
    found = results(folder / "sweep")
    assert [record["point"]["setting"] for record in found["records"]] == [
        "as planned", "options={'chunked-prefill-size': 256}",
    ]  # fmt: skip
    assert all(record["valid"] for record in found["records"]), found["failures"]
    assert found["best"][0].startswith("#")
    yaml.safe_load("\n".join(found["best"]))
    assert remains(clone) == before

    killed = threading.Thread(
        target=lambda: (
            until_measured(folder / "dead"),
            command(
                "ansible", "lab-1", "-i", "inventories/lab", "-m", "ansible.builtin.command",
                "-a", "systemctl kill --signal=KILL sglang-tiny", cwd=clone,
            ),
        )
    )  # fmt: skip
    killed.start()
    long = {"bench_parameters": {"context": {"contexts": [96, 128], "output": 2048}}, "bench_blocks": 8}
    done = command(
        *BENCH,
        "-e",
        f"report_dir={folder / 'dead'}",
        "-e",
        "bench_scenarios=context",
        "-e",
        json.dumps(long),
        cwd=clone,
    )
    killed.join()
    assert done.returncode != 0
    assert "the server ended while it was measured" in done.stdout
    dead = results(folder / "dead")
    assert dead["failures"]
    assert "points are kept" in done.stdout
    inside(clone, "ansible-playbook", "site.yml", "-i", "inventories/lab", "--tags", "verify")
