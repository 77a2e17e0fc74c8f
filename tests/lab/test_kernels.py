# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the kernel file, out of a real journal on a Debian 12 host.

A unit writes what the release would: its sentences are those of the wheel, no GPU is here to make it say them.
"""

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
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_shelf
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

from .conftest import REPOSITORY, lab_name, write_inventory

PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
UNIT = "sglang-it"


@pytest.fixture(scope="module")
def lab(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from lab import Lab

    hosts = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn"}}}
    inventory = write_inventory(tmp_path_factory.mktemp("inventory"), lab_name("tiles"), hosts)
    made = Lab.from_inventory(inventory)
    made.inventory = inventory
    made.up()
    yield made
    made.down()


def log() -> dict[str, Any]:
    return dict(World(load_shelf([])).instance("a800", model="glm-4.7-int8").kernels["log"])


def start(lab: Any, *lines: str) -> None:
    """A new start of the unit, which goes on after its lines."""
    text = "".join(f"[2026-11-21 10:00:00 TP3] {line}\n" for line in ("loading", *lines, "ready"))
    lab.host("h1").ssh(f"cat >/run/said; systemctl stop {UNIT} 2>/dev/null; true", text_input=text)
    lab.host("h1").ssh(
        f"systemd-run --quiet --unit {UNIT} sh -c 'cat /run/said; exec sleep infinity'; journalctl --sync"
    )


def proof(lab: Any, tmp_path: Path, *words: str) -> str:
    task = {"name": "Which", "baremetal.sglang.kernels_loaded": {"unit": f"{UNIT}.service", "log": log()}}
    book = tmp_path / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}], width=1000))
    done = subprocess.run(
        [PLAYBOOK, "-v", "-i", str(lab.inventory), str(book), *words],
        cwd=REPOSITORY,
        env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    return f"{done.returncode} {done.stdout}"


def test_the_log_of_the_present_start_is_the_proof(lab: Any, tmp_path: Path) -> None:
    planned = log()
    (expected,) = planned["expected"]
    sentence = {item["outcome"]: item["text"] for item in planned["messages"]}

    def said(outcome: str) -> str:
        return str(
            sentence[outcome].format(wanted=expected["path"], used="/x/triton_3_1_0/y.json", triton="3.1.0")
        )

    assert proof(lab, tmp_path, "--check").startswith("0")
    assert "does not run" in proof(lab, tmp_path)
    start(lab, said("default"))
    failed = proof(lab, tmp_path)
    assert failed.startswith("2") and expected["name"] in failed and "default tiles" in failed
    start(lab, *[said("file")] * 8)
    passed = proof(lab, tmp_path)
    assert passed.startswith("0"), passed
    assert json.dumps(expected["name"])[1:-1] in passed
    start(lab)
    silent = proof(lab, tmp_path)
    assert silent.startswith("2") and "no line of the log" in silent
