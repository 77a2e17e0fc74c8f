# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives that root unpacks: nothing in them may land, or point, outside the folder that they are unpacked into.

Links are followed as the kernel would follow them, one part of a path after the other: `a -> .` and `b -> a/..` stay
inside by their letters and lead out on a disk.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable

MOST_LINKS = 40


class UnsafeArchiveError(Exception):
    """Names the members that are refused, each with why."""


def unpack(archive: str, folder: str) -> None:
    """Everything is judged before the first file is written; files are root's and nobody else may write them."""
    with tarfile.open(archive) as stream:
        members = judged(stream.getmembers(), archive)
        if hasattr(tarfile, "fully_trusted_filter"):
            stream.extractall(folder, members, filter=lambda member, _folder: member)
        else:
            stream.extractall(folder, members)


def total_bytes(archive: str) -> int:
    with tarfile.open(archive) as stream:
        return sum(member.size for member in stream if member.isfile())


def judged(members: Iterable[tarfile.TarInfo], archive: str) -> list[tarfile.TarInfo]:
    """The same members under plain names; raises what is wrong with any of them."""
    found: dict[str, tarfile.TarInfo] = {}
    problems = []
    for member in members:
        name = member.name
        parts = [part for part in name.split("/") if part not in ("", ".")]
        plain = "/".join(parts)
        if name.startswith("/") or ".." in parts or "\0" in name:
            problems.append(f"{name!r} leads out of the folder")
        elif not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
            problems.append(f"{name!r} is neither a file, a folder nor a link")
        elif not parts:
            continue
        elif plain in found and not (member.isdir() and found[plain].isdir()):
            problems.append(f"{name!r} is there twice")
        else:
            member.name = plain
            found[plain] = _plain(member)
    links = {name: member.linkname for name, member in found.items() if member.issym()}
    for name, member in found.items():
        problems += [f"{name!r} {why}" for why in _link_problems(name, member, found, links)]
    if problems:
        rest = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UnsafeArchiveError(f"{archive} is refused: {'; '.join(problems[:5])}{rest}")
    return list(found.values())


def _link_problems(
    name: str, member: tarfile.TarInfo, found: dict[str, tarfile.TarInfo], links: dict[str, str]
) -> list[str]:
    parts = name.split("/")
    problems = []
    above = ["/".join(parts[:count]) for count in range(1, len(parts))]
    if any(path in found and not found[path].isdir() for path in above):
        problems.append("lies below something that is not a folder")
    if member.issym() and not _stays(parts[:-1], member.linkname, links):
        problems.append(f"is a link that leads out of the folder, to {member.linkname!r}")
    if member.islnk():
        target = "/".join(part for part in member.linkname.split("/") if part not in ("", "."))
        if target not in found or not found[target].isfile() or member.linkname.startswith("/"):
            problems.append(f"is a second name of {member.linkname!r}, which is not a file of the archive")
    return problems


def _stays(folder: list[str], target: str, links: dict[str, str]) -> bool:
    """Whether a link in that folder ends inside; `..` counts from where the links before it have led."""
    if target.startswith("/") or "\0" in target:
        return False
    here, ahead, followed = list(folder), target.split("/"), 0
    while ahead:
        part = ahead.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not here:
                return False
            here.pop()
            continue
        here.append(part)
        other = links.get("/".join(here))
        if other is not None:
            followed += 1
            if followed > MOST_LINKS or other.startswith("/"):
                return False
            here.pop()
            ahead = other.split("/") + ahead
    return True


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = (member.mode | 0o644) & 0o755
    if member.isdir():
        member.mode |= 0o700
    return member
