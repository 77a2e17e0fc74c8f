# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gateway costs and what it holds: a small streaming server, asked directly and through HAProxy in the same run.

Everything is on the loopback address of this machine, the client too, so the figures are those of a crowded machine.
HAProxy is this machine's own, or is unpacked from the distribution's package into a folder that goes away again.
    bench_gateway.py [--streams 64] [--rounds 3] [--seconds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import Wanted
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import config_text
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.keys import Key, digest_of, map_text
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import Authority
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_signing import new_request
from ansible_collections.baremetal.sglang.plugins.plugin_utils.deb_folder import DebFolder, own_release

ENGINE = ROOT / "tests/lab/streaming_engine.py"
FRONT, ENGINES = 38443, {"a": 38001, "b": 38002}
KEY = "sk-bench-0"
PACE = 0.025


def run(words: Any, **_how: Any) -> tuple[int, str, str]:
    done = subprocess.run(list(words), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def haproxy(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The program, and what it needs to find its libraries."""
    found = shutil.which("haproxy") or next((str(p) for p in [Path("/usr/sbin/haproxy")] if p.exists()), "")
    if found:
        return [found], dict(os.environ)
    arch = run(["dpkg", "--print-architecture"])[1].strip()
    for deb in DebFolder(folder / "fetched", own_release(), arch, print).fetch(["haproxy"], []).glob("*.deb"):
        if deb.name.startswith(("haproxy", "liblua", "libopentracing")):
            subprocess.run(["dpkg-deb", "-x", deb, folder / "root"], check=True)
    libraries = ":".join(str(path) for path in (folder / "root/usr/lib").glob("*-linux-gnu"))
    return [str(folder / "root/usr/sbin/haproxy")], {**os.environ, "LD_LIBRARY_PATH": libraries}


def section(folder: Path) -> dict[str, Any]:
    policy = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))["gateway"]
    servers = [
        {
            "instance": name,
            "host": "here",
            "address": "127.0.0.1",
            "port": port,
            "tls": False,
            "check": "/health_generate",
        }
        for name, port in ENGINES.items()
    ]
    user = run(["id", "-un"])[1].strip()
    return {
        "account": {"user": user, "group": run(["id", "-gn"])[1].strip()},
        "limits": {**policy["limits"], "requests_of_backend": 4000},
        "folders": {"run": str(folder), "tls": str(folder), "key_files": str(folder)},
        "front": {
            "address": "127.0.0.1",
            "port": FRONT,
            "models": {"tiny": servers},
            "endpoints": policy["endpoints"],
            "headers": policy["headers"],
            "given": {},
        },
        "inner": {},
    }


def prepare(folder: Path, keys: int) -> None:
    if not (folder / "front.crt").exists():
        authority = Authority(folder / "authority")
        key, csr = new_request()
        with authority.open(create=True):
            made_for = Wanted("front", "bench", ("127.0.0.1",))
            (folder / "front.crt").write_text(authority.issue(made_for, csr))
            (folder / "ca.crt").write_text(authority.texts()[0])
        (folder / "front.key").write_text(key)
        (folder / "haproxy.cfg").write_text(config_text(section(folder)))
    made = [Key(f"k{number}", digest_of(f"sk-bench-{number}")) for number in range(keys)]
    (folder / "keys.map").write_text(map_text(made))


@contextmanager
def engine(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start_engine(folder, name)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_engine(folder: Path, name: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, ENGINE, str(ENGINES[name]), name, str(folder / f"behave-{name}")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline().startswith(b"ready")
    return process


@contextmanager
def gateway(folder: Path, program: list[str], environment: dict[str, str]) -> Iterator[int]:
    words = [*program, "-W", "-f", str(folder / "haproxy.cfg")]
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 10
            while not healthy(folder) and time.monotonic() < deadline:
                time.sleep(0.2)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def healthy(folder: Path) -> bool:
    async def look() -> bool:
        try:
            link = await Link.open(True, folder)
            status, _data = await link.get("/health/tiny")
            link.close()
            return status == 200
        except OSError:
            return False

    return asyncio.run(look())


class Link:
    """One kept connection, as a client library has them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self.reader, self.writer, self.key = reader, writer, key

    @classmethod
    async def open(cls, through: bool, folder: Path, key: str = KEY) -> Link:
        if not through:
            return cls(*await asyncio.open_connection("127.0.0.1", ENGINES["a"]), key)
        trusted = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        return cls(*await asyncio.open_connection("127.0.0.1", FRONT, ssl=trusted), key)

    def close(self) -> None:
        self.writer.close()

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _colon, value in fields}

    async def get(self, path: str) -> tuple[int, bytes]:
        self.send("GET", path)
        status, fields = await self.head()
        return status, await self.reader.readexactly(int(fields.get("content-length", 0)))

    async def stream(self, tokens: int, pause: float) -> tuple[float, int]:
        """(seconds to the first token, tokens)."""
        asked = {
            "model": "tiny",
            "stream": True,
            "max_tokens": tokens,
            "pause": pause,
            "messages": ["x" * 2000],
        }
        began, first, count = time.perf_counter(), 0.0, 0
        self.send("POST", "/v1/chat/completions", json.dumps(asked).encode())
        status, fields = await self.head()
        if status != 200:
            await self.reader.readexactly(int(fields.get("content-length", 0)))
            return 0.0, 0
        while size := int(await self.reader.readline(), 16):
            data = await self.reader.readexactly(size + 2)
            found = data.count(b"data: {")
            if found and not first:
                first = time.perf_counter() - began
            count += found
        await self.reader.readline()
        return first, count


async def streams(through: bool, folder: Path, number: int, seconds: float) -> tuple[list[float], float]:
    """(times to first token, tokens a second) of so many clients at once."""
    links = await asyncio.gather(*(Link.open(through, folder) for _number in range(number)))
    end, firsts, total = time.perf_counter() + seconds, [], 0

    async def client(place: int, link: Link) -> None:
        nonlocal total
        # Not all in step: real clients are not.
        await asyncio.sleep(place / number)
        while time.perf_counter() < end:
            first, tokens = await link.stream(40, PACE)
            firsts.append(first)
            total += tokens

    began = time.perf_counter()
    await asyncio.gather(*(client(place, link) for place, link in enumerate(links)))
    took = time.perf_counter() - began
    for link in links:
        link.close()
    return firsts, total / took


async def look_ups(folder: Path, key: str, number: int) -> float:
    """Median of a request that the gateway answers itself, in ms."""
    link, times = await Link.open(True, folder, key), []
    for _number in range(number):
        began = time.perf_counter()
        status, _data = await link.get("/v1/models")
        if status != 200:
            raise SystemExit(f"the gateway answers {status}")
        times.append(time.perf_counter() - began)
    link.close()
    return statistics.median(times) * 1000


async def reloaded(folder: Path, pid: int, number: int) -> tuple[int, int]:
    """(whole streams, streams) over a reload in the middle."""
    gate = asyncio.Semaphore(50)

    async def one() -> bool:
        async with gate:
            link = await Link.open(True, folder)
        try:
            return (await link.stream(24, 0.7))[1] == 24
        except (OSError, asyncio.IncompleteReadError):
            return False
        finally:
            link.close()

    tasks = [asyncio.create_task(one()) for _number in range(number)]
    await asyncio.sleep(9)
    os.kill(pid, signal.SIGUSR2)
    whole = sum(await asyncio.gather(*tasks))
    return whole, number


async def upgraded(folder: Path, processes: dict[str, Any], seconds: float) -> tuple[int, int, float]:
    """(failed, done, seconds that one replica was away) while one of two is drained, ended and started again."""
    end, failed, done = time.perf_counter() + seconds, 0, 0

    async def client() -> None:
        nonlocal failed, done
        while time.perf_counter() < end:
            try:
                link = await Link.open(True, folder)
                right = (await link.stream(20, 0.02))[1] == 20
                link.close()
            except (OSError, asyncio.IncompleteReadError):
                right = False
            failed, done = failed + (not right), done + right

    tasks = [asyncio.create_task(client()) for _number in range(32)]
    await asyncio.sleep(2)
    began = time.perf_counter()
    (folder / "behave-b").write_text("draining")
    await asyncio.sleep(5)
    processes["b"].terminate()
    processes["b"].wait()
    await asyncio.sleep(3)
    (folder / "behave-b").write_text("serving")
    processes["b"] = await asyncio.to_thread(start_engine, folder, "b")
    away = time.perf_counter() - began
    await asyncio.gather(*tasks)
    return failed, done, away


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    given = parser.parse_args()
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program, environment = haproxy(folder)
        prepare(folder, 1)
        processes = {name: start_engine(folder, name) for name in ENGINES}
        try:
            measure(folder, program, environment, processes, given)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


def measure(folder: Path, program: Any, environment: Any, processes: Any, given: argparse.Namespace) -> None:
    print(
        run([*program, "-v"])[1].splitlines()[0] if len(run([*program, "-v"])[1]) else program[0],
        os.cpu_count(),
        "cores",
    )
    with gateway(folder, program, environment) as pid:
        # One engine for both ways, so that only the way differs.
        (folder / "behave-b").write_text("starting")
        time.sleep(4)
        firsts: dict[bool, list[float]] = {False: [], True: []}
        rates: dict[bool, list[float]] = {False: [], True: []}
        for _round in range(given.rounds):
            for through in (False, True):
                found, rate = asyncio.run(streams(through, folder, given.streams, given.seconds))
                firsts[through] += found
                rates[through].append(rate)
        median = {way: statistics.median(found) * 1000 for way, found in firsts.items()}
        tail = {way: statistics.quantiles(found, n=100)[94] * 1000 for way, found in firsts.items()}
        rate = {way: statistics.mean(found) for way, found in rates.items()}
        print(f"time to first token, {given.streams} streams: direct {median[False]:.2f} ms, gateway {median[True]:.2f} ms, "
              f"overhead {median[True] - median[False]:.2f} ms (95 %: {tail[False]:.2f} and {tail[True]:.2f} ms)")  # fmt: skip
        print(
            f"tokens a second: direct {rate[False]:.0f}, gateway {rate[True]:.0f}, ratio {rate[True] / rate[False]:.4f}"
        )
        one = [asyncio.run(look_ups(folder, KEY, 2000)) for _round in range(3)]
        (folder / "behave-b").write_text("serving")
    prepare(folder, 10_000)
    with gateway(folder, program, environment) as pid:
        many = [asyncio.run(look_ups(folder, "sk-bench-9999", 2000)) for _round in range(3)]
        print(f"a look-up among 1 key {min(one):.3f} ms, among 10,000 keys {min(many):.3f} ms")
        time.sleep(2)
        whole, all_of_them = asyncio.run(reloaded(folder, pid, 1000))
        print(f"reload with {all_of_them} running streams: {all_of_them - whole} dropped")
        failed, done, away = asyncio.run(upgraded(folder, processes, 16))
        print(f"one of two replicas away for {away:.1f} s under load: {failed} failed, {done} done")


if __name__ == "__main__":
    main()
