# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the distribution, asked and installed on a host."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .state import INDEX, Looked, interrupted, missing_of, states_of

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]
QUERY = "${Package}\\t${Architecture}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n"


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
