# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a lab keeps its files, and the names of what it makes on this machine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
REGISTRY = Path("/run/baremetal-sglang-lab")
PREFIX = "bsl-"


def labs_directory() -> Path:
    said = os.environ.get("BAREMETAL_LAB_DIR")
    return Path(said).resolve() if said else REPOSITORY / ".lab"


@dataclass(frozen=True)
class LabPaths:
    """The files of one lab."""

    state: Path

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def spec(self) -> Path:
        return self.state / "lab.json"

    @property
    def key(self) -> Path:
        return self.state / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state / "known_hosts"

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def egress(self) -> Path:
        return self.state / "egress.json"

    @property
    def pretended(self) -> Path:
        """Layers of hosts that look like GPU hosts."""
        return self.state / "pretended"

    @property
    def lock(self) -> Path:
        """Outside what `down` removes while it holds the lock."""
        return REGISTRY / f"{self.name}.lock"

    @property
    def known(self) -> Path:
        """Under a fixed path, so that any clone on this machine, and any inventory, finds a lab by its name."""
        return REGISTRY / self.name

    @property
    def registry(self) -> Path:
        return self.known / "lab.json"

    @property
    def link(self) -> Path:
        """Leads to the state: inventories name the key and the known hosts through it."""
        return self.known / "state"

    @property
    def control(self) -> Path:
        """ssh's shared connections; a short path, since a socket's name may have 107 letters only."""
        return self.known / "ssh"

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.name}"

    def host(self, name: str) -> HostPaths:
        return HostPaths(self, name)


@dataclass(frozen=True)
class HostPaths:
    """The files of one host."""

    lab: LabPaths
    name: str

    @property
    def directory(self) -> Path:
        return self.lab.state / "hosts" / self.name

    @property
    def spec(self) -> Path:
        """The description that the host was last started with."""
        return self.directory / "host.json"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.json"

    @property
    def seed(self) -> Path:
        return self.directory / "seed"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def snapshots(self) -> Path:
        return self.directory / "snapshots"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def supervisor(self) -> Path:
        """Who runs the host: process, start time, control groups, number of boots."""
        return self.directory / "supervisor.json"

    @property
    def boot(self) -> Path:
        """All that the supervisor needs to boot the host."""
        return self.directory / "boot.json"

    @property
    def cut(self) -> Path:
        return self.directory / "cut"

    @property
    def attempts(self) -> Path:
        """Attempts to leave that the host's kernel counted in boots that are over."""
        return self.directory / "attempts.json"

    @property
    def namespace(self) -> str:
        return f"{self.lab.namespace}.{self.name}"

    @property
    def unit(self) -> str:
        """The host's control group, and the unit under this machine's systemd if it has one."""
        return self.namespace

    @property
    def machine(self) -> str:
        """nspawn's name for the host: its own directories under /run carry it, for all labs alike."""
        return (
            self.unit
            if len(self.unit) <= 64
            else PREFIX + hashlib.sha256(self.unit.encode()).hexdigest()[:32]
        )
