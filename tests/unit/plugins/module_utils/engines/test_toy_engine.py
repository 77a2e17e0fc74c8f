# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second engine is one package and one data folder: it is planned, started, probed, measured and ended.

tests/toy_engine holds both, and a server. They are put into a copy of the collection in which nothing else changes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import host as place
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.api import (
    chat,
    health,
    metrics,
    served_name,
    streaming,
    tokens_flow,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.check_context import CheckContext
from ansible_collections.baremetal.sglang.tests.unit.fixtures.toy_collection import TOY, plan_toy

ROOT = Path(__file__).parents[5]
LAUNCHER = ROOT / "roles/engine/files/launcher"
PROBE = ROOT / "roles/verify/files/probe.py"
SECONDS = 300
"""Far more than anything here takes: a busy machine is no failure."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a collection plans that has the toy beside its own engines."""
    return plan_toy(tmp_path_factory.mktemp("collections"), free_port())


def mine(planned: dict[str, Any]) -> dict[str, Any]:
    return dict(planned["plans"]["h1"]["instances"]["mine"])


def test_it_is_found_by_its_folder_and_named_where_another_is_asked_for(planned: dict[str, Any]) -> None:
    assert planned["engines"] == ["lightllm", "sglang", "toy"]
    assert "unknown engine toi" in " ".join(planned["unknown"])
    assert "use engine: lightllm or sglang or toy" in " ".join(planned["unknown"])


def test_it_is_planned_beside_the_others(planned: dict[str, Any]) -> None:
    instance, other = mine(planned), planned["plans"]["h1"]["instances"]["other"]
    assert (instance["engine"], instance["module"], instance["release"]["key"]) == (
        "toy", "toyengine.server", "1.0",
    )  # fmt: skip
    assert instance["argv"] == [
        "--name", "mine", "--port", str(instance["ports"][0]["port"]), "--weights", instance["weights"]["path"],
    ]  # fmt: skip
    variables = {item["name"]: item["value"] for item in instance["environment_variables"]}
    assert variables["TOY_THREADS"] == "1" and variables["TOY_CACHE"].endswith("/toy")
    assert not [name for name in variables if name.startswith("SGLANG")]
    assert instance["environment"]["versions"] == {"toyengine": "1.0"}
    assert (other["engine"], other["module"]) == ("sglang", "sglang.launch_server")
    assert [item["lock"].split("/")[:3] for item in planned["bundle"]] == [
        ["E", "sglang", "locks"], ["E", "toy", "locks"],
    ]  # fmt: skip
    assert any("release   1.0" in line for line in planned["shown"])
    assert planned["translated"] == [
        {"model": "/models/mine", "hosts": ["host-1"], "engine": "toy", "options": {"words-per-second": 5}}
    ]


def test_its_unit_and_what_the_launcher_reads(planned: dict[str, Any]) -> None:
    unit = next(item for item in planned["units"]["h1"] if item["name"] == "mine")
    assert (unit["unit"], unit["version"]) == ("sglang-mine.service", "1.0")
    launch = unit["launch"]
    assert launch["argv"][1:3] == ["-m", "toyengine.server"]
    assert launch["api"] == {
        "alive": "/live", "token": "/word",
        "first": {"path": "/first", "body": {"who": "mine"}, "tokens": ["said", "words"]},
    }  # fmt: skip
    assert launch["logs"]["ready"] == "toy: open"


def test_gateway_and_monitoring_ask_it_in_its_own_words(planned: dict[str, Any]) -> None:
    models = planned["gateways"]["h1"]["front"]["models"]
    assert {name: servers[0]["check"] for name, servers in models.items()} == {
        "mine": "/word", "other": "/health_generate",
    }  # fmt: skip
    inner = planned["gateways"]["h1"]["inner"]
    assert inner["checks"] == ["/health_generate", "/word"]
    assert inner["metrics"] == {"mine": "/numbers", "other": "/metrics"}
    assert planned["monitoring"]["h1"]["metrics"]["running"][-2:] == ["sglang:num_running_reqs", "toy_active"]


@pytest.fixture
def served(planned: dict[str, Any], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The toy under the real launcher, as its unit would run it, once it says READY."""
    (unit,) = [item for item in planned["units"]["h1"] if item["name"] == "mine"]
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    launch = {
        **unit["launch"],
        "argv": [sys.executable, *unit["launch"]["argv"][1:]],
        "environment": {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOY / "server")},
        "weights": str(weights), "state": str(tmp_path), "writable": [str(tmp_path)],
        "compiled": str(tmp_path / "compiled"),
    }  # fmt: skip
    (tmp_path / "launch.json").write_text(json.dumps(launch))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "n"))
        ear.settimeout(1)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", LAUNCHER, tmp_path / "launch.json"],
            env={"NOTIFY_SOCKET": str(tmp_path / "n"), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            said: list[str] = []
            while not any("READY=1" in item for item in said):
                assert process.poll() is None, said
                with contextlib.suppress(TimeoutError):
                    said.append(ear.recv(65536).decode())
            assert "serving mine on 127.0.0.1:" in said[-1]
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)


def test_it_starts_answers_counts_and_ends_in_order(
    planned: dict[str, Any], served: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    instance = mine(planned)
    url = f"http://127.0.0.1:{instance['ports'][0]['port']}"
    clients = f"{TOY / 'client'}:{ROOT / 'tests/lab/stand_in_engine'}"
    for token, wanted in (("/word", ""), ("/wrong", "/wrong answers HTTP 404")):
        words = [
            "--base-url",
            url,
            "--model",
            "mine",
            "--alive",
            "/live",
            "--token",
            token,
            "--timeout",
            str(SECONDS),
        ]
        done = subprocess.run(
            [sys.executable, PROBE, *words],
            env={**os.environ, "PYTHONPATH": clients}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = json.loads(done.stdout)
        assert said["ok"] is not bool(wanted) and wanted in str(said["error"]), said
    # verify.
    checked = next(item for item in planned["checks"] if item["instance"] == "mine")
    skipped = {item["name"]: item["skip"] for item in checked["checks"]}
    assert skipped["parser cases"] and skipped["budget"] and not skipped["chat"]
    kept = {"running", "queued", "generated", "prompt", "requests"}
    expected = {**checked["expected"], "metrics": sorted(kept & set(checked["expected"]["metrics"]))}
    context = CheckContext(
        Server(url, silence=SECONDS, limit=SECONDS), "mine", "u", expected, print, list, list
    )
    for check in (health, tokens_flow, served_name, metrics, chat, streaming, place.no_key):
        assert check(context)
    # bench.
    bench = yaml.safe_load((ROOT / "files/bench.yml").read_text(encoding="utf-8"))
    asked = {"kind": "load", "label": "toy", "seed": 1, "input": 32, "output": 16, "concurrency": 2, "requests": 4,
             "warm_up": 0}  # fmt: skip
    record = point.run(
        point.CheckContext(
            Server(url, silence=SECONDS, limit=SECONDS), "mine", bench["thresholds"], str(tmp_path), 0,
            scale=prompts.Scale(4, 2), metrics=instance["api"]["metrics"], metric_names=instance["metrics"],
        ),
        asked,
    )  # fmt: skip
    assert record["server"]["completion_tokens"] == 4 * 16 and record["server"]["agrees"], record
    served.send_signal(signal.SIGTERM)
    out, _unused = served.communicate(timeout=SECONDS)
    assert served.returncode == 0 and b"toy: closed" in out, out
