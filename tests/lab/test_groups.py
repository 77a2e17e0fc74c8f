# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A group over two real hosts, through the playbooks that people use: switched, taken back, broken, and whole again.

Engine and torchrun are stand-ins here, so that a fault costs seconds; test_group_engine.py has the real ones.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, copy_readable, lab_name, write_inventory

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
STAND_IN = Path(__file__).parent / "stand_in_engine"
TORCH = REPOSITORY / "tests/unit/roles/group_world/torch"
HOSTS = {"g1": "10.95.0.11", "g2": "10.95.0.12"}
SPARE = {"g3": "10.95.0.13"}
REPLACED = "test_a_host_is_replaced"
REJECTED = 1
# How long a state is waited for, in seconds: a busy machine is no failure.
PATIENCE = 900


class Room:
    def __init__(self, inventory: Path, lab: Any, folder: Path) -> None:
        self.inventory, self.lab, self.folder = inventory, lab, folder

    def run(
        self, play: str, *words: str, tokens: int = 4096, hosts: Sequence[str] = tuple(HOSTS)
    ) -> tuple[int, str]:
        serve = {
            "it": {
                "model": "glm-4.7-tiny",
                "hosts": list(hosts),
                "device": "cpu",
                "options": {"max-total-tokens": tokens},
            }
        }
        said = {
            "serve": serve,
            "weights_dir": str(self.folder / "weights"),
            "engine_timeout": 300,
            # The stand-in has no more of the API than a token.
            "verify_tags": ["weights", "parity"],
        }
        done = subprocess.run(
            [PLAYBOOK, f"playbooks/{play}.yml", "-i", self.inventory, "-e", json.dumps(said), *words],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )
        return done.returncode, done.stdout.replace("\\n", "\n")

    def works(self, play: str, *words: str, tokens: int = 4096, hosts: Sequence[str] = tuple(HOSTS)) -> str:
        status, said = self.run(play, *words, tokens=tokens, hosts=hosts)
        assert status == 0, said[-6000:]
        return said

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        return str(self.lab.host(host).ssh(command, check=check).stdout).strip()

    def put(self, host: str, path: str, text: str) -> None:
        target = self.lab.host(host).mounted_root() / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def status(self, host: str) -> tuple[str, str]:
        said = self.ssh(host, "systemctl show sglang-it -p ActiveState -p StatusText", check=False)
        found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        return found.get("ActiveState", ""), found.get("StatusText", "")

    def until(self, host: str, pattern: str, seconds: float = PATIENCE, state: str = "") -> float:
        begun = time.monotonic()
        while True:
            found = self.status(host)
            if re.search(pattern, found[1]) and (not state or found[0] == state):
                return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, f"{host} is not {pattern!r} but {found}\n" + self.ssh(
                host, "journalctl -u sglang-it -n 40 -o cat", check=False
            )
            time.sleep(0.2)

    def generation(self) -> int:
        return int(json.loads(self.ssh("g1", "cat /var/lib/sglang/it/group.json"))["generation"])

    def serving_again(self, before: int) -> None:
        for host in HOSTS:
            self.until(host, rf"generation {before + 1}, 2 of 2 members", state="active")
        assert self.answer() == 200

    def answer(self) -> int:
        code = (
            "import urllib.request as r;print(r.urlopen(r.Request("
            "'http://127.0.0.1:30000/v1/chat/completions', b'{}'), timeout=300).status)"
        )
        return int(self.ssh("g1", f'python3 -c "{code}" 2>/dev/null || echo 0', check=False) or 0)

    def current(self, host: str) -> str:
        return os.readlink(self.lab.host(host).mounted_root() / "opt/sglang/current").rpartition("/")[2]

    def make_environment(self, host: str, path: str) -> None:
        root = self.lab.host(host).mounted_root()
        packages = root / f"{path}/lib/python3.11/site-packages".lstrip("/")
        copy_readable(STAND_IN, packages)
        copy_readable(TORCH, packages / "torch")
        (root / path.lstrip("/") / "bin").mkdir()
        (root / path.lstrip("/") / "bin/python").symlink_to("/usr/bin/python3.11")
        self.put(host, f"{path}/pyvenv.cfg", "home = /usr/bin\nversion = 3.11\n")
        self.put(
            host, f"{path}/.environment.json", json.dumps({"made": 1, "content": [], "distributions": []})
        )

    def left_over(self, host: str) -> str:
        """Processes, ports and memory of the engine while its unit is down."""
        return self.ssh(
            host,
            "pgrep -u sglang; ss -Htln '( sport = :30000 or sport = :32000 or sport = :33000 )';"
            "find /dev/shm /tmp -user sglang -not -path '*systemd-private*'; mount | grep sglang-it",
            check=False,
        )


def changed(said: str) -> list[int]:
    return [int(found) for found in re.findall(r"^g\d .* changed=(\d+) ", said, re.MULTILINE)]


@pytest.fixture(scope="module")
def room(
    request: pytest.FixtureRequest, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Room]:
    from lab import Lab

    from .test_weights import fetched

    folder = tmp_path_factory.mktemp("groups")
    fetched(folder / "weights", folder / "source", 7)
    # Each play costs time on each host: the third one is for the test that replaces a host.
    spare = any(REPLACED in item.name for item in request.session.items)
    hosts = {
        name: {"ansible_host": address, "lab": {"kind": "nspawn", "image": "debian-12"}}
        for name, address in {**HOSTS, **(SPARE if spare else {})}.items()
    }
    inventory = write_inventory(folder, lab_name("groups"), hosts)
    lab = Lab.from_inventory(inventory)
    try:
        lab.up()
        room = Room(inventory, lab, folder)
        room.works("site", "--tags", "plan", "-e", f"plan_dir={folder}/plans")
        plan = json.loads((folder / "plans/g1.json").read_text())
        for host in hosts:
            room.make_environment(host, plan["instances"]["it"]["environment"]["path"])
        yield room
    finally:
        lab.down()


