# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A group of three on loopback addresses: real agents and launchers, a stand-in for the engine and for torchrun."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LAUNCHER = ROOT / "roles/engine/files/launcher"
POLICY = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))["engine"]
SIGNALS = yaml.safe_load((ROOT / "files/engines/sglang/signals.yml").read_text(encoding="utf-8"))
API = yaml.safe_load((ROOT / "files/engines/sglang/api.yml").read_text(encoding="utf-8"))
HOSTS = ("g1", "g2", "g3")


def free_port(address: str) -> int:
    with socket.socket() as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


def in_session(session: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(name))
        except (OSError, IndexError):
            continue
    return found


class Member:
    """A unit as systemd would run it: restarted when it fails, its processes killed when it ends."""

    def __init__(self, folder: Path, rank: int, launch: dict[str, Any]) -> None:
        self.host, self.folder, self.launch = HOSTS[rank], folder, launch
        self.process: subprocess.Popen[bytes] | None = None
        self.status, self.ready, self.starts, self.session, self.fed = "", False, 0, 0, 0
        self.said: list[str] = []
        folder.mkdir()
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(str(folder / "notify"))
        self.ear.setblocking(False)
        self.write()

    def write(self, **changes: Any) -> None:
        self.launch["group"].update(changes)
        (self.folder / "launch.json").write_text(json.dumps(self.launch))

    def start(self) -> None:
        self.ready = False
        self.starts += 1
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-B", LAUNCHER / "agent.py", self.folder / "launch.json"],
                env={"PYTHONPATH": str(Path(__file__).parent / "group_world"), "PATH": os.environ["PATH"],
                     "NOTIFY_SOCKET": str(self.folder / "notify")},
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        self.session = self.process.pid

    def clear(self) -> None:
        for _again in range(3):
            for pid in in_session(self.session) if self.session else ():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def turn(self, restart: bool = True) -> None:
        while True:
            try:
                lines = self.ear.recv(65536).decode().split("\n")
            except BlockingIOError:
                break
            for line in lines:
                key, _unused, value = line.partition("=")
                if key == "STATUS":
                    self.status = value
                    self.said.append(value)
                self.ready = self.ready or key == "READY"
                self.fed += key == "WATCHDOG"
        if self.process and self.process.poll() is not None:
            self.ready = False
            self.clear()
            if restart and self.process.returncode not in (0, 79):
                self.start()

    def find(self, words: str) -> int:
        for pid in in_session(self.session):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if words in line:
                return pid
        raise AssertionError(f"{words} is not there")

    @property
    def code(self) -> int | None:
        return self.process.poll() if self.process else None


class Cluster:
    def __init__(self, folder: Path) -> None:
        # Below the length that the address of a socket may have.
        weights = folder / "w"
        weights.mkdir()
        (weights / "config.json").write_text("{}")
        addresses = [f"127.0.0.{number}" for number in (11, 12, 13)]
        secret = folder / "secret.key"
        secret.write_text("5a" * 32 + "\n")
        channel, meet = free_port(addresses[0]), free_port(addresses[0])
        self.members = {}
        for rank, host in enumerate(HOSTS):
            state = folder / host
            port = free_port("127.0.0.1")
            launch = {
                "instance": "it", "serves": "it", "address": "127.0.0.1", "port": port, "head": rank == 0,
                "argv": [sys.executable, str(ROOT / "tests/lab/fake_engine.py"), "--host", "127.0.0.1", "--port", str(port)],
                "environment": {"PATH": os.environ["PATH"]}, "weights": str(weights), "state": str(state),
                "writable": [str(state)], "compiled": str(state / "compiled"), "compiled_keep": 2,
                "checks": {"driver": "", "gpus": [], "gpu_used_mib": 0, "kernel_files": [], "free_bytes": 1, "settle_seconds": 5},
                "start": {"seconds": 120, "stall_seconds": 90, "most_seconds": 300},
                "watch": {**POLICY["watch"], "probe_seconds": 1, "probe_limit_seconds": 10, "silence_seconds": 30, "stopped_seconds": 2},
                "restart": {"delays": [0, 0.5, 0.5, 0.5, 0.5], "window_seconds": 3600, "good_service_seconds": 600},
                "drain_seconds": 10, "logs": SIGNALS, "api": {key: API[key] for key in ("alive", "token", "first")},
                "group": {
                    "id": "abc", "release": "r1", "rank": rank, "channel_port": channel, "ports": [meet], "torchrun": [],
                    "secret": str(secret),
                    "members": [{"host": name, "address": address} for name, address in zip(HOSTS, addresses)],
                    "lost_seconds": 6, "blame_seconds": 1.5, "wait_seconds": 60, "skew_seconds": 30,
                },
            }  # fmt: skip
            self.members[host] = Member(state, rank, launch)

    def __getitem__(self, host: str) -> Member:
        return self.members[host]

    def start(self, *hosts: str) -> None:
        for host in hosts or HOSTS:
            self[host].start()

    def until(self, what: Callable[[], Any], seconds: float = 600, restart: bool = True) -> float:
        begun = time.monotonic()
        while True:
            for member in self.members.values():
                member.turn(restart)
            if what():
                return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, self.story()
            time.sleep(0.1)

    def story(self) -> str:
        return "\n".join(
            f"== {host} {member.code} ready={member.ready}: {member.status}\n"
            + (member.folder / "log").read_text()[-1500:]
            for host, member in self.members.items()
        )

    def serving(self, generation: int) -> Callable[[], bool]:
        said = f"generation {generation}, 3 of 3 members"
        return lambda: all(member.ready and said in member.status for member in self.members.values())

    def stop(self) -> None:
        for member in self.members.values():
            member.clear()
            member.ear.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="grp"))
    found = Cluster(folder)
    yield found
    found.stop()
    shutil.rmtree(folder)


