# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg, rpm and apt say about packages, and what follows from it. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

HALF = frozenset({"half-configured", "half-installed", "unpacked"})
COMMANDS = {
    "deb": "apt-get install --no-install-recommends {names}",
    "rpm": "dnf install {names}",
}
INDEX = "Packages"


@dataclass(frozen=True)
class State:
    name: str
    arch: str
    status: str
    flag: str = "ok"


@dataclass(frozen=True)
class Looked:
    """`format` is deb, rpm, or empty where the host has neither."""

    format: str = ""
    archive: str = ""
    """Release and architecture as Debian calls them: bookworm-amd64."""
    missing: tuple[str, ...] = ()


def states_of(text: str) -> list[State]:
    lines = (line.split("\t") for line in text.splitlines())
    return [State(*fields) for fields in lines if len(fields) == 4]


def missing_of(names: Iterable[str], states: Iterable[State], arch: str) -> list[str]:
    """A package of a foreign architecture does not stand for the host's own."""
    there = {state.name for state in states if state.status == "installed" and state.arch in (arch, "all")}
    return [name for name in names if name not in there]


def interrupted(states: Iterable[State], updates: Iterable[str]) -> list[str]:
    """What a dpkg that was cut off left behind; `updates` are the names in its journal."""
    found = [
        f"{state.name} ({state.status if state.status in HALF else state.flag})"
        for state in states
        if state.status in HALF or state.flag == "reinstreq"
    ]
    return sorted(found) or (["its journal"] if any(re.fullmatch("[0-9]+", name) for name in updates) else [])


def archive_names(uris: str) -> list[str]:
    """File names out of what `apt-get --print-uris` prints."""
    return [posixpath.basename(unquote(address)) for address in re.findall(r"(?m)^'([^']+)' ", uris)]


@dataclass(frozen=True)
class Step:
    name: str
    version: str
    before: str = ""

    @property
    def words(self) -> str:
        return (
            f"{self.name} {self.before} -> {self.version}" if self.before else f"{self.name} {self.version}"
        )


def steps_of(simulated: str) -> list[Step]:
    """What `apt-get --simulate` would install."""
    found = re.findall(r"(?m)^Inst (\S+)(?: \[([^\]]+)\])? \((\S+)", simulated)
    return [Step(name, version, before) for name, before, version in found]


def unpacked_bytes(index: str, steps: Iterable[Step]) -> int:
    """Room that the packages ask for once they are unpacked, by the index."""
    wanted = {(step.name.split(":")[0], step.version) for step in steps}
    total = 0
    for stanza in index.split("\n\n"):
        fields = dict(re.findall(r"(?m)^(Package|Version|Installed-Size): *(\S+)", stanza))
        if (fields.get("Package"), fields.get("Version")) in wanted:
            total += int(fields.get("Installed-Size", 0)) * 1024
    return total


def complaint(out: str, err: str) -> str:
    """The lines with which apt or dpkg says why not."""
    lines = [line.strip() for line in (*out.splitlines(), *err.splitlines())]
    why = [
        line
        for line in lines
        if re.match(r"E:|dpkg: error|.* : (Depends|PreDepends|Conflicts|Breaks): ", line)
    ]
    return "; ".join((why or [line for line in lines if line])[-8:])


def command(kind: str, names: Iterable[str]) -> str:
    """What a person types on the host."""
    return COMMANDS.get(kind, "install {names}").format(names=" ".join(shlex.quote(name) for name in names))


def without_a_bundle(looked: Looked, host: str = "") -> str:
    """Why these packages cannot come from any bundle; empty where they can."""
    where, names = f"on {host} " if host else "", ", ".join(looked.missing)
    if looked.format == "deb" and looked.archive:
        return ""
    fix = f"install there: {command(looked.format, looked.missing)}; or set host_package_source: repository"
    if looked.format == "deb":
        return f"packages missing {where}({names}), whose /etc/os-release has no VERSION_CODENAME: {fix}"
    return (
        f"packages missing {where}({names}), and a bundle carries packages for Debian and Ubuntu only: {fix}"
    )
