# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that files are sent into: safe names, and owners while it lasts."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from .handover_host import ARRIVING

STAMP = ".published.json"
CHUNK = 1 << 20


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def unsafe_paths(files: list[dict[str, Any]]) -> list[str]:
    """Names that would leave the folder, or hide in it."""
    bad = []
    for entry in files:
        path = str(entry["path"])
        parts = path.split("/")
        if os.path.isabs(path) or ".." in parts or "" in parts or path == STAMP:
            bad.append(path)
    return bad


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
    for folder, below, names in os.walk(staging):
        # Of an agent that may still be at work; only the module swarm_agent takes what is in there.
        below[:] = [name for name in below if name != ARRIVING]
        os.chown(folder, os.geteuid(), os.getegid())
        for name in names:
            os.chown(os.path.join(folder, name), os.geteuid(), os.getegid(), follow_symlinks=False)
