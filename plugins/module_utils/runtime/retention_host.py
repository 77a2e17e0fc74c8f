# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which environments stay on a host, and what in its store they need."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from .maker_host import STAMP
from .store_host import Store
from .unpacked_host import Unpacked

PARTIAL = ".partial"


@dataclass(frozen=True)
class Environment:
    path: str
    made: float
    content: frozenset[str]
    distributions: frozenset[str]

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


def environments(folder: str) -> list[Environment]:
    """Finished ones, newest first."""
    found = []
    for stamp in glob.glob(os.path.join(glob.escape(folder), "*", STAMP)):
        path = os.path.dirname(stamp)
        said = _read(stamp)
        made = float(said.get("made") or os.stat(stamp).st_mtime)
        content, names = frozenset(said.get("content", ())), frozenset(said.get("distributions", ()))
        found.append(Environment(path, made, content, names))
    return sorted(found, key=lambda item: (-item.made, item.path))


def superfluous(found: Iterable[Environment], used: Collection[str], keep: int) -> list[Environment]:
    """All but the newest `keep`; one whose name is among the used stays, however old, and counts."""
    return [item for number, item in enumerate(found) if number >= keep and item.name not in used]


def linked(releases: str, folder: str) -> set[str]:
    """Names of environments that a release on this host leads to."""
    links = glob.glob(os.path.join(glob.escape(releases), "*", "*", "env"))
    return _names(folder, (os.path.realpath(link) for link in links))


def running(folder: str, proc: str = "/proc") -> set[str]:
    """Names of environments from which a process has loaded code, or in which it works."""
    root = os.path.realpath(folder)
    paths: set[str] = set()
    for process in filter(str.isdigit, os.listdir(proc)):
        base = os.path.join(proc, process)
        paths.update(_link(os.path.join(base, name)) for name in ("exe", "cwd"))
        try:
            with open(os.path.join(base, "cmdline"), "rb") as stream:
                program = stream.read().split(b"\0")[0].decode(errors="replace")
            # The interpreter itself is a link out of the environment.
            paths.add(os.path.realpath(os.path.dirname(program)) if program.startswith("/") else "")
            with open(os.path.join(base, "maps"), encoding="utf-8", errors="replace") as stream:
                paths.update(line.split(None, 5)[5] for line in stream if root in line)
        except OSError:  # it ended, or is not ours to look into
            pass
    return _names(folder, paths)


def left_over(folder: str) -> list[str]:
    """What a killed run left beside the finished ones."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), f"*{PARTIAL}")))


def pruned(store: Store, kept: Collection[Environment], dry: bool) -> list[str]:
    """Takes from the store what no kept environment needs; says what that is."""
    content = {digest for item in kept for digest in item.content}
    names = {name for item in kept for name in item.distributions}
    digests = store.strangers(content)
    said = [f"{store.content}/{digest}" for digest in digests]
    for uv in os.listdir(store.unpacked) if os.path.isdir(store.unpacked) else []:
        unpacked = Unpacked(store.unpacked, uv)
        strangers = unpacked.strangers(names)
        said += [f"{unpacked.folder}: {unpacked.seals()[name]['distribution']}" for name in strangers]
        if not dry and strangers:
            unpacked.forget(strangers)
            unpacked.settle()
    if not dry:
        store.drop(digests)
    return said


def remove(paths: Iterable[str]) -> None:
    """Out of sight first: what is half removed must not look whole."""
    for path in paths:
        away = path if path.endswith(PARTIAL) else f"{path}{PARTIAL}"
        if away != path:
            os.rename(path, away)
        shutil.rmtree(away)


def _names(folder: str, paths: Iterable[str]) -> set[str]:
    """The environments that resolved paths lie in; the folder itself may be a link to another disk."""
    root = os.path.realpath(folder) + "/"
    return {path[len(root) :].strip().split("/", 1)[0] for path in paths if path.startswith(root)}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
