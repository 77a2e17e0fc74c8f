# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An nspawn host's disk: read-only layers with one that it writes, and snapshots made by stacking them.

A snapshot freezes the written layer and puts an empty one over it, so it takes no time however much
was written, and a reset only exchanges the top.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .images import Image
from .paths import HostPaths
from .problems import LabError
from .processes import read_json, remove_tree, run, write_json

SNAPSHOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}")
FRESH = "fresh"


class Disk:
    """The layers of one host. `repair` first: a command may have been killed between two steps."""

    def __init__(self, paths: HostPaths) -> None:
        self.paths = paths
        self.upper = paths.directory / "upper"
        self.work = paths.directory / "work"
        self.trash = paths.directory / "trash"

    @property
    def base(self) -> str | None:
        """The snapshot under the written layer."""
        state = read_json(self.paths.disk) or {}
        return state.get("base")

    def _set(self, base: str | None, pending: str | None = None) -> None:
        write_json(self.paths.disk, {"base": base, "pending": pending})

    def chain(self) -> list[Path]:
        """The frozen layers, newest first."""
        layers, name = [], self.base
        while name:
            layers.append(self.paths.snapshots / name / "upper")
            name = (read_json(self.paths.snapshots / name / "snapshot.json") or {}).get("base")
        return layers

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.paths.snapshots.glob("*/upper"))

    def repair(self) -> None:
        state = read_json(self.paths.disk) or {}
        pending = state.get("pending")
        if pending:
            done = (self.paths.snapshots / pending / "upper").exists()
            self._set(pending if done else state.get("base"))
        for leftover in self.paths.snapshots.glob("*"):
            if not (leftover / "upper").exists():
                remove_tree(leftover)
        self.upper.mkdir(parents=True, exist_ok=True)

    def freeze(self, name: str) -> None:
        """Makes the written layer the snapshot `name`; the host must be off."""
        self.check_new(name)
        place = self.paths.snapshots / name
        place.mkdir(parents=True)
        write_json(place / "snapshot.json", {"base": self.base})
        self._set(self.base, pending=name)
        self.upper.rename(place / "upper")
        self._set(name)
        self.upper.mkdir()

    def check_new(self, name: str) -> None:
        if not SNAPSHOT.fullmatch(name) or name == FRESH:
            raise LabError(
                f"{name!r} cannot name a snapshot; use letters, digits, '.', '-' and '_' ('{FRESH}' is the new host)"
            )
        if name in self.names():
            raise LabError(
                f"{self.paths.name} has a snapshot {name!r} already; choose another name, or take it away with `down`"
            )

    def check_known(self, name: str) -> None:
        if name != FRESH and name not in self.names():
            known = ", ".join([FRESH, *self.names()])
            raise LabError(f"{self.paths.name} has no snapshot {name!r}; there are: {known}")

    def return_to(self, name: str) -> None:
        """Puts what was written since aside; `sweep` removes it when there is time."""
        self.check_known(name)
        self.trash.mkdir(exist_ok=True)
        if self.upper.exists():
            self.upper.rename(self.trash / os.urandom(4).hex())
        self._set(None if name == FRESH else name)
        self.upper.mkdir()

    def sweep(self) -> None:
        remove_tree(self.trash)

    def mounted(self) -> bool:
        return os.path.ismount(self.paths.root)

    def mount(self, image: Image, layers: tuple[str, ...]) -> None:
        if self.mounted():
            return
        lower = [*self.chain(), self.paths.seed, *map(Path, layers), image.root]
        for path in (self.paths.root, self.upper):
            path.mkdir(exist_ok=True)
        remove_tree(self.work)
        self.work.mkdir()
        for path in (*lower, self.upper):
            if set(str(path)) & set(":,\\"):
                raise LabError(f"{path}: a directory of the lab must have no ':', ',' or '\\' in its name")
        options = (
            f"lowerdir={':'.join(map(str, lower))},upperdir={self.upper},workdir={self.work},redirect_dir=on"
        )
        # `volatile` spares the shared disk each host's fsync: what was written is lost only with this machine.
        for extra in (",volatile", ""):
            done = run(
                ["mount", "-t", "overlay", f"lab-{self.paths.name}", "-o", options + extra, self.paths.root],
                check=False,
            )
            if done.returncode == 0:
                return
        raise LabError(
            f"The disk of {self.paths.name} cannot be mounted: {done.stderr.strip()}\n"
            f"  If {self.paths.directory} lies on an overlay itself (in a container), point BAREMETAL_LAB_DIR at a plain file system."
        )

    def unmount(self) -> None:
        if self.mounted():
            run(["umount", self.paths.root], check=False)
            if self.mounted():
                run(["umount", "--lazy", self.paths.root])
