# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transient unit that an agent runs in: made, asked, ended."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping
from typing import Any, Callable

from . import host
from . import metainfo as swarm_metainfo

START_SECONDS = 15.0
CACHE_BYTES = 1 << 30
LIBRARY = "library"
Run = Callable[..., tuple[int, str, str]]


class UnitError(Exception):
    """Says what went wrong with the agent, in its own last words where it had any."""


def properties(asked: Mapping[str, Any], home: str) -> list[str]:
    """The agent may write to its two folders and speak to its peers, whatever it is made to do."""
    part = asked["part"]
    wanted = {
        # Killed from outside it goes on from its notes; what it names itself is final.
        "Restart": "on-abnormal",
        "RestartSec": "1",
        "StartLimitIntervalSec": "0",
        "RuntimeMaxSec": str(asked["lifetime"] + 60),
        "TimeoutStopSec": "20",
        "Nice": "5",
        "LimitNOFILE": "65536",
        "MemoryHigh": "1G",
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": " ".join([home] if part["does"] == "seed" else [home, asked["folder"]]),
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
        "IPAddressDeny": "any",
        "IPAddressAllow": " ".join([*part["peers"], part["address"]]),
        "StandardOutput": f"append:{home}/log",
        "StandardError": f"append:{home}/log",
    }
    return [word for name, value in wanted.items() for word in ("-p", f"{name}={value}")]


class SwarmUnit:
    def __init__(self, home: str, run: Run) -> None:
        self.home, self.run = home, run
        self.name = f"sglang-swarm-{os.path.basename(home)}.service"

    def place(self, name: str) -> str:
        return os.path.join(self.home, name)

    def status(self) -> dict[str, Any]:
        return dict(host.read_json(self.place(host.STATUS)) or {})

    def is_active(self) -> bool:
        return self.run(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def start(self, asked: Mapping[str, Any]) -> None:
        os.makedirs(self.home, mode=0o700, exist_ok=True)
        self._end()
        part = asked["part"]
        self.unpack(asked["wheel"], asked["wheel_hashes"])
        description = base64.b64decode(asked["description"])
        with open(self.place(host.DESCRIPTION), "wb") as stream:
            stream.write(description)
        order = {
            "library": self.place(LIBRARY),
            "folder": asked["folder"],
            "paths": swarm_metainfo.in_order(entry["path"] for entry in asked["files"]),
            "address": part["address"],
            "port": asked["port"],
            "peers": part["peers"],
            "sources": part["sources"],
            "verified": part["does"] != "receive",
            "share": part["share"],
            "rate_limit": asked["rate_limit"],
            "lifetime": asked["lifetime"],
            "patience": asked["patience"],
            "cache": CACHE_BYTES,
        }
        host.write_json(self.place(host.ORDER), order)
        command = [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={self.name}",
            *properties(asked, self.home),
        ]
        code, _unused, said = self.run([*command, sys.executable, asked["agent"], self.home])
        if code:
            raise UnitError(f"systemd-run: {said.strip()}")
        deadline = time.monotonic() + START_SECONDS
        while not self.status():
            if time.monotonic() > deadline or not self.is_active():
                raise UnitError(f"it did not start: {self.last_words()}")
            time.sleep(0.1)

    def unpack(self, wheel: str, hashes: list[str]) -> None:
        """The library needs no environment: its wheel is one folder that any fitting Python imports."""
        with open(wheel, "rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        if digest not in hashes:
            raise UnitError(f"{os.path.basename(wheel)} has a SHA-256 that the lock does not list: {digest}")
        shutil.rmtree(self.place(LIBRARY), ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.place(LIBRARY))

    def _end(self) -> bool:
        """True when there was an agent to end. Its last words and its notes stay for the next."""
        was = self.is_active()
        if was:
            self.run(["systemctl", "stop", self.name])
        self.run(["systemctl", "reset-failed", self.name])
        for name in (host.STATUS, host.ORDER):
            if os.path.exists(self.place(name)):
                os.unlink(self.place(name))
        return was

    def stop(self, folder: str, files: list[dict[str, Any]]) -> tuple[bool, dict[str, Any]]:
        """Ends the agent and gives its last status; what it proved is remembered, and a complete one leaves little behind."""
        if self.is_active():
            self.run(["systemctl", "stop", self.name])
        said = self.status()
        ended = self._end() or bool(said)
        shutil.rmtree(self.place(LIBRARY), ignore_errors=True)
        if said.get("complete"):
            host.remember(self.home, folder, files)
            for name in ("resume.data", "log"):
                if os.path.exists(self.place(name)):
                    os.unlink(self.place(name))
        return ended, said

    def last_words(self) -> str:
        try:
            with open(self.place("log"), encoding="utf-8", errors="replace") as stream:
                return stream.read()[-1500:].strip() or "it said nothing"
        except OSError:
            return "it said nothing"
