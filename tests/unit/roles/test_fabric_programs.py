# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that run on hosts, with a tree and tools that look like a ConnectX at their edge."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.nics import lossless
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_nics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
FILES = ROOT / "roles/fabric/files"
QOS = """DCBX mode: OS controlled
Priority trust state: {trust}
PFC configuration:
    priority    0   1   2   3   4   5   6   7
    enabled     {enabled}
    buffer      0   0   0   1   0   0   0   0
tc: 0 ratelimit: unlimited, tsa: vendor
"""
BANDWIDTH = """                    RDMA_Write BW Test
 Dual-port       : OFF        Device         : rocep1s0f1
---------------------------------------------------------------------------------------
 #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]
 1048576    176555           0.00               92.57             0.011035
---------------------------------------------------------------------------------------
"""
STALLED = BANDWIDTH.replace("176555", "0").replace("92.57", "0.00").replace("0.011035", "0.000000")
LATENCY = """ #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec] 99% percentile
 2       1000          1.41           7.07         1.47                1.48            0.20           2.01            7.07
"""
LOST = """ Completion with error at client
 Failed status 12: wr_id 0 syndrom 0x81
scnt=128, ccnt=0
 Failed to complete run_iter_bw function successfully
"""


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gate() -> Any:
    return load(FILES / "gate.py")


# --- settings of the cards ---


NICS = shipped_nics()
PORT = {"priority": 3, "dscp": 26, "tos": 106, "netdev": "eth1", "device": "mlx5_0", "port": 1}


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """A port whose tool keeps what it is told in a file."""
    for path, value in {
        "sys/class/net/eth1/ecn/roce_np/enable/3": "0",
        "sys/class/net/eth1/ecn/roce_rp/enable/3": "1",
        "sys/kernel/config/rdma_cm/mlx5_0/ports/1/default_roce_tos": "0",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
    state = tmp_path / "qos"
    state.write_text(QOS.format(trust="pcp", enabled="0   0   0   0   0   0   0   0"))
    after = QOS.format(trust="dscp", enabled="0   0   0   1   0   0   0   0")
    program = tmp_path / "bin/mlnx_qos"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--pfc*) echo "$*" >>{tmp_path}/asked; cat >{state} <<\'END\'\n{after}END\n;; *) cat {state};; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("FABRIC_ROOT", str(tmp_path))
    wanted = tmp_path / "settings.json"
    wanted.write_text(
        json.dumps(
            {
                "priority": 3,
                "dscp": 26,
                "tos": 106,
                "ports": [
                    {"name": "mlx5_0", "port": 1, "netdev": "eth1", **lossless(NICS, NICS["connectx"], PORT)}
                ],
            }
        )
    )

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, FILES / "settings.py", *words, wanted],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_card_out_of_the_box_is_set_and_then_left_alone(card: Any, tmp_path: Path) -> None:
    status, said = card("--check")
    assert status == 3
    assert "eth1 does not trust DSCP" in said
    assert "eth1 has PFC not on priority 3 alone" in said
    assert "roce_np/enable/3: it is 0, not 1" in said
    assert "mlx5_0 has another type of service than 106: it is 0, not 106" in said
    assert card() == (0, "")
    assert (tmp_path / "asked").read_text() == "-i eth1 --trust dscp --pfc 0,0,0,1,0,0,0,0\n"
    assert card("--check") == (0, "")


def test_what_cannot_be_set_is_said(card: Any, tmp_path: Path) -> None:
    program = tmp_path / "bin/mlnx_qos"
    program.write_text("#!/bin/sh\necho 'Netlink error: Operation not supported'; exit 1\n")
    status, said = card()
    assert status == 3
    assert "pfc 0,0,0,1,0,0,0,0: Netlink error: Operation not supported" in said


# --- perftest's words ---


@pytest.mark.parametrize(("output", "column", "value"), [(BANDWIDTH, 3, 92.57), (LATENCY, 4, 1.47)])
def test_figures_of_perftest(gate: Any, output: str, column: int, value: float) -> None:
    assert gate.figure(output, column) == value


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (LOST, "a firewall stops UDP 4791, or the MTU differs"),
        (" Couldn't connect to 10.0.0.2:18516\n", "is there a firewall?"),
        ("Unable to find the Infiniband/RoCE device\n", "no figure came: Unable to find"),
        ("", "no figure came within its time"),
        (LATENCY.replace("1.47 ", "inf "), "no steady clock"),
        ("Correlation coefficient r^2: 0.81 < 0.9\n" + BANDWIDTH.replace("92.57", "0.00"), "no steady clock"),
        (BANDWIDTH.replace("92.57", "0.00"), "no figure came"),
        (STALLED, "not one message"),
    ],
)
def test_why_no_figure_came(gate: Any, output: str, words: str) -> None:
    with pytest.raises(gate.MatchError, match=words.replace("?", r"\?")):
        gate.figure(output, 3)


@pytest.mark.parametrize(
    ("answers", "asked", "value"),
    [
        (["no clock", "no clock", 92.5], 3, 92.5),
        (["no clock"] * 9, 5, "no clock"),
        (["a cable", 92.5], 1, "a cable"),
        ([92.5], 1, 92.5),
    ],
)
def test_what_a_busy_host_disturbed_is_measured_again(
    gate: Any, monkeypatch: pytest.MonkeyPatch, answers: list[Any], asked: int, value: Any
) -> None:
    waiting = [gate.NO_CLOCK if answer == "no clock" else answer for answer in answers]
    left = iter(waiting)

    def sent(_self: Any, *words: Any) -> dict[str, Any]:
        answer = next(left)
        assert words[-1] == 1
        return {"devices": [{"name": "a", "value" if isinstance(answer, float) else "error": answer}]}

    monkeypatch.setattr(gate.Tournament, "i_send", sent)
    found = gate.Tournament.match(gate.Tournament.__new__(gate.Tournament), "bandwidth", True, None, "other")
    last = found["devices"][-1]
    assert last.get("value", last.get("error")) == (gate.NO_CLOCK if value == "no clock" else value)
    assert len(list(left)) == len(answers) - asked


