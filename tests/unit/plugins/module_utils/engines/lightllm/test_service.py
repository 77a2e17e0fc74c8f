# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher and the start program with a stand-in that has the bad habits of LightLLM."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import host as place
from ansible_collections.baremetal.sglang.tests.unit.fixtures import lightllm_stand_in

LAUNCHER = Path(__file__).parents[6] / "roles/engine/files/launcher"
SECONDS = 300


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Unit:
    """One instance in a folder; each start is a launcher of its own, as with systemd."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        planned = lightllm_stand_in.plan("h200-1", self.port)
        (unit,) = application.units(Plan.from_dict(planned))
        environment, weights, state = (folder / name for name in ("env", "weights", "state"))
        lightllm_stand_in.lay_out(environment, sys.executable, "packages")
        for made in (weights, state):
            made.mkdir()
        (weights / "config.json").write_text("{}")
        (folder / "start.py").write_text(unit["programs"]["flash/start.py"])
        argv = unit["launch"]["argv"]
        self.launch = {
            **unit["launch"],
            "argv": [sys.executable, str(folder / "start.py"), *argv[2:]],
            "environment": {
                **unit["launch"]["environment"],
                "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(environment / "packages"),
                "BAREMETAL_AUTOTUNE_DIRECTORY": str(folder / "autotune"),
            },
            "weights": str(weights),
            "state": str(state),
            "writable": [str(state)],
            # What lies beside it is taken away after a while.
            "compiled": str(folder / "cache/compiled"),
        }
        (folder / "launch.json").write_text(json.dumps(self.launch))
        self.said: list[str] = []
        self.log: list[str] = []

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        address = self.folder / "n"
        address.unlink(missing_ok=True)
        self.said, self.log = [], []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(str(address))
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", LAUNCHER, self.folder / "launch.json"],
                env={"NOTIFY_SOCKET": str(address), "PATH": os.environ["PATH"]},
                cwd=self.folder / "state",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )

            def hear() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        self.said.append(ear.recv(65536).decode())

            def read() -> None:
                assert process.stdout is not None
                self.log.extend(line.decode("utf-8", "replace").rstrip() for line in process.stdout)

            for work in (hear, read):
                threading.Thread(target=work, daemon=True).start()
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.wait(SECONDS)

    def until(self, words: str, process: subprocess.Popen[bytes]) -> str:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if found := next((item for item in self.said if words in item), ""):
                return found
            assert process.poll() is None or words in "".join(self.said), (self.said, self.log[-20:])
            time.sleep(0.05)
        raise AssertionError((words, self.said, self.log[-20:]))

    def ask(self, path: str, body: Any) -> http.client.HTTPResponse:
        peer = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        peer.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return peer.getresponse()

    def members(self) -> dict[int, str]:
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")[0].decode("utf-8", "replace")
                environment = (path.parent / "environ").read_bytes()
                if words.startswith("lightllm::") and str(self.folder).encode() in environment:
                    found[int(path.parent.name)] = words.rpartition("::")[2]
        return found


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(tmp_path)


def test_it_is_ready_after_a_token_and_reached_from_the_host_alone(unit: Unit) -> None:
    with unit.started() as process:
        assert "serving flash on 127.0.0.1:" in unit.until("READY=1", process)
        assert sorted(unit.members().values()) == [
            "api_server", "detokenization_server", "metric_manager", "model_infer:RANK0", "router_server",
        ]  # fmt: skip
        found = place._own_listeners(list(unit.members()))
        assert len(found) == 2 and {address for address, _port in found} == {"127.0.0.1"}
        # What was tuned lies outside the package.
        tuned = unit.folder / "autotune/triton_3.6.0/NVIDIA_H200/rotary"
        assert tuned.is_dir()
        assert not list((unit.folder / "env").rglob("autotune_kernel_configs"))
        shown = "\n".join(unit.said)
        assert "loading weights 50 %" in shown or "graphs captured" in shown or "importing" in shown
    log = "\n".join(unit.log)
    assert "monitor task queue is full" not in log and "GET /health" not in log
    assert "POST /generate" in log and "all start args" in log


def test_a_stream_that_runs_is_served_to_its_end_before_the_server_is_told_to_end(unit: Unit) -> None:
    with unit.started() as process:
        unit.until("READY=1", process)
        answer = unit.ask(
            "/v1/chat/completions", {"stream": True, "max_tokens": 40, "messages": [{"content": "hi"}]}
        )
        first = answer.readline()
        process.send_signal(signal.SIGTERM)
        unit.until("draining", process)
        rest = answer.read().decode()
        # Eight seconds of stream; the server itself cuts after three.
        assert first.startswith(b"data: ") and rest.rstrip().endswith("data: [DONE]") and '"39 "' in rest
        assert process.wait(SECONDS) == 0
    assert unit.said[-1] == "STATUS=stopped"


def test_a_restart_does_not_wait_for_old_connections(unit: Unit) -> None:
    for _each in range(2):
        with unit.started() as process:
            unit.until("READY=1", process)
            # The server closes first, which leaves its end in TIME_WAIT.
            assert unit.ask("/v1/chat/completions", {"stream": True, "max_tokens": 1, "messages": []}).read()
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
        assert not [line for line in unit.log if "has been used" in line]
        with open("/proc/net/tcp", encoding="ascii") as stream:
            cells = [line.split() for line in stream.read().splitlines()[1:]]
        assert [one for one in cells if one[1].endswith(f":{unit.port:04X}") and one[3] == "06"]


def test_a_failed_load_ends_the_start_and_is_named(unit: Unit) -> None:
    (unit.folder / "state/behave.json").write_text('{"load": "fails"}')
    with unit.started() as process:
        assert process.wait(SECONDS) != 0
    end = time.monotonic() + SECONDS
    while unit.members() and time.monotonic() < end:
        time.sleep(0.1)
    assert not unit.members()
    said = "\n".join(unit.said)
    assert "CUDA out of memory" in said or "start_router_process" in said, unit.said


@pytest.mark.parametrize(
    "role", ["metric_manager", "router_server", "detokenization_server", "model_infer:RANK0"]
)
def test_a_killed_process_ends_the_service(unit: Unit, role: str) -> None:
    with unit.started() as process:
        unit.until("READY=1", process)
        (pid,) = [pid for pid, name in unit.members().items() if name == role]
        os.kill(pid, signal.SIGKILL)
        assert process.wait(SECONDS) != 0
    assert role in "\n".join(unit.said) or "exited unexpectedly" in "\n".join(unit.said)
