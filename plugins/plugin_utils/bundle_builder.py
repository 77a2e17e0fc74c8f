# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a bundle folder on the controller: wheels, locks, uv, Python kits and weights, with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils import bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import SymbolTables, prove_wheels
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import (
    FetchError,
    WheelCache,
    parse_lock,
    sha256_of,
    wheel_tags,
)

# uv runs on the hosts before any of their own settings apply; its wheel is built for an old glibc.
INSTALLER_PYTHON = "3.12"


class BundleBuilder:
    """Adds parts one by one; `finish` writes the manifest last, so a cut-off run leaves no valid bundle."""

    def __init__(self, folder: Path, cache: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.cache = WheelCache(cache / "wheels", say)
        self.tables = SymbolTables(cache / "abi")
        self.files: dict[str, dict[str, Any]] = {}
        self.environments: dict[str, dict[str, Any]] = {}
        self.weights: dict[str, dict[str, Any]] = {}
        self.installers: dict[str, str] = {}
        self.pythons: dict[str, str] = {}

    def add_environment(self, lock: Path, python: str, arch: str, glibc: str, cuda: str = "") -> None:
        pins = parse_lock(lock.read_text(encoding="utf-8"))
        wheels = self.cache.complete(pins, wheel_tags(python, arch, glibc))
        names = [self._place(wheel, f"wheels/{wheel.name}", "wheel", wheel.parent.name) for wheel in wheels]
        where = self._place(lock, f"locks/{lock.name}", "lock")
        hashes = {wheel: wheel.parent.name for wheel in wheels}
        proofs = prove_wheels(hashes, self.tables, python, glibc, cuda)
        for proof in proofs:
            if proof["proven"]:
                self.say(proof["what"])
        self.environments[lock.name] = {
            "abi": proofs,
            "arch": arch,
            "lock": where,
            "python": python,
            "wheels": sorted(names),
        }

    def unproven(self) -> list[str]:
        """What keeps kernels from being loaded beside torch, for every environment, with what would help."""
        return [
            f"REFUSED  {lock}\n  {proof['what']}\n  {proof['fix']}"
            for lock, environment in self.environments.items()
            for proof in environment["abi"]
            if not proof["proven"]
        ]

    def add_installer(self, lock: Path, arch: str, glibc: str) -> None:
        (wheel,) = self.cache.complete(
            parse_lock(lock.read_text(encoding="utf-8")), wheel_tags(INSTALLER_PYTHON, arch, glibc)
        )
        self.installers[arch] = self._place(wheel, f"wheels/{wheel.name}", "wheel", wheel.parent.name)

    def add_python(self, archive: Path, minor: str, arch: str) -> None:
        self.pythons[f"{minor}-{arch}"] = self._place(archive, f"python/{archive.name}", "python")

    def add_weights(self, source: Path, model: str, revision: str) -> None:
        folder = f"weights/{model}/{revision}"
        files = sorted(path for path in source.rglob("*") if path.is_file())
        if not any(path.suffix in (".safetensors", ".bin") for path in files):
            raise FetchError(f"{source}: holds no weights of {model} (no .safetensors file)")
        names = [self._place(path, f"{folder}/{path.relative_to(source)}", "weights") for path in files]
        self.weights[f"{model}/{revision}"] = {"files": names, "folder": folder}

    def finish(self) -> bool:
        """Writes manifest and checksums; says whether the bundle is another than before."""
        self._drop_strangers()
        manifest = bundle_manifest.build(
            self.files, self.environments, self.weights, self.installers, self.pythons
        )
        text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
        sums = bundle_manifest.sums(
            self.files | {bundle_manifest.MANIFEST: {"sha256": hashlib.sha256(text.encode()).hexdigest()}}
        )
        target = self.folder / bundle_manifest.MANIFEST
        changed = not target.exists() or target.read_text(encoding="utf-8") != text
        for name, content in ((bundle_manifest.SUMS, sums), (bundle_manifest.MANIFEST, text)):
            part = self.folder / f"{name}.part"
            part.write_text(content, encoding="utf-8")
            part.rename(self.folder / name)
        return changed

    def _drop_strangers(self) -> None:
        for path in self.folder.rglob("*"):
            name = str(path.relative_to(self.folder))
            if path.is_file() and name not in self.files and path.parent != self.folder:
                path.unlink()

    def _place(self, source: Path, name: str, kind: str, sha256: str = "") -> str:
        target = self.folder / name
        size = source.stat().st_size
        same = (
            target.exists()
            and target.stat().st_size == size
            and (kind == "wheel" or sha256_of(target) == sha256_of(source))
        )
        if not same:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(target.name + ".part")
            part.unlink(missing_ok=True)
            # Only the cache holds files that nobody edits; anything else is copied.
            if not (kind == "wheel" and linked(source, part)):
                shutil.copyfile(source, part)
            part.rename(target)
        self.files[name] = {"kind": kind, "sha256": sha256 or sha256_of(target), "size": size}
        return name


def linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False
    return True


def free_bytes(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
