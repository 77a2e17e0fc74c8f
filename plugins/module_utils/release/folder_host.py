# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One release on the disk: made whole by one rename, read back, compared with what it should be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..planner.plan import Plan
from ..service import application as plan_application
from .members import Member, Release

STAMP = ".release.json"
PLAN = "plan.json"
UNITS = "units"
PARTIAL = ".partial"
# Read by people and by us, by no server: a difference restarts nothing.
UNSERVED = (PLAN, STAMP, UNITS, plan_application.STANDBY, "__pycache__")


@dataclass(frozen=True)
class Wanted:
    """What a release folder is to hold."""

    folder: str
    files: Mapping[str, str]
    links: Mapping[str, str]
    members: tuple[Member, ...]

    def stamp(self) -> str:
        said = {
            "members": [asdict(member) for member in self.members],
            "files": {path: hashed(text) for path, text in sorted(self.files.items())},
            "links": dict(sorted(self.links.items())),
        }
        return json.dumps(said, indent=2, sort_keys=True) + "\n"


def target(release: Release, instance: str, link: str) -> str:
    return os.path.realpath(os.path.join(release.folder, instance, link))


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def differs(wanted: Wanted) -> list[str]:
    """Paths that are not there or not as they should be."""
    found = [path for path, text in wanted.files.items() if _read(os.path.join(wanted.folder, path)) != text]
    found += [path for path, to in wanted.links.items() if _link(os.path.join(wanted.folder, path)) != to]
    if _read(os.path.join(wanted.folder, STAMP)) != wanted.stamp():
        found.append(STAMP)
    return sorted(found)


def lay_down(wanted: Wanted) -> None:
    """A new folder appears by one rename; in one that is there each file changes places with the right one."""
    folder = wanted.folder
    new = not os.path.isdir(folder)
    place = folder + PARTIAL if new else folder
    if new:
        shutil.rmtree(place, ignore_errors=True)
        _open_folder(place)
    for path in differs(Wanted(place, wanted.files, wanted.links, wanted.members)):
        target = os.path.join(place, path)
        _open_folder(os.path.dirname(target))
        if path in wanted.links:
            write_link(target, wanted.links[path])
        elif path != STAMP:
            write(target, wanted.files[path])
    # The stamp comes last: it says that the rest is there.
    write(os.path.join(place, STAMP), wanted.stamp())
    if new:
        os.rename(place, folder)
        sync_folder(os.path.dirname(folder))


def add_strangers(source: str, target: str) -> None:
    """Copies folders of an instance that no stamp names, such as trees of kernel files."""
    for instance in os.listdir(target):
        inside = os.path.join(source, instance)
        for name in os.listdir(inside) if os.path.isdir(inside) and instance != UNITS else ():
            path, copy = os.path.join(inside, name), os.path.join(target, instance, name)
            if os.path.isdir(path) and not os.path.islink(path) and not os.path.lexists(copy):
                shutil.copytree(path, copy, symlinks=True)


def read(folder: str) -> Release | None:
    """A release as it lies there; None where the folder is none, or was never finished."""
    try:
        with open(os.path.join(folder, PLAN), encoding="utf-8") as stream:
            plan = json.load(stream)
        made = os.stat(os.path.join(folder, PLAN)).st_mtime
    except (OSError, ValueError):
        return None
    if not isinstance(plan, dict) or not isinstance(plan.get("instances"), dict):
        return None
    members = {member.name: member for member in _members(folder, plan)}
    proofs = {name: proof(folder, member, members) for name, member in members.items()}
    texts = {member.unit: _read(os.path.join(folder, UNITS, member.unit)) for member in members.values()}
    texts |= {
        member.standby_unit: _read(os.path.join(folder, plan_application.STANDBY, member.standby_unit))
        for member in members.values()
        if member.standby
    }
    return Release(os.path.basename(folder), folder, members, proofs, plan, made, texts)


def _members(folder: str, plan: dict[str, Any]) -> list[Member]:
    try:
        said = json.loads(_read(os.path.join(folder, STAMP)))
        return [Member(**entry) for entry in said["members"]]
    except (ValueError, KeyError, TypeError):
        # Laid down before releases had a stamp.
        try:
            return [Member(**entry) for entry in plan_application.members(Plan.from_dict(plan))]
        except (KeyError, TypeError, ValueError):
            return []


def proof(folder: str, member: Member, members: Mapping[str, Member]) -> dict[str, str]:
    """The unit, the instance's own folder, and what all instances share: path -> hash, or where a link leads."""
    content = {f"{UNITS}/{member.unit}": hashed(_read(os.path.join(folder, UNITS, member.unit)))}
    others = {*members, *UNSERVED} - {member.name}
    for entry in sorted(os.listdir(folder)):
        if entry not in others:
            content.update(_tree(os.path.join(folder, entry), entry))
    return content


def _tree(path: str, name: str) -> dict[str, str]:
    if os.path.islink(path):
        return {name: f"-> {os.readlink(path)}"}
    if not os.path.isdir(path):
        return {name: hashed_file(path)}
    content = {}
    for entry in sorted(os.listdir(path)):
        if entry != "__pycache__":
            content.update(_tree(os.path.join(path, entry), os.path.join(name, entry)))
    return content


def hashed_file(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


def listed(releases: str) -> dict[str, Release]:
    try:
        names = os.listdir(releases)
    except OSError:
        return {}
    found = (
        read(os.path.join(releases, name))
        for name in sorted(names)
        if not name.startswith(".") and not name.endswith(PARTIAL)
    )
    return {release.id: release for release in found if release}


def left_over(releases: str) -> list[str]:
    try:
        names = os.listdir(releases)
    except OSError:
        return []
    return sorted(os.path.join(releases, name) for name in names if name.endswith(PARTIAL))


def write(path: str, text: str, mode: int = 0o644) -> None:
    """On the disk before it is visible: after a power cut there is the old file or the new one."""
    new = f"{path}{PARTIAL}"
    with open(new, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.rename(new, path)
    sync_folder(os.path.dirname(path))


def write_link(path: str, target: str) -> None:
    new = f"{path}{PARTIAL}"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(target, new)
    os.rename(new, path)
    sync_folder(os.path.dirname(path))


def _open_folder(path: str) -> None:
    """The engine's user reads it, whatever root's umask is."""
    if not os.path.isdir(path):
        _open_folder(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