@pytest.mark.parametrize(
    ("enough", "stretches", "value"),
    [(1, [1], 0.01), (2, [1, 2], 0.01), (4, [1, 2, 4], 0.01), (8, [1, 2, 4], None)],
)
def test_a_link_that_carries_nothing_at_first_gets_more_time(
    gate: Any, monkeypatch: pytest.MonkeyPatch, enough: int, stretches: list[int], value: float | None
) -> None:
    given = []

    def sent(_self: Any, *words: Any) -> dict[str, Any]:
        given.append(words[-1])
        good = words[-1] >= enough
        return {"devices": [{"name": "a", **({"value": 0.01} if good else {"error": gate.NO_MESSAGE})}]}

    monkeypatch.setattr(gate.Tournament, "i_send", sent)
    found = gate.Tournament.match(gate.Tournament.__new__(gate.Tournament), "bandwidth", True, None, "other")
    assert (given, found["devices"][0].get("value")) == (stretches, value)


# --- the tournament itself, over loopback ---


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ports() -> dict[str, int]:
    return {"meet": free_port(), "tcp": free_port()}


def tournament(
    gate: Any, hosts: dict[str, str], rounds: list[Any], absent: tuple[str, ...] = ()
) -> dict[str, Any]:
    settings = {"ports": ports(), "seconds": 1, "tcp_seconds": 0.2, "tcp_streams": 2, "patience": 4}
    found: dict[str, Any] = {}

    def play(name: str) -> None:
        spec = {
            "me": name,
            "token": TOKEN,
            "hosts": {host: {"address": address, "devices": []} for host, address in hosts.items()},
            "rounds": rounds,
            "measures": ["tcp"],
            "settings": settings,
        }
        found[name] = gate.Tournament(spec).run()

    threads = [threading.Thread(target=play, args=(name,)) for name in hosts if name not in absent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)
    return found


TOKEN = "5a" * 32
HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3", "c": "127.0.0.4", "d": "127.0.0.5"}
ROUNDS = [[["a", "d"], ["b", "c"]], [["a", "c"], ["d", "b"]], [["a", "b"], ["c", "d"]]]


def test_four_hosts_measure_every_direction(gate: Any) -> None:
    found = tournament(gate, HOSTS, ROUNDS)
    rows = [row for report in found.values() for row in report]
    assert {(row["from"], row["to"]) for row in rows} == {(x, y) for x in HOSTS for y in HOSTS if x != y}
    assert all(row["devices"][0]["value"] > 0.01 for row in rows), rows


def test_a_host_that_never_comes_is_named_and_the_others_are_measured(gate: Any) -> None:
    found = tournament(gate, HOSTS, ROUNDS, absent=("d",))
    rows = [row for report in found.values() for row in report]
    good = {(row["from"], row["to"]) for row in rows if row["kind"]}
    assert good == {(x, y) for x in "abc" for y in "abc" if x != y}
    lost = [row for row in rows if not row["kind"]]
    assert all("d" in (row["from"], row["to"]) and "TCP port" in row["error"] for row in lost)
    assert len(lost) == 3


def test_a_stranger_does_not_end_the_tournament(gate: Any) -> None:
    hosts = {"a": "127.0.0.2", "b": "127.0.0.3"}
    port = free_port()
    spec = {
        "token": TOKEN,
        "hosts": {host: {"address": address, "devices": []} for host, address in hosts.items()},
        "rounds": [[["a", "b"]]],
        "measures": ["tcp"],
        "settings": {
            "ports": {"meet": port, "tcp": free_port()},
            "seconds": 1,
            "tcp_seconds": 0.1,
            "tcp_streams": 1,
            "patience": 5,
        },
    }
    found: dict[str, Any] = {}
    follower = threading.Thread(target=lambda: found.update(b=gate.Tournament({**spec, "me": "b"}).run()))
    follower.start()
    for said in (b"GET / HTTP/1.0\r\n", b'["list"]\n'):
        for _try in range(50):
            try:
                with socket.create_connection((hosts["b"], port), 1) as stranger:
                    stranger.sendall(said)
                break
            except OSError:
                threading.Event().wait(0.05)
    rows = gate.Tournament({**spec, "me": "a"}).run()
    follower.join(900)
    assert [row["kind"] for row in rows] == ["tcp", "tcp"]
    assert all("error" not in row for row in rows)


# --- the way back ---


def test_going_back_restores_files_and_takes_new_ones_away(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("changed")
    new.write_text("new")
    pending = {
        "files": {str(old): {"text": "before", "mode": 0o600}, str(new): None},
        **{"before_undo": [], "undo": [["true"]], "apply": [], "live": {}, "mtu": {}},
    }
    (tmp_path / "pending.json").write_text(json.dumps(pending))
    for _time in range(2):
        done = subprocess.run([sys.executable, FILES / "guard.py", "undo", tmp_path], check=False)
        assert done.returncode == 0
    assert old.read_text() == "before" and old.stat().st_mode & 0o777 == 0o600
    assert not new.exists()
    assert not (tmp_path / "pending.json").exists() and (tmp_path / "undone.json").exists()
