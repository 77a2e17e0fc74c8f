# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels of a hash-pinned lock: which files they are, and fetching them.

Runs on the controller only. The package index comes from the configuration of pip on this machine;
nothing here knows a host name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

SIMPLE_API = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
SHOWN_PROBLEMS = 10
PARALLEL = 8
ATTEMPTS = 4
BACK_OFF_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
CHUNK = 1 << 20


class FetchError(Exception):
    """Says which file could not be had, and what would help."""


@dataclass(frozen=True)
class Pin:
    name: str
    version: str
    sha256: frozenset[str]


@dataclass(frozen=True)
class Wheel:
    name: str
    filename: str
    sha256: str
    url: str = ""


def parse_lock(text: str) -> list[Pin]:
    """The pins of a requirements file with hashes."""
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line.strip())
        if match:
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
            pins.append(Pin(match[1], match[2], hashes))
    return pins


def wheel_tags(python: str, arch: str, glibc: str) -> dict[str, int]:
    """Every tag that the target installs, with its rank: lower is preferred."""
    from packaging import tags

    major, minor = (int(part) for part in python.split("."))
    newest = int(glibc.split(".")[1])
    platforms = [f"manylinux_2_{number}_{arch}" for number in range(newest, 4, -1)]
    platforms += [f"manylinux{year}_{arch}" for year in ("2014", "2010", "1")] + [f"linux_{arch}"]
    interpreter = f"cp{major}{minor}"
    ordered = [
        *tags.cpython_tags((major, minor), [interpreter], platforms),
        *tags.compatible_tags((major, minor), interpreter, platforms),
    ]
    return {str(tag): rank for rank, tag in reversed(list(enumerate(ordered)))}


def best_wheel(files: Iterable[Wheel], ranks: dict[str, int]) -> Wheel | None:
    """The file that an installer on the target would take."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    best: tuple[int, Wheel] | None = None
    for wheel in files:
        try:
            tags = parse_wheel_filename(wheel.filename)[3]
        except InvalidWheelFilename:
            continue
        fitting = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
        if fitting and (best is None or min(fitting) < best[0]):
            best = (min(fitting), wheel)
    return best[1] if best else None


def configured_index() -> tuple[str, str | bool]:
    """The index address and certificate bundle that pip is configured with on this machine."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    index = os.environ.get("UV_DEFAULT_INDEX") or settings.get("index-url")
    if not index:
        from pip._internal.models.index import PyPI

        index = PyPI.simple_url
    return index.rstrip("/") + "/", settings.get("cert", True)


class _Links(HTMLParser):
    """The links of an index page in HTML, which is all that many mirrors speak."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]


def wheels_of_page(name: str, page: str, text: str, is_json: bool) -> list[Wheel]:
    """The wheels that a project's page of the simple API offers."""
    if is_json:
        links = [(entry["url"], entry["hashes"].get("sha256", "")) for entry in json.loads(text)["files"]]
    else:
        parser = _Links()
        parser.feed(text)
        parts = [link.partition("#sha256=") for link in parser.found]
        links = [(link, digest[:64]) for link, _unused, digest in parts]
    named = [
        (unquote(urlsplit(link).path.rsplit("/", 1)[-1]), urljoin(page, link), digest)
        for link, digest in links
    ]
    return [
        Wheel(name, filename, digest, url) for filename, url, digest in named if filename.endswith(".whl")
    ]


