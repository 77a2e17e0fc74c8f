# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tournament of 8 hosts and of 2, slow links found and healthy ones flagged, a fabric stage with nothing to do.

    sudo .venv/bin/python tests/benchmarks/bench_fabric.py [--mbit 200] [--runs 10] [--without-stage]

Hosts of the tournament are network namespaces whose links are shaped in each direction; what is measured is TCP,
through the very program, rounds and verdict that RDMA goes through. The stage is run on real systemd hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "collections"), str(ROOT / "molecule")]

from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.gates import judge, specification
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.files import network_files

from tests.lab.conftest import write_inventory
from tests.swarm.rooms import Room, run

GATE = ROOT / "roles/fabric/files/gate.py"
POLICY = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))["fabric"]["gates"]
LIMITS = {"tournament of 8 against 2": 2.0, "stage with nothing to do, seconds": 10.0}
QUICK = {"budget": 4, "least": 0.5, "most": 2}
SHARE = 0.75


def plans(room: Room, count: int, seconds: dict[str, float]) -> dict[str, Any]:
    names = [f"h{index}" for index in range(count)]
    ports = {"meet": POLICY["port"], "rdma": POLICY["port"] + 1, "tcp": POLICY["port"] + 100}
    gates = {
        **POLICY,
        "ports": ports,
        "seconds": seconds,
        "bandwidth_gbps": SHARE * room.mbit / 1000,
        "latency_us": None,
    }
    return {
        name: {
            "fabric": {
                "devices": [
                    {
                        "name": "eth0",
                        "port": 1,
                        "address": "",
                        "link_layer": "Ethernet",
                        "gid_types": [],
                        "rate_gbps": None,
                    }
                ],
                "members": names,
                "rendezvous": {"netdev": "eth0", "address": room.address(index)},
                "gates": {**gates, "collective_gbyte": None, "socket_gbyte": None, "defects": []},
                "sockets": False,
            }
        }
        for index, name in enumerate(names)
    }


def tournament(room: Room, count: int, seconds: dict[str, float]) -> tuple[float, Any]:
    """Wall time from the start of all programs until the last one ends, and the verdict."""
    planned = plans(room, count, seconds)
    begun = time.monotonic()
    running = {}
    for index, name in enumerate(planned):
        spec = specification(planned, name, 30, "5a" * 32)
        spec["measures"] = ["tcp"]
        spec["settings"]["tcp_seconds"] = spec["settings"]["seconds"]
        command = room.command(index, sys.executable, "-I", "-S", GATE)
        running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stream = running[name].stdin
        assert stream
        stream.write(json.dumps(spec))
        stream.close()
        running[name].stdin = None
    reports = {name: json.loads(process.communicate(timeout=300)[0]) for name, process in running.items()}
    took = time.monotonic() - begun
    for report in reports.values():
        for row in report["rows"]:
            row["kind"] = row["kind"] and "bandwidth"
    return took, judge(reports, planned)


def slow_down(room: Room, index: int, mbit: float) -> None:
    shape = ["root", "tbf", "rate", f"{mbit}mbit", "burst", "128kb", "latency", "30ms"]
    run("tc", "-n", room.prefix, "qdisc", "change", "dev", f"p{index}", *shape)
    run("tc", "-n", room.namespace(index), "qdisc", "change", "dev", "eth0", *shape)


def times(mbit: float) -> float:
    with Room(8, mbit, prefix="fabric") as room:
        two, _verdict = tournament(room, 2, POLICY["seconds"])
        eight, verdict = tournament(room, 8, POLICY["seconds"])
    print(
        f"tournament: 2 hosts {two:.1f} s, 8 hosts {eight:.1f} s ({len(verdict.grids['bandwidth'])} directions)"
    )
    return eight / two


def found(mbit: float, runs: int) -> tuple[int, int]:
    """Runs in which the slow host, and nothing else, was named; runs in which a healthy one was."""
    right = wrong = 0
    with Room(4, mbit, prefix="fabric") as room:
        for number in range(runs):
            slow = number % 4
            wrong += bool(tournament(room, 4, QUICK)[1].problems)
            slow_down(room, slow, mbit / 2)
            problems = tournament(room, 4, QUICK)[1].problems
            right += len(problems) == 1 and problems[0].startswith(f"h{slow}: every link of it is bad")
            slow_down(room, slow, mbit)
    return right, wrong


def stage(folder: Path) -> float:
    """fabric's part of site.yml on four systemd hosts, the second time."""
    from lab import Lab

    os.environ.setdefault("BAREMETAL_LAB_DIR", str(folder / "labs"))
    names = [f"b{number}" for number in range(1, 5)]
    hosts = {
        name: {
            "ansible_host": f"10.85.0.1{number}",
            "lab": {"kind": "nspawn", "image": "debian-12", "nics": 2},
        }
        for number, name in enumerate(names, 1)
    }
    inventory = write_inventory(folder, f"bench-{os.getpid()}", hosts)
    lab = Lab.from_inventory(inventory)
    play = [
        {
            "hosts": "all",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.include_role": {"name": "baremetal.sglang.fabric"}}],
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(play))
    fabrics = {}
    for number, name in enumerate(names, 1):
        ports = [{"netdev": "eth1", "device": "", "address": f"10.91.0.1{number}/24", "mtu": 1400}]
        fabrics[name] = {
            **{"ports": ports, "network": network_files("networkd", ports), "guard_seconds": 60, "roce": {}},
            **{"modules": [], "devices": [], "members": [], "gates": {}, "sockets": False},
            "python": "/usr/bin/python3",
        }
    said = json.dumps({"fabric_of": fabrics, "fabric_gate": "never"})
    words = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        str(folder / "play.yml"),
        "-i",
        str(inventory),
    ]
    words += ["-e", said, "-e", '{"fabric_plan": "{{ fabric_of[inventory_hostname] }}"}']
    took = 0.0
    try:
        lab.up()
        for _time in range(3):
            begun = time.monotonic()
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
            took = time.monotonic() - begun
            if done.returncode:
                raise SystemExit(done.stdout[-3000:] + done.stderr[-1000:])
    finally:
        lab.down()
    if done.stdout.count("changed=0") != len(names):
        raise SystemExit(f"the third run changed something:\n{done.stdout[-2000:]}")
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mbit", type=float, default=200, help="rate of every link")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--without-stage", action="store_true")
    said = parser.parse_args()
    bad = []
    ratio = times(said.mbit)
    measured = {"tournament of 8 against 2": ratio}
    right, wrong = found(said.mbit, said.runs)
    print(f"slow link found in {right} of {said.runs} runs, healthy ones flagged in {wrong} of {said.runs}")
    if right != said.runs or wrong:
        bad.append("slow links")
    if not said.without_stage:
        with tempfile.TemporaryDirectory() as folder:
            measured["stage with nothing to do, seconds"] = stage(Path(folder))
    for name, value in measured.items():
        verdict = "ok" if value <= LIMITS[name] else "TOO SLOW"
        bad += [name] if value > LIMITS[name] else []
        print(f"{verdict:9} {name}: {value:.2f} (limit {LIMITS[name]:g})")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
