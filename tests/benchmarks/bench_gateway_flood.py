# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's latency at the gateway while 8,000 hostile connections from 8 other addresses are held against it.

All on loopback: the sources are 127.0.0.2 to 127.0.0.9, the client is 127.0.0.1. A quarter of the connections says nothing,
a quarter ends its TLS handshake and says nothing, a quarter sends its headers letter by letter, a quarter asks without a
key; what the gateway closes comes again. Quiet and hostile phases take turns, and the ratio of their medians is
the result: exit status 1 above --limit, or when a request of the client fails.
    bench_gateway_flood.py [--connections 8000] [--rounds 3] [--requests 60] [--limit 2]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_gateway import FRONT, Link, engine, gateway, haproxy, prepare, run

SOURCES = [f"127.0.0.{number}" for number in range(2, 10)]
AGAIN = 10.0
"""Seconds until a closed connection comes again."""
PATIENCE = 60.0
"""Seconds that the client waits for anything; a request that takes longer has failed."""


class Hostile:
    """One source of many connections, in a process of its own."""

    def __init__(self, source: str, number: int) -> None:
        self.source, self.number = source, number
        self.trusting = ssl.create_default_context()
        self.trusting.check_hostname, self.trusting.verify_mode = False, ssl.CERT_NONE
        self.tried: set[int] = set()

    async def run(self) -> None:
        tasks = [asyncio.create_task(self.keep(place)) for place in range(self.number)]
        while len(self.tried) < self.number:
            await asyncio.sleep(0.1)
        print("tried", flush=True)
        await asyncio.gather(*tasks)

    async def keep(self, place: int) -> None:
        await asyncio.sleep(place * 0.005)
        while True:
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.TimeoutError):
                await self.one(place)
            await asyncio.sleep(AGAIN)

    async def one(self, place: int) -> None:
        kind = place % 4
        told = {"ssl": self.trusting} if kind else {}
        try:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", FRONT, local_addr=(self.source, 0), **told
            )
        finally:
            self.tried.add(place)
        try:
            if kind == 2:
                for letter in b"GET /v1/models HTTP/1.1\r\nX-Slow: " + b"x" * 600:
                    writer.write(bytes([letter]))
                    await writer.drain()
                    await asyncio.sleep(1)
            while kind == 3:
                writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-wrong\r\n\r\n")
                if not await reader.read(4096):
                    return
                await asyncio.sleep(1)
            await reader.read()
        finally:
            writer.close()


async def client(folder: Path, number: int) -> tuple[list[float], list[str]]:
    """Milliseconds from the first packet of a new connection to the first token, so many times; and what failed."""
    times, failed = [], []
    for _number in range(number):
        began = time.perf_counter()
        try:
            link = await asyncio.wait_for(Link.open(True, folder), PATIENCE)
            first, tokens = await asyncio.wait_for(link.stream(1, 0.0), PATIENCE)
            link.close()
            if not tokens or not first:
                failed.append("no token")
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            failed.append(f"{type(error).__name__} after {time.perf_counter() - began:.1f} s")
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.02)
    return times, failed


def processor_seconds(pid: int) -> float:
    """Of HAProxy's master and its worker, up to now."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    fields = [Path(f"/proc/{one}/stat").read_text(encoding="ascii").split() for one in (pid, *children)]
    return sum(int(field[13]) + int(field[14]) for field in fields) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def flood(connections: int) -> Iterator[None]:
    words = [sys.executable, __file__, "--source"]
    each = str(connections // len(SOURCES))
    processes = [subprocess.Popen([*words, source, each], stdout=subprocess.PIPE) for source in SOURCES]
    try:
        for process in processes:
            assert process.stdout and process.stdout.readline() == b"tried\n"
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def held(folder: Path) -> dict[str, int]:
    """Connections of each source that the gateway holds."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(folder / "admin.sock"))
        link.sendall(b"show table sources\n")
        said = b""
        while piece := link.recv(65536):
            said += piece
    found = re.findall(r"key=(?:::ffff:)?([0-9.]+) .*?conn_cur=(\d+)", said.decode())
    return {source: int(number) for source, number in found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--limit", type=float, default=2.0)
    parser.add_argument("--source", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, files),) * 2)
    if given.source:
        # Real attackers take no processor time of the gateway's machine.
        os.nice(19)
        asyncio.run(Hostile(given.source[0], int(given.source[1])).run())
        return 0
    quiet: list[float] = []
    hostile: list[float] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, environment = haproxy(folder)
        prepare(folder, 1)
        with engine(folder, "a"), engine(folder, "b"), gateway(folder, program, environment) as pid:
            print(run([*program, "-v"])[1].splitlines()[0], os.cpu_count(), "cores", flush=True)
            for number in range(given.rounds):
                quiet += asyncio.run(client(folder, given.requests))[0]
                with flood(given.connections):
                    seen = held(folder)
                    used, began = processor_seconds(pid), time.perf_counter()
                    times, lost = asyncio.run(client(folder, given.requests))
                    share = (processor_seconds(pid) - used) / (time.perf_counter() - began)
                    hostile, failed = hostile + times, failed + lost
                    after = held(folder)
                quiet += asyncio.run(client(folder, given.requests))[0]
                print(
                    f"round {number + 1}: held of each source {sorted(seen.values())}, at its end {sorted(after.values())}; "
                    f"HAProxy took {share * 100:.0f} % of a core; load of the machine {os.getloadavg()[0]:.1f}; "
                    f"failed {lost or 'none'}",
                    flush=True,
                )
    ratio = statistics.median(hostile) / statistics.median(quiet)
    for name, times in (("quiet", quiet), ("hostile", hostile)):
        print(
            f"{name}: median {statistics.median(times):.1f} ms, 95 % {statistics.quantiles(times, n=20)[18]:.1f} ms, {len(times)} requests"
        )
    print(
        f"ratio of the medians: {ratio:.2f}, limit {given.limit}; failed requests of the client: {len(failed)}"
    )
    return 0 if ratio <= given.limit and not failed else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_unused: sys.exit(1))
    sys.exit(main())