ENGINE = ("site", "--tags", "engine")


def test_both_hosts_serve_as_one_and_a_second_run_changes_nothing(room: Room) -> None:
    room.works("site")
    for host in HOSTS:
        room.until(host, "generation 1, 2 of 2 members: ", state="active")
    assert "g1: serving it on 127.0.0.1:30000" in room.status("g2")[1]
    assert room.answer() == 200
    assert changed(room.works("site")) == [0] * len(room.lab.hosts)


@pytest.mark.long
def test_what_gives_no_token_is_taken_back_on_all_hosts(room: Room) -> None:
    before = {host: room.current(host) for host in HOSTS}
    status, said = room.run(*ENGINE, tokens=REJECTED)
    assert status != 0
    assert re.search(r"release \w+ does not serve", said), said[-4000:]
    assert "max_total_tokens=1 is not enough" in said
    assert "back on release" in said
    assert {host: room.current(host) for host in HOSTS} == before
    for host in HOSTS:
        room.until(host, "2 of 2 members", state="active")
    assert room.answer() == 200


@pytest.mark.long
def test_an_upgrade_and_a_rollback_are_one_step_for_all(room: Room) -> None:
    before = {host: room.current(host) for host in HOSTS}
    room.works(*ENGINE, tokens=4000)
    after = {host: room.current(host) for host in HOSTS}
    assert all(after[host] != before[host] for host in HOSTS)
    room.works("rollback")
    assert {host: room.current(host) for host in HOSTS} == before
    assert room.answer() == 200


def test_a_killed_engine_ends_in_a_new_generation(room: Room) -> None:
    generation = room.generation()
    room.ssh("g2", "kill -9 $(pgrep -f sglang.launch_server | head -1)")
    room.until("g1", rf"generation {generation} ended: g2: the server was killed by signal 9")
    room.serving_again(generation)


@pytest.mark.long
def test_faults_of_either_host_end_in_a_new_generation(room: Room) -> None:
    # The main process of the unit, which can tell nobody.
    generation = room.generation() - 1
    room.ssh("g2", "systemctl kill -s KILL --kill-who=main sglang-it")
    room.serving_again(generation + 1)

    # A wanted stop takes the failures off the count, and with them the pauses.
    for host in reversed(HOSTS):
        room.ssh(host, "systemctl stop sglang-it")
    for host in HOSTS:
        room.ssh(host, "systemctl start --no-block sglang-it")
    room.serving_again(generation + 2)

    # The link is cut: both notice, neither answers, and both come back with it.
    room.lab.host("g2").cut()
    spent = room.until("g1", "ended: g2: no word from it for")
    print(f"cut link noticed after {spent:.1f} s")
    assert room.answer() == 0
    room.until("g1", "1 of 2 members, waiting for g2")
    assert room.ssh("g1", "pgrep -f sglang.launch_server", check=False) == ""
    room.lab.host("g2").join()
    room.serving_again(generation + 3)

    # Power.
    room.lab.host("g2").power_off()
    room.until("g1", "1 of 2 members, waiting for g2")
    room.lab.power_on("g2")
    room.serving_again(generation + 4)


@pytest.mark.long
def test_a_member_of_another_release_is_not_let_in(room: Room) -> None:
    path = f"/opt/sglang/releases/{room.current('g2')}/it/launch.json"
    text = (room.lab.host("g2").mounted_root() / path.lstrip("/")).read_text()
    release = json.loads(text)["group"]["release"]
    room.ssh("g2", "systemctl stop sglang-it")
    assert room.left_over("g2") == ""
    room.until("g1", "g2: was stopped; 1 of 2 members")
    room.put("g2", path, text.replace(release, "0" * 16))
    room.ssh("g2", "systemctl start --no-block sglang-it")
    for host in HOSTS:
        room.until(host, rf"the members differ: release: g1 {release}, g2 {'0' * 16}: run site.yml")
    assert room.answer() == 0
    said = room.works(*ENGINE)
    assert re.search(r"sglang-it.service restarts|sglang-it.service starts", said), said[-3000:]
    assert room.answer() == 200


def test_a_stop_leaves_nothing_behind(room: Room) -> None:
    for host in reversed(HOSTS):
        room.ssh(host, "systemctl stop sglang-it")
    for host in HOSTS:
        assert room.left_over(host) == ""
        assert room.status(host)[0] == "inactive"


@pytest.mark.long
def test_a_host_is_replaced_and_the_old_one_is_turned_away_until_it_is_removed(room: Room) -> None:
    members = ("g1", "g3")
    room.works("site", hosts=members)
    for host in members:
        room.until(host, "2 of 2 members: ", state="active")
    assert "g1: serving it on 127.0.0.1:30000" in room.status("g3")[1]
    assert room.answer() == 200
    assert changed(room.works("site", hosts=members)) == [0] * 3
    # Its unit is still there, as after a boot; the firewall of the others lets no stranger through.
    room.ssh("g2", "systemctl start --no-block sglang-it")
    room.until("g2", r"waiting for the first host g1 at 10\.95\.0\.11 \(missing since .*: no answer\)")
    assert room.answer() == 200
    room.works("remove", "--limit", "g2", hosts=members)
    assert room.ssh("g2", "systemctl cat sglang-it", check=False) == ""
    assert room.left_over("g2") == ""
    assert room.answer() == 200
