# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a complete bundle of a delta and the bundle that it was built for, or of a bundle on another disk.

The folder counts as no bundle until its last step, which takes `delta.json` away; so a run that is cut off anywhere
is only run again. The base is never written to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_folder import BundleFolder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import SignaturePolicy
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import (
    Verified,
    read_delta,
    read_manifest,
    verify,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import Progress, told


def base_beside(source: Path, policy: SignaturePolicy) -> Path | None:
    """The bundle that a delta was built for, where it lies beside it: a disk often carries both."""
    wanted = read_delta(source).get("base")
    for manifest in sorted(source.parent.glob(f"*/{bundle_manifest.MANIFEST}")) if wanted else ():
        if (manifest.parent / bundle_manifest.DELTA).exists():
            continue
        if read_manifest(manifest.parent, policy).manifest.get("id") == wanted:
            return manifest.parent
    return None


class BundleImport:
    def __init__(
        self,
        source: Path,
        dest: Path,
        base: Path | None,
        say: Callable[[str], None],
        policy: SignaturePolicy,
    ) -> None:
        self.source, self.dest, self.base = source, dest, base
        self.say = say
        self.policy = policy
        self.origin: dict[str, Path] = {}
        self.copied = 0

    def refusals(self) -> Verified:
        """What can be said before anything is written: signature, form, and whether all content is at hand."""
        found = read_manifest(self.source, self.policy)
        if not found.manifest:
            return found
        mine = self._content_of(found.manifest, self.source)
        own = set(read_delta(self.source).get("carries", found.manifest["files"]))
        shared: dict[str, Path] = {}
        self.base = self.base or base_beside(self.source, self.policy)
        if self.base:
            base = read_manifest(self.base, self.policy)
            if not base.manifest:
                found.problems += [f"bundle_base = {self.base}: {problem}" for problem in base.problems]
                return found
            shared = self._content_of(base.manifest, self.base)
        for path, entry in sorted(found.manifest["files"].items()):
            from_base = shared.get(entry["sha256"])
            from_source = mine.get(entry["sha256"])
            # Content of the base on the same disk needs no room; the carried disk is read for the rest only.
            if from_base or from_source:
                self.origin[path] = from_base or from_source  # type: ignore[assignment]
            elif path in own:
                found.problems.append(f"{path}: is missing")
            else:
                found.problems.append(f"{path}: neither {self.source} nor bundle_base has this content")
        if not all(path in self.origin for path in found.manifest["files"]):
            wanted = read_delta(self.source).get("base", "")
            found.problems.append(
                f"{bundle_manifest.DELTA}: was built for the bundle with id {wanted}, which does not lie beside it: "
                "name its folder as bundle_base"
                if wanted
                else "the bundle is not whole"
            )
        found.problems += self._dest_problems(found.manifest)
        return found

    @staticmethod
    def _content_of(manifest: dict[str, Any], folder: Path) -> dict[str, Path]:
        return {
            entry["sha256"]: folder / path
            for path, entry in manifest["files"].items()
            if (folder / path).is_file() and (folder / path).stat().st_size == entry["size"]
        }

    def _dest_problems(self, manifest: dict[str, Any]) -> list[str]:
        there = read_manifest(self.dest, self.policy)
        complete = there.manifest and not (self.dest / bundle_manifest.DELTA).exists()
        if complete and there.manifest["id"] != manifest["id"] and self.dest != self.source:
            return [f"bundle_dest = {self.dest}: holds another bundle: name a folder that is not there yet"]
        return []

    def run(self, judged: Verified) -> bool:
        """Fills, verifies, and only then lets it count; says whether anything was done.

        `judged`: what `refusals` returned.
        """
        manifest = judged.manifest
        place = BundleFolder(self.dest)
        with place.alone():
            if self._is_whole(judged, place):
                return False
            self._refuse_small_disk(manifest, place)
            if self.dest != self.source:
                self._begin(judged, place)
            place.drop(bundle_manifest.UNFINISHED)
            self._fill(manifest, place)
            for name in place.strangers(set(manifest["files"])):
                if name.endswith(".part"):
                    place.drop(name)
            found = verify(self.dest, self.say, self.policy, importing=True)
            if not found.problems and found.manifest["id"] != manifest["id"]:
                found.problems.append(f"{bundle_manifest.MANIFEST}: became another one while it was imported")
            if found.problems:
                self._take_damaged_away(found)
                raise ContentError(found.message())
            place.drop(bundle_manifest.DELTA)
        return True

    def _is_whole(self, judged: Verified, place: BundleFolder) -> bool:
        """Nothing is left to do; a damaged file is found by verification, not by an import."""
        if (self.dest / bundle_manifest.DELTA).exists():
            return False
        # What lies there must say the same as what was verified, not only hold files of the same size.
        there = read_manifest(self.dest, self.policy)
        return there.data == judged.data and all(
            place.holds(path, entry["size"]) for path, entry in judged.manifest["files"].items()
        )

    def _refuse_small_disk(self, manifest: dict[str, Any], place: BundleFolder) -> None:
        lacking = [path for path, entry in manifest["files"].items() if not place.holds(path, entry["size"])]
        free_of_charge: dict[Path, bool] = {}
        needed = 0
        for path in lacking:
            source = self.origin[path]
            root = self.base if self.base and source.is_relative_to(self.base) else self.source
            if root not in free_of_charge:
                free_of_charge[root] = bundle_content.shares_blocks(source, self.dest)
            needed += 0 if free_of_charge[root] else manifest["files"][path]["size"]
        if problems := bundle_content.room_problems([(self.dest, needed, "files to copy")]):
            raise ContentError(told(problems))

    def _begin(self, judged: Verified, place: BundleFolder) -> None:
        """The marker first, so that the rest counts for nothing until it is gone."""
        identity = judged.manifest["id"]
        delta = {"base": read_delta(self.source).get("base", ""), "carries": [], "id": identity}
        place.write(bundle_manifest.DELTA, json.dumps(delta, indent=1, sort_keys=True) + "\n")
        place.write(bundle_manifest.SUMS, bundle_manifest.sums_with_manifest(judged.manifest, judged.data))
        if judged.signature is None:
            place.drop(bundle_manifest.SIGNATURE)
        else:
            place.write(bundle_manifest.SIGNATURE, judged.signature)
        place.write(bundle_manifest.MANIFEST, judged.data)

    def _fill(self, manifest: dict[str, Any], place: BundleFolder) -> None:
        problems: list[str] = []

        def one(path: str, progress: Progress) -> None:
            entry = manifest["files"][path]
            try:
                bundle_content.place(self.origin[path], self.dest / path, entry["sha256"], True, progress.add)
            except ContentError as error:
                problems.append(str(error))

        lacking = [
            (entry["size"], path)
            for path, entry in manifest["files"].items()
            if not place.holds(path, entry["size"])
        ]
        bundle_content.in_parallel(lacking, one, self.say, "files in place")
        if problems:
            raise ContentError(told(problems))

    def _take_damaged_away(self, found: Verified) -> None:
        """What an earlier, cut-off run left; what the user brought is left for him to look at."""
        carried = set(read_delta(self.dest).get("carries", []))
        for path in found.damaged:
            if path not in carried:
                (self.dest / path).unlink()