class Index:
    """A package index that speaks the simple API."""

    def __init__(self) -> None:
        import requests

        self.address, verify = configured_index()
        self.session = requests.Session()
        self.session.verify = verify
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=PARALLEL, max_retries=ATTEMPTS)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)

    def files(self, name: str) -> list[Wheel]:
        normal = re.sub(r"[-_.]+", "-", name).lower()
        page = urljoin(self.address, f"{normal}/")
        answer = self.session.get(page, headers={"Accept": SIMPLE_API}, timeout=60)
        if not answer.ok:
            raise FetchError(f"the package index answered {answer.status_code}")
        return wheels_of_page(name, page, answer.text, "json" in answer.headers.get("Content-Type", ""))

    def read(self, url: str, offset: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self.session.get(url, headers=headers, stream=True, timeout=60) as answer:
            if not answer.ok:
                raise FetchError(f"the package index answered {answer.status_code}")
            if offset and answer.status_code != 206:
                raise EOFError  # the server starts again from the beginning; so must we
            yield from answer.iter_content(CHUNK)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class WheelCache:
    """Wheels by content hash, shared by all clones on this machine; a file there was verified once."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.fetched = 0
        self._lock = threading.Lock()

    def find(self, sha256: str) -> Path | None:
        return next((self.folder / sha256).glob("*.whl"), None)

    def complete(self, pins: list[Pin], ranks: dict[str, int]) -> list[Path]:
        """The wheel of every pin, fetched where it is not here yet."""
        chosen = {pin.name: self._cached(pin, ranks) for pin in pins}
        missing = [pin for pin in pins if chosen[pin.name] is None]
        if missing:
            self._fetch_all(missing, ranks)
            chosen |= {pin.name: self._cached(pin, ranks) for pin in missing}
        return [path for path in chosen.values() if path is not None]

    def _cached(self, pin: Pin, ranks: dict[str, int]) -> Path | None:
        here = {path.name: path for digest in pin.sha256 if (path := self.find(digest))}
        best = best_wheel((Wheel(pin.name, name, "") for name in here), ranks)
        return here[best.filename] if best else None

    def _fetch_all(self, pins: list[Pin], ranks: dict[str, int]) -> None:
        index = Index()
        started = time.monotonic()
        self.say(f"fetching {len(pins)} wheels")
        problems: list[str] = []
        finished = 0

        def one(pin: Pin) -> None:
            nonlocal finished
            try:
                self._fetch(index, pin, ranks)
            except Exception as error:  # every failure is collected: all are told at once
                problems.append(f"{pin.name}=={pin.version}: {error}")
            with self._lock:
                finished += 1

        with ThreadPoolExecutor(PARALLEL) as pool:
            jobs = [pool.submit(one, pin) for pin in pins]
            while wait(jobs, PROGRESS_SECONDS).not_done:
                self._progress(finished, len(pins), started)
        self._progress(finished, len(pins), started)
        if problems:
            rest = (
                [f"... and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
            )
            raise FetchError("\n".join(sorted(problems)[:SHOWN_PROBLEMS] + rest))

    def _progress(self, finished: int, total: int, started: float) -> None:
        seconds = max(time.monotonic() - started, 0.001)
        self.say(
            f"  {finished} of {total} wheels, {self.fetched / 1e9:.2f} GB, "
            f"{self.fetched / 1e6 / seconds:.0f} MB/s, {seconds:.0f} s"
        )

    def _fetch(self, index: Index, pin: Pin, ranks: dict[str, int]) -> None:
        offered = [wheel for wheel in index.files(pin.name) if wheel.sha256 in pin.sha256]
        wheel = best_wheel(offered, ranks)
        if wheel is None:
            raise FetchError("the index has no wheel with a hash of the lock for this Python and machine")
        folder = self.folder / wheel.sha256
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "part"
        for attempt in range(ATTEMPTS):
            try:
                self._append(index, wheel, part)
                break
            except (OSError, EOFError) as error:
                if isinstance(error, EOFError) or attempt == ATTEMPTS - 1:
                    part.unlink(missing_ok=True)
                if attempt == ATTEMPTS - 1:
                    raise FetchError(f"{wheel.filename}: {error}") from error
                time.sleep(BACK_OFF_SECONDS * 2**attempt)
        if sha256_of(part) != wheel.sha256:
            part.unlink()
            raise FetchError(f"{wheel.filename}: what came is not what the lock names (sha256 differs)")
        part.rename(folder / wheel.filename)

    def _append(self, index: Index, wheel: Wheel, part: Path) -> None:
        with part.open("ab") as stream:
            for chunk in index.read(wheel.url, stream.tell()):
                stream.write(chunk)
                with self._lock:
                    self.fetched += len(chunk)
