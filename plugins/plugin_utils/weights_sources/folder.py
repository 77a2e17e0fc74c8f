# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights in a folder that the controller reads: a mounted disk, an earlier fetch or a finished bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import did_you_mean
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import CacheFriendlyReader
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import (
    MANIFEST,
    STAMP,
    ManifestError,
    from_text,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import SignaturePolicy
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import read_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import (
    Interrupted,
    RemoteFile,
    SourceError,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.over_http import (
    SUMS,
    SUMS_LINE,
)


class Folder:
    def __init__(self, path: Path, known: dict[str, str] | None = None) -> None:
        self.path = path.expanduser()
        self.origin = {"type": "directory", "id": str(self.path)}
        if not self.path.is_dir():
            raise SourceError(f"{self.path}: there is no such folder on the controller")
        known = self._known() if known is None else known
        self.files = []
        links = []
        for place, folders, names in os.walk(self.path):
            for name in [
                *names,
                *(folder for folder in folders if os.path.islink(os.path.join(place, folder))),
            ]:
                path = Path(place) / name
                relative = str(path.relative_to(self.path))
                if path.is_symlink():
                    links.append(relative)
                elif relative not in (MANIFEST, STAMP, SUMS):
                    self.files.append(RemoteFile(relative, path.stat().st_size, known.get(relative, "")))
        if links:
            shown = ", ".join(sorted(links)[:3])
            raise SourceError(
                f"{self.path}: holds links ({shown}): copy it with 'cp --recursive --dereference' first"
            )
        absent = sorted(set(known) - {item.name for item in self.files})
        if absent:
            raise SourceError(f"{self.path}: lacks {', '.join(absent[:3])}, which its own list names")

    def _known(self) -> dict[str, str]:
        """Hashes that lie beside the files: our manifest, or SHA256SUMS."""
        if (self.path / MANIFEST).is_file():
            try:
                manifest = from_text(
                    (self.path / MANIFEST).read_text(encoding="utf-8"), str(self.path / MANIFEST)
                )
            except ManifestError as error:
                raise SourceError(str(error)) from error
            self.origin = {**manifest["source"], "by": "directory"}
            return {entry["path"]: entry["sha256"] for entry in manifest["files"]}
        if (self.path / SUMS).is_file():
            text = (self.path / SUMS).read_text(encoding="utf-8")
            return {name.removeprefix("./"): digest for digest, name in SUMS_LINE.findall(text)}
        return {}

    def read(self, name: str, offset: int) -> Iterator[memoryview]:
        path = self.path / name
        try:
            size = path.stat().st_size
            with CacheFriendlyReader(str(path)) as reader:
                yield from reader.blocks(offset, size - offset)
        except OSError as error:
            raise Interrupted(f"cannot be read: {error.strerror}") from error


def from_bundle(source: Source, model: str, policy: SignaturePolicy) -> Folder:
    """One model out of a finished bundle, by the bundle's own manifest."""
    bundle = Path(source.path).expanduser()
    found = read_manifest(bundle, policy)
    if found.problems:
        raise SourceError(f"bundle {bundle}: {'; '.join(found.problems)}")
    manifest, weights = found.manifest, found.manifest["weights"]
    keys = sorted(key for key in weights if key.rpartition("/")[0] == model)
    if not keys:
        raise SourceError(
            f"{bundle}: carries no {model}; {did_you_mean(model, (k.rpartition('/')[0] for k in weights))}"
        )
    entry = weights[keys[-1]]
    skip = len(entry["folder"]) + 1
    known = {name[skip:]: str(manifest["files"][name]["sha256"]) for name in entry["files"]}
    known = {name: digest for name, digest in known.items() if name not in (MANIFEST, STAMP, SUMS)}
    folder = Folder(bundle / entry["folder"], known)
    folder.origin = {"type": "bundle", "id": keys[-1]}
    return folder
