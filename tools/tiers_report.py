# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of the tests says at its end: peaks, slowest tests, the failed tests and the first failure whole."""

from __future__ import annotations

import shutil
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

GIB = 1024**3
REPORT_LINES = 60
FAILED_TESTS = 25
FAILED_TEST_WIDTH = 300


def existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


class Peaks(threading.Thread):
    """The most memory and disk that this machine gave while the run lasted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.over = folder, threading.Event()
        self.before = self.now()
        self.most = (0.0, 0.0)

    def now(self) -> tuple[float, float]:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        usage = shutil.disk_usage(existing(self.folder))
        return (values["MemTotal"] - values["MemAvailable"]) / 1024**2, usage.used / GIB

    def run(self) -> None:
        while not self.over.wait(2):
            memory, disk = (now - before for now, before in zip(self.now(), self.before))
            self.most = max(self.most[0], memory), max(self.most[1], disk)


def slowest(logs: Path, count: int = 10) -> list[str]:
    found = []
    for path in logs.glob("*.xml"):
        for case in ET.parse(path).getroot().iter("testcase"):
            name = f"{path.stem}: {case.get('name')}"
            found.append((float(case.get("time") or 0), name))
    return [f"{seconds:7.1f} s  {name[:100]}" for seconds, name in sorted(found, reverse=True)[:count]]


def failed_tests(logs: Path, steps: list[str]) -> list[str]:
    """One line a failed test: its step, its name and why; the machine that ran it may be gone when one asks."""
    lines = []
    for step in steps:
        path = logs / f"{step}.xml"
        if not path.exists():
            lines.append(f"{step}: {last_line(logs / f'{step}.log')}")
            continue
        for case in ET.parse(path).getroot().iter("testcase"):
            for failure in (*case.findall("failure"), *case.findall("error")):
                why = " ".join((failure.get("message") or "").split())
                lines.append(f"{step}: {case.get('classname', '').split('.')[-1]}::{case.get('name')}: {why}")
    return [line[:FAILED_TEST_WIDTH] for line in lines[:FAILED_TESTS]]


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1].strip("= ")[:100] if lines else ""


def report_failure(logs: Path, name: str) -> list[str]:
    """What the plugin of the tests wrote at the first failure, or the end of the log."""
    written = logs / name / "first-failure.txt"
    log = logs / f"{name}.log"
    text = written if written.exists() else log
    lines = text.read_text(errors="replace").splitlines() if text.exists() else []
    return [f"FIRST FAILURE  step {name}", *lines[1 - REPORT_LINES :]]
