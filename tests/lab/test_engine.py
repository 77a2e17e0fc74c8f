# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unit on a real systemd host: what it says, what it may do, and what brings it down and back."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
from collections.abc import Iterator

import pytest

from .conftest import lab_name, write_inventory
from .engine_host import EngineHost, fake_environment, make_plan, publish_weights, real_environment

WEIGHTS = "/opt/sglang/weights/glm-4.7-tiny/local"


@pytest.fixture(scope="module")
def host(
    request: pytest.FixtureRequest, images: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineHost]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("engine")
    driver = folder / "driver/usr/lib/x86_64-linux-gnu"
    from .engine_host import REPOSITORY, subprocess

    subprocess.run(["/usr/bin/python3", REPOSITORY / "molecule/lab/stub_driver/build.py", driver], check=True)
    # Gigabytes, for the tests that start the real engine.
    asked = any("served" in getattr(item, "fixturenames", ()) for item in request.session.items)
    real = real_environment(folder) if asked else []
    inventory = write_inventory(
        folder,
        lab_name("engine"),
        {"e1": {"ansible_host": "10.91.0.11",
                "lab": {"kind": "nspawn", "image": "debian-12", "layers": [str(folder / "driver")],
                        "binds": [*real, fake_environment(folder)]}}},
    )  # fmt: skip
    lab = Lab.from_inventory(inventory)
    lab.up()
    found = EngineHost(lab, inventory, make_plan("e1"))
    publish_weights(found.root() / WEIGHTS.lstrip("/"))
    yield found
    lab.down()


@pytest.fixture(scope="module")
def served(host: EngineHost) -> EngineHost:
    done = host.play("host engine verify")
    assert done.returncode == 0, done.stdout[-6000:]
    host.until("tiny", "active")
    return host


@pytest.fixture(scope="module")
def with_stand_in(host: EngineHost) -> EngineHost:
    done = host.play("host")
    assert done.returncode == 0, done.stdout[-3000:]
    host.ssh("install -d -o sglang -g sglang -m 0750 /var/lib/sglang/toy /var/cache/sglang/toy")
    host.install_stand_in()
    return host


@pytest.fixture
def toy(with_stand_in: EngineHost) -> Iterator[EngineHost]:
    with_stand_in.fresh()
    yield with_stand_in
    with_stand_in.ssh("umount -l /var/cache/sglang/toy 2>/dev/null", check=False)
    with_stand_in.fresh()


