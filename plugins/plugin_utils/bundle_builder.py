# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills a bundle folder on the controller: wheels, locks, uv, Python kits and whatever else is added, with a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import cyclonedx
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import BundleError
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import did_you_mean
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_folder import BundleFolder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_pieces import BundlePieces, Piece, Tree
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import SymbolTables, prove_wheels
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import DEFAULT, Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import Wanted, WheelCache, told
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_metadata import Packages
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import (
    FetchError,
    Target,
    Wheel,
    pins_for,
)

# uv runs on the hosts before any of their own settings apply; its wheel is built for an old glibc.
INSTALLER_PYTHON = "3.12"
OLDEST_GLIBC = "2.28"


@dataclass(frozen=True)
class LockRequest:
    """One lock whose wheels are carried for one target."""

    kind: str
    lock: Path
    target: Target
    index: str = DEFAULT
    cuda: str = ""
    release: str = ""


class BundleBuilder:
    """Parts are added one by one; then `prepare` refuses, `fill` fetches and places, `finish` writes the manifest.

    The manifest comes last, so a cut-off run leaves no valid bundle and the next one goes on.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        say: Callable[[str], None],
        indexes: list[dict[str, str]] | None = None,
        base: Mapping[str, Any] | None = None,
    ) -> None:
        self.place = BundleFolder(folder)
        self.folder = folder
        self.say = say
        self.cache_folder = cache
        self.cache = WheelCache(cache / "wheels", say)
        self.kits = WheelCache(cache / "python", say)
        self.tables = SymbolTables(cache / "abi")
        self.packages = Packages(cache / "packages")
        self.named_indexes = indexes or []
        self.base_id = str(base["id"]) if base else ""
        self.base_hashes = {entry["sha256"] for entry in base["files"].values()} if base else set()
        self.base_sizes = {path: entry["size"] for path, entry in base["files"].items()} if base else {}
        self.requests: list[LockRequest] = []
        self.trees: list[Tree] = []
        self.pieces = BundlePieces(self.place, self.cache, say)
        self.offers: list[Wheel] = []
        self.downloads: list[Wheel] = []
        self.indexes: Indexes | None = None
        self.environments: dict[str, dict[str, Any]] = {}
        self.controllers: dict[str, dict[str, Any]] = {}
        self.weights: dict[str, dict[str, Any]] = {}
        self.installers: dict[str, str] = {}
        self.pythons: dict[str, str] = {}

    def add_environment(
        self,
        lock: Path,
        python: str,
        arch: str,
        glibc: str,
        cuda: str = "",
        index: str = DEFAULT,
        release: str = "",
    ) -> None:
        self.requests.append(
            LockRequest("environment", lock, Target(python, arch, glibc), index, cuda, release)
        )

    def add_installer(self, lock: Path, arch: str, glibc: str) -> None:
        self.requests.append(LockRequest("installer", lock, Target(INSTALLER_PYTHON, arch, glibc)))

    def add_controller(self, lock: Path, python: str, arch: str, glibc: str) -> None:
        self.requests.append(LockRequest("controller", lock, Target(python, arch, glibc)))

    def add_library(self, lock: Path, python: str, arch: str) -> None:
        """What a host's own Python runs beside the environments."""
        self.requests.append(LockRequest("library", lock, Target(python, arch, OLDEST_GLIBC)))

    def add_python(self, archive: Path, minor: str, arch: str, sha256: str = "") -> None:
        name = f"python/{archive.name}"
        self.add_tree(archive, name, "python", {archive.name: sha256} if sha256 else {})
        self.pythons[f"{minor}-{arch}"] = name

    def add_python_download(self, url: str, minor: str, arch: str, sha256: str) -> None:
        filename = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        self.downloads.append(Wheel(f"Python {minor}", filename, sha256, url))
        self.pythons[f"{minor}-{arch}"] = f"python/{filename}"

    def add_weights(self, source: Path, model: str, revision: str) -> None:
        if not source.is_dir():
            raise FetchError(
                f"{source}: is not there, and was to hold the weights of {model}: bring them there, or "
                "name another folder in bundle_weights"
            )
        folder = f"weights/{model}/{revision}"
        names = [name for _path, name in Tree(source, folder, "weights", {}).files()]
        if not any(name.endswith((".safetensors", ".bin")) for name in names):
            raise FetchError(f"{source}: holds no weights of {model} (no .safetensors file)")
        self.add_tree(source, folder, "weights")
        self.weights[f"{model}/{revision}"] = {"files": names, "folder": folder}

    def add_tree(self, source: Path, name: str, kind: str, hashes: Mapping[str, str] | None = None) -> None:
        """A file or a folder of files, as `name` in the bundle.

        With `hashes` (by path below the source) its content must be that, and is not read twice.
        """
        if name.split("/", maxsplit=1)[0] not in bundle_manifest.PARTS:
            raise FetchError(
                f"{source}: cannot be put at {name}: a bundle has {', '.join(bundle_manifest.PARTS)}"
            )
        if not source.exists():
            raise FetchError(f"{source}: is not there, and was to become {name} of the bundle")
        self.trees.append(Tree(source, name, kind, hashes or {}))

    def prepare(self, problems: Iterable[str] = (), looking: bool = False) -> None:
        """Everything that can be refused, all at once, before the first byte of content moves.

        `problems`: what was found already by those who added the parts. `looking`: nothing at all is written.
        """
        problems = [
            *problems,
            *(
                f"{request.lock}: the lock is not there: make it with tools/update_release.py, or name the folder "
                "that has it in bundle_locks_dir"
                for request in self.requests
                if not request.lock.is_file()
            ),
        ]
        if problems:
            raise FetchError(told(problems))
        wanted = {
            Wanted(pin, request.target, request.index): request
            for request in self.requests
            for pin in pins_for(request.lock.read_text(encoding="utf-8"), request.target)
        }
        missing = self.cache.missing(wanted)
        if missing:
            self.indexes = Indexes(self.named_indexes)
            self._refuse_unknown_indexes(missing, wanted)
            self.say(f"asking for {len(missing)} wheels")
            self.offers = self.cache.offers(missing, self.indexes)
        self._size_downloads()
        self._refuse_small_disk(wanted, looking)

    def _size_downloads(self) -> None:
        for at, file in enumerate(self.downloads):
            if not self.kits.find(file.sha256):
                self.indexes = self.indexes or Indexes(self.named_indexes)
                try:
                    self.downloads[at] = replace(file, size=self.indexes.web.size(file.url))
                except OSError as error:
                    raise FetchError(
                        f"{file.filename}: its url in bundle_pythons cannot be reached ({type(error).__name__})"
                    ) from error

    def _refuse_unknown_indexes(self, missing: list[Wanted], wanted: Mapping[Wanted, LockRequest]) -> None:
        known = self.indexes.addresses if self.indexes else {}
        problems = [
            f"bundle_indexes: names no index {entry.index}, where the wheels of {wanted[entry].lock.name} come from "
            f"({did_you_mean(entry.index, known)}): add {{name: {entry.index}, url: ITS ADDRESS}}"
            for entry in missing
            if entry.index not in known
        ]
        if problems:
            raise FetchError(told(problems))

    def _shares_disk(self, looking: bool) -> bool:
        if looking:
            return bundle_content.on_one_disk(self.cache.folder, self.folder)
        self.cache.folder.mkdir(parents=True, exist_ok=True)
        probe = self.cache.folder / ".probe"
        probe.touch()
        try:
            return bundle_content.shares_blocks(probe, self.folder)
        finally:
            probe.unlink()

    def _refuse_small_disk(self, wanted: Mapping[Wanted, LockRequest], looking: bool) -> None:
        shared = self._shares_disk(looking)
        fetched = sum(wheel.size - self.cache.kept(wheel) for wheel in self.offers)
        kits = sum(file.size for file in self.downloads)
        wheels = 0
        if not shared:
            here = {self.cache.wheel(entry.pin, entry.target) for entry in wanted} - {None}
            sizes = {path.name: (path.parent.name, path.stat().st_size) for path in here if path}
            sizes |= {wheel.filename: (wheel.sha256, wheel.size) for wheel in self.offers}
            wheels = sum(
                size
                for name, (sha256, size) in sizes.items()
                if self.carries(sha256) and not self.place.holds(f"wheels/{name}", size)
            )
        others = sum(
            size
            for tree in self.trees
            for path, name in tree.files()
            if not self._likely_there(name, size := path.stat().st_size)
        )
        problems = bundle_content.room_problems(
            [
                (self.cache.folder, fetched + kits, f"downloads {(fetched + kits) / 1e9:.2f} GB"),
                (self.folder, wheels, f"wheels {wheels / 1e9:.2f} GB"),
                (self.folder, others + kits, f"other files {(others + kits) / 1e9:.2f} GB"),
            ]
        )
        if problems:
            raise ContentError(f"{told(problems)}. Nothing was fetched.")

    def _likely_there(self, name: str, size: int) -> bool:
        """Its hash is not known yet: a file of that name and size in the folder or the base is taken to be the same."""
        return self.place.holds(name, size) or self.base_sizes.get(name) == size

    def fill(self) -> None:
        """Fetches what is missing and puts everything in its place."""
        if self.indexes:
            self.cache.fetch(self.offers, self.indexes.web)
            self.kits.fetch(
                [file for file in self.downloads if not self.kits.find(file.sha256)], self.indexes.web
            )
        for file in self.downloads:
            if path := self.kits.find(file.sha256):
                self.add_tree(path, f"python/{file.filename}", "python", {path.name: file.sha256})
        for request in self.requests:
            self._take(request)
        self.pieces.register_trees(self.trees)
        taken = self._carried()
        with ThreadPoolExecutor(1) as beside:
            # Copying waits for disks, papers for the processor.
            placed = beside.submit(self.pieces.put, taken)
            try:
                self._prove()
                self._write_papers()
            finally:
                # Has the first word: a damaged wheel is taken out of the cache while others may still read it.
                placed.result()
        self.pieces.put([piece for piece in self._carried() if piece not in taken])

    def _take(self, request: LockRequest) -> None:
        pins = pins_for(request.lock.read_text(encoding="utf-8"), request.target)
        wheels = [path for pin in pins if (path := self.cache.wheel(pin, request.target))]
        names = sorted(
            self.pieces.register(f"wheels/{wheel.name}", wheel, "wheel", wheel.parent.name)
            for wheel in wheels
        )
        target = request.target
        if request.kind == "installer":
            (self.installers[target.arch],) = names
            return
        if request.kind == "library":
            return
        folder = "controller" if request.kind == "controller" else "locks"
        where = self.pieces.register(f"{folder}/{request.lock.name}", request.lock, "lock")
        entry = {
            "arch": target.arch,
            "glibc": target.glibc,
            "lock": where,
            "python": target.python,
            "wheels": names,
        }
        if request.kind == "controller":
            self.controllers[f"{target.python}-{target.arch}"] = entry
            return
        self.environments[request.lock.name] = {
            **entry,
            "abi": [],
            "cuda": request.cuda,
            "release": request.release,
        }

    def _prove(self) -> None:
        for entry in self.environments.values():
            wheels = [self.pieces[name] for name in entry["wheels"]]
            hashes = {piece.source: piece.sha256 for piece in wheels}
            entry["abi"] = prove_wheels(hashes, self.tables, entry["python"], entry["glibc"], entry["cuda"])
            for proof in entry["abi"]:
                if proof["proven"]:
                    self.say(proof["what"])

    def host_libraries(self) -> list[str]:
        """Libraries that the kernels need and that a package of the host's distribution brings."""
        proofs = [proof for entry in self.environments.values() for proof in entry["abi"]]
        return sorted({library for proof in proofs for library in proof["host_packages"]})

    def _write_papers(self) -> None:
        """Bill of materials and licences; made in the cache, so that placing them is placing a file like any other."""
        packages = {
            name: self.packages.of(piece.source, piece.sha256)
            for name, piece in self.pieces.items()
            if piece.kind == "wheel"
        }
        papers = self.cache_folder / "papers"
        for name, text in (
            (bundle_manifest.SBOM, cyclonedx.document(self.pieces.manifest_files(), packages)),
            (bundle_manifest.LICENCES, cyclonedx.licences(packages)),
        ):
            data = text.encode()
            sha256 = bundle_content.hashed(data)
            self.pieces.register(name, bundle_content.kept(papers / sha256, data), "sbom", sha256)

    def _carried(self) -> list[Piece]:
        return [piece for piece in self.pieces.values() if self.carries(piece.sha256)]

    def carries(self, sha256: str) -> bool:
        """A delta leaves out what its base holds, under whatever name."""
        return sha256 not in self.base_hashes

    def unproven(self) -> list[str]:
        """What keeps kernels from being loaded beside torch, for every environment, with what would help."""
        return [
            f"REFUSED  {lock}\n  {proof['what']}\n  {proof['fix']}"
            for lock, environment in self.environments.items()
            for proof in environment["abi"]
            if not proof["proven"]
        ]

    def finish(self, sign_key: Path | None = None) -> bool:
        """Writes manifest, checksums and signature; says whether the bundle is another than before."""
        files = self.pieces.manifest_files()
        manifest = bundle_manifest.build(
            files, self.environments, self.weights, self.installers, self.pythons, self.controllers
        )
        if problems := bundle_manifest.problems_of(manifest):
            raise BundleError("\n".join(problems))
        carried = {name for name, entry in files.items() if self.carries(entry["sha256"])}
        return self.place.publish(manifest, carried, self.base_id, sign_key)
