# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that are to lie in a bundle: named once each, and put in their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_folder import BundleFolder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import (
    Progress,
    WheelCache,
    identity_of,
    told,
)


@dataclass(frozen=True)
class Piece:
    """A file that is to lie in the bundle."""

    name: str
    source: Path
    kind: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Tree:
    """A file or a folder of files that becomes `name`; hashes are known by path below the source, or not at all."""

    source: Path
    name: str
    kind: str
    hashes: Mapping[str, str]

    def files(self) -> list[tuple[Path, str]]:
        """Each file with its name in the bundle."""
        if self.source.is_file():
            return [(self.source, self.name)]
        return [
            (path, f"{self.name}/{path.relative_to(self.source)}")
            for path in sorted(self.source.rglob("*"))
            if path.is_file()
        ]

    def known_hash(self, path: Path) -> str:
        return self.hashes.get(path.name if path == self.source else str(path.relative_to(self.source)), "")


class BundlePieces(dict[str, Piece]):
    """By their names in the bundle."""

    def __init__(self, place: BundleFolder, cache: WheelCache, say: Callable[[str], None]) -> None:
        super().__init__()
        self.place = place
        self.cache = cache
        self.say = say

    def manifest_files(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"kind": piece.kind, "sha256": piece.sha256, "size": piece.size}
            for name, piece in self.items()
        }

    def register(self, name: str, source: Path, kind: str, sha256: str = "") -> str:
        sha256 = sha256 or bundle_content.hash_of(source)
        other = self.get(name)
        if other and other.sha256 != sha256:
            raise ContentError(
                f"{name}: two files of one name: {other.source} with sha256 {other.sha256} and {source} with "
                f"sha256 {sha256}. One folder holds one of them: resolve the locks again from one index"
            )
        self[name] = Piece(name, source, kind, sha256, source.stat().st_size)
        return name

    def register_trees(self, trees: list[Tree]) -> None:
        """Reads what is not known by hash yet."""

        def one(item: tuple[Path, str, str, str], progress: Progress) -> None:
            path, name, kind, known = item
            self.register(name, path, kind, known or bundle_content.hash_of(path, progress.add))

        items = [
            (path.stat().st_size, (path, name, tree.kind, tree.known_hash(path)))
            for tree in trees
            for path, name in tree.files()
        ]
        bundle_content.in_parallel(items, one, self.say, "files read")

    def put(self, pieces: list[Piece]) -> None:
        """Into the folder; what lies there already with the right content stays."""
        problems: list[str] = []

        def one(piece: Piece, progress: Progress) -> None:
            target = self.place.path / piece.name
            if self.place.holds(piece.name, piece.size) and bundle_content.hash_of(target) == piece.sha256:
                progress.add(piece.size)
                return
            wheel = piece.kind == "wheel"
            sealed = wheel and self.cache.sealed(piece.source)
            identity = identity_of(piece.source)
            try:
                bundle_content.place(piece.source, target, piece.sha256, wheel, progress.add, sealed)
                if wheel and not sealed:
                    self.cache.seal(piece.source, identity)
            except ContentError as error:
                problems.append(f"{error}")
                if wheel:
                    piece.source.unlink()
                    problems[-1] += "; it was taken out of the cache: run again and it is fetched anew"

        bundle_content.in_parallel([(piece.size, piece) for piece in pieces], one, self.say, "files in place")
        if problems:
            raise ContentError(told(problems))
