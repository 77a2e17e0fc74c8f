# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches one model into a folder on the controller: from the first source that can, whole and verified.

`<folder>.partial` keeps what came, so that any later run goes on there; `<folder>` appears when all is proven.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Model
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import check as weights_check
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest as weights_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import (
    Digests,
    Meter,
    digests_of,
    quick_damage,
    regular_size,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Wanted, selected
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.safetensors_header import (
    HeaderError,
    read_header,
    read_raw,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    ANYBODY,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import (
    FromTheStart,
    Interrupted,
    Patience,
    RemoteFile,
    Repository,
    Settings,
    SourceError,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.opening import open_source

JOURNAL = ".fetched.jsonl"
PART = ".part"
PROGRESS_BYTES = 1 << 20
SHOWN = 8


class FetchFailed(Exception):  # noqa: N818
    """Why a model could not be had, with every source's own reason."""


def folder_of(root: Path, model: str, revision: str) -> Path:
    return root / model.strip("/").replace("/", "_") / revision


class Fetch:
    """One model: `resolve` asks what there is, `run` brings it, `finish` proves it and makes it visible."""

    def __init__(
        self,
        wanted: Wanted,
        root: Path,
        settings: Settings,
        say: Callable[[str], None],
        piece_bytes: int = weights_manifest.PIECE_BYTES,
        policy: SignaturePolicy = ANYBODY,
    ) -> None:
        self.policy = policy
        self.wanted, self.settings, self.say, self.piece = wanted, settings, say, piece_bytes
        self.dest = folder_of(root, wanted.model, wanted.revision)
        self.staging = self.dest.with_name(self.dest.name + ".partial")
        self.left = list(wanted.sources)
        self.reasons: list[str] = []
        self.repository: Repository | None = None
        self.files: list[RemoteFile] = []
        self.done: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()
        self.stop = threading.Event()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Two runs that want the same model take turns; the second finds it done."""
        self.dest.parent.mkdir(parents=True, exist_ok=True)
        with (self.dest.parent / f".{self.dest.name}.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"{self.wanted.name}: another run fetches it; waiting for that one")
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def complete(self) -> dict[str, Any] | None:
        """The manifest of an earlier fetch that is still whole; one that is not becomes a start to go on from."""
        path = self.dest / weights_manifest.MANIFEST
        try:
            manifest = weights_manifest.from_text(path.read_text(encoding="utf-8"), str(path))
            damage, _touched = quick_damage(str(self.dest), manifest, {})
        except (OSError, weights_manifest.ManifestError):
            damage, manifest = ["no manifest"], {}  # type: ignore[list-item]
        if not damage:
            return manifest
        if self.dest.is_dir():
            self.say(
                f"{self.wanted.name}: {self.dest} is not whole ({damage[0]}); what is good in it is kept"
            )
            shutil.rmtree(self.staging, ignore_errors=True)
            self.dest.rename(self.staging)
        return None

    def resolve(self) -> None:
        """Opens the first source that can list the model; its files are those that an engine needs."""
        while self.left:
            source = self.left.pop(0)
            try:
                patience = Patience(self.settings, self.say)
                repository = open_source(source, self.wanted.model, self.settings, patience, self.policy)
                self.files = self._needed(repository.files)
            except SourceError as error:
                self._give_up(source.name, str(error))
                continue
            except ImportError as error:
                self._give_up(source.name, f"needs the Python package {(error.name or '').partition('.')[0]}")
                continue
            self.repository = repository
            commit = repository.origin.get("commit", "")
            self.say(f"{self.wanted.name}: {source.name}" + (f" at commit {commit}" if commit else ""))
            self._load_journal()
            return
        raise FetchFailed(f"{self.wanted.name}: no source could give it\n  " + "\n  ".join(self.reasons))

    def _opened(self) -> Repository:
        if self.repository is None:
            raise FetchFailed(f"{self.wanted.name}: no source was opened")
        return self.repository

    def _give_up(self, name: str, reason: str) -> None:
        self.reasons.append(f"{name}: {reason}")
        more = f"; next: {self.left[0].name}" if self.left else ""
        self.say(f"{self.wanted.name}: {name}: {reason}{more}")

    def _needed(self, files: list[RemoteFile]) -> list[RemoteFile]:
        bad = weights_manifest.unsafe_names(item.name for item in files)
        if bad:
            raise SourceError(f"offers files that must not be written: {', '.join(bad[:3])}")
        names = set(selected((item.name for item in files), self.wanted.take, self.wanted.leave))
        if not any(name.endswith(".safetensors") for name in names):
            others = sorted({Path(item.name).suffix for item in files} & {".bin", ".pt", ".pth", ".gguf"})
            only = f", only {', '.join(others)}, which can run code or cannot be served" if others else ""
            raise SourceError(f"has no *.safetensors{only}")
        return sorted((item for item in files if item.name in names), key=lambda item: -item.size)

    @property
    def total(self) -> int:
        return sum(item.size for item in self.files)

    def here(self) -> int:
        """Bytes of this fetch that are on the disk already."""
        return sum(
            item.size if item.name in self.done else (regular_size(str(self._part(item))) or 0)
            for item in self.files
        )

    def run(self, meter: Meter, model: Model | None) -> dict[str, Any]:
        """Brings all files, a source that fails being replaced by the next one; verified files stay."""
        while True:
            try:
                self._bring(meter)
                return self.finish(model)
            except SourceError as error:
                name = self.repository.origin.get("id", "") if self.repository else ""
                self._give_up(name, str(error))
                self.resolve()

    def _bring(self, meter: Meter) -> None:
        self.stop.clear()
        self.staging.mkdir(parents=True, exist_ok=True)
        problems: list[Exception] = []

        def one(item: RemoteFile) -> None:
            if self.stop.is_set():
                return
            try:
                self._file(item, meter)
            except Exception as error:  # told by the caller, in the order of weight
                problems.append(error)
                self.stop.set()

        with ThreadPoolExecutor(self.settings.parallel) as pool:
            list(pool.map(one, [item for item in self.files if item.name not in self.done]))
        hard = [error for error in problems if not isinstance(error, (SourceError, _Stopped))]
        for error in [*hard, *(error for error in problems if isinstance(error, SourceError))]:
            raise error

    def _part(self, item: RemoteFile) -> Path:
        """What was begun for other content must not be continued for this one."""
        mark = (item.sha256 or item.git or self._origin())[:12]
        return self.staging / f"{item.name}.{mark}{PART}"

    def _origin(self) -> str:
        """Which source at which commit: all there is to know a file by whose hash nobody publishes."""
        text = json.dumps(self._opened().origin, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _file(self, item: RemoteFile, meter: Meter) -> None:
        part, target = self._part(item), self.staging / item.name
        part.parent.mkdir(parents=True, exist_ok=True)
        if regular_size(str(target)) == item.size and (item.sha256 or item.git) and not part.exists():
            target.rename(part)  # a fetch that was cut off before it was noted
        patience = Patience(self.settings, self.say)
        for fresh in (False, True):
            self._transfer(item, part, meter, patience)
            digests = digests_of(str(part), self.piece)
            problem = _contradiction(item, digests)
            if not problem:
                break
            part.unlink()
            if fresh:
                raise SourceError(f"{item.name}: {problem}")
            self.say(f"  {item.name}: {problem}; fetching it anew")
            meter.already(-item.size)
        os.replace(part, target)
        self._note(item, target, digests)

    def _transfer(self, item: RemoteFile, part: Path, meter: Meter, patience: Patience) -> None:
        since = 0
        while True:
            offset = regular_size(str(part)) or 0
            if offset > item.size:
                part.unlink()
                offset = 0
            if offset == item.size and part.exists():
                return
            try:
                with part.open("ab") as stream:
                    for block in self._opened().read(item.name, offset):
                        if self.stop.is_set():
                            raise _Stopped
                        stream.write(block)
                        meter.add(len(block))
                        since += len(block)
                        if since >= PROGRESS_BYTES:
                            patience.progress()
                            since = 0
                        if stream.tell() > item.size:
                            raise SourceError(
                                f"{item.name}: the source sends more than the {item.size} bytes it named"
                            )
                    if stream.tell() == item.size:
                        return
                raise Interrupted(f"ended at {part.stat().st_size} of {item.size} bytes")
            except FromTheStart:
                meter.already(-part.stat().st_size)
                part.unlink()
                patience.pause(item.name, Interrupted("the server cannot go on in the middle of a file"))
            except Interrupted as error:
                patience.pause(item.name, error)

    def _note(self, item: RemoteFile, path: Path, digests: Digests) -> None:
        """One line a verified file: after a kill it is neither fetched nor read again."""
        entry: dict[str, Any] = {"path": item.name, "size": digests.size, "sha256": digests.sha256}
        if digests.pieces:
            entry["pieces"] = digests.pieces
        if item.name.endswith(".safetensors"):
            entry["header"] = _header_entry(path)
        line = json.dumps(
            {"mtime": path.stat().st_mtime_ns, "git": digests.git, "origin": self._origin(), "entry": entry}
        )
        with self.lock, (self.staging / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            self.done[item.name] = entry

    def _load_journal(self) -> None:
        """What earlier runs verified and this source means too."""
        self.done = {}
        wanted = {item.name: item for item in self.files}
        try:
            lines = (self.staging / JOURNAL).read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        for line in lines:
            try:
                noted = json.loads(line)
                entry = noted["entry"]
                path = self.staging / entry["path"]
                item = wanted[entry["path"]]
            except (ValueError, KeyError, TypeError):
                continue  # a line that a kill cut off, or a file that is no longer wanted
            found = Digests(entry["size"], entry["sha256"], git=noted.get("git", ""))
            unchanged = regular_size(str(path)) == item.size and path.stat().st_mtime_ns == noted["mtime"]
            known = item.sha256 or item.git or noted.get("origin") == self._origin()
            if unchanged and known and not _contradiction(item, found):
                self.done[item.name] = entry

    def finish(self, model: Model | None) -> dict[str, Any]:
        """Checks that it is a model, and the planned one; then writes the manifest and makes the folder visible."""
        sizes = {item.name: item.size for item in self.files}

        def header_of(name: str) -> Any:
            with (self.staging / name).open("rb") as stream:
                return read_header(stream, sizes[name])

        contents = weights_check.read_contents(
            sizes, header_of, lambda name: (self.staging / name).read_text(encoding="utf-8")
        )
        problems = weights_check.problems_of(contents)
        if model is not None and not problems:
            problems = weights_check.shape_problems(contents, model.shape, model.quantization, model.key)
        if problems:
            self._forget_unproven()
            more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise SourceError("is not a model that can be served: " + "; ".join(problems[:SHOWN]) + more)
        entries = [self.done[item.name] for item in self.files]
        manifest = weights_manifest.build(
            self.wanted.model,
            self.wanted.revision,
            self._opened().origin,
            entries,
            weights_check.tensor_summary(contents.headers),
            self.piece,
        )
        self._sweep(set(sizes))
        target = self.staging / weights_manifest.MANIFEST
        target.write_text(weights_manifest.to_text(manifest), encoding="utf-8")
        with target.open("rb") as stream:
            os.fsync(stream.fileno())
        os.rename(self.staging, self.dest)
        return manifest

    def _forget_unproven(self) -> None:
        """Files that no published hash proves are fetched anew: their source may have been mended by then."""
        for item in self.files:
            if not (item.sha256 or item.git):
                (self.staging / item.name).unlink(missing_ok=True)
                self.done.pop(item.name, None)

    def _sweep(self, wanted: set[str]) -> None:
        for path in sorted(self.staging.rglob("*"), reverse=True):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
            elif str(path.relative_to(self.staging)) not in wanted:
                path.unlink()


class _Stopped(Exception):  # noqa: N818
    """Another file's source failed; this one goes on with the next source."""


def _contradiction(item: RemoteFile, digests: Digests) -> str:
    """Where the content is not what the source publishes about it."""
    if digests.size != item.size:
        return f"{digests.size} bytes came, the source names {item.size}"
    if item.sha256 and digests.sha256 != item.sha256:
        return f"sha256 is {digests.sha256[:16]}..., the source publishes {item.sha256[:16]}..."
    if item.git and digests.git and digests.git != item.git:
        return f"git blob is {digests.git[:16]}..., the source publishes {item.git[:16]}..."
    return ""


def _header_entry(path: Path) -> dict[str, Any]:
    """The header's hash for the quick look; what is wrong with a header is said at the end, with all the rest."""
    import hashlib

    try:
        with path.open("rb") as stream:
            raw = read_raw(stream, path.stat().st_size)
    except HeaderError:
        return {}
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
