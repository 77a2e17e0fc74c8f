# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run of scenarios: what is measured next, what is kept, what is left when the server dies. Reads and writes files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.measure import report, results, scenarios

RECORDS, RESULTS, PAGE, TEXT = "records.jsonl", "results.json", "report.html", "report.md"
MIB = 1 << 20
Measure = Callable[[Mapping[str, Any], "dict[str, float] | None", str], "dict[str, Any]"]
SECRET_WORDS = ("key=", "token=", "password=", "secret=")


class StoppedError(Exception):
    """Why the run cannot go on; what was measured is kept."""


def fingerprint(*parts: Any) -> str:
    """Two records belong together only when server and parameters were the same."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass
class Store:
    """One line for each point, on the disk before the next one begins."""

    folder: Path
    free_mib: int = 64

    def open(self) -> None:
        """Before the first request: a disk that cannot take results is found here, not after hours."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trial = self.folder / ".trial"
            trial.write_text("x")
            trial.unlink()
            free = shutil.disk_usage(self.folder).free // MIB
        except OSError as error:
            raise StoppedError(
                f"REFUSED  report_dir = {self.folder}: {error.strerror}; give a folder that can be written to. "
                "Nothing was asked."
            ) from error
        if free < self.free_mib:
            raise StoppedError(
                f"REFUSED  report_dir = {self.folder}: {free} MiB are free and {self.free_mib} are needed; give another "
                "disk. Nothing was asked."
            )

    def read(self) -> list[dict[str, Any]]:
        """A line that a crash cut off is measured again."""
        found = []
        path = self.folder / RECORDS
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def add(self, record: Mapping[str, Any]) -> None:
        try:
            with (self.folder / RECORDS).open("a", encoding="utf-8") as stream:
                if stream.tell() and not self._ended():
                    stream.write("\n")
                stream.write(json.dumps(record, sort_keys=True) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StoppedError(
                f"{self.folder / RECORDS} cannot be written: {error.strerror}; free some room and run again: "
                "what is in it is kept"
            ) from error

    def _ended(self) -> bool:
        with (self.folder / RECORDS).open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"


@dataclass
class Run:
    """One instance's points, in order, around an injected `measure`."""

    store: Store
    instance: str
    identity: str
    measure: Measure
    switch: Callable[[str], None]
    """Makes the other server of that name the one that is measured; "" for the one that serves."""
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    stopped: str = ""
    kept: int = 0
    scale: dict[str, float] | None = None
    records: list[dict[str, Any]] = field(default_factory=list)

    def go(self, points: list[dict[str, Any]]) -> None:
        known = {
            (record["point"]["key"]): record
            for record in self.store.read()
            if record["instance"] == self.instance and record["identity"] == fingerprint(self.identity, record["point"])
            and not record.get("died") and not record.get("error")
        }  # fmt: skip
        began, at = self.clock(), ""
        todo = [point for point in points if not _same(known.get(point["key"]), point)]
        self.kept = len(points) - len(todo)
        if self.kept:
            self.say(f"{self.instance}: {self.kept} of {len(points)} points are kept from the run before")
        try:
            for number, point in enumerate(points, 1):
                before = known.get(point["key"])
                if before and _same(before, point):
                    self.records.append(before)
                    continue
                wanted = server_name(point)
                if wanted != at:
                    # Before it is done: a start that fails leaves something to take away.
                    at = wanted
                    self.switch(wanted)
                record = self._one(point)
                self.records.append(record)
                self.say(self._line(number, len(points), record, began))
                if record.get("died") or record.get("error"):
                    self.stopped = str(record.get("why"))
                    return
        except StoppedError as error:
            self.stopped = str(error)
        finally:
            if at:
                self.switch("")

    def _one(self, point: dict[str, Any]) -> dict[str, Any]:
        record = self.measure(point, self.scale, server_name(point))
        # Another server may count other words; so may another chat template, but that is the same for all of these.
        if record.get("scale"):
            self.scale = record["scale"]
        whole = {
            "instance": self.instance, "identity": fingerprint(self.identity, point), "point": point, **record,
        }  # fmt: skip
        self.store.add(whole)
        return whole

    def _line(self, number: int, count: int, record: Mapping[str, Any], began: float) -> str:
        spent = self.clock() - began
        left = spent / max(1, number - self.kept) * (count - number)
        words = [f"{self.instance} {number}/{count}", record["point"]["key"]]
        for path, name, unit, _unused in scenarios.METRICS[record["point"]["scenario"]][:2]:
            value = results.value_at(record, path)
            if value is not None:
                words.append(f"{name} {value:.4g} {unit}")
        if not record.get("valid", True):
            words.append(f"NOT VALID: {str(record.get('why')).splitlines()[0]}")
        words += list(record.get("remarks", []))
        return "  ".join(words) + f"  ({left / 60:.0f} min left)"


def server_name(point: Mapping[str, Any]) -> str:
    return f"{point['scenario']}: {point['setting']}" if "server" in point else ""


def _same(record: Mapping[str, Any] | None, point: Mapping[str, Any]) -> bool:
    return record is not None and dict(record["point"]) == dict(point)


def command(words: list[str]) -> str:
    """The command line as it was typed, without what looks like a secret."""
    hidden = []
    for word in words:
        low = word.lower()
        mark = next((mark for mark in SECRET_WORDS if mark in low), "")
        hidden.append(word[: low.index(mark) + len(mark)] + "..." if mark else word)
    return " ".join([Path(hidden[0]).name, *hidden[1:]]) if hidden else ""


def read_baseline(path: str, now: Mapping[str, Any], host: str = "") -> tuple[dict[str, Any], dict[str, str]]:
    """A results.json, or the folder of a report, with or without a folder for each host in it."""
    given = Path(path).expanduser()
    if given.is_dir():
        given = next(
            (place for place in (given / host / RESULTS, given / RESULTS) if place.exists()), given / RESULTS
        )
        path = str(given)
    try:
        before = json.loads(given.read_text(encoding="utf-8"))
    except OSError as error:
        raise results.BaselineError(f"baseline = {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise results.BaselineError(f"baseline = {path} is no JSON: {error}; give a results.json") from error
    return before, results.check_baseline(now, before, path)


def write(folder: Path, result: Mapping[str, Any]) -> list[str]:
    """Each file whole or not at all."""
    texts = {
        RESULTS: json.dumps(result, indent=1, sort_keys=True) + "\n",
        PAGE: report.html(result),
        TEXT: report.markdown(result),
    }
    for name, text in texts.items():
        try:
            temporary = folder / f".{name}"
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(folder / name)
        except OSError as error:
            raise StoppedError(
                f"{folder / name} cannot be written: {error.strerror}; the records are kept"
            ) from error
    return [str(folder / name) for name in texts]


def closing(result: Mapping[str, Any], files: list[str]) -> list[str]:
    """What the screen says at the end."""
    lines = []
    for name, (_kind, head, words) in (
        ("right", report.right(result)), ("fast", report.fast(result)), ("changed", report.since(result)),
    ):  # fmt: skip
        lines.append(f"{name:8} {head}. {words}".rstrip())
    lines += [
        f"FAILED   {one['instance']} {one['point']}: {one['why'].splitlines()[0]}"
        for one in result["failures"]
    ]
    lines += [f"skipped  {one['instance']} {one['scenario']}: {one['why']}" for one in result["skipped"]]
    lines += result["best"]
    return [*lines, f"report   {next(path for path in files if path.endswith(PAGE))}"]
