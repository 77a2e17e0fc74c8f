# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files from one host to many over shaped links: one copy, rsync to each, and the swarm, in the same run.

    sudo .venv/bin/python tests/benchmarks/bench_fanout.py [--mbit 100] [--megabytes 400] [--rounds 3]

Every host is a network namespace whose link takes so much in each direction, as the lab's are; all share this
machine's processors, so the rate is one at which they are not the limit. Times are from the start of the agents
(start of Python included) until the last host has every piece verified.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.swarm.rooms import Member, Room, describe, make_files, run

FEW, MANY = 4, 8
LIMITS = {"fan-out to 4": 1.2, "8 hosts against 4": 1.1, "others while one is killed": 1.1}
RECEIVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", 5000))
connection, _ = server.accept()
with open(sys.argv[1], "wb") as stream:
    while data := connection.recv(1 << 20):
        stream.write(data)
"""
SEND = """
import pathlib, socket, sys
connection = socket.create_connection((sys.argv[1], 5000))
for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    with path.open("rb") as stream:
        connection.sendfile(stream)
"""


class Bench:
    def __init__(self, work: Path, mbit: float, megabytes: int, files: int) -> None:
        self.work, self.source = work, work / "source"
        sizes = [(f"model-{i:05d}.safetensors", megabytes * 1_000_000 // files) for i in range(files)]
        self.files = make_files(self.source, sizes)
        self.description = describe(self.source, self.files)
        self.room = Room(MANY + 1, mbit, prefix="bench")
        self.memory = 0

    def single_copy(self) -> float:
        """The yardstick: one stream of bytes to one host, nothing verified."""
        target = self.work / "single"
        receiver = self.room.start(1, sys.executable, "-c", RECEIVE, target)
        time.sleep(0.3)
        started = time.monotonic()
        self.room.start(0, sys.executable, "-c", SEND, self.room.address(1), self.source).wait()
        receiver.wait()
        target.unlink()
        return time.monotonic() - started

    def rsync(self, hosts: int) -> float:
        """From the source to each host at the same time, as a loop of background copies does it."""
        daemons, targets = [], []
        for index in range(1, hosts + 1):
            target = self.work / f"rsync-{index}"
            target.mkdir()
            targets.append(target)
            config = self.work / f"rsyncd-{index}.conf"
            config.write_text(
                f"use chroot = no\nuid = root\ngid = root\n[data]\npath = {target}\nread only = no\n"
            )
            words = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
            daemons.append(self.room.start(index, *words, stderr=subprocess.DEVNULL))
        time.sleep(0.5)
        started = time.monotonic()
        copies = [
            self.room.start(
                0, "rsync", "-a", "--whole-file", f"{self.source}/", f"rsync://{self.room.address(i)}/data/"
            )
            for i in range(1, hosts + 1)
        ]
        assert [copy.wait() for copy in copies] == [0] * hosts
        took = time.monotonic() - started
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
        for target in targets:
            shutil.rmtree(target)
        return took

    def fan_out(self, hosts: int, kill: bool = False) -> tuple[float, float]:
        """Seconds until the last host that was left alone is complete, and until all are."""
        members = [self.member(index) for index in range(hosts + 1)]
        for member in members:
            giving = not member.index
            share = [0, 0] if giving else [member.index - 1, hosts]
            member.prepare(self.description, self.files, range(hosts + 1), verified=giving, share=share)
        started = time.monotonic()
        for member in members:
            member.start()
        killed = members[-1] if kill else None
        if killed:
            half = sum(entry["size"] for entry in self.files) // 2
            while killed.status()["bytes"] < half:
                time.sleep(0.05)
            killed.kill()
            time.sleep(2)
            killed.start()
        for member in members[1 : -1 if kill else None]:
            member.wait(3600)
        others = time.monotonic() - started
        members[-1].wait(3600)
        took = time.monotonic() - started
        self.finish(members)
        return others, took

    def member(self, index: int) -> Member:
        member = Member(self.room, index, self.work / f"home-{index}", self.work / f"staging-{index}")
        member.clear()
        if not index:
            member.folder = self.source
        return member

    def finish(self, members: list[Member]) -> None:
        for member in members:
            assert member.process
            if member.process.poll() is None:
                status = Path(f"/proc/{member.process.pid}/status").read_text()
                self.memory = max(self.memory, int(status.split("VmHWM:")[1].split()[0]))
        for member in members:
            assert member.process
            member.process.terminate()
            member.process.wait(30)
            if member.index:
                assert member.holds(self.source, self.files)
                member.clear()
            else:
                shutil.rmtree(member.home)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mbit", type=float, default=100)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where the files go; 4 GB have to fit for the defaults")
    asked = parser.parse_args()
    if os.geteuid() or not shutil.which("rsync"):
        print("REFUSED  network namespaces need root, and the comparison needs rsync", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=asked.work) as folder:
        bench = Bench(Path(folder), asked.mbit, asked.megabytes, asked.files)
        print(
            f"{asked.megabytes} MB in {asked.files} files, links of {asked.mbit:g} Mbit/s, {os.cpu_count()} processors"
        )
        print("round  copy s  rsync/4  swarm/4  swarm/8  8 of 4  killed: others, it  load", flush=True)
        with bench.room:
            rounds = [measure(bench, number) for number in range(1, asked.rounds + 1)]
        return report(rounds, bench.memory)


def measure(bench: Bench, number: int) -> dict[str, float]:
    run("sync")
    single = bench.single_copy()
    rsync = bench.rsync(FEW)
    few = bench.fan_out(FEW)[1]
    many = bench.fan_out(MANY)[1]
    others, killed = bench.fan_out(FEW, kill=True)
    figures: dict[str, Any] = {
        "rsync to 4": rsync / single,
        "fan-out to 4": few / single,
        "fan-out to 8": many / single,
        "8 hosts against 4": many / few,
        "others while one is killed": others / few,
        "the killed one": killed / few,
    }
    a, b, c, d, e, f = figures.values()
    load = os.getloadavg()[0]
    print(
        f"{number:5d}  {single:6.1f}  {a:7.2f}  {b:7.2f}  {c:7.2f}  {d:6.2f}  {e:14.2f}, {f:.2f}  {load:.1f}",
        flush=True,
    )
    return figures


def report(rounds: list[dict[str, float]], memory: int) -> int:
    """The medians, as ratios to one copy in the same round, and whether they keep what was promised."""
    missed = 0
    for name in rounds[0]:
        median = statistics.median(figures[name] for figures in rounds)
        limit = LIMITS.get(name)
        missed += bool(limit and median > limit)
        verdict = f"  limit {limit}: {'kept' if median <= limit else 'MISSED'}" if limit else ""
        print(f"{name:28s} median {median:.2f}{verdict}")
    print(f"memory of the largest agent  {memory / 1024:.0f} MB")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
