# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases on a real systemd host, through the playbooks that people use; a stand-in for the engine alone."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY, copy_readable, lab_name, write_inventory

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
STAND_IN = Path(__file__).parent / "stand_in_engine"
RELEASES = "/opt/sglang/releases"
PYTHON = """\
#!/bin/sh
PYTHONPATH={env}/lib exec /usr/bin/python3 "$@"
"""
REJECTED, NEVER_HEALTHY, NO_TOKEN = 1, 2, 3


class Room:
    """One host, what is served there, and the commands of a person."""

    def __init__(self, inventory: Path, lab: Any, folder: Path) -> None:
        self.inventory, self.lab, self.folder = inventory, lab, folder
        self.environment = ""

    def start(self, play: str, *words: str, **tokens: int) -> subprocess.Popen[str]:
        """`tiny=4000, small=0`: instances with their --max-total-tokens; one with 0 is not served."""
        served = {"tiny": 4096, "small": 4096, **tokens}
        ports = {"tiny": 30000, "small": 30010}
        serve = {
            name: {
                "model": "glm-4.7-tiny",
                "hosts": ["r1"],
                "device": "cpu",
                "port": ports[name],
                "options": {"max-total-tokens": number},
            }
            for name, number in served.items()
            if number
        }
        said = {
            "serve": serve,
            "weights_dir": str(self.folder / "weights"),
            "engine_timeout": 120,
            # The stand-in has no more of the API than a token.
            "verify_tags": ["weights", "parity"],
        }
        return subprocess.Popen(
            [
                *(str(PLAYBOOK), f"playbooks/{play}.yml", "-i", str(self.inventory)),
                *("-e", json.dumps(said), *words),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, play: str, *words: str, **tokens: int) -> tuple[int, str]:
        process = self.start(play, *words, **tokens)
        said, _unused = process.communicate(timeout=3600)
        return process.returncode, said.replace("\\n", "\n")

    def works(self, play: str, *words: str, **tokens: int) -> str:
        status, said = self.run(play, *words, **tokens)
        assert status == 0, said[-6000:]
        return said

    def fails(self, play: str, *words: str, **tokens: int) -> str:
        status, said = self.run(play, *words, **tokens)
        assert status != 0, said[-6000:]
        return said

    def ssh(self, command: str, check: bool = True) -> str:
        return str(self.lab.host("r1").ssh(command, check=check).stdout).strip()

    def behave(self, **seconds: float) -> None:
        self.put(f"{self.environment}/lib/behaviour.json", json.dumps(seconds))

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.lab.host("r1").mounted_root() / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        return (self.lab.host("r1").mounted_root() / path.lstrip("/")).read_text()

    def current(self) -> str:
        return os.readlink(self.lab.host("r1").mounted_root() / "opt/sglang/current").rpartition("/")[2]

    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.read(f"{RELEASES}/.switches.json")))

    def started(self, name: str) -> str:
        """Another process has another one."""
        return self.ssh(f"systemctl show sglang-{name} -P InvocationID")

    def says(self, name: str) -> str:
        """What the server that answers now was told."""
        port = {"tiny": 30000, "small": 30010}[name]
        code = (
            "import json,urllib.request as r;"
            f"print(json.load(r.urlopen(r.Request('http://127.0.0.1:{port}/v1/chat/completions', b'{{}}')))['text'])"
        )
        return self.ssh(f'python3 -c "{code}"')

    def answers(self, name: str) -> bool:
        port = {"tiny": 30000, "small": 30010}[name]
        return self.ssh(f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo yes", check=False) == "yes"

    def make_environment(self, path: str) -> None:
        self.environment = path
        self.put(f"{path}/bin/python", PYTHON.format(env=path), 0o755)
        self.put(f"{path}/.environment.json", json.dumps({"made": 1, "content": [], "distributions": []}))
        copy_readable(STAND_IN, self.lab.host("r1").mounted_root() / f"{path}/lib".lstrip("/"))


def waits(tokens: int) -> tuple[str, ...]:
    """What never becomes healthy need not be waited for as long as what does."""
    return ("-e", "engine_timeout=30") if tokens == NEVER_HEALTHY else ()


def changed(said: str) -> int:
    found = re.search(r"^r1 .* changed=(\d+) ", said, re.MULTILINE)
    assert found, said[-3000:]
    return int(found[1])


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    from .test_weights import fetched

    folder = tmp_path_factory.mktemp("releases")
    fetched(folder / "weights", folder / "source", 7)
    hosts = {"r1": {"ansible_host": "10.94.0.11", "lab": {"kind": "nspawn", "image": "debian-12"}}}
    inventory = write_inventory(folder, lab_name("releases"), hosts)
    lab = Lab.from_inventory(inventory)
    try:
        lab.up()
        room = Room(inventory, lab, folder)
        room.works("site", "--tags", "plan", "-e", f"plan_dir={folder}/plans")
        plan = json.loads((folder / "plans/r1.json").read_text())
        room.make_environment(plan["instances"]["tiny"]["environment"]["path"])
        yield room
    finally:
        lab.down()


def test_a_bare_host_serves_and_a_second_run_changes_nothing(room: Room) -> None:
    said = room.works("site", "--check", "--diff")
    assert "sglang-tiny.service starts: is new" in said
    assert room.ssh("ls /etc/systemd/system | grep sglang; true") == ""
    said = room.works("site")
    assert room.says("tiny") == room.says("small") == "hello with 4096"
    assert changed(room.works("site")) == 0
    assert changed(room.works("site", "--check", "--diff")) == 0
    assert "tiny  r1  serving  http://127.0.0.1:30000" in room.works("status")


@pytest.mark.long
def test_compiled_code_is_taken_from_a_host_and_given_to_one_that_has_none(room: Room) -> None:
    compiled = json.loads(room.ssh("cat /opt/sglang/current/tiny/launch.json"))["compiled"]
    room.ssh(f"install -d -o sglang -g sglang -m 700 {compiled}/triton; echo cubin >{compiled}/triton/kernel")
    folder = ("-e", f"engine_jit_cache_dir={room.folder}/compiled")
    room.works("jit_cache", *folder, "--tags", "take")
    archive, record = sorted((room.folder / "compiled").iterdir())
    assert archive.name.startswith("tiny-")
    assert room.ssh("ls -d /opt/sglang/carried /var/tmp/*tar*", check=False) == ""
    room.ssh(f"rm -r {compiled}")
    content, said = archive.read_bytes(), record.read_text()
    for spoiled in (lambda: archive.write_bytes(content + b"x"), record.unlink):
        spoiled()
        assert "does not say that a host of this inventory packed" in room.fails(
            "jit_cache", *folder, "--tags", "give"
        )
        archive.write_bytes(content)
        record.write_text(said)
    assert changed(room.works("jit_cache", *folder, "--tags", "give")) > 0
    assert room.ssh(f"cat {compiled}/triton/kernel; stat -c '%U %a' {compiled}") == "cubin\nsglang 700"
    assert changed(room.works("jit_cache", *folder)) == 0


ENGINE = ("site", "--tags", "engine")


def test_an_upgrade_restarts_what_changed_and_nothing_else(room: Room) -> None:
    small, first = room.started("small"), room.current()
    said = room.works(*ENGINE, "--check", "--diff", tiny=4000)
    assert "tiny: flag --max-total-tokens 4096 -> 4000" in said
    assert "sglang-tiny.service restarts: changed" in said
    assert "sglang-small.service goes on without a restart" in said
    assert (room.current(), room.says("tiny")) == (first, "hello with 4096")
    said = room.works(*ENGINE, tiny=4000)
    served = re.search(r"sglang-tiny.service: a token after \d+\.\d s", said)
    assert served
    print(served[0])
    assert (room.says("tiny"), room.started("small")) == ("hello with 4000", small)
    assert room.record()["served"] == [first, room.current()]


@pytest.mark.parametrize(
    ("tokens", "why"),
    [
        pytest.param(
            REJECTED, "ValueError: max_total_tokens=1 is not enough for one request of tiny", id="rejected"
        ),
        pytest.param(
            NEVER_HEALTHY,
            "no healthy answer from http://127.0.0.1:30000 within",
            marks=pytest.mark.long,
            id="never-healthy",
        ),
        pytest.param(NO_TOKEN, "/generate answers 200 and no token", marks=pytest.mark.long, id="no-token"),
    ],
)
def test_what_gives_no_token_is_taken_back_and_the_reason_is_shown(room: Room, tokens: int, why: str) -> None:
    current, small = room.current(), room.started("small")
    said = room.fails(*ENGINE, *waits(tokens), tiny=tokens)
    assert why in said
    assert f"Back on release {current}: sglang-tiny.service gave a token again after" in said
    assert "a line of many: 39" in said, "the server's own lines, the last of them"
    assert "a line of many: 9\n" not in said
    assert (room.current(), room.says("tiny"), room.started("small")) == (current, "hello with 4000", small)
    assert room.record()["failed"]["why"]
    assert room.record()["unfinished"] is None


def test_rollback_goes_to_what_served_before_and_back_again(room: Room) -> None:
    new, small = room.current(), room.started("small")
    said = room.fails("rollback", "-e", "release=0123")
    assert "REFUSED  release 0123 is not on this host" in said
    said = room.works("rollback", "--check", "--diff")
    assert "flag --max-total-tokens 4000 -> 4096" in said
    assert room.current() == new
    assert changed(room.works("rollback")) == 1
    assert (room.says("tiny"), room.started("small")) == ("hello with 4096", small)
    room.works("rollback", "-e", f"release={new}")
    assert (room.current(), room.says("tiny")) == (new, "hello with 4000")


@pytest.mark.long
def test_rollback_is_refused_where_the_environment_is_gone(room: Room) -> None:
    tiny = room.started("tiny")
    room.ssh(f"mv {room.environment} {room.environment}.away")
    said = room.fails("rollback")
    room.ssh(f"mv {room.environment}.away {room.environment}")
    assert f"{room.environment}: the environment of tiny is gone" in said
    assert room.started("tiny") == tiny


@pytest.mark.long
def test_an_instance_that_is_no_longer_planned_goes_and_comes_back(room: Room) -> None:
    tiny = room.started("tiny")
    said = room.works(*ENGINE, tiny=4000, small=0)
    assert "sglang-small.service stops and goes away: is in the plan no more" in said
    assert (
        room.ssh("systemctl is-active sglang-small; ls /etc/systemd/system", check=False).split()[0]
        == "inactive"
    )
    assert "sglang-small" not in room.ssh("find /etc/systemd/system")
    room.works("rollback")
    assert room.says("small") == "hello with 4096"
    assert room.started("tiny") == tiny


@pytest.mark.long
def test_restart_of_one_instance(room: Room) -> None:
    tiny, small = room.started("tiny"), room.started("small")
    assert "no instance large on this host; there: small, tiny" in room.fails(
        "restart", "-e", "instance=large"
    )
    room.works("restart", "-e", "instance=tiny")
    assert room.started("tiny") != tiny
    assert room.started("small") == small


def wait_for(true: Any, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so after {seconds} s: {inspect.getsource(true).strip()}"
        time.sleep(0.05)


def kill_run(run: subprocess.Popen[str]) -> None:
    """Its workers, too: they would wait for ever for who reads their results."""
    workers = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    run.kill()
    run.communicate()
    for worker in map(int, workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.long
def test_a_second_run_is_told_who_works_here_and_a_killed_one_leaves_no_lock(room: Room) -> None:
    room.behave(start=4)
    first, before = room.start(*ENGINE, tiny=3900), room.current()
    wait_for(lambda: room.ssh("cat /run/sglang-run.lock", check=False))
    first.send_signal(signal.SIGSTOP)
    said = room.fails("restart")
    assert re.search(
        r"REFUSED  another run works on this host: site.yml of \S+@\S+ \(process \d+\), since 20", said
    )
    first.send_signal(signal.SIGCONT)
    # The controller of the first is gone; its switch ends by itself, and the next run is not kept out for long.
    wait_for(lambda: room.current() != before)
    kill_run(first)
    wait_for(lambda: room.record()["unfinished"] is None)
    assert room.says("tiny") == "hello with 3900"
    wait_for(lambda: room.ssh("cat /run/sglang-run.lock", check=False) == "")


@pytest.mark.long
@pytest.mark.parametrize(
    ("tokens", "flipped", "then"),
    [(4010, False, 4010), (4020, True, 4020), (NEVER_HEALTHY, True, 4020)],
    ids=["old-stops", "new-starts", "new-never-serves"],
)
def test_after_a_power_cut_in_mid_switch_the_next_run_ends_it(
    room: Room, tokens: int, flipped: bool, then: int
) -> None:
    room.behave(stop=2 if flipped else 10, start=3)
    before, old = room.current(), room.says("tiny")
    run = room.start(*ENGINE, tiny=tokens)
    wait_for(lambda: room.current() != before if flipped else room.record()["unfinished"])
    room.lab.host("r1").power_off()
    kill_run(run)
    assert (room.current() != before) == flipped
    room.behave()
    room.lab.power_on("r1")
    if not flipped:
        # Whatever boots is whole: here all of the old.
        wait_for(lambda: room.answers("tiny"))
        assert room.says("tiny") == old
    if tokens == NEVER_HEALTHY:
        said = room.fails(*ENGINE, *waits(tokens), tiny=tokens)
        assert f"Back on release {before}" in said, said[-6000:]
    else:
        room.works(*ENGINE, tiny=tokens)
    assert room.says("tiny") == f"hello with {then}"
    assert room.says("small") == "hello with 4096"
    assert room.record()["unfinished"] is None


@pytest.mark.long
def test_doctor_names_each_damage_with_what_to_do(room: Room, tmp_path: Path) -> None:
    served = {"tiny": int(room.says("tiny").rpartition(" ")[2])}
    weights = "/opt/sglang/weights/glm-4.7-tiny/local"
    room.ssh(
        "sed -i s/Restart=on-failure/Restart=no/ /etc/systemd/system/sglang-tiny.service; "
        f"ln -sfn /tmp /opt/sglang/current/small/env; mv {weights}/tokenizer.json /root; "
        "systemctl kill -s KILL sglang-small; systemctl stop sglang-small"
    )
    said = room.fails("doctor", "-e", f"doctor_json={tmp_path}/doctor.json", **served)
    told = json.loads((tmp_path / "doctor.json").read_text())
    problems = {item["code"]: item for item in told["findings"] if item["severity"] == "problem"}
    assert sorted(problems) == ["environment", "file-changed", "unit-edited", "unit-failed", "weights"]
    assert "tokenizer.json" in problems["weights"]["what"]
    assert problems["unit-edited"]["subject"] == "sglang-tiny.service"
    assert problems["file-changed"]["subject"].endswith("/small/env")
    for item in problems.values():
        assert f"{item['what']} -> {item['fix']}" in said
    assert "NOT SERVING" in room.fails("status", **served)
    room.works("site", "--tags", "weights,engine", **served)
    kept = room.ssh(f"ls {RELEASES}").split()
    assert set(room.record()["served"][-2:]) <= set(kept)
    assert len(kept) == 3, "as many as files/policy.yml says"
    room.works("doctor", **served)


def test_remove_leaves_nothing_but_weights_and_environments(room: Room) -> None:
    assert changed(room.works("remove", "--check", "--diff")) > 0
    assert room.says("tiny")
    room.works("remove")
    left = room.ssh("find / -xdev \\( -name proc -o -name sys \\) -prune -o -name '*sglang*' -print").split()
    assert [path for path in left if not path.startswith(("/opt/sglang/envs", "/var/log/journal"))] == [
        "/opt/sglang"
    ]
    assert sorted(room.ssh("ls /opt/sglang").split()) == ["envs", "python", "weights"]
    assert room.ssh("getent passwd sglang; getent group sglang", check=False) == ""
    assert "not installed" in room.fails("status")
    assert changed(room.works("remove")) == 0
    room.works("remove", "-e", "remove_weights=true", "-e", "remove_environments=true")
    assert room.ssh("ls /opt") == ""
