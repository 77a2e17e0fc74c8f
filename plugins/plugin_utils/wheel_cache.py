# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels by content hash, shared by all clones on this machine, and fetching what is not there yet."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from errno import ENOSPC
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.plugin_utils import package_index
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes, Web
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import (
    FetchError,
    Pin,
    Target,
    Wheel,
    best_wheel,
    sha256_of,
    wheel_tags,
)

PARALLEL = 8
PART = "part"
PROGRESS_SECONDS = 5.0
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Wanted:
    """One pin for one target."""

    pin: Pin
    target: Target
    index: str = package_index.DEFAULT


def told(problems: Iterable[str]) -> str:
    """All at once; a list that no screen can hold is cut with its count."""
    found = sorted(set(problems))
    rest = len(found) - SHOWN_PROBLEMS
    return "\n".join(found[:SHOWN_PROBLEMS] + ([f"... and {rest} more"] if rest > 0 else []))


class WheelCache:
    """A file there was compared with its hash when it came, and is as it was then while its seal holds."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.seals = folder.with_name(f"{folder.name}-seals")
        self.say = say
        self._ranks: dict[Target, dict[str, int]] = {}

    def find(self, sha256: str) -> Path | None:
        return next((path for path in (self.folder / sha256).glob("*") if path.name != PART), None)

    def keep(self, path: Path, sha256: str) -> None:
        """A wheel that no index has; the caller has compared it with its hash."""
        if self.find(sha256):
            return
        folder = self.folder / sha256
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / PART
        shutil.copyfile(path, part)
        part.chmod(0o644)
        part.rename(folder / path.name)

    def sealed(self, path: Path) -> bool:
        """Whether nobody has written to it since all of it was read and compared."""
        try:
            return path.parent.parent == self.folder and (
                self.seals / path.parent.name
            ).read_text() == identity_of(path)
        except OSError:
            return False

    def seal(self, path: Path, identity: str) -> None:
        """With what it was before it was read: who writes to it meanwhile breaks the seal."""
        if path.parent.parent != self.folder:
            return
        self.seals.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.seals, delete=False) as stream:
            stream.write(identity)
        Path(stream.name).rename(self.seals / path.parent.name)

    def kept(self, wheel: Wheel) -> int:
        """How much of a wheel an earlier run has brought."""
        part = self.folder / wheel.sha256 / PART
        return part.stat().st_size if part.exists() else 0

    def wheel(self, pin: Pin, target: Target) -> Path | None:
        """The file that an installer on the target would take, if it is here."""
        here = {path.name: path for digest in pin.sha256 if (path := self.find(digest))}
        best = best_wheel((Wheel(pin.name, name, "") for name in here), self._tags(target))
        return here[best.filename] if best else None

    def missing(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        return [entry for entry in wanted if self.wheel(entry.pin, entry.target) is None]

    def offers(self, missing: list[Wanted], indexes: Indexes) -> list[Wheel]:
        """Where each missing wheel is and how large it is; every one that cannot be had is told at once."""
        found: dict[str, Wheel] = {}
        problems: list[str] = []

        def one(entry: Wanted) -> None:
            try:
                wheel = self._offer(entry, indexes)
                if wheel.sha256 not in found:
                    size = wheel.size or indexes.web.size(wheel.url)
                    found[wheel.sha256] = replace(wheel, size=size)
            except Exception as error:  # whatever kept one from being found must not hide the others
                problems.append(f"{entry.pin} for {entry.target}: {error}")

        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(one, missing))
        if problems:
            raise FetchError(told(problems))
        return [found[key] for key in sorted(found)]

    def _offer(self, entry: Wanted, indexes: Indexes) -> Wheel:
        offered = indexes.offered(entry.pin, entry.index)
        wheel = best_wheel(offered, self._tags(entry.target))
        if wheel:
            return wheel
        if not offered:
            raise FetchError("the index has no file with a hash of the lock")
        if all(not file.filename.endswith(".whl") for file in offered):
            raise FetchError(
                f"the index has only sources ({offered[0].filename}) and a host cannot build: make a wheel of it, "
                "offer it in an index of your own (bundle_indexes) and resolve the lock again"
            )
        names = ", ".join(sorted(file.filename for file in offered))
        raise FetchError(f"no wheel of the lock fits it; there are {names}")

    def fetch(self, wheels: list[Wheel], web: Web) -> None:
        """Brings them, several at a time; a part that came earlier is gone on with."""
        if not wheels:
            return
        progress = Progress(self.say, len(wheels), sum(wheel.size for wheel in wheels), "downloads")
        problems: list[str] = []

        def one(wheel: Wheel) -> None:
            try:
                self._fetch(wheel, web, progress)
            except Exception as error:  # every failure is collected: all are told at once
                problems.append(f"{wheel.filename}: {error}")
            progress.finished += 1

        with ThreadPoolExecutor(PARALLEL) as pool:
            jobs: list[Future[None]] = [pool.submit(one, wheel) for wheel in wheels]
            while wait(jobs, PROGRESS_SECONDS, FIRST_EXCEPTION).not_done:
                progress.tell()
        progress.tell()
        if problems:
            raise FetchError(told(problems))

    def complete(
        self, pins: Iterable[Pin], target: Target, indexes: Indexes, index: str = package_index.DEFAULT
    ) -> list[Path]:
        """The wheel of every pin, fetched where it was not here."""
        wanted = [Wanted(pin, target, index) for pin in pins]
        if missing := self.missing(wanted):
            self.fetch(self.offers(missing, indexes), indexes.web)
        return [path for entry in wanted if (path := self.wheel(entry.pin, target))]

    def _fetch(self, wheel: Wheel, web: Web, progress: Progress) -> None:
        folder = self.folder / wheel.sha256
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / PART
        with part.open("ab") as stream:
            # Another build on this machine may be after the same file.
            fcntl.flock(stream, fcntl.LOCK_EX)
            if self.find(wheel.sha256):
                part.unlink(missing_ok=True)
                progress.add(wheel.size)
                return
            self._complete(wheel, web, part, progress)
            if sha256_of(part) != wheel.sha256:
                part.unlink()
                raise FetchError(
                    "what came is not what the lock names (sha256 differs); nothing of it was kept"
                )
            part.chmod(0o644)
            part.rename(folder / wheel.filename)
            self.seal(folder / wheel.filename, identity_of(folder / wheel.filename))

    def _complete(self, wheel: Wheel, web: Web, part: Path, progress: Progress) -> None:
        progress.add(part.stat().st_size)
        if 0 < wheel.size <= part.stat().st_size:
            return
        for attempt in range(package_index.ATTEMPTS):
            try:
                with part.open("ab") as stream:
                    for chunk in web.read(wheel.url, stream.tell()):
                        stream.write(chunk)
                        stream.flush()
                        progress.add(len(chunk))
                if part.stat().st_size >= wheel.size:
                    return
                raise OSError("the connection ended early")
            except EOFError:  # the server starts again from the beginning; so must we
                progress.add(-part.stat().st_size)
                os.truncate(part, 0)
            except OSError as error:
                if attempt == package_index.ATTEMPTS - 1 or error.errno == ENOSPC:
                    why = error.strerror or f"the connection broke off ({type(error).__name__})"
                    raise FetchError(
                        f"{why}; {part.stat().st_size} bytes are kept, run again to go on"
                    ) from error
                time.sleep(package_index.BACK_OFF_SECONDS * 2**attempt)
        raise FetchError("the server begins again each time it is asked to go on")

    def _tags(self, target: Target) -> dict[str, int]:
        if target not in self._ranks:
            self._ranks[target] = wheel_tags(target.python, target.arch, target.glibc)
        return self._ranks[target]


def identity_of(path: Path) -> str:
    """Not the time of its inode: that changes with every link that a bundle makes."""
    found = path.stat()
    return f"{path.name} {found.st_size} {found.st_mtime_ns} {found.st_ino}"


class Progress:
    """Says how far it is: files, bytes, rate, time left."""

    def __init__(self, say: Callable[[str], None], files: int, size: int, what: str = "wheels") -> None:
        self.say, self.files, self.size, self.what = say, files, size, what
        self.finished = 0
        self.done = 0
        self.started = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.done += count

    def tell(self) -> None:
        seconds = max(time.monotonic() - self.started, 0.001)
        rate = max(self.done / seconds, 1.0)
        left = max(self.size - self.done, 0) / rate
        self.say(
            f"  {self.finished} of {self.files} {self.what}, {self.done / 1e9:.2f} of {self.size / 1e9:.2f} GB, "
            f"{rate / 1e6:.0f} MB/s, {left:.0f} s left"
        )
