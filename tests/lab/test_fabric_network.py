# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fabric's addresses through three real network managers, and the way back when a host is cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.files import network_files

from .conftest import REPOSITORY, lab_name, tool, write_inventory

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
MANAGERS = {"w1": "networkd", "w2": "netplan", "w3": "ifupdown"}
GUARD_SECONDS = 15


class Room:
    def __init__(self, lab: Any, inventory: Path, folder: Path) -> None:
        self.lab, self.inventory, self.folder = lab, inventory, folder
        self.before: dict[str, tuple[list[str], int]] = {}
        self.plans: dict[str, Any] = {}

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        return str(self.lab.host(host).ssh(command, check=check).stdout).strip()

    def fabric(self, host: str, address: str, guard: int = 900, **changes: Any) -> dict[str, Any]:
        ports = [{"netdev": "eth1", "device": "", "address": address, "mtu": 1400, **changes}]
        return {
            **{
                "ports": ports,
                "network": network_files(MANAGERS[host], ports),
                "guard_seconds": guard,
            },
            **{"roce": {}, "modules": [], "devices": [], "members": [], "gates": {}, "sockets": False},
            "python": "/usr/bin/python3",
        }

    def run(self, plans: dict[str, Any], *words: str, **said: Any) -> tuple[int, str]:
        """The role with fabrics as a plan has them."""
        play = {
            "hosts": list(plans),
            "gather_facts": False,
            "tasks": [{"ansible.builtin.include_role": {"name": "baremetal.sglang.fabric"}}],
        }
        path = self.folder / "play.yml"
        path.write_text(yaml.safe_dump([play]))
        given = {"fabric_of": plans, "fabric_gate": "never", **said}
        done = subprocess.run(
            [
                *(str(PLAYBOOK), str(path), "-i", str(self.inventory), "-e", json.dumps(given)),
                *("-e", '{"fabric_plan": "{{ fabric_of[inventory_hostname] }}"}', *words),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=3600,
        )
        return done.returncode, done.stdout.replace("\\n", "\n")

    def works(self, plans: dict[str, Any], *words: str, **said: Any) -> str:
        status, out = self.run(plans, *words, **said)
        assert status == 0, out[-5000:]
        return out

    def live(self, host: str) -> tuple[list[str], int]:
        (row,) = json.loads(self.ssh(host, "ip -j address show dev eth1"))
        found = [item for item in row["addr_info"] if item["family"] == "inet"]
        return [f"{item['local']}/{item['prefixlen']}" for item in found], row["mtu"]


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("wires")
    tool("images", "debian-12-network")
    hosts = {
        name: {
            "ansible_host": f"10.79.0.1{number}",
            "lab": {"kind": "nspawn", "image": "debian-12-network", "nics": 2},
        }
        for number, name in enumerate(MANAGERS, 1)
    }
    inventory = write_inventory(folder, lab_name("wires"), hosts)
    lab = Lab.from_inventory(inventory)
    lab.up()
    made = Room(lab, inventory, folder)
    made.ssh("w2", "rm /etc/systemd/network/10-eth1.network; mkdir -p /etc/netplan; "
             "printf 'network: {version: 2}\n' >/etc/netplan/00.yaml; chmod 600 /etc/netplan/00.yaml; "
             "ip address flush dev eth1")  # fmt: skip
    made.ssh("w3", "printf 'auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n' "
             ">/etc/network/interfaces; rm /etc/systemd/network/10-eth1.network; networkctl reload")  # fmt: skip
    made.before = {host: made.live(host) for host in MANAGERS}
    made.plans = {host: made.fabric(host, addresses(host)) for host in MANAGERS}
    yield made
    lab.down()


def addresses(host: str) -> str:
    return f"10.91.0.{10 + int(host[1])}/24"


def test_addresses_come_and_a_second_run_changes_nothing(room: Room) -> None:
    before, plans = room.before, room.plans
    # Nothing is touched by a check, and the difference is shown.
    said = room.works(plans, "--check", "--diff")
    assert {host: room.live(host) for host in MANAGERS} == before
    assert "60-sglang-fabric.yaml" in said and "10.91.0.12/24" in said

    room.works(plans)
    assert {host: room.live(host) for host in MANAGERS} == {
        host: ([addresses(host)], 1400) for host in MANAGERS
    }
    assert room.ssh("w2", "stat -c '%a %U' /etc/netplan/60-sglang-fabric.yaml") == "600 root"
    # Nobody waits to go back any more.
    assert room.ssh("w1", "systemctl is-active sglang-fabric-undo.timer; ls /etc/sglang/fabric/pending.json",
                    check=False) == "inactive"  # fmt: skip

    said = room.works(plans)
    assert said.count("changed=0") == len(plans), said[-3000:]


@pytest.mark.long
def test_a_reboot_drift_and_a_host_that_is_cut_off(room: Room) -> None:
    plans = room.plans
    # A reboot brings the same.
    room.lab.host("w3").reboot()
    assert room.live("w3") == ([addresses("w3")], 1400)

    # MTU that somebody, or a firmware update, set back is drift.
    room.ssh("w1", "ip link set eth1 mtu 1500")
    assert "eth1 has MTU 1500, not 1400" in room.works({"w1": plans["w1"]}, "-v")
    assert room.live("w1") == ([addresses("w1")], 1400)

    # A manager that takes the way to the host down with it: the host is lost, and comes back by itself.
    cut = room.fabric("w1", "10.91.0.77/24", guard=GUARD_SECONDS)
    cut["network"]["apply"] = [*cut["network"]["apply"], ["ip", "link", "set", "dev", "eth0", "down"]]
    cut["network"]["undo"] = [*cut["network"]["undo"], ["ip", "link", "set", "dev", "eth0", "up"]]
    begun = time.monotonic()
    status, said = room.run({"w1": cut})
    assert status != 0
    assert "went back by itself: it was not reached again within 15 s" in said, said[-4000:]
    assert time.monotonic() - begun >= GUARD_SECONDS
    assert room.live("w1") == ([addresses("w1")], 1400)
    assert (
        room.ssh("w1", "cat /etc/systemd/network/05-sglang-fabric-eth1.network").count("10.91.0.11/24") == 1
    )
    room.works({"w1": plans["w1"]})


def test_what_cannot_work_is_refused_at_the_last_moment(room: Room) -> None:
    taken = room.fabric("w1", addresses("w2"))
    status, said = room.run({"w1": taken})
    assert status != 0 and "10.91.0.12 on eth1 is already used by another host of this link (02:" in said
    status, said = room.run({"w1": room.fabric("w1", "10.92.0.1/24", netdev="eth7")})
    assert status != 0 and "the host has no interface eth7 (it has eth0, eth1): was it renamed?" in said
    status, said = room.run({"w1": room.fabric("w1", "10.92.0.1/24", netdev="eth0")})
    assert status != 0 and "the address that we came in by" in said
    assert room.live("w1") == ([addresses("w1")], 1400)


def test_they_go_without_a_trace_and_a_second_run_changes_nothing(room: Room) -> None:
    before, plans = room.before, room.plans
    room.works(plans, fabric_state="absent")
    assert {host: room.live(host) for host in MANAGERS} == before
    assert room.ssh("w2", "ls -A /etc/netplan; ls -d /etc/sglang/fabric", check=False) == "00.yaml"
    said = room.works(plans, fabric_state="absent")
    assert said.count("changed=0") == len(plans)
