# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two guests with real RDMA (Soft-RoCE) on two ports each: configured, measured, and broken in the ways that happen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.gates import judge, specification

from .conftest import REPOSITORY, tool

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
NAMES = ("f1", "f2")
# One emulated processor moves a hundredth of a real link; what is healthy here is far above this.
GATE_GBPS = 0.02
FIRST, SECOND = "rxe1", "rxe2"

pytestmark = pytest.mark.long


class Guests:
    def __init__(self, lab: Any, inventory: Path, folder: Path) -> None:
        self.lab, self.inventory, self.folder = lab, inventory, folder

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        return str(self.lab.host(host).ssh(command, check=check).stdout).strip()

    def run(self, play: str, *words: str, **said: Any) -> tuple[int, str]:
        serve = {"tiny": {"model": "glm-4.7-tiny", "hosts": list(NAMES), "device": "cpu"}}
        given = {
            "serve": serve,
            "fabric_twins": [[FIRST, SECOND]],
            "fabric_mtu": 9000,
            "fabric_gate_gbps": GATE_GBPS,
            "fabric_gate_seconds": 2,
            # Emulated guests beside other tests are slow.
            "fabric_guard_seconds": 600,
            "fabric_report": str(self.folder / "fabric.html"),
            **said,
        }
        done = subprocess.run(
            [
                str(PLAYBOOK),
                f"playbooks/{play}.yml",
                "-i",
                str(self.inventory),
                "-e",
                json.dumps(given),
                *words,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            # Both guests are emulated, and others work on this machine too.
            timeout=3600,
        )
        return done.returncode, done.stdout.replace("\\n", "\n")

    def measure(self, plans: dict[str, Any]) -> dict[str, Any]:
        """The program of the gates on both guests at once, as the role starts it."""
        running = {}
        for name in NAMES:
            spec = specification(plans, name, 60, "5a" * 32)
            spec["measures"] = ["bandwidth"]
            spec["settings"]["seconds"] = 2
            (self.folder / f"{name}.json").write_text(json.dumps(spec))
            with (self.folder / f"{name}.json").open() as stream:
                running[name] = subprocess.Popen(
                    ["ssh", "-F", self.lab.paths.ssh_config, name, "python3 /etc/sglang/fabric/gate.py"],
                    stdin=stream,
                    stdout=subprocess.PIPE,
                    text=True,
                )
        return {name: json.loads(process.communicate(timeout=120)[0]) for name, process in running.items()}

    def launcher_says(self, expected: dict[str, Any]) -> list[str]:
        """What the launcher of f1 would refuse a start with."""
        code = "import json, sys, fabric; print(json.dumps(fabric.problems(json.load(sys.stdin))))"
        words = f"cd /root && printf %s '{json.dumps(expected)}' | python3 -B -c '{code}'"
        return list(json.loads(self.ssh("f1", words)))


@pytest.fixture
def guests(make_lab: Callable[..., Any], tmp_path: Path) -> Guests:
    tool("images", "debian-12-rdma", "--kind", "qemu")
    hosts = {
        name: {
            "ansible_host": f"10.81.0.1{number}",
            "fabric_addresses": [f"10.91.1.1{number}/24", f"10.91.2.1{number}/24"],
            "lab": {"kind": "qemu", "image": "debian-12-rdma", "mtu": 9000, "nics": 3},
        }
        for number, name in enumerate(NAMES, 1)
    }
    lab = make_lab("fabric", hosts)
    lab.up()
    made = Guests(lab, next(tmp_path.glob("*.yml")), tmp_path)
    for name in NAMES:
        made.ssh(
            name, f"rdma link add {FIRST} type rxe netdev eth1; rdma link add {SECOND} type rxe netdev eth2"
        )
    launcher = (REPOSITORY / "roles/engine/files/launcher/fabric.py").read_text()
    made.ssh("f1", f"cat >/root/fabric.py <<'PROGRAM'\n{launcher}\nPROGRAM")
    return made


def test_a_fabric_is_configured_proven_and_its_faults_are_named(guests: Guests) -> None:
    plans = guests.folder / "plans"
    status, said = guests.run("fabric", plan_dir=str(plans))
    assert status == 0, said[-6000:]
    assert "all links pass" in said
    figures = re.findall(r"f1 +- +(\d+\.\d+)", said)
    assert figures and float(figures[0]) > GATE_GBPS, said[-3000:]
    assert "RDMA write latency" in said and "TCP, Gb/s" in said
    page = (guests.folder / "fabric.html").read_text()
    assert "<td class=good" in page and "src=" not in page

    plan = json.loads((plans / "f1.json").read_text())
    expected = plan["instances"]["tiny"]["service"]["checks"]["fabric"]
    assert [(item["name"], item["netdev"], item["address"]) for item in expected["devices"]] == [
        (FIRST, "eth1", "10.91.1.11"),
        (SECOND, "eth2", "10.91.2.11"),
    ]
    assert guests.launcher_says(expected) == []

    # The index of a GID moves when an address goes and comes: nothing of ours holds it.
    before = guests.ssh("f1", "grep -l 0a5b:010b /sys/class/infiniband/rxe1/ports/1/gids/* 2>/dev/null")
    guests.ssh("f1", "ip address add 10.99.0.1/24 dev eth1; ip address del 10.91.1.11/24 dev eth1; "
               "ip address add 10.98.0.1/24 dev eth1")  # fmt: skip
    assert [line for line in guests.launcher_says(expected) if "no RoCE v2 GID for 10.91.1.11" in line]
    guests.ssh("f1", "ip address add 10.91.1.11/24 dev eth1")
    after = guests.ssh("f1", "grep -l 0a5b:010b /sys/class/infiniband/rxe1/ports/1/gids/* 2>/dev/null")
    assert before != after
    assert guests.launcher_says(expected) == []
    guests.ssh("f1", "ip address del 10.98.0.1/24 dev eth1; ip address del 10.99.0.1/24 dev eth1")

    # As after a firmware update, and a cable that is out.
    guests.ssh("f1", "ip link set eth2 mtu 1500")
    assert guests.launcher_says(expected) == ["eth2 has MTU 1500, planned: 9000: run playbooks/fabric.yml"]
    guests.ssh("f1", "ip link set eth2 mtu 9000; ip link set eth1 down")
    (line,) = guests.launcher_says(expected)
    assert line == "rxe1 (eth1) is down: look at its cable and switch port"
    guests.ssh(
        "f1", "ip link set eth1 up; until ip -4 -o a show dev eth1 | grep -q 10.91.1.11; do sleep 0.3; done"
    )

    # A slow cable, measured for real: what comes to both ports of f1 takes less than the gate.
    plans = {name: json.loads((plans / f"{name}.json").read_text()) for name in NAMES}
    qdisc = ["tc", "-n", guests.lab.paths.namespace, "qdisc"]
    for port in ("h0-11.1", "h0-11.2"):
        shape = ["root", "tbf", "rate", "6mbit", "burst", "32k", "limit", "2m"]
        subprocess.run([*qdisc, "add", "dev", port, *shape], check=True)
    verdict = judge(guests.measure(plans), plans)
    for port in ("h0-11.1", "h0-11.2"):
        subprocess.run([*qdisc, "del", "dev", port, "root"], check=True)
    assert verdict.grids["bandwidth"]["f2", "f1"].bad, verdict.problems
    assert [line for line in verdict.problems if line.startswith(("f1 -> f2: ", "f2 -> f1: "))]

    # A twin that lost its address, where the inventory gives none: the plan is made of what the host says.
    guests.ssh("f2", "ip address flush dev eth2")
    facts = guests.folder / "facts"
    status, said = guests.run("facts", facts_dir=str(facts))
    assert status == 0, said[-3000:]
    status, said = guests.run("plan", facts_dir=str(facts), fabric_addresses=None)
    assert status != 0
    assert "REFUSED  eth2 = no address on f2" in said, said[-3000:]
