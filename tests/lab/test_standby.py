# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One instance on one host behind the gateway, exchanged under load: no request is lost, and a bad release stops nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import lab_name, write_inventory
from .test_gateway import bundle
from .test_releases import ENGINE, REJECTED, Room, wait_for

# Asks all the time until it is told to stop; says how often each answer came, and what else happened.
LOAD = r"""
import collections, http.client, json, os, ssl, sys, threading, time
key = sys.argv[1]
made = ssl.create_default_context(cafile="/etc/sglang/gateway/tls/ca.crt")
made.check_hostname = False
found, body = collections.Counter(), json.dumps({"model": "tiny", "messages": []})
def work():
    link = None
    while not os.path.exists("/srv/stop"):
        try:
            # Kept open: one address may not make hundreds of connections a second.
            link = link or http.client.HTTPSConnection("127.0.0.1", 443, timeout=600, context=made)
            link.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer " + key})
            answer = link.getresponse()
            said = json.loads(answer.read())
            found[said["text"] if answer.status == 200 else f"{answer.status} {said}"] += 1
            # Hundreds of requests a second see any gap; thousands would only keep a processor busy.
            time.sleep(0.01)
        except Exception as error:
            found[repr(error)] += 1
            link = None
crowd = [threading.Thread(target=work) for _ in range(4)]
[one.start() for one in crowd]
[one.join() for one in crowd]
json.dump(found, open("/srv/found.part", "w"))
os.rename("/srv/found.part", "/srv/found.json")
"""


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    from .test_weights import fetched

    folder = tmp_path_factory.mktemp("standby")
    fetched(folder / "weights", folder / "source", 7)
    hosts = {"r1": {"ansible_host": "10.96.0.11", "lab": {"kind": "nspawn", "image": "debian-12"}}}
    told = {"gateway": {"hosts": ["r1"]}, "bundle_dir": str(bundle(folder))}
    inventory = write_inventory(folder, lab_name("standby"), hosts, **told)
    lab = Lab.from_inventory(inventory)
    try:
        lab.up()
        room = Room(inventory, lab, folder)
        room.works("site", "--tags", "plan", "-e", f"plan_dir={folder}/plans", small=0)
        plan = json.loads((folder / "plans/r1.json").read_text())
        assert list(plan["standbys"]) == ["tiny"]
        room.make_environment(plan["instances"]["tiny"]["environment"]["path"])
        room.works("site", small=0)
        room.works("keys", "-e", f"key=load key_file={folder}/load.key", small=0)
        yield room
    finally:
        lab.down()


def under_load(room: Room, *words: str, fails: bool = False, **tokens: int) -> tuple[str, dict[str, int]]:
    """What a playbook said, and the answers that clients had before, while and after it ran."""
    key = Path(room.folder / "load.key").read_text().strip()
    room.put("/srv/load.py", LOAD)
    room.ssh("rm -f /srv/stop /srv/found.json")
    room.ssh(f"systemd-run --quiet --collect --unit load python3 /srv/load.py {key}")
    run = room.fails if fails else room.works
    said = run(*words, small=0, **tokens)
    room.ssh("sleep 1; touch /srv/stop")
    wait_for(lambda: room.ssh("cat /srv/found.json", check=False))
    return said, json.loads(room.read("/srv/found.json"))


def test_an_upgrade_loses_no_request(room: Room) -> None:
    said = room.works(*ENGINE, "--check", "--diff", tiny=4000, small=0)
    assert "sglang-tiny-standby.service takes the requests of sglang-tiny.service meanwhile" in said
    room.behave(start=3)
    first = room.started("tiny")
    said, found = under_load(room, *ENGINE, tiny=4000)
    print(found)
    assert set(found) == {"hello with 4096", "hello with 4000"} and min(found.values()) > 20
    assert room.started("tiny") != first and room.says("tiny") == "hello with 4000"
    assert room.ssh("ls /run/systemd/system | grep standby; ls /opt/sglang | grep standby", check=False) == ""


@pytest.mark.long
def test_so_do_a_restart_and_a_rollback(room: Room) -> None:
    for words, answers in ((("restart",), {"hello with 4000"}), (("rollback",), None)):
        first = room.started("tiny")
        _said, found = under_load(room, *words, tiny=4000)
        print(words, found)
        assert room.started("tiny") != first
        assert set(found) == (answers or {"hello with 4000", "hello with 4096"})
    assert room.says("tiny") == "hello with 4096"


@pytest.mark.long
def test_a_release_that_does_not_serve_stops_nothing(room: Room) -> None:
    first = room.started("tiny")
    said, found = under_load(room, *ENGINE, fails=True, tiny=REJECTED)
    assert "does not serve beside what serves now" in said and "Nothing was stopped or changed" in said
    assert "max_total_tokens=1 is not enough" in said
    assert set(found) == {"hello with 4096"} and room.started("tiny") == first
    assert room.record()["failed"]["why"] and room.record()["unfinished"] is None
