# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle's folder on disk: who may write to it, and the order in which its papers appear."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content, bundle_signature
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import is_bundle


class BundleFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Makes the folder and keeps every other run out of it."""
        if problem := self.foreign():
            raise ContentError(problem)
        self.path.mkdir(parents=True, exist_ok=True)
        with bundle_content.held(self.path, "writes to"):
            if not (self.path / bundle_manifest.MANIFEST).exists():
                (self.path / bundle_manifest.UNFINISHED).touch()
            yield

    def foreign(self) -> str:
        """Why nothing may be written there: what is in a bundle's folder and not of the bundle is taken away."""
        if not self.path.exists():
            return ""
        if not self.path.is_dir():
            return f"{self.path}: is not a folder"
        if not any(self.path.iterdir()) or (self.path / bundle_manifest.UNFINISHED).is_file():
            return ""
        if is_bundle(self.path):
            return ""
        return (
            f"{self.path}: holds something that is not a bundle: name a folder that is empty or not there yet"
        )

    def holds(self, name: str, size: int) -> bool:
        path = self.path / name
        return path.is_file() and path.stat().st_size == size

    def publish(
        self, manifest: dict[str, Any], carried: set[str], base_id: str, sign_key: Path | None
    ) -> bool:
        """Until the manifest is there, nothing that lies here counts; says whether anything is another than before."""
        text = bundle_manifest.rendered(manifest)
        changed = False
        if base_id:
            delta = {"base": base_id, "carries": sorted(carried), "id": manifest["id"]}
            changed |= self.write(bundle_manifest.DELTA, json.dumps(delta, indent=1, sort_keys=True) + "\n")
        changed |= self.write(
            bundle_manifest.SUMS, bundle_manifest.sums_with_manifest(manifest, text.encode())
        )
        rewritten = self.write(bundle_manifest.MANIFEST, text)
        if sign_key:
            changed |= bundle_signature.sign(self.path, sign_key, text.encode())
        elif rewritten:
            # Somebody may have signed what was here; it is something else now.
            changed |= self.drop(bundle_manifest.SIGNATURE)
        for name in self.strangers(carried):
            changed |= self.drop(name)
        if not base_id:
            changed |= self.drop(bundle_manifest.DELTA)
        changed |= self.drop(bundle_manifest.UNFINISHED)
        return changed or rewritten

    def write(self, name: str, content: str | bytes) -> bool:
        target = self.path / name
        data = content.encode() if isinstance(content, str) else content
        if target.is_file() and target.read_bytes() == data:
            return False
        part = self.path / f"{name}.part"
        part.write_bytes(data)
        part.rename(target)
        return True

    def drop(self, name: str) -> bool:
        path = self.path / name
        if not path.exists() and not path.is_symlink():
            return False
        path.unlink()
        return True

    def strangers(self, listed: set[str]) -> list[str]:
        """What an earlier bundle, or a cut-off run, left in the folders of a bundle."""
        below = [
            str(path.relative_to(self.path))
            for part in bundle_manifest.PARTS
            for path in sorted((self.path / part).rglob("*"))
            if path.is_symlink() or not path.is_dir()
        ]
        return [name for name in below if name not in listed] + [
            path.name for path in self.path.glob("*.part")
        ]