def test_they_start_together_and_what_one_breaks_all_make_good(cluster: Cluster) -> None:
    cluster.start("g1", "g2")
    cluster.until(lambda: "waiting for g3 (missing since" in cluster["g2"].status)
    assert "2 of 3 members" in cluster["g1"].status
    cluster.start("g3")
    cluster.until(cluster.serving(1))
    assert "serving it on 127.0.0.1" in cluster["g1"].status
    assert "its ranks are up" in cluster["g3"].status
    assert "g1: serving it" in cluster["g3"].status

    # A process of another member is killed: that member is named everywhere, and nothing old goes on.
    before = {pid for member in cluster.members.values() for pid in in_session(member.session)}
    os.kill(cluster["g3"].find("sglang::scheduler"), signal.SIGKILL)
    cluster.until(lambda: not any(member.ready for member in cluster.members.values()))
    cluster.until(cluster.serving(2))
    for member in cluster.members.values():
        assert any("generation 1 ended: g3: sglang::scheduler" in said for said in member.said), member.said
    assert not before & {pid for member in cluster.members.values() for pid in in_session(member.session)}

    # Stopped, not dead: found by its own launcher.
    os.kill(cluster["g2"].find("sglang::scheduler"), signal.SIGSTOP)
    cluster.until(cluster.serving(3))
    assert any(re.search(r"generation 2 ended: g2: .*has been stopped", said) for said in cluster["g1"].said)

    # The agent itself, which can tell nobody.
    os.kill(cluster["g2"].find("agent.py"), signal.SIGKILL)
    cluster.until(cluster.serving(4))
    assert any("generation 3 ended: g2: its agent is gone" in said for said in cluster["g3"].said)


def test_the_first_host_is_lost_and_comes_back(cluster: Cluster) -> None:
    cluster.start()
    cluster.until(cluster.serving(1))
    process = cluster["g1"].process
    assert process is not None
    process.kill()
    cluster.until(lambda: process.poll() is not None, restart=False)
    cluster["g1"].clear()
    cluster["g1"].process = None
    cluster.until(
        lambda: "waiting for the first host g1 at 127.0.0.11 (missing since" in cluster["g3"].status
    )
    assert not cluster["g2"].ready
    cluster.start("g1")
    cluster.until(cluster.serving(2))


def test_a_launcher_that_ends_without_a_word_is_missed(cluster: Cluster) -> None:
    cluster.start()
    cluster.until(cluster.serving(1))
    os.kill(cluster["g2"].find("launcher /"), signal.SIGTERM)
    cluster.until(cluster.serving(2))
    assert any("generation 1 ended: g2: its launcher" in said for said in cluster["g1"].said)


@pytest.mark.parametrize("host", ["g1", "g2"])
def test_a_launcher_that_hangs_is_told_of_by_its_agent(cluster: Cluster, host: str) -> None:
    cluster[host].launch["watch"]["watchdog_seconds"] = 6
    cluster[host].write()
    cluster.start()
    cluster.until(cluster.serving(1))
    os.kill(cluster[host].find("launcher /"), signal.SIGSTOP)
    cluster.until(cluster.serving(2))
    said = f"generation 1 ended: {host}: its launcher has said nothing for"
    assert any(said in words for words in cluster["g3"].said)


