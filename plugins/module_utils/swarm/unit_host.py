# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transient unit that an agent runs in: made, asked, ended."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pwd
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Mapping
from typing import Any, Callable

from . import handover_host as swarm_handover
from . import host
from . import metainfo as swarm_metainfo
from .plan import status_of

START_SECONDS = 15.0
CACHE_BYTES = 1 << 30
LIBRARY, NOTES = "library", "notes"
PROGRAMS = ("agent.py", "judge.py")
INSIDE = "/run/swarm"
"""Where the agent sees what it needs."""
LOG_LINES = "15"
LEAST_FILE = 64 << 20
Run = Callable[..., tuple[int, str, str]]


class UnitError(Exception):
    """Says what went wrong with the agent, in its own last words where it had any."""


def properties(asked: Mapping[str, Any], home: str, folder: str, systemd: int = 999) -> list[str]:
    """What the agent may do, whatever its peers make it do: fill one folder, write its notes, speak to its peers.

    `folder`: what it fills, or gives. It sees the few folders that it needs in a place of their own, so that those above
    them stay closed to it.
    """
    part, peers = asked["part"], [*asked["part"]["peers"], asked["part"]["address"]]
    shown = "BindReadOnlyPaths" if part["does"] != "receive" else "BindPaths"
    programs = os.path.dirname(str(asked["agent"]))
    six = any(":" in peer for peer in peers)
    wanted: list[tuple[str, str, int]] = [
        # Killed from outside it goes on from its notes; what it names itself is final.
        ("Restart", "on-abnormal", 0),
        ("RestartSec", "1", 0),
        ("StartLimitIntervalSec", "0", 0),
        ("RuntimeMaxSec", str(asked["lifetime"] + 60), 0),
        ("TimeoutStopSec", "20", 0),
        ("Nice", "5", 0),
        ("LimitNOFILE", "65536", 0),
        ("LimitCORE", "0", 0),
        ("LimitFSIZE", str(max([int(entry["size"]) for entry in asked["files"]] + [LEAST_FILE])), 0),
        ("MemoryHigh", "1G", 0),
        ("MemoryMax", "2G", 0),
        ("MemorySwapMax", "0", 0),
        ("TasksMax", "64", 0),
        ("User", str(asked["user"]), 0),
        ("Group", str(asked["user"]), 0),
        ("UMask", "0077", 0),
        ("NoNewPrivileges", "yes", 0),
        ("CapabilityBoundingSet", "", 0),
        ("AmbientCapabilities", "", 0),
        ("PrivateUsers", "yes", 0),
        ("PrivateDevices", "yes", 0),
        ("DevicePolicy", "closed", 0),
        ("PrivateTmp", "yes", 0),
        ("PrivateIPC", "yes", 248),
        ("RemoveIPC", "yes", 0),
        ("ProtectSystem", "strict", 0),
        ("ProtectHome", "yes", 0),
        ("ProtectProc", "invisible", 247),
        ("ProcSubset", "pid", 247),
        ("ProtectKernelTunables", "yes", 0),
        ("ProtectKernelModules", "yes", 0),
        ("ProtectKernelLogs", "yes", 244),
        ("ProtectControlGroups", "yes", 0),
        ("ProtectClock", "yes", 245),
        ("ProtectHostname", "yes", 242),
        ("RestrictNamespaces", "yes", 0),
        ("RestrictRealtime", "yes", 0),
        ("RestrictSUIDSGID", "yes", 242),
        ("LockPersonality", "yes", 0),
        ("MemoryDenyWriteExecute", "yes", 0),
        ("KeyringMode", "private", 0),
        ("SystemCallArchitectures", "native", 0),
        ("SystemCallFilter", "@system-service", 0),
        ("SystemCallFilter", "~@privileged @resources", 0),
        ("SystemCallErrorNumber", "EPERM", 0),
        # Netlink tells the library the host's interfaces.
        ("RestrictAddressFamilies", "AF_INET AF_NETLINK" + (" AF_INET6" if six else ""), 0),
        ("IPAddressDeny", "any", 0),
        ("IPAddressAllow", " ".join(peers), 0),
        ("TemporaryFileSystem", "/run:ro", 0),
        ("BindReadOnlyPaths", " ".join(_bind(f"{programs}/{name}", name) for name in PROGRAMS), 0),
        ("BindReadOnlyPaths", _bind(home, "home"), 0),
        ("BindPaths", _bind(os.path.join(home, NOTES), NOTES), 0),
        (shown, _bind(folder, "files"), 0),
    ]
    return [word for name, value, since in wanted if systemd >= since for word in ("-p", f"{name}={value}")]


