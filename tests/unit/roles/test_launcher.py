# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher decides, and the small things that it does itself."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "roles/engine/files/launcher"
POLICY = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))["engine"]
COUNTED = ["meta_info", "completion_tokens"]
SIGNALS = yaml.safe_load((ROOT / "files/engines/sglang/signals.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def launcher() -> Iterator[None]:
    """Its files find each other as they do on a host: beside the one that runs."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in ("decisions", "checks", "fabric", "processes", "notify"):
        sys.modules.pop(name, None)


# --- how far a start is ---

REAL_START = [
    ("[2026-11-21 11:35:39] Init parallel begin.", "joining the ranks"),
    ("[2026-11-21 11:35:41] Load weight begin. avail mem=20.61 GB", "loading weights"),
    ("Multi-thread loading shards:   0% Completed | 0/2 [00:00<?, ?it/s]", "loading 0 %"),
    ("Loading safetensors checkpoint shards:  37% Completed | 17/46 [00:10<00:17,  1.6it/s]", "loading 37 %"),
    ("Multi-thread loading shards: 100% Completed | 2/2 [00:00<00:00, 596.33it/s]", "loading 100 %"),
    ("[2026-11-21 11:35:41] Load weight end. elapsed=0.03 s, mem usage=0.00 GB.", "weights loaded"),
    ("[2026-11-21 11:35:42] KV Cache is allocated. dtype: torch.bfloat16", "cache allocated"),
    (
        "Capture target prefill CUDA graph begin. backend=tc_piecewise, avail mem=14.4 GB",
        "capturing prefill graphs",
    ),
    (
        "Capturing num tokens (num_tokens=8192 avail_mem=14.1 GB):   2%|1 | 1/58",
        "capturing prefill graphs 2 %",
    ),
    (
        "Capturing num tokens (num_tokens=4 avail_mem=12.1 GB): 100%|##| 58/58",
        "capturing prefill graphs 100 %",
    ),
    ("Capture target decode CUDA graph begin. This can take up to several minutes.", "capturing graphs"),
    ("Capturing batches (bs=256 avail_mem=11.9 GB):   2%|1    | 1/36", "capturing graphs 2 %"),
    ("Capturing batches (bs=160 avail_mem=11.9 GB):  50%|#####     | 4/8", "capturing graphs 50 %"),
    ("[2026-11-21 11:35:42] INFO:     Uvicorn running on http://127.0.0.1:30160", "warming up"),
]


def test_the_lines_of_a_real_start_become_a_status() -> None:
    from decisions import Progress

    progress = Progress.from_plan(SIGNALS)
    assert progress.status == "starting the engine"
    for line, status in REAL_START:
        assert progress.read(line), line
        assert progress.status == status
    assert not progress.said_ready
    assert progress.read("[2026-11-21 11:35:43] The server is fired up and ready to roll!")
    assert progress.said_ready


@pytest.mark.parametrize(
    "line",
    [
        "Multi-thread loading shards:  20% Completed",
        "Load weight begin. avail mem=1 GB",
        "nothing that is known",
        'INFO:     127.0.0.1:43714 - "GET /model_info HTTP/1.1" 200 OK',
    ],
)
def test_a_status_never_goes_back(line: str) -> None:
    from decisions import Progress

    progress = Progress.from_plan(SIGNALS)
    progress.read("Multi-thread loading shards:  37% Completed")
    assert not progress.read(line)
    assert progress.status == "loading 37 %"


@pytest.mark.parametrize(
    ("spent", "still", "says"),
    [
        (299, 299, ""),
        (301, 119, ""),
        (301, 121, "not ready after 301 s (planned: 300) and no progress for 121 s"),
        (1199, 1, ""),
        (1201, 1, "not ready after 1201 s, 4 times what was planned"),
    ],
)
def test_patience(spent: float, still: float, says: str) -> None:
    from decisions import Patience

    patience = Patience(300, 120, 1200, started=1000)
    patience.moved = 1000 + spent - still
    assert patience.at_an_end(1000 + spent) == says


# --- whether it lives ---


def test_silence_is_counted_from_the_last_token() -> None:
    from decisions import LivenessMonitor

    monitor = LivenessMonitor(
        POLICY["watch"]["silence_seconds"], POLICY["watch"]["stopped_seconds"], last_token=100
    )
    assert monitor.silence(100 + 41) == ""
    monitor.failed("/health_generate did not answer within 18 s")
    assert monitor.silence(100 + 43) == "no token for 43 s (/health_generate did not answer within 18 s)"
    monitor.answered(143)
    assert monitor.silence(144) == ""


def test_a_wedge_is_found_within_a_minute() -> None:
    """The silence and a look that was on its way, the tick, and systemd's own limit for the launcher."""
    watch = POLICY["watch"]
    assert watch["silence_seconds"] + watch["probe_seconds"] < 60
    assert watch["probe_seconds"] + 2 * watch["probe_limit_seconds"] > watch["silence_seconds"]
    assert watch["stopped_seconds"] < 60
    assert watch["watchdog_seconds"] <= 60
    # Within a group systemd ends a frozen agent hardly later than the others give it up, and never before.
    group = POLICY["group"]
    assert group["lost_seconds"] < group["watchdog_seconds"] <= group["lost_seconds"] + 3


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ([(0, "S"), (1, "R"), (30, "D")], ""),
        ([(0, "T"), (7, "T")], ""),
        ([(0, "T"), (8, "T")], "sglang::scheduler (process 7) has been stopped for 8 s"),
        ([(0, "T"), (5, "S"), (6, "T"), (13, "T")], ""),
        ([(0, "Z")], "sglang::scheduler (process 7) is gone"),
        ([(0, "")], "sglang::scheduler (process 7) is gone"),
    ],
)
def test_members(states: list[tuple[float, str]], says: str) -> None:
    from decisions import LivenessMonitor

    monitor = LivenessMonitor(42, 8, last_token=0)
    found = ""
    for now, state in states:
        found = monitor.members(now, {7: ("sglang::scheduler", state)})
    assert found == says


