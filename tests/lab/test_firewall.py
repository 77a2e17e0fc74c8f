# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stage Firewall of site.yml on three Debian 12 hosts: two serve one model together, the third is a stranger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, lab_name, write_inventory

PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
ADDRESSES = {f"h{n}": f"10.77.0.{10 + n}" for n in (1, 2, 3)}
TOGETHER = {"tiny": {"model": "glm-4.7-tiny", "hosts": ["h1", "h2"], "device": "cpu"}}
API, RENDEZVOUS, OTHER = 30000, 31000, 8081
LISTEN = """
import select, socket, sys
listening = [socket.create_server(("0.0.0.0", int(port))) for port in sys.argv[1:]]
print("ready", flush=True)
while True:
    for ready in select.select(listening, [], [])[0]:
        ready.accept()[0].close()
"""


@pytest.fixture(scope="module")
def lab(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from lab import Lab

    hosts = {
        name: {"ansible_host": address, "lab": {"kind": "nspawn"}} for name, address in ADDRESSES.items()
    }
    inventory = write_inventory(tmp_path_factory.mktemp("inventory"), lab_name("wall"), hosts)
    made = Lab.from_inventory(inventory)
    made.inventory = inventory
    made.plans = tmp_path_factory.mktemp("plans")
    made.up()
    yield made
    made.down()


def site(lab: Any, serve: Any, *words: str, check: bool = True) -> str:
    # The third host may bring and take weights, and still does not join the group.
    extra = {"serve": serve, "weights_transport": "swarm", "plan_dir": str(lab.plans)}
    return play(lab, "site.yml", "--tags", "firewall", "-e", json.dumps(extra), *words, check=check)


def again(lab: Any, *words: str, alone: bool = False) -> str:
    """The role once more with the plans of before; `alone`: as if each host served by itself."""
    read = "lookup('ansible.builtin.file', plans ~ '/' ~ inventory_hostname ~ '.json') | from_json"
    without = " | combine({'firewall': {}})" if alone else ""
    described = {
        "hosts": "h1:h2",
        "gather_facts": False,
        "vars": {"plans": str(lab.plans), "plan_of_host": f"{{{{ {read}{without} }}}}"},
        "tasks": [
            {"name": "Firewall", "ansible.builtin.include_role": {"name": "baremetal.sglang.firewall"}}
        ],
    }
    book = lab.plans / "again.yml"
    book.write_text(yaml.safe_dump([described], width=1000))
    return play(lab, str(book), *words)


def play(lab: Any, *words: str, check: bool = True) -> str:
    done = subprocess.run(
        [PLAYBOOK, "-i", str(lab.inventory), *words],
        cwd=REPOSITORY,
        env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def changed(output: str, host: str) -> int:
    line = next(line for line in output.splitlines() if line.startswith(f"{host} ") and "changed=" in line)
    return int(line.split("changed=")[1].split()[0])


def reached(lab: Any, host: str, ports: tuple[int, ...], user: str) -> list[int]:
    words = "; ".join(
        f"(timeout 15 setpriv --reuid {user} --clear-groups bash -c '</dev/tcp/{ADDRESSES['h1']}/{port}' 2>&- && echo {port}) &"
        for port in ports
    )
    return sorted(map(int, lab.host(host).ssh(words.replace("&;", "&") + " wait").stdout.split()))


def seen(lab: Any, user: str = "root") -> dict[str, list[int]]:
    """Which of the first host's ports each host can reach, over the network. A planned port is free otherwise."""
    ports = (OTHER, API, RENDEZVOUS)
    first = lab.host("h1")
    first.ssh(
        f"cat >/run/listen.py; systemd-run --quiet --unit listen python3 /run/listen.py {' '.join(map(str, ports))}; "
        f"timeout 600 sh -c \"until ss -Htln 'sport = :{ports[-1]}' | grep -q .; do sleep 0.1; done\"",
        text_input=LISTEN,
    )
    try:
        with ThreadPoolExecutor(len(ADDRESSES)) as pool:
            answers = pool.map(lambda host: reached(lab, host, ports, user), ADDRESSES)
            return dict(zip(ADDRESSES, answers, strict=True))
    finally:
        first.ssh("systemctl stop listen")


CLOSED = {
    "h1": [OTHER, API, RENDEZVOUS],
    "h2": [OTHER, API, RENDEZVOUS],
    "h3": [OTHER],
}
OPEN = {host: [OTHER, API, RENDEZVOUS] for host in CLOSED}


def test_the_life_of_the_table(lab: Any) -> None:
    first = lab.host("h1")
    first.ssh("nft add table inet neighbour; nft add chain inet neighbour mine")
    before = first.ssh("nft list ruleset").stdout
    assert seen(lab) == OPEN

    checked = site(lab, TOGETHER, "--check", "--diff")
    assert f"+\t\ttcp dport {RENDEZVOUS}" in checked and "10.77.0.12" in checked
    assert first.ssh("nft list ruleset").stdout == before
    assert first.ssh("ls /etc/sglang", check=False).stdout == ""

    assert changed(site(lab, TOGETHER), "h1") > 0
    assert seen(lab) == CLOSED
    assert "chain mine" in first.ssh("nft list table inet neighbour").stdout
    assert first.ssh("cat /etc/nftables.conf").stdout == lab.host("h3").ssh("cat /etc/nftables.conf").stdout

    table = first.ssh("nft list table inet baremetal_sglang").stdout
    assert "tcp dport 29310" in table and ADDRESSES["h3"] in table

    # A local user of a member, and of the first host itself, is a stranger to the rendezvous.
    assert seen(lab, user="nobody") == {"h1": [OTHER, API], "h2": [OTHER, API], "h3": [OTHER]}

    second = again(lab)
    assert changed(second, "h1") == changed(second, "h2") == 0

    # A stranger's hand, the distribution's own service, which empties every table, and a reboot.
    first.ssh("nft flush chain inet baremetal_sglang input")
    assert RENDEZVOUS in seen(lab)["h3"]
    mended = again(lab, "--diff")
    assert "# in the kernel instead" in mended and changed(mended, "h1") == 1
    for words in ("enable --now", "reload", "restart"):
        first.ssh(f"systemctl {words} nftables")
        assert seen(lab) == CLOSED, words
    first.reboot()
    assert seen(lab) == CLOSED
    assert changed(again(lab), "h1") == 0

    # One host alone listens for nobody: the table goes, and with it all that it brought.
    first.ssh("nft add table inet neighbour")
    again(lab, alone=True)
    assert seen(lab) == OPEN
    assert "neighbour" in first.ssh("nft list tables").stdout
    assert "baremetal_sglang" not in first.ssh("nft list tables").stdout
    for left in (
        "find /etc/sglang /etc/systemd/system -name '*firewall*' -o -name sglang.conf",
        "systemctl list-units --all 'sglang-firewall*' --no-legend",
    ):
        assert first.ssh(left).stdout == ""
    assert changed(again(lab, alone=True), "h1") == 0


def test_a_host_without_nft(lab: Any) -> None:
    """Refused by name before anything changes where a group needs it; nothing is asked for where none does."""
    lab.host("h3").ssh("mv /usr/sbin/nft /usr/sbin/nft-away")
    group = {"tiny": {**TOGETHER["tiny"], "hosts": ["h1", "h3"]}}
    refused = site(lab, group, check=False)
    assert "REFUSED" in refused and "h3" in refused and "install package nftables" in refused
    assert "baremetal_sglang" not in lab.host("h1").ssh("nft list tables").stdout
    extra = json.dumps({"serve": {"tiny": {**TOGETHER["tiny"], "hosts": ["h3"]}}})
    assert (
        changed(play(lab, "site.yml", "--tags", "firewall", "-e", extra, "--limit", "h3,localhost"), "h3")
        == 0
    )