def test_the_agent_feeds_systemd_itself_and_only_while_it_lives(cluster: Cluster) -> None:
    cluster.start()
    cluster.until(cluster.serving(1))
    fed = cluster["g2"].fed
    cluster.until(lambda: cluster["g2"].fed >= fed + 3)
    os.kill(cluster["g2"].find("agent.py"), signal.SIGSTOP)
    cluster.until(lambda: True)
    fed, begun = cluster["g2"].fed, time.monotonic()
    cluster.until(lambda: time.monotonic() - begun > 2.5)
    assert cluster["g2"].fed == fed


def test_a_frozen_agent_is_lost_after_its_time(cluster: Cluster) -> None:
    cluster.start()
    cluster.until(cluster.serving(1))
    os.kill(cluster["g3"].find("agent.py"), signal.SIGSTOP)
    cluster.until(lambda: any("ended: g3: no word from it" in said for said in cluster["g2"].said))
    cluster.until(lambda: not cluster["g1"].ready)


def test_members_that_differ_do_not_start_and_say_who(cluster: Cluster) -> None:
    cluster["g2"].write(release="r0")
    cluster.start()
    words = "not started, the members differ: release: g1 r1, g2 r0, g3 r1: run site.yml"
    cluster.until(lambda: all(words in member.status for member in cluster.members.values()))
    assert not any(member.ready for member in cluster.members.values())
    cluster["g3"].write(id="old")
    os.kill(cluster["g3"].find("agent.py"), signal.SIGKILL)
    cluster.until(lambda: "g3 is not a member of this group" in cluster["g3"].status)
    assert "waiting for g3" in cluster["g1"].status


def test_a_stranger_on_a_port_is_said_before_a_start(cluster: Cluster) -> None:
    group = cluster["g1"].launch["group"]
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.11", group["ports"][0]))
        stranger.listen()
        cluster.start()
        cluster.until(lambda: f"port {group['ports'][0]} on 127.0.0.11 is taken" in cluster["g1"].status)
    cluster.until(cluster.serving(1))


def test_who_says_nothing_is_hung_up_on(cluster: Cluster) -> None:
    """What strangers say instead is in tests/security/test_groups.py."""
    cluster.start()
    cluster.until(cluster.serving(1))
    address = ("127.0.0.11", cluster["g1"].launch["group"]["channel_port"])
    with socket.create_connection(address, 3) as silent:
        assert b"nonce" in silent.recv(200)
        cluster.until(lambda: select.select([silent], [], [], 0)[0])
        assert silent.recv(1) == b""
    assert cluster.serving(1)()


def test_after_the_bound_all_members_fail_and_say_who_broke_it(cluster: Cluster) -> None:
    for member in cluster.members.values():
        member.launch["restart"]["delays"] = [0, 0.2]
        member.write()
    (cluster["g2"].folder / "behave.json").write_text(json.dumps({"raise": "out of beans"}))
    cluster.start()
    cluster.until(lambda: all(member.code == 79 for member in cluster.members.values()))
    cluster.until(lambda: True)
    for member in cluster.members.values():
        assert re.search(
            r"^the group gave up after 2 starts; the last one: g2: .*out of beans", member.status
        ), member.status
    # Started by hand it has all tries again.
    (cluster["g2"].folder / "behave.json").unlink()
    cluster.start()
    cluster.until(cluster.serving(3))


def test_a_stop_of_any_member_lets_requests_finish(cluster: Cluster) -> None:
    cluster.start()
    cluster.until(cluster.serving(1))
    port = cluster["g1"].launch["port"]
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    link.request("POST", "/generate", json.dumps({"sampling_params": {"max_new_tokens": 80}}))
    time.sleep(0.5)
    process = cluster["g3"].process
    assert process is not None
    process.terminate()
    cluster.until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert len(link.getresponse().read()) > 400
    cluster["g3"].process = None
    cluster.until(lambda: "ended: g3: was stopped; 2 of 3 members, waiting for g3" in cluster["g1"].status)
    # A wanted end is no failure.
    assert json.loads((cluster["g1"].folder / "group.json").read_text())["failures"] == []
    first = cluster["g1"].process
    assert first is not None
    first.terminate()
    cluster.until(lambda: first.poll() is not None)
    assert first.returncode == 0