# --- last words ---

SCHEDULER_FAILED = """\
[2026-11-21 11:00:00] Scheduler hit an exception: Traceback (most recent call last):
  File "/x/scheduler.py", line 1, in run_scheduler_process
    scheduler = Scheduler()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.

[2026-11-21 11:00:01] Received sigquit from a child process. It usually means the child failed.
Traceback (most recent call last):
  File "/x/engine.py", line 1, in launch
RuntimeError: Rank 0 scheduler died during initialization (exit code: -9).
"""
CRASHED = "Subprocess scheduler_0 (pid=6328) crashed with exit code -9. Triggering SIGQUIT for cleanup..."
KILLED = f"""\
[2026-11-30 17:20:00] {CRASHED}
[2026-11-30 17:20:01] INFO:     Shutting down
"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (SCHEDULER_FAILED, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("usage: x\nlaunch_server.py: error: argument --port: invalid int value: 'a'\n",
         "launch_server.py: error: argument --port: invalid int value: 'a'"),
        ("Traceback\nRuntimeError: Rank 0 scheduler died\n", "RuntimeError: Rank 0 scheduler died"),
        (KILLED, CRASHED),
        (f"{KILLED}RuntimeError: Rank 0 scheduler died (exit code: -9).\n", CRASHED),
        (f"torch.OutOfMemoryError: CUDA out of memory.\n{KILLED}", "torch.OutOfMemoryError: CUDA out of memory."),
        ("[2026-11-21 11:00:00] the last line\n\n", "the last line"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_cause_is_the_first_error_of_the_end(text: str, cause: str) -> None:
    from decisions import LastWords

    words = LastWords()
    words.add(10, "ValueError: of a request an hour ago")
    for line in text.splitlines():
        words.add(100, line)
    assert words.cause(101) == cause


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (256, "ended with exit status 1"),
        (0, "ended with exit status 0"),
        (9, "was killed by signal 9; out of memory? see journalctl -k"),
        (15, "was killed by signal 15"),
    ],
)
def test_ending(status: int, says: str) -> None:
    from decisions import ending

    assert ending(status) == says
    assert ending(9, True) == "was killed by signal 9"
    assert ending(9, False, True) == "was killed by signal 9: out of memory, says the kernel"


def test_who_ran_out_of_memory_is_counted_by_the_kernel(tmp_path: Path) -> None:
    from processes import out_of_memory

    assert out_of_memory(str(tmp_path)) == 0
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:name=systemd:/x\n0::/system.slice/it\n")
    events = tmp_path / "sys/fs/cgroup/system.slice/it/memory.events"
    events.parent.mkdir(parents=True)
    events.write_text("low 0\noom 3\noom_kill 2\n")
    assert out_of_memory(str(tmp_path)) == 2
    events.write_text("nonsense\n")
    assert out_of_memory(str(tmp_path)) == 0


# --- starting again ---


def test_a_killed_launcher_left_no_reason() -> None:
    from decisions import Restarts

    first = Restarts.remembered(POLICY["restart"], None, "boot", 100)
    first.begin(100)
    second = Restarts.remembered(POLICY["restart"], first.record(), "boot", 101)
    assert second.last_reason == "it was killed before it could say why"
    second.reason = "the disk is full"
    third = Restarts.remembered(POLICY["restart"], second.record(), "boot", 102)
    assert third.last_reason == "the disk is full"


def test_the_wait_between_starts_names_the_last_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import decisions

    told = importlib.util.spec_from_file_location("launcher_main", FOLDER / "__main__.py")
    assert told and told.loader
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    made = object.__new__(module.Launcher)
    made.restarts = decisions.Restarts([0.0, 0.01], 60, failures=[0.0])
    made.stop, made.wake, said = False, threading.Event(), []
    made.systemd = type("Systemd", (), {"status": lambda _self, *words: said.append(words[0])})()
    made._back_off()
    assert said == ["waiting 0 s before start 2 of 2; the last one: it was killed before it could say why"]


def test_failures_wait_longer_and_end() -> None:
    from decisions import Restarts

    record: Any = None
    delays = []
    for start in range(9):
        now = 100.0 * start
        restarts = Restarts.remembered(POLICY["restart"], record, "boot", now)
        if restarts.exhausted:
            break
        delays.append(restarts.delay)
        restarts.begin(now)
        restarts.reason = f"reason {start}"
        record = json.loads(json.dumps(restarts.record()))
    assert delays == POLICY["restart"]["delays"]
    assert restarts.words("out of memory") == "gave up after 5 failed starts: out of memory"
    # Who starts it then, by hand, has all of them again.
    assert Restarts.remembered(POLICY["restart"], restarts.record(gave_up=True), "boot", 900).failures == []


@pytest.mark.parametrize(
    ("record", "failures"),
    [
        ({"boot": "b", "failures": [1000.0, 4000.0]}, [1000.0, 4000.0]),
        ({"boot": "b", "failures": [100.0, 4000.0]}, [4000.0]),
        ({"boot": "other", "failures": [4000.0]}, []),
        # A clock that is behind the record is another boot's.
        ({"boot": "b", "failures": [9000.0]}, []),
        ({"boot": "b", "failures": "nonsense"}, []),
        ([], []),
        (None, []),
    ],
)
def test_only_failures_that_count_are_remembered(record: Any, failures: list[float]) -> None:
    from decisions import Restarts

    assert Restarts.remembered(POLICY["restart"], record, "b", 4500.0).failures == failures


# --- last checks ---

LISTED = """\
0, GPU-aaa, NVIDIA A800-SXM4-80GB, 4
1, GPU-bbb, NVIDIA A800-SXM4-80GB, 30211
2, GPU-ccc, NVIDIA A800-SXM4-80GB, 30211
3, GPU-ddd, NVIDIA GB10, [N/A]
"""
APPS = "GPU-bbb, 4711\nGPU-bbb, 4712\n"


@pytest.mark.parametrize(
    ("planned", "says"),
    [
        ([(0, "NVIDIA A800-SXM4-80GB")], []),
        ([(1, "NVIDIA A800-SXM4-80GB")], ["GPU 1 is used by process 4711, 4712: end it"]),
        (
            [(2, "NVIDIA A800-SXM4-80GB")],
            ["GPU 2 has 30211 MiB in use by no process that can be seen: .*reset the GPU"],
        ),
        ([(3, "NVIDIA GB10")], []),
        ([(3, "NVIDIA A800-SXM4-80GB")], ["GPU 3 is a NVIDIA GB10, the plan has a NVIDIA A800-SXM4-80GB"]),
        ([(7, "")], ["GPU 7 is not there.*"]),
        ([(1, ""), (2, "")], ["GPU 1 is used.*", "GPU 2 has.*"]),
    ],
)
def test_gpus(planned: list[tuple[int, str]], says: list[str]) -> None:
    from decisions import gpu_problems

    wanted = [{"index": index, "product": product} for index, product in planned]
    found = [
        problem.what for problem in gpu_problems(wanted, LISTED, APPS, [], POLICY["checks"]["gpu_used_mib"])
    ]
    assert len(found) == len(says)
    assert all(re.fullmatch(pattern, text) for pattern, text in zip(says, found, strict=True)), found


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (x)\nGCC version: 1\n",
         "580.159.04"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n", "550.54.15"),
        ("", None),
    ],
)  # fmt: skip
def test_driver(text: str, version: str | None) -> None:
    from decisions import driver_problem, driver_version

    assert driver_version(text) == version
    assert driver_problem("", version) == []
    (problem,) = driver_problem("570.1.2", version)
    assert ("not loaded" in problem.what) == (version is None)
    assert driver_problem(version or "", version) == []


@pytest.mark.parametrize(
    ("loaded", "starts"),
    [("580.95.05", True), ("580.105.08", True), ("580.65.06", True), ("580.65.05", False), ("590.1", False)],
)
def test_a_point_release_of_the_driver_starts(loaded: str, starts: bool) -> None:
    """An update of the packages within the branch must not keep a server down after the reboot."""
    from decisions import driver_note, driver_problem

    drivers = {"from": "580.65.06", "below": "581"}
    assert (driver_problem("580.95.05", loaded, drivers) == []) is starts
    assert bool(driver_note("580.95.05", loaded)) is (loaded != "580.95.05")


def test_weights_of_a_manifest(tmp_path: Path) -> None:
    import checks

    (tmp_path / "a.safetensors").write_bytes(b"1234")
    (tmp_path / "b.safetensors").write_bytes(b"12")
    (tmp_path / "d.json").mkdir()
    names = ("a.safetensors", "b.safetensors", "c.safetensors", "d.json")
    manifest = {"files": [{"path": name, "size": 4} for name in names]}
    (tmp_path / ".weights.json").write_text(json.dumps(manifest))
    (tmp_path / ".published.json").write_text(json.dumps({"times": {"a.safetensors": 1}}))
    (problem,) = checks.weights(str(tmp_path))
    assert "a.safetensors was written to after it was verified" in problem.what
    assert "b.safetensors has 2 bytes, not 4" in problem.what
    assert "c.safetensors is missing and 1 more" in problem.what
    (problem,) = checks.weights(str(tmp_path / "nowhere"))
    assert problem.what.startswith("there are no weights in")


def test_a_folder_of_the_user_s_own_needs_a_config(tmp_path: Path) -> None:
    import checks

    assert "no config.json" in checks.weights(str(tmp_path))[0].what
    (tmp_path / "config.json").write_text("{}")
    assert checks.weights(str(tmp_path)) == []


def test_port_and_disk(tmp_path: Path) -> None:
    import checks
    from decisions import space_problem

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        (problem,) = checks.port("127.0.0.1", number)
        assert f"port {number} on 127.0.0.1 is taken" in problem.what
        assert problem.passing
    assert checks.port("127.0.0.1", number) == []
    assert checks.space([str(tmp_path)], 1) == []
    assert "cannot be written to" in checks.space([str(tmp_path / "nowhere")], 1)[0].what
    (full,) = space_problem("/var/cache/x", 5 << 20, 128 << 20)
    assert full.what == "the disk of /var/cache/x is full: 5 MiB free, 128 MiB needed: make room"


def test_all_problems_in_one_line() -> None:
    from decisions import Problem, all_at_once

    line = all_at_once([Problem("one\ntwo"), Problem("three " * 300)])
    assert line.startswith("not started: one two; three")
    assert "\n" not in line
    assert len(line) <= 700


def test_compiled_code_of_long_gone_environments_goes() -> None:
    from decisions import superfluous

    folders = [("a", 1.0), ("b", 2.0), ("c", 3.0), ("own", 0.0)]
    assert superfluous(folders, "own", 3) == ["a"]
    assert superfluous(folders, "own", 1) == ["c", "b", "a"]
    assert superfluous([("own", 0.0)], "own", 1) == []


# --- what it does itself ---


def serve_once(answer: bytes) -> int:
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        peer, _unused = listener.accept()
        peer.recv(65536)
        peer.sendall(answer)
        peer.close()
        listener.close()

    threading.Thread(target=run, daemon=True).start()
    return int(listener.getsockname()[1])


def test_asking() -> None:
    import notify

    body = (
        b'HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"text": "a", "meta_info": {"completion_tokens": 1}}'
    )
    status, answer = notify.ask(("127.0.0.1", serve_once(body)), "POST", "/generate", {"a": 1})
    assert (status, notify.tokens_of(answer, COUNTED)) == (200, 1)
    assert notify.ask(("127.0.0.1", serve_once(b"HTTP/1.1 503 no\r\n\r\n")), "GET", "/health")[0] == 503
    assert notify.tokens_of(b"[]", COUNTED) == 0
    with pytest.raises(notify.NoAnswerError, match="is no HTTP"):
        notify.ask(("127.0.0.1", serve_once(b"SSH-2.0-x\r\n")), "GET", "/health")
    with pytest.raises(notify.NoAnswerError, match="nothing listens"):
        notify.ask(("127.0.0.1", serve_once(b"") and 1), "GET", "/health", seconds=1)


def test_an_answer_that_does_not_come() -> None:
    import notify

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(notify.NoAnswerError, match="/health did not answer within 0 s"),
    ):
        notify.ask(listener.getsockname()[:2], "GET", "/health", seconds=0.2)


def test_systemd_hears_the_status_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import notify

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        systemd = notify.Systemd(str(tmp_path / "notify"))
        systemd.status("loading\n37 %")
        systemd.status("loading 37 %")
        systemd.status("serving", "READY=1")
        assert listener.recv(4096) == b"STATUS=loading 37 %"
        assert listener.recv(4096) == b"STATUS=serving\nREADY=1"
    assert capfd.readouterr().out == "launcher: loading 37 %\nlauncher: serving\n"
    notify.Systemd("").status("nobody listens")


def test_a_process_s_end_and_its_tree() -> None:
    import processes

    pid, pipe = processes.spawn(
        [sys.executable, "-c", "import subprocess,sys,time;print('here',flush=True);"
         "subprocess.Popen([sys.executable,'-c','import time;time.sleep(60)']);time.sleep(60)"],
        dict(os.environ),
    )  # fmt: skip
    assert os.read(pipe, 4) == b"here"
    while len(processes.tree(pid)) < 2:
        pass
    members = processes.Members(pid, sys.executable)
    assert len(members.known) == 2
    assert {name for name, _state in members.states().values()} == {"the server", sys.executable}
    assert processes.ended(pid) is None
    processes.kill_tree(pid)
    status = None
    while status is None:
        status = processes.ended(pid)
    assert status == 9
    assert members.states()[pid][1] == ""
    os.close(pipe)


SHUT_OUT = """
import ctypes, encodings.ascii, encodings.idna, json, os, socket, sys
sys.path.insert(0, sys.argv[1])
import processes

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    # Starting a program, as a unit does, would allow this again.
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
both = sys.argv[2] == "both"
listener = socket.create_server(
    ("::" if both else "127.0.0.1", 0), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
)
port = listener.getsockname()[1]
server = os.fork()
if server == 0:
    peer, _ = listener.accept()
    while data := peer.recv(100):
        peer.sendall(data)
    os._exit(0)