def _bind(path: str, name: str) -> str:
    """Two places for systemd, parted by a colon; in quotes a colon belongs to the path."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}":{INSIDE}/{name}'


class SwarmUnit:
    def __init__(self, home: str, run: Run) -> None:
        self.home, self.run = home, run
        self.name = f"sglang-swarm-{os.path.basename(home)}.service"

    def place(self, name: str) -> str:
        return os.path.join(self.home, name)

    def status(self) -> dict[str, Any]:
        """In the agent's own words, as far as they can be used."""
        return status_of(host.read_of_agent(self.place(os.path.join(NOTES, host.STATUS))))

    def is_active(self) -> bool:
        return self.run(["systemctl", "is-active", "--quiet", self.name])[0] == 0

    def start(self, asked: Mapping[str, Any]) -> None:
        os.makedirs(self.home, mode=0o755, exist_ok=True)
        os.chmod(self.home, 0o755)
        self._end()
        part = asked["part"]
        description = base64.b64decode(asked["description"])
        problems = swarm_metainfo.problems(description, asked["files"])
        if problems:
            raise UnitError(
                f"the description does not fit the files that were listed: {'; '.join(problems[:5])}"
            )
        folder = self._folder(asked)
        self.unpack(asked["wheel"], asked["wheel_hashes"])
        with open(self.place(host.DESCRIPTION), "wb") as stream:
            stream.write(description)
        order = {
            "library": f"{INSIDE}/home/{LIBRARY}",
            "folder": f"{INSIDE}/files",
            "place": asked["folder"],
            "boot": host.boot(),
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
            *properties(asked, self.home, folder, self._systemd()),
        ]
        words = [sys.executable, "-I", "-B", f"{INSIDE}/agent.py", f"{INSIDE}/home", f"{INSIDE}/{NOTES}"]
        code, _unused, said = self.run([*command, *words])
        if code:
            raise UnitError(f"systemd-run: {said.strip()}")
        deadline = time.monotonic() + START_SECONDS
        while not self.status():
            if time.monotonic() > deadline or not self.is_active():
                raise UnitError(f"it did not start: {self.last_words()}")
            time.sleep(0.1)

    def _folder(self, asked: Mapping[str, Any]) -> str:
        """What the agent fills, or may read; and the folder of its notes, which is its own too."""
        try:
            user = pwd.getpwnam(asked["user"])
        except KeyError:
            raise UnitError(f"there is no user {asked['user']}") from None
        notes = self.place(NOTES)
        os.makedirs(notes, mode=0o700, exist_ok=True)
        os.chown(notes, user.pw_uid, user.pw_gid, follow_symlinks=False)
        if asked["part"]["does"] != "receive":
            swarm_handover.show(asked["folder"], asked["files"])
            return str(asked["folder"])
        self._take(asked["folder"], asked["files"], user.pw_uid)
        return swarm_handover.give(asked["folder"], asked["files"], user.pw_uid, user.pw_gid)

    @staticmethod
    def _take(folder: str, files: list[dict[str, Any]], uid: int) -> None:
        refused = swarm_handover.take(folder, files, uid)
        if refused:
            raise UnitError(f"what the agent left in {folder} is not taken: {'; '.join(refused[:5])}")

    def _systemd(self) -> int:
        found = re.match(r"systemd (\d+)", self.run(["systemctl", "--version"])[1])
        return int(found.group(1)) if found else 0

    def unpack(self, wheel: str, hashes: list[str]) -> None:
        """The library needs no environment: its wheel is one folder that any fitting Python imports."""
        with open(wheel, "rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        if digest not in hashes:
            raise UnitError(f"{os.path.basename(wheel)} has a SHA-256 that the lock does not list: {digest}")
        shutil.rmtree(self.place(LIBRARY), ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.place(LIBRARY))
        for folder, _unused, names in os.walk(self.place(LIBRARY)):
            os.chmod(folder, 0o755)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o644)

    def _end(self) -> bool:
        """True when there was an agent to end. Its last words and its notes stay for the next."""
        was = self.is_active()
        if was:
            self.run(["systemctl", "stop", self.name])
        self.run(["systemctl", "reset-failed", self.name])
        for name in (os.path.join(NOTES, host.STATUS), host.ORDER):
            swarm_handover.remove(self.place(name))
        return was

    def stop(self, folder: str, files: list[dict[str, Any]], user: str) -> tuple[bool, dict[str, Any]]:
        """Ends the agent and gives its last status; what it proved is remembered, and a complete one leaves little behind."""
        if self.is_active():
            self.run(["systemctl", "stop", self.name])
        said = self.status()
        ended = self._end() or bool(said)
        shutil.rmtree(self.place(LIBRARY), ignore_errors=True)
        with contextlib.suppress(KeyError):
            self._take(folder, files, pwd.getpwnam(user).pw_uid)
        if said.get("complete") and not host.absent(folder, files):
            host.remember(self.home, folder, files)
            swarm_handover.remove(self.place(NOTES))
        return ended, said

    def last_words(self) -> str:
        words = ["journalctl", "--unit", self.name, "--lines", LOG_LINES, "--output", "cat", "--no-pager"]
        return self.run(words)[1][-1500:].strip() or "it said nothing"
