# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which published weights may go: never one that a release links to or a process has open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from .manifest import MANIFEST, STAMP

GONE = ".gone"


@dataclass(frozen=True)
class Published:
    name: str
    """model/revision."""
    path: str
    published: int
    """When, in nanoseconds."""
    used_by: str = ""


def published_below(root: str, releases: str, processes: str = "/proc") -> list[Published]:
    """Every published revision, with who uses it."""
    links = linked(releases)
    found = []
    for model in _names(root):
        for revision in _names(os.path.join(root, model)):
            path = os.path.join(root, model, revision)
            stamp = os.path.join(path, STAMP)
            if revision.endswith((".partial", GONE)) or not (
                os.path.isfile(stamp) or os.path.isfile(os.path.join(path, MANIFEST))
            ):
                continue
            when = os.stat(stamp if os.path.isfile(stamp) else path).st_mtime_ns
            user = links.get(os.path.realpath(path), "") or opened_by(path, processes)
            found.append(Published(f"{model}/{revision}", path, when, user))
    return found


def linked(releases: str) -> dict[str, str]:
    """{folder: release directory that links to it}."""
    found = {}
    for release in _names(releases):
        for instance in _names(os.path.join(releases, release)):
            link = os.path.join(releases, release, instance, "weights")
            if os.path.islink(link):
                found[os.path.realpath(link)] = f"release {release}"
    return found


def opened_by(path: str, processes: str) -> str:
    """A process that has a file of the folder mapped or open."""
    inside = os.path.realpath(path) + "/"
    for number in (name for name in _names(processes) if name.isdigit()):
        try:
            with open(os.path.join(processes, number, "maps"), encoding="utf-8", errors="replace") as stream:
                if any(inside in line for line in stream):
                    return f"process {number}"
            for descriptor in os.listdir(os.path.join(processes, number, "fd")):
                if os.readlink(os.path.join(processes, number, "fd", descriptor)).startswith(inside):
                    return f"process {number}"
        except OSError:
            continue
    return ""


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    except OSError:
        return []


def choose(
    found: Iterable[Published], planned: Iterable[str], keep: int, remove: Iterable[str]
) -> list[Published]:
    """Those named in remove, and of each model all unused ones but the newest `keep`."""
    kept = {os.path.realpath(path) for path in planned}
    named = set(remove)
    idle: dict[str, list[Published]] = {}
    for item in found:
        if not item.used_by and os.path.realpath(item.path) not in kept:
            idle.setdefault(item.name.split("/")[0], []).append(item)
    going = []
    for items in idle.values():
        ranked = sorted(items, key=lambda item: -item.published)
        going += [
            item for rank, item in enumerate(ranked) if item.name in named or (not named and rank >= keep)
        ]
    return sorted(going, key=lambda item: item.name)


def refusals(found: Iterable[Published], planned: Iterable[str], remove: Iterable[str]) -> list[str]:
    """Why something that was named may not go."""
    known = {item.name: item for item in found}
    kept = {os.path.realpath(path) for path in planned}
    problems = []
    for name in remove:
        item = known.get(name)
        if item is None:
            problems.append(
                f"{name}: is not published here; published: {', '.join(sorted(known)) or 'nothing'}"
            )
        elif item.used_by:
            problems.append(f"{name}: is in use by {item.used_by}: serve another revision first")
        elif os.path.realpath(item.path) in kept:
            problems.append(f"{name}: is in the plan of this host: plan another model first")
    return problems


def take_away(item: Published) -> None:
    """Out of sight by one rename, then deleted: an engine never finds half a model."""
    gone = item.path + GONE
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(item.path, gone)
    shutil.rmtree(gone)
    parent = os.path.dirname(item.path)
    if not os.listdir(parent):
        os.rmdir(parent)
