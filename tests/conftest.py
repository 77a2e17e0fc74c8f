# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed run leaves to read, in the folder that BAREMETAL_TEST_EVIDENCE names.

`first-failure.txt` holds the first failing test, the last Ansible task and the journal of its host in at most fifty
lines; `journal-*.txt` hold the whole journals of all hosts that ran at a failure.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# What tests make is read by other users, whatever the umask of the caller is.
os.umask(0o022)

REGISTRY = Path("/run/baremetal-sglang-lab")
TOOL = Path(__file__).parents[1] / "tools/lab"
WIDTH = 200
# The labs that pytest's own process did not make, but a command of the tests.
NAMED_LABS = ("demo", "refuses-bad-input", "serves-a-token")
JOURNAL = "journalctl --no-pager --output=short-iso --lines=2000"


def folder() -> Path | None:
    named = os.environ.get("BAREMETAL_TEST_EVIDENCE")
    return Path(named) if named else None


def hosts() -> list[tuple[str, str]]:
    """Lab and host of those that this process may have booted."""
    found = []
    for path in sorted(REGISTRY.glob("*/lab.json")):
        name = path.parent.name
        if name.startswith(f"test-{os.getpid()}-") or name in NAMED_LABS:
            try:
                found += [(name, host) for host in json.loads(path.read_text())["hosts"]]
            except (OSError, ValueError, KeyError):
                continue
    return found


def journals(target: Path) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for lab, host in hosts():
        path = target / f"journal-{host}.txt"
        try:
            done = subprocess.run(
                [TOOL, "--name", lab, "ssh", host, JOURNAL],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, timeout=60,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            continue
        if done.stdout:
            path.write_text(done.stdout)
            written.append(path)
    return written


def engine_lines(path: Path, count: int) -> list[str]:
    """The engine's own lines if there are any, otherwise the last ones."""
    # Without what Ansible's own modules say of themselves.
    lines = [line for line in path.read_text().splitlines() if ": Invoked with " not in line]
    ours = [line for line in lines if "sglang" in line and "sshd" not in line]
    return (ours or lines)[-count:]


def last_task() -> list[str]:
    """The last task that any play began, and what failed in it."""
    log = Path(os.environ.get("ANSIBLE_LOG_PATH") or "/nonexistent")
    if not log.is_file():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 200_000))
        lines = stream.read().decode(errors="replace").splitlines()
    text = [re.sub(r"^\S+ \S+ (\S+ \S+ n=\S+ )?(\w+\| )?", "", line) for line in lines]
    starts = [number for number, line in enumerate(text) if line.startswith(("TASK [", "RUNNING HANDLER ["))]
    if not starts:
        return []
    said = [
        line
        for line in text[starts[-1] + 1 :]
        if line.startswith(("fatal:", "failed:", "REFUSED", "[ERROR]"))
    ]
    return [text[starts[-1]].rstrip("* "), *said[:6]]


def reason(report: pytest.TestReport) -> list[str]:
    """The lines of the assertion, else the end of the traceback."""
    lines = str(report.longreprtext).splitlines()
    marked = [line for line in lines if line.startswith("E ")]
    return (marked or lines)[-14:]


def summary(report: pytest.TestReport, written: list[Path]) -> str:
    lines = [f"{report.nodeid} ({report.when})", *reason(report), "", "LAST ANSIBLE TASK", *last_task()]
    for path in written[:2]:
        lines += ["", f"JOURNAL of {path.stem.removeprefix('journal-')}", *engine_lines(path, 10)]
    return "\n".join(line[:WIDTH] for line in lines[:50]) + "\n"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    report = (yield).get_result()
    target = folder()
    if target is None or not report.failed:
        return
    first = target / "first-failure.txt"
    written = journals(target / re.sub(r"\W+", "_", item.name)[:80])
    # Set up by a fixture that took its hosts away again: it kept their journals.
    written = written or sorted((target / "setup").glob("journal-*.txt"))
    if not first.exists():
        first.write_text(summary(report, written))


def pytest_configure() -> None:
    """A fixture that fails takes its hosts away before the test is reported: their journals are read first."""
    target = folder()
    if target is None:
        return
    sys.path.insert(0, str(TOOL.parents[1] / "molecule"))
    from lab import Lab

    down = Lab.down

    def keep_and_end(self: Any, *names: Any) -> None:
        if sys.exc_info()[0] is not None:
            journals(target / "setup")
        down(self, *names)

    Lab.down = keep_and_end  # type: ignore[method-assign]
