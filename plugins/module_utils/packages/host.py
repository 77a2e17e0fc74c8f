# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg, rpm and apt say about packages, and what follows from it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]
QUERY = "${Package}\\t${Architecture}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n"
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
    return [os.path.basename(unquote(address)) for address in re.findall(r"(?m)^'([^']+)' ", uris)]


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


def look(names: Sequence[str], run: Run, has: Callable[[str], bool], os_release: str) -> Looked:
    """Asks nothing of the host where nothing is wanted of it."""
    if not names:
        return Looked()
    if has("dpkg-query"):
        arch = run(["dpkg", "--print-architecture"])[1].strip()
        codename = "".join(re.findall(r'(?m)^VERSION_CODENAME="?([\w-]+)', os_release)[:1])
        states = states_of(run(["dpkg-query", "--show", f"--showformat={QUERY}", *names])[1])
        archive = f"{codename}-{arch}" if codename and arch else ""
        return Looked("deb", archive, tuple(missing_of(names, states, arch)))
    if has("rpm"):
        return Looked(
            "rpm", "", tuple(name for name in names if run(["rpm", "--query", "--whatprovides", name])[0])
        )
    return Looked("", "", tuple(names))


def cut_off(run: Run, updates: Iterable[str]) -> list[str]:
    return interrupted(states_of(run(["dpkg-query", "--show", f"--showformat={QUERY}"])[1]), updates)


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


class PrivateArchive:
    """An apt of its own beside the host's: this index alone, the host's packages, no net, no trace in /etc/apt."""

    def __init__(self, run: Run, folder: str, index: str) -> None:
        self.run = run
        self.repo = os.path.join(folder, "repo")
        lists, cache = os.path.join(folder, "lists"), os.path.join(folder, "cache")
        sources = os.path.join(folder, "sources.list")
        for path in (self.repo, os.path.join(lists, "partial"), os.path.join(cache, "archives", "partial")):
            os.makedirs(path, exist_ok=True)
        with open(os.path.join(self.repo, INDEX), "w", encoding="utf-8", newline="") as stream:
            stream.write(index)
        with open(sources, "w", encoding="utf-8") as stream:
            # Its files were compared with the bundle's manifest, and apt compares each with this index.
            stream.write(f"deb [trusted=yes] file:{self.repo} ./\n")
        values = {
            "Acquire::Languages": "none",
            "APT::Default-Release": "",
            "APT::Sandbox::User": "root",
            "Dir::Cache": cache,
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::Etc::SourceList": sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": lists,
            "DPkg::Lock::Timeout": "60",
        }
        self.options = [word for name, value in values.items() for word in ("-o", f"{name}={value}")]

    def apt(self, *words: str) -> tuple[int, str, str]:
        return self.run(["apt-get", *self.options, "-q", *words])

    def install(self, names: Sequence[str], *words: str) -> tuple[int, str, str]:
        how = ["install", "--yes", "--no-install-recommends", "--no-remove", *words]
        keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
        return self.apt(*keep, *how, *names)

    def offer(self, entries: Iterable[dict[str, Any]], path_of: Callable[[dict[str, Any]], str]) -> None:
        """Puts archives where the index says that they are."""
        for entry in entries:
            target = os.path.join(self.repo, os.path.basename(str(entry["path"])))
            if os.path.lexists(target):
                os.unlink(target)
            os.symlink(path_of(entry), target)
