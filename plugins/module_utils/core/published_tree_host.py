# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder that appears by one rename, after every file in it was verified."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

STAMP = ".published.json"
CHUNK = 1 << 20


class TreeError(Exception):
    """Names the file and what is wrong with it."""


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def identity(files: list[dict[str, Any]]) -> str:
    """One hash for a list of files: their names and their contents."""
    text = "".join(
        f"{entry['sha256']}  {entry['path']}\n" for entry in sorted(files, key=lambda e: str(e["path"]))
    )
    return hashlib.sha256(text.encode()).hexdigest()


def unsafe_paths(files: list[dict[str, Any]]) -> list[str]:
    """Names that would leave the folder, or hide in it."""
    bad = []
    for entry in files:
        path = str(entry["path"])
        parts = path.split("/")
        if os.path.isabs(path) or ".." in parts or "" in parts or path == STAMP:
            bad.append(path)
    return bad


def damaged(folder: str, files: list[dict[str, Any]]) -> list[str]:
    """What differs from the list: a line a file, empty when all is well. Two files are read at a time."""

    def look(entry: dict[str, Any]) -> str:
        path = os.path.join(folder, str(entry["path"]))
        if os.path.islink(path) or not os.path.isfile(path):
            return f"{entry['path']}: missing"
        size = os.path.getsize(path)
        if size != entry["size"]:
            return f"{entry['path']}: {size} bytes instead of {entry['size']}"
        if sha256_of(path) != entry["sha256"]:
            return f"{entry['path']}: content differs (sha256)"
        return ""

    with ThreadPoolExecutor(2) as pool:
        return [line for line in pool.map(look, files) if line]


def is_published(dest: str, files: list[dict[str, Any]]) -> bool:
    """Whether dest holds this very list: by its stamp, and sizes as a quick look at each file."""
    try:
        with open(os.path.join(dest, STAMP), encoding="utf-8") as stream:
            stamp = json.load(stream)
    except (OSError, ValueError):
        return False
    if stamp.get("identity") != identity(files):
        return False
    for entry in files:
        path = os.path.join(dest, str(entry["path"]))
        if not os.path.isfile(path) or os.path.getsize(path) != entry["size"]:
            return False
    return True


def absent(staging: str, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a staging folder still lacks; a file of the right size is kept and judged at the end."""
    lacking = []
    for entry in files:
        path = os.path.join(staging, str(entry["path"]))
        if not os.path.isfile(path) or os.path.getsize(path) != entry["size"]:
            lacking.append(entry)
    return lacking


def arrived(staging: str, entry: dict[str, Any]) -> int:
    """How much of a file that is lacking lies in staging already."""
    path = os.path.join(staging, str(entry["path"]))
    size = os.path.getsize(path) if os.path.isfile(path) and not os.path.islink(path) else 0
    return size if size < int(entry["size"]) else 0


def open_to_sender(staging: str, lacking: list[dict[str, Any]]) -> None:
    """Makes the folders that files will be sent into; under sudo the sender is the login user."""
    os.makedirs(staging, mode=0o700, exist_ok=True)
    for entry in lacking:
        os.makedirs(os.path.dirname(os.path.join(staging, str(entry["path"]))), exist_ok=True)
    sender = os.environ.get("SUDO_UID")
    if sender:
        for folder, _unused, _unused in os.walk(staging):
            os.chown(folder, int(sender), -1)


def take_over(staging: str) -> None:
    """From here on nobody but root can change what is about to be verified."""
    for folder, _unused, names in os.walk(staging):
        os.chown(folder, os.geteuid(), os.getegid())
        for name in names:
            os.chown(os.path.join(folder, name), os.geteuid(), os.getegid(), follow_symlinks=False)


def copy_in(source: str, staging: str, files: list[dict[str, Any]]) -> None:
    """Brings files from a folder on the same machine."""
    for entry in files:
        target = os.path.join(staging, str(entry["path"]))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            os.unlink(target)
        shutil.copyfile(os.path.join(source, str(entry["path"])), target)


def publish(staging: str, dest: str, files: list[dict[str, Any]]) -> None:
    """Verifies all of staging, makes it read-only and renames it to dest; a damaged file is taken away."""
    take_over(staging)
    problems = damaged(staging, files)
    if problems:
        for line in problems:
            path = os.path.join(staging, line.split(": ", 1)[0])
            if os.path.isfile(path):
                os.unlink(path)
        raise TreeError("; ".join(problems))
    wanted = {str(entry["path"]) for entry in files}
    for folder, _unused, names in os.walk(staging):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.relpath(path, staging) not in wanted:
                os.unlink(path)
            else:
                os.chmod(path, 0o444)
        os.chmod(folder, 0o755)
    with open(os.path.join(staging, STAMP), "w", encoding="utf-8") as stream:
        json.dump({"identity": identity(files), "files": len(files)}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.makedirs(os.path.dirname(dest), exist_ok=True)
    if os.path.isdir(dest):
        shutil.rmtree(dest)
    os.rename(staging, dest)
