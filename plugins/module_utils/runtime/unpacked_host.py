# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels that are unpacked already, as uv keeps them, and whether they are still what was unpacked.

uv never looks at an unpacked wheel again. So what lies here is sealed when it was made, under root's eyes only:
path, size, time and inode of every file. Before it is used again the seal is compared; what has no seal or
another one is thrown away, and made again from the wheel, whose hash is known (see store.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import Any

from .wheel_names import distribution

SEAL = "seal.json"
# uv itself, unpacked and sealed like all that it unpacks.
TOOLS = "archive-tools"


class Unpacked:
    """One folder for each uv: another version may lay things out differently."""

    def __init__(self, folder: str, uv: str) -> None:
        self.parent = folder
        self.folder = os.path.join(folder, uv)
        self.seal_path = os.path.join(self.folder, SEAL)

    def archives(self) -> dict[str, str]:
        """Unpacked wheels: name -> folder."""
        return {
            entry.name: entry.path
            for bucket in _folders(self.folder)
            if bucket.name.startswith("archive-")
            for entry in _folders(bucket.path)
        }

    def seals(self) -> dict[str, dict[str, str]]:
        try:
            with open(self.seal_path, encoding="utf-8") as stream:
                found = json.load(stream)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def distributions(self) -> set[str]:
        """What need not be unpacked again; of use after `mend`."""
        return {seal["distribution"] for seal in self.seals().values()}

    def mend(self) -> list[str]:
        """Throws away what is not sealed or not as it was sealed; names what was changed by somebody."""
        for other in _folders(self.parent):
            if other.path != self.folder:
                shutil.rmtree(other.path)
        seals, changed, bad = self.seals(), [], []
        for name, path in self.archives().items():
            seal = seals.get(name)
            if seal is None:
                bad.append(name)
            elif fingerprint(path) != seal["fingerprint"]:
                bad.append(name)
                changed.append(seal["distribution"])
        self.forget(bad)
        for entry in _folders(self.folder):
            if entry.name.startswith(".tmp"):
                shutil.rmtree(entry.path)
        if os.path.exists(f"{self.seal_path}.partial"):
            os.unlink(f"{self.seal_path}.partial")
        self.settle()
        return sorted(changed)

    def settle(self) -> None:
        """Drops the seals of what is gone."""
        seals, archives = self.seals(), self.archives()
        if set(seals) - set(archives):
            self._write({name: seal for name, seal in seals.items() if name in archives})

    def forget(self, names: list[str]) -> None:
        """uv finds an unpacked wheel through a link and a note beside it: they go first."""
        lost = set(names)
        if not lost:
            return
        for bucket in _folders(self.folder):
            if not bucket.name.startswith("wheels-"):
                continue
            for folder, folders, files in os.walk(bucket.path):
                for name in [*folders, *files]:
                    link = os.path.join(folder, name)
                    if os.path.islink(link) and os.path.basename(os.readlink(link)) in lost:
                        for path in (f"{link}.rev", link):
                            if os.path.lexists(path):
                                os.unlink(path)
        archives = self.archives()
        for name in names:
            shutil.rmtree(archives[name])

    def seal(self) -> None:
        """Says of what was unpacked since `mend` that it is as it was made."""
        self._drop_locks()
        seals = self.seals()
        archives = self.archives()
        new = {name: path for name, path in archives.items() if name not in seals}
        if new:
            made = {name: _sealed(path) for name, path in new.items()}
            self._write({**seals, **made})

    def _drop_locks(self) -> None:
        """uv leaves files that anybody may write; whoever works here holds the store's own lock."""
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith("archive-")]
            for name in names:
                if name.endswith(".lock"):
                    os.unlink(os.path.join(folder, name))

    def strangers(self, distributions: set[str]) -> list[str]:
        """Unpacked wheels that no environment needs."""
        return sorted(
            name
            for name, seal in self.seals().items()
            if seal["distribution"] not in distributions and name != "uv"
        )

    def uv(self) -> str:
        """Where uv lies, or will."""
        return os.path.join(self.folder, TOOLS, "uv", "uv")

    def _write(self, seals: dict[str, Any]) -> None:
        part = f"{self.seal_path}.partial"
        with open(part, "w", encoding="utf-8") as stream:
            json.dump(seals, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(part, self.seal_path)


def fingerprint(folder: str) -> str:
    """Changes when any file below is written, replaced, added or removed. Reads no content."""
    digest = hashlib.sha256()

    def walk(path: str) -> None:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                digest.update(f"{entry.path}\n".encode(errors="surrogateescape"))
                walk(entry.path)
            else:
                state = entry.stat(follow_symlinks=False)
                line = f"{entry.path} {state.st_size} {state.st_mtime_ns} {state.st_ino} {state.st_mode} {state.st_uid}\n"
                digest.update(line.encode(errors="surrogateescape"))

    walk(folder)
    return digest.hexdigest()


def _sealed(folder: str) -> dict[str, str]:
    infos = [entry.name for entry in _folders(folder) if entry.name.endswith(".dist-info")]
    name = infos[0][: -len(".dist-info")] if infos else "-"
    return {"distribution": distribution(name), "fingerprint": fingerprint(folder)}


def _folders(folder: str) -> list[os.DirEntry[str]]:
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as found:
        return [entry for entry in found if entry.is_dir(follow_symlinks=False)]
