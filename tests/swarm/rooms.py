# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rooms for swarms: a network namespace for each host on one bridge without a way out, links shaped at will."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import libtorrent

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import metainfo as swarm_metainfo

AGENT = ROOT / "roles" / "swarm" / "files" / "agent.py"
PORT = 29310
CHUNK = 4 << 20


def run(*words: str | Path, check: bool = True, text: str | None = None) -> str:
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, input=text)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


class Room:
    """`count` hosts with addresses of their own; each link takes `mbit` in each direction, or what it can."""

    def __init__(self, count: int, mbit: float = 0, prefix: str = "swarm") -> None:
        self.prefix = f"{prefix}{os.getpid()}"
        self.count, self.mbit = count, mbit
        self.started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Room:
        run("ip", "netns", "add", self.prefix)
        lines = [
            "link set lo up",
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            "link set br0 up",
        ]
        run("ip", "-n", self.prefix, "-batch", "-", text="\n".join(lines) + "\n")
        for index in range(self.count):
            self.add(index)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
        for index in range(self.count):
            run("ip", "netns", "delete", self.namespace(index), check=False)
        run("ip", "netns", "delete", self.prefix)

    def namespace(self, index: int) -> str:
        return f"{self.prefix}-{index}"

    def address(self, index: int) -> str:
        return f"10.88.0.{10 + index}"

    def addresses(self, indices: Iterable[int]) -> list[str]:
        return [self.address(index) for index in indices]

    def add(self, index: int) -> None:
        inside, port = self.namespace(index), f"p{index}"
        run("ip", "netns", "add", inside)
        veth = ["link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", inside]
        run("ip", "-n", self.prefix, *veth)
        run("ip", "-n", self.prefix, "link", "set", port, "master", "br0", "up")
        lines = ["link set lo up", f"address add {self.address(index)}/24 dev eth0", "link set eth0 up"]
        run("ip", "-n", inside, "-batch", "-", text="\n".join(lines) + "\n")
        if self.mbit:
            shape = ["root", "tbf", "rate", f"{self.mbit}mbit", "burst", "128kb", "latency", "30ms"]
            run("tc", "-n", self.prefix, "qdisc", "add", "dev", port, *shape)
            run("tc", "-n", inside, "qdisc", "add", "dev", "eth0", *shape)

    def command(self, index: int, *words: str | Path) -> list[str]:
        return ["ip", "netns", "exec", self.namespace(index), *map(str, words)]

    def start(self, index: int, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self.command(index, *words), stdin=subprocess.DEVNULL, **options)
        self.started.append(process)
        return process


def make_files(folder: Path, sizes: Sequence[tuple[str, int]], seed: int = 1) -> list[dict[str, Any]]:
    """Files of random bytes that are the same every time, and the list that a manifest would hold."""
    source = random.Random(seed)
    listed = []
    for path, size in sizes:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("wb") as stream:
            left = size
            while left:
                piece = source.randbytes(min(left, CHUNK))
                stream.write(piece)
                digest.update(piece)
                left -= len(piece)
        listed.append({"path": path, "size": size, "sha256": digest.hexdigest()})
    return listed


def describe(folder: Path, files: Sequence[dict[str, Any]], length: int = 0, name: str = "room") -> bytes:
    length = length or swarm_metainfo.piece_length(sum(entry["size"] for entry in files))
    hashed = []
    for entry in files:
        hasher = swarm_metainfo.FileHasher(entry["path"], length)
        with (folder / entry["path"]).open("rb") as stream:
            while chunk := stream.read(CHUNK):
                hasher.update(memoryview(chunk))
        hashed.append(hasher.finish())
    return swarm_metainfo.metainfo(name, length, hashed)


class Member:
    """One host's agent: its home, its staging folder, its process."""

    def __init__(self, room: Room, index: int, home: Path, folder: Path) -> None:
        self.room, self.index, self.home, self.folder = room, index, home, folder
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(
        self, description: bytes, files: Sequence[dict[str, Any]], others: Iterable[int], **order: Any
    ) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.home / "content.torrent").write_bytes(description)
        asked = {
            "library": str(Path(libtorrent.__file__).parent.parent),
            "folder": str(self.folder),
            "paths": swarm_metainfo.in_order(entry["path"] for entry in files),
            "address": self.room.address(self.index),
            "port": PORT,
            "peers": self.room.addresses(index for index in others if index != self.index),
            "sources": [self.room.address(0)],
            "verified": False,
            "share": [0, 0],
            "rate_limit": 0,
            "lifetime": 3600,
            "patience": 600,
            "cache": 1 << 30,
        }
        (self.home / "order.json").write_text(json.dumps(asked | order))

    def start(self) -> None:
        (self.home / "status.json").unlink(missing_ok=True)
        log = (self.home / "log").open("ab")
        self.process = self.room.start(self.index, sys.executable, AGENT, self.home, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def status(self) -> dict[str, Any]:
        try:
            read: dict[str, Any] = json.loads((self.home / "status.json").read_text())
            return read
        except (OSError, ValueError):
            return {"state": "none", "complete": False, "bytes": 0, "problem": ""}

    def wait(self, seconds: float = 600, what: str = "complete") -> dict[str, Any]:
        """Until the status says it; an agent that ends with a failure ends the waiting too."""
        assert self.process
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if status.get(what) or status["state"] == what:
                return status
            if self.process.poll() is not None and not self.status().get(what):
                log = (self.home / "log").read_text()[-2000:]
                raise AssertionError(
                    f"agent {self.index} ended with {self.process.returncode}: {self.status()} {log}"
                )
            time.sleep(0.05)
        raise AssertionError(f"agent {self.index} not {what} in {seconds} s: {self.status()}")

    def holds(self, source: Path, files: Sequence[dict[str, Any]]) -> bool:
        return all(
            (self.folder / entry["path"]).read_bytes() == (source / entry["path"]).read_bytes()
            for entry in files
        )

    def clear(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