listener.close()
said = {"root": os.getuid() == 0, "entered": []}
try:
    with socket.create_connection(("127.0.0.1", port)) as inside:
        inside.sendall(b"a")
        said["before"] = inside.recv(1).decode()
        said["shut"] = processes.refuse_connections(server, port)
        for address in ("127.0.0.1", "::1") if both else ("127.0.0.1",):
            try:
                socket.create_connection((address, port), timeout=1.5).close()
                said["entered"].append(address)
            except TimeoutError:
                pass
        inside.sendall(b"b")
        said["after"] = inside.recv(1).decode()
        said["other_port"] = processes.refuse_connections(server, 1)
finally:
    processes.kill_tree(server)
print(json.dumps(said))
"""


def test_connections_that_a_server_has_not_taken_are_counted() -> None:
    import processes

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert processes.waiting(port) == 0
        clients = [socket.create_connection(("127.0.0.1", port)) for _number in range(3)]
        assert processes.waiting(port) == 3
        taken = [server.accept()[0] for _client in clients]
        assert processes.waiting(port) == 0
        for link in (*clients, *taken):
            link.close()


@pytest.mark.parametrize("listens", ["loopback", "both"])
def test_a_plain_user_shuts_new_connections_out_and_lets_others_go_on(listens: str) -> None:
    if listens == "both" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    ran = subprocess.run(
        [sys.executable, "-I", "-B", "-c", SHUT_OUT, str(FOLDER), listens],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "root": False, "before": "a", "shut": True, "entered": [], "after": "b", "other_port": False,
    }  # fmt: skip


def test_nvidia_smi_is_found_on_the_planned_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import checks

    tool = tmp_path / "nvidia/bin/nvidia-smi"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\ncase $1 in *query-gpu*) echo '0, GPU-a, NVIDIA H200, 0' ;; esac\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    planned = [{"index": 0, "product": "NVIDIA H200"}]
    (missing,) = checks.gpus(planned, 100, "/nowhere:/else")
    assert missing.what.startswith("there is no nvidia-smi in /nowhere:/else: ")
    assert checks.gpus(planned, 100, f"/nowhere:{tool.parent}") == []


def test_the_planned_path_has_the_folder_of_drivers_that_a_host_is_lent() -> None:
    policy = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))
    assert policy["path"][-1] == "/usr/local/nvidia/bin"


# --- memory that GPU and CPU share ---

MEMINFO = "MemTotal:       127535084 kB\nMemFree:          500000 kB\nMemAvailable:    {left} kB\n"


@pytest.mark.parametrize(
    ("left", "floor", "says"),
    [
        (2600000, 2, ""),
        (2500000, 2, "the host has 2441 MiB of 124545 MiB memory left, less than 2 %"),
        (2500000, 0, ""),
    ],
)
def test_the_engine_goes_before_the_host_freezes(left: int, floor: float, says: str) -> None:
    from decisions import memory_problem

    found = memory_problem(MEMINFO.format(left=left), floor)
    assert found.startswith(says) and bool(found) is bool(says)


# --- the network between the members ---

DEVICE = {
    "name": "rocep1s0f1",
    "port": 1,
    "netdev": "enp1s0f1np1",
    "address": "10.0.1.1",
    "gid_types": ["RoCE v2"],
    "mtu": 9000,
    "rate_gbps": 200.0,
    "pcie_width": 4,
}
PORT = "class/infiniband/rocep1s0f1/ports/1"


@pytest.fixture
def sys_tree(tmp_path: Path) -> Path:
    for path, value in {
        f"{PORT}/state": "4: ACTIVE",
        f"{PORT}/rate": "200 Gb/sec (2X NDR)",
        f"{PORT}/gids/0": "fe80:0000:0000:0000:0200:5eff:fe00:5303",
        f"{PORT}/gid_attrs/types/0": "RoCE v2",
        f"{PORT}/gids/2": "0000:0000:0000:0000:0000:ffff:0a00:0101",
        f"{PORT}/gid_attrs/types/2": "IB/RoCE v1",
        f"{PORT}/gids/5": "0000:0000:0000:0000:0000:ffff:0a00:0101",
        f"{PORT}/gid_attrs/types/5": "RoCE v2",
        "class/infiniband/rocep1s0f1/device/current_link_width": "4",
        "class/net/enp1s0f1np1/mtu": "9000",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("", "", ""),
        (f"{PORT}/state", "1: DOWN", "rocep1s0f1 (enp1s0f1np1) is down"),
        (f"{PORT}/rate", "100 Gb/sec (2X HDR)", "runs at 100 Gb/s, planned: 200"),
        (f"{PORT}/gid_attrs/types/5", "IB/RoCE v1", "no RoCE v2 GID for 10.0.1.1"),
        ("class/net/enp1s0f1np1/mtu", "1500", "has MTU 1500, planned: 9000"),
        ("class/infiniband/rocep1s0f1/device/current_link_width", "2", "PCIe x2, planned: x4"),
    ],
)
def test_the_fabric_is_looked_at_before_every_start(
    sys_tree: Path, path: str, value: str, words: str
) -> None:
    from fabric import problems

    if path:
        (sys_tree / path).write_text(f"{value}\n")
    found = problems({"devices": [DEVICE], "sockets": False}, str(sys_tree))
    assert len(found) == bool(words), found
    assert words in "".join(found)


def test_a_device_that_is_gone_and_a_plan_without_rdma(sys_tree: Path) -> None:
    from fabric import problems

    (line,) = problems({"devices": [{**DEVICE, "name": "mlx5_0"}]}, str(sys_tree))
    assert "there is no RDMA device mlx5_0" in line
    assert problems({}, str(sys_tree)) == []


def test_sockets_are_used_only_where_the_inventory_allows_them(sys_tree: Path) -> None:
    import checks

    planned = {"devices": [{**DEVICE, "name": "mlx5_0"}], "sockets": False}
    assert [problem.passing for problem in checks.network(planned)] == [True]
    assert checks.network({**planned, "sockets": True}) == []


# --- a start that fails though the main process stays ---

WORKER = ["toy-worker", "-c", "import sys; print(flush=True); sys.stdin.read()"]
STAYS = f"""
import signal, subprocess, sys, time
signal.alarm(300)
def worker():
    return subprocess.Popen({WORKER}, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
print("toy: reading", flush=True)
first = worker()
while sys.argv[1] == "process":  # until one was seen, and is gone
    second = worker()
    time.sleep(1)
    second.kill()
    second.wait()
print({{"line": "ValueError: no such book\\ntoy: torn", "only-line": "toy: torn in two"}}[sys.argv[1]], flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("reaped", [False, True])
def test_a_process_that_a_start_needs_is_gone(reaped: bool) -> None:
    import processes

    with subprocess.Popen(
        WORKER, executable=sys.executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout and worker.stdin
        worker.stdout.readline()
        nobody, vital = processes.Starting(os.getpid(), ""), processes.Starting(os.getpid(), "toy-w")
        assert (nobody.gone(), vital.gone(), vital.gone()) == ("", "", "")
        worker.kill()
        os.waitid(os.P_PID, worker.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        assert vital.gone() == f"toy-worker (process {worker.pid}) is gone"
        assert nobody.gone() == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("line", "the start failed (reading the book): ValueError: no such book"),
        ("only-line", "the start failed (reading the book): toy: torn in two"),
        ("process", r"the start failed (toy-worker (process \d+) is gone)"),
    ],
)
def test_a_start_fails_though_the_main_process_stays(how: str, says: str, tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    launch = {
        "instance": "mine", "serves": "mine", "argv": [sys.executable, "-c", STAYS, how], "environment": {},
        "address": "127.0.0.1", "port": port, "head": True, "api": {"alive": "/live", "token": "/word", "first": {}},
        "weights": str(weights), "state": str(tmp_path), "writable": [str(tmp_path)],
        "checks": {"driver": "", "gpus": [], "gpu_used_mib": 0, "kernel_files": [], "free_bytes": 1, "settle_seconds": 0},
        "start": {"seconds": 300, "stall_seconds": 300, "most_seconds": 600}, "watch": POLICY["watch"],
        "drain_seconds": 1, "restart": POLICY["restart"], "compiled": str(tmp_path / "compiled"), "compiled_keep": 1,
        "logs": {"phases": [{"says": "toy: reading", "status": "reading the book"}], "ready": "toy: open", "quiet": "-",
                 "members": "toy-worker", "failed": {"says": "toy: torn", "gone": "toy-worker"}, "verdicts": []},
    }  # fmt: skip
    (tmp_path / "launch.json").write_text(json.dumps(launch))
    done = subprocess.run(
        [sys.executable, "-I", "-S", FOLDER, tmp_path / "launch.json"],
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    pattern = re.escape(says).replace(r"\\d\+", r"\d+")
    assert done.returncode == 1 and re.fullmatch(f"launcher: {pattern}", last), done.stdout + done.stderr
    assert json.loads((tmp_path / "starts.json").read_text())["reason"].startswith("the start failed")