def changed(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


def tokens(host: EngineHost) -> int:
    body = json.dumps({"text": "Hello", "sampling_params": {"max_new_tokens": 4}})
    code = (
        "import urllib.request as u;r=u.Request('http://127.0.0.1:30000/generate',"
        f"{body.encode()!r},{{'Content-Type':'application/json'}});print(u.urlopen(r,timeout=900).read().decode())"
    )
    return int(json.loads(host.ssh(f"python3 -c {shlex.quote(code)}"))["meta_info"]["completion_tokens"])


# --- the real engine ---


@pytest.mark.long
def test_it_says_how_far_it_is_and_ready_after_a_token(served: EngineHost) -> None:
    assert tokens(served) == 4
    said = served.ssh("journalctl -u sglang-tiny -o cat").splitlines()
    print("\n".join(line for line in said if line.startswith("launcher:")))
    words = "\n".join(said)
    # A tiny model is loaded between two looks; the stand-in shows the percentage.
    for part in ("last checks", "starting the engine", "warming up", "serving tiny on 127.0.0.1:30000"):
        assert part in words
    assert re.search(r"first token after \d+ s", served.status("tiny"))


@pytest.mark.long
def test_a_second_run_changes_nothing(served: EngineHost) -> None:
    main = served.show("tiny", "MainPID")
    done = served.play("host engine")
    assert changed(done.stdout) == 0, done.stdout[-4000:]
    assert changed(served.play("host engine", "--check", "--diff").stdout) == 0
    assert served.show("tiny", "MainPID") == main


@pytest.mark.long
def test_it_is_confined(served: EngineHost) -> None:
    text = served.ssh("systemd-analyze security --no-pager sglang-tiny", check=False)
    found = re.search(r"Overall exposure level for sglang-tiny.service: ([\d.]+)", text)
    assert found, text
    print(f"exposure of the unit: {found[1]}")
    assert float(found[1]) <= 2.0
    pid = served.show("tiny", "MainPID")["MainPID"]
    inside = f"nsenter -t {pid} -m --"
    assert served.ssh(f"{inside} cat /root/.ssh/authorized_keys", check=False) == ""
    writable = served.ssh(
        f"for place in /opt/sglang /etc /var/lib/sglang/toy /var/cache/sglang/toy /usr /srv /var/lib/sglang/tiny; do "
        f"{inside} setpriv --reuid sglang --regid sglang --clear-groups touch $place/it 2>/dev/null && echo $place;"
        f"rm -f $place/it; done",
        check=False,
    )
    assert writable == "/var/lib/sglang/tiny"
    listening = served.ssh("ss -Htln | awk '{print $4}'").split()
    assert "127.0.0.1:30000" in listening


@pytest.mark.long
def test_everything_compiled_is_kept_by_environment_and_architecture(served: EngineHost) -> None:
    compiled = served.plan["instances"]["tiny"]["service"]["compiled"]
    assert re.fullmatch(r"/var/cache/sglang/tiny/compiled/[0-9a-f]{16}-x86_64", compiled)
    assert served.ssh(f"stat -c '%U %a' {compiled}") == "sglang 700"
    elsewhere = served.ssh(
        # Its own /tmp goes away with it.
        "find /tmp /var/tmp -not -path '*/systemd-private-*' -user sglang -type f;"
        "find /home /root /opt/sglang /var/cache/sglang /var/lib/sglang -user sglang -type f"
        f" -not -path '{compiled}/*' -not -path '*/toy/*'",
        check=False,
    )
    assert elsewhere == "/var/lib/sglang/tiny/starts.json"


@pytest.mark.long
def test_the_launcher_is_small(served: EngineHost) -> None:
    pid = served.show("tiny", "MainPID")["MainPID"]
    before = served.ssh(f"cut -d' ' -f14,15 /proc/{pid}/stat").split()
    begun = time.monotonic()
    time.sleep(10)
    after = served.ssh(f"cut -d' ' -f14,15 /proc/{pid}/stat").split()
    share = (sum(map(int, after)) - sum(map(int, before))) / (time.monotonic() - begun)
    resident = int(served.ssh(f"awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status")) / 1024
    print(f"launcher: {resident:.1f} MB resident, {share:.2f} % CPU")
    assert resident <= 40
    assert share <= 1


@pytest.mark.long
def test_a_stopped_scheduler_is_found_and_tokens_come_again(served: EngineHost) -> None:
    main = served.show("tiny", "MainPID")["MainPID"]
    before = set(served.processes("tiny"))
    served.ssh(f"kill -STOP {served.process('tiny', 'sglang::scheduler')}")
    begun = time.monotonic()
    served.until("tiny", "activating")
    print(f"wedge found and down after {time.monotonic() - begun:.1f} s")
    words = served.ssh("journalctl -u sglang-tiny -o cat | grep '^launcher:' | tail -5")
    assert re.search(r"sglang::scheduler\S* \(process \d+\) has been stopped", words)
    served.until("tiny", "active", main_not=main)
    assert tokens(served) == 4
    assert not before & set(served.processes("tiny"))


@pytest.mark.long
def test_a_killed_scheduler_takes_all_down_and_tokens_come_again(served: EngineHost) -> None:
    main = served.show("tiny", "MainPID")["MainPID"]
    before = set(served.processes("tiny"))
    served.ssh(f"kill -KILL {served.process('tiny', 'sglang::scheduler')}")
    served.until("tiny", "activating")
    seconds = served.until("tiny", "active", main_not=main)
    print(f"kill -9 of the scheduler: serving again after {seconds:.0f} s; {served.status('tiny')}")
    assert tokens(served) == 4
    assert not before & set(served.processes("tiny"))


@pytest.mark.long
def test_an_option_that_the_server_rejects_is_said_in_its_own_words(served: EngineHost) -> None:
    plan = make_plan("e1", tiny={"options": {"max-total-tokens": 1}})
    done = served.play("engine verify", plan=plan)
    assert done.returncode != 0
    # The first failure, not "timeout"; what systemctl status then says is seen with the stand-in.
    said = r"the server (ended|was killed)[^:]*: AssertionError: max_running_request is zero"
    assert re.search(said, done.stdout), done.stdout[-5000:]
    assert "Its last lines:" in done.stdout
    served.ssh("systemctl stop sglang-tiny")
    assert served.processes("tiny") == {}


# --- the stand-in ---


def start(host: EngineHost) -> None:
    host.ssh("systemctl start sglang-toy")


@pytest.mark.parametrize(
    "part",
    [
        "sglang::scheduler",
        *(
            pytest.param(part, marks=pytest.mark.long)
            for part in ("sglang::detokenizer", "sglang.launch_server", "launcher")
        ),
    ],
)
def test_kill_9_of_each_kind_leaves_nothing_and_it_serves_again(toy: EngineHost, part: str) -> None:
    start(toy)
    main = toy.show("toy", "MainPID")["MainPID"]
    before = set(toy.processes("toy"))
    assert len(before) == 4
    toy.ssh(f"kill -KILL {toy.process('toy', part)}")
    toy.until("toy", "active", main_not=main)
    assert not before & set(toy.processes("toy"))
    assert toy.ssh("ls /dev/shm | grep fake-", check=False) == ""


@pytest.mark.long
@pytest.mark.parametrize("part", ["sglang::detokenizer", "sglang.launch_server", "launcher"])
def test_sigstop_of_each_kind_is_found(toy: EngineHost, part: str) -> None:
    start(toy)
    main = toy.show("toy", "MainPID")["MainPID"]
    toy.ssh(f"kill -STOP {toy.process('toy', part)}")
    print(f"{part} stopped: serving again after {toy.until('toy', 'active', main_not=main):.1f} s")


def test_a_stop_lets_running_requests_finish_and_takes_no_new_ones(toy: EngineHost) -> None:
    start(toy)
    ask = (
        "python3 -c \"import urllib.request as u;r=u.Request('http://127.0.0.1:30100/generate',"
        'b\'{\\"sampling_params\\":{\\"max_new_tokens\\":%d}}\');print(len(u.urlopen(r,timeout=%d).read()))"'
    )
    got: list[str] = []
    running = threading.Thread(target=lambda: got.append(toy.ssh(ask % (600, 900), check=False)))
    running.start()
    # The launcher's own questions do not wait for an answer of 600 tokens.
    toy.ssh("until (for i in 1 2 3; do ss -Htn state established dport = :30100 | grep -q . || exit 1; sleep 0.3; done); "
            "do sleep 0.1; done")  # fmt: skip
    stopping = threading.Thread(target=lambda: toy.ssh("systemctl stop sglang-toy"))
    stopping.start()
    said = toy.until_status("toy", "draining")
    assert "no new ones are taken" in said
    assert toy.ssh(ask % (1, 20), check=False) == ""
    running.join()
    stopping.join()
    assert got[0] > "1500"
    assert toy.processes("toy") == {}
    assert toy.show("toy", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}


def test_a_stranger_on_the_port_and_damaged_weights_are_said_at_once(toy: EngineHost) -> None:
    toy.ssh("systemd-run --quiet --unit stranger python3 -m http.server --bind 127.0.0.1 30100")
    shard = f"{WEIGHTS}/model-00001-of-00002.safetensors"
    toy.ssh(f"mv {shard} {shard}.away")
    try:
        toy.ssh("systemctl start --no-block sglang-toy")
        said = toy.until_status("toy", "not started")
        assert "port 30100 on 127.0.0.1 is taken by another program" in said
        assert "model-00001-of-00002.safetensors is missing" in said
    finally:
        toy.ssh(f"mv {shard}.away {shard}; systemctl stop stranger")
    toy.until("toy", "active")


def test_a_full_disk_in_the_cache_is_said(toy: EngineHost) -> None:
    toy.ssh("mount -t tmpfs -o size=8m,mode=0750,uid=$(id -u sglang) full /var/cache/sglang/toy")
    toy.ssh("dd if=/dev/zero of=/var/cache/sglang/toy/x bs=1M count=9 2>/dev/null", check=False)
    toy.ssh("systemctl start --no-block sglang-toy")
    said = toy.until_status("toy", "not started")
    assert re.search(r"the disk of /var/cache/sglang/toy\S* is full: 0 MiB free, \d+ MiB needed", said), said


def test_a_shard_that_cannot_be_read_is_said(toy: EngineHost) -> None:
    shard = f"{WEIGHTS}/model-00002-of-00002.safetensors"
    toy.ssh(f"chmod 000 {shard}")
    try:
        toy.ssh("systemctl start --no-block sglang-toy")
        said = toy.until_status("toy", "not started")
        assert re.search(r"model-00002-of-00002.safetensors cannot be read \(Permission denied\)", said), said
    finally:
        toy.ssh(f"chmod 644 {shard}; systemctl stop sglang-toy")


def test_after_the_bound_it_stays_down_and_says_why(toy: EngineHost) -> None:
    toy.amend(restart={"delays": [0, 0.5, 1]})
    said = "error: argument --kv-cache-dtype: invalid choice: 'int3'"
    toy.behave(reject="argument --kv-cache-dtype: invalid choice: 'int3'")
    toy.ssh("systemctl start --no-block sglang-toy")
    toy.until("toy", "failed")
    shown = toy.ssh("systemctl status --no-pager -n 0 sglang-toy", check=False)
    print(shown)
    assert re.search(r"Status: .gave up after 3 failed starts: the server ended with exit status 2", shown)
    assert said in shown
    # Whoever starts it by hand has a fresh count.
    toy.behave()
    start(toy)
    assert json.loads(toy.ssh("cat /var/lib/sglang/toy/starts.json"))["failures"] != []


def test_the_percentage_is_seen_and_compiled_code_is_carried(toy: EngineHost) -> None:
    toy.behave(load_seconds=20)
    toy.ssh("systemctl start --no-block sglang-toy")
    toy.until_status("toy", "loading 37 %")
    toy.until("toy", "active")
    # From the one instance's folder into an empty one, as playbooks/jit_cache.yml does it between hosts.
    compiled = toy.plan["instances"]["toy"]["service"]["compiled"]
    toy.ssh(f"runuser -u sglang -- sh -c 'mkdir -p {compiled}/triton; echo cubin >{compiled}/triton/kernel'")
    toy.ssh("install -d -m 700 /opt/sglang/carried")
    given = {"archive": "/opt/sglang/carried/c.tar.gz", "user": "sglang"}
    pack = {
        "baremetal.sglang.jit_cache": {"folder": compiled, "state": "packed", **given},
        "register": "packed",
    }
    received = {"folder": f"{compiled}-other", "state": "unpacked", "sha256": "{{ packed.sha256 }}"}
    unpack = {"baremetal.sglang.jit_cache": {**received, **given}}
    first, second = toy.tasks([pack, unpack]), toy.tasks([pack, unpack])
    assert (changed(first), changed(second)) == (2, 1), first
    assert toy.ssh(f"stat -c '%U %a' {compiled}-other/triton/kernel") == "sglang 600"


@pytest.mark.long
def test_an_engine_that_never_becomes_ready_is_given_up_in_time(toy: EngineHost) -> None:
    toy.amend(start={"seconds": 4, "stall_seconds": 3, "most_seconds": 30})
    toy.behave(never_ready=True)
    toy.ssh("systemctl start --no-block sglang-toy")
    said = toy.until_status("toy", "not ready after")
    assert re.search(
        r"not ready after \d+ s \(planned: 4\) and no progress for \d+ s, warming up: /health answers 503",
        said,
    )
