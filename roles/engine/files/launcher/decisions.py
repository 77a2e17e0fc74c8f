# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher decides, without looking at anything: no clock, no files, no processes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATUS_LIMIT = 700
REMEMBERED_LINES = 300
REMEMBERED_SECONDS = 45.0
PERCENT = re.compile(r"(\d{1,3})%")
# The server's word that another process of its own ended; not why.
CRASHED = re.compile(r"Subprocess .* crashed with exit code ")
# The last line of a traceback, or argparse's own.
EXCEPTION = re.compile(
    r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failure)\b.*|.*: error: .+"
    rf"|{CRASHED.pattern}.*"
)
STAMP = re.compile(r"^\[[^\]]*\]\s*")
# Who only reports that another process died is not the cause.
ECHO = re.compile(
    r"child process|died|crashed with exit code|EOFError|BrokenPipeError|SystemExit|KeyboardInterrupt|resource_tracker"
)


# Python's words between two tracebacks of one failure.
WHILE_HANDLING = re.compile(r"During handling of the above exception, another exception occurred")
DIRECT_CAUSE = re.compile(r"The above exception was the direct cause of the following exception")
SHOWN_OF_LINE = 160


def one_line(text: str, limit: int = STATUS_LIMIT) -> str:
    """Without what a terminal or the journal would act on, or could not print: controls, lone surrogates, directions."""
    flat = " ".join(text[: 4 * limit].split())
    if not flat.isprintable():
        flat = "".join(letter if letter.isprintable() else "\ufffd" for letter in flat)
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


# --- how far a start is ---


@dataclass
class Phase:
    says: re.Pattern[str]
    status: str
    percent: bool = False


@dataclass
class Progress:
    """Reads the engine's lines: which phase, how many per cent, and whether it says that it is ready."""

    phases: list[Phase]
    ready: re.Pattern[str]
    failed: re.Pattern[str] | None = None
    """A line that ends the start: of an engine whose main process stays although the start has failed."""
    status: str = "starting the engine"
    said_ready: bool = False
    said_failed: str = ""
    at: int = -1
    percent: int = -1

    @classmethod
    def from_plan(cls, logs: dict[str, Any]) -> Progress:
        phases = [
            Phase(re.compile(item["says"]), item["status"], bool(item.get("bar"))) for item in logs["phases"]
        ]
        failed = logs.get("failed", {}).get("says", "")
        return cls(phases, re.compile(logs["ready"]), re.compile(failed) if failed else None)

    def read(self, line: str) -> bool:
        """Whether the line says something new about how far the start is."""
        if self.ready.search(line):
            self.said_ready = True
            return True
        if self.failed is not None and not self.said_failed and self.failed.search(line):
            self.said_failed = line
            return True
        for number, phase in enumerate(self.phases):
            if not phase.says.search(line):
                continue
            found = PERCENT.search(line) if phase.percent else None
            percent = min(int(found[1]), 100) if found else -1
            if number < self.at or (number == self.at and percent <= self.percent):
                return False
            self.at, self.percent = number, percent
            self.status = f"{phase.status} {percent} %" if percent >= 0 else phase.status
            return True
        return False


@dataclass
class Patience:
    """How long a start may take: the planned time, longer while it gets somewhere, but not for ever."""

    seconds: float
    stall_seconds: float
    most_seconds: float
    started: float
    moved: float = 0.0

    def __post_init__(self) -> None:
        self.moved = self.started

    def at_an_end(self, now: float) -> str:
        """Why the start is given up; empty while it may go on."""
        spent = now - self.started
        if spent > self.most_seconds:
            return f"not ready after {spent:.0f} s, {self.most_seconds / self.seconds:.0f} times what was planned"
        still = now - self.moved
        if spent > self.seconds and still > self.stall_seconds:
            return f"not ready after {spent:.0f} s (planned: {self.seconds:.0f}) and no progress for {still:.0f} s"
        return ""


# --- whether it lives ---


@dataclass
class LivenessMonitor:
    """Whether tokens still come, from looks at the engine and its processes."""

    silence_seconds: float
    stopped_seconds: float
    last_token: float
    trouble: str = ""
    stopped: dict[int, float] = field(default_factory=dict)

    def answered(self, now: float) -> None:
        self.last_token, self.trouble = now, ""

    def failed(self, why: str) -> None:
        self.trouble = why

    def members(self, now: float, states: dict[int, tuple[str, str]]) -> str:
        """`states`: process -> (its name, its state as in /proc). Why the engine must go down, or nothing."""
        for pid, (name, state) in states.items():
            if state in ("", "Z", "X", "x"):
                return f"{name} (process {pid}) is gone"
            if state not in ("T", "t"):
                self.stopped.pop(pid, None)
            elif now - self.stopped.setdefault(pid, now) >= self.stopped_seconds:
                return f"{name} (process {pid}) has been stopped for {now - self.stopped[pid]:.0f} s"
        return ""

    def silence(self, now: float) -> str:
        quiet = now - self.last_token
        if quiet < self.silence_seconds:
            return ""
        return f"no token for {quiet:.0f} s" + (f" ({self.trouble})" if self.trouble else "")


def memory_problem(meminfo: str, floor_percent: float) -> str:
    """Why the engine must go before the host stands still; `meminfo` as in /proc."""
    if not floor_percent:
        return ""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE))
    total, left = int(sizes.get("MemTotal", 0)), int(sizes.get("MemAvailable", 0))
    if not total or left * 100 >= total * floor_percent:
        return ""
    return (
        f"the host has {left >> 10} MiB of {total >> 10} MiB memory left, less than {floor_percent:g} %: ended before "
        "it freezes; lower memory_fraction or context_length"
    )


# --- what the engine said last ---


@dataclass
class Verdict:
    """What a line means, and what to do: an entry of log_verdicts.yml, the engine's or that of all engines."""

    says: re.Pattern[str]
    cause: str
    cure: str

    @classmethod
    def from_plan(cls, logs: dict[str, Any]) -> list[Verdict]:
        return [
            cls(re.compile(item["says"]), item["cause"], item["cure"]) for item in logs.get("verdicts", ())
        ]

    def words(self, line: str) -> str:
        return one_line(f"{self.cause} ({one_line(line, SHOWN_OF_LINE)}): {self.cure}")


@dataclass
class LastWords:
    lines: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_LINES))
    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, now: float, line: str) -> None:
        if line.strip():
            self.lines.append((now, line))

    def recent(self, now: float) -> list[str]:
        return [STAMP.sub("", line.strip()) for when, line in self.lines if now - when <= REMEMBERED_SECONDS]

    def cause(self, now: float) -> str:
        """The line that says why it ended: the first error of the end, not one that follows from it."""
        recent = self.recent(now)
        errors = failures(recent)
        causes = [line for line in errors if not ECHO.search(line)]
        for found in (causes, errors, recent[-1:]):
            if found:
                return one_line(found[0], 400)
        return ""

    def explained(self, now: float) -> str:
        """The same with what it means and what to do, where a verdict knows the line, or another line of the end."""
        line = self.cause(now)
        for candidate in (line, *self.recent(now)):
            for verdict in self.verdicts:
                if verdict.says.search(candidate):
                    return verdict.words(candidate)
        return line


def failures(lines: list[str]) -> list[str]:
    """The last lines of tracebacks; of tracebacks that Python chained, the one that tells most.

    What was raised while another was handled is what the program says of it. What was raised from another says less
    than that one, unless that one has no words.
    """
    found: list[str] = []
    link = ""
    for line in lines:
        if WHILE_HANDLING.search(line):
            link = "handling"
        elif DIRECT_CAUSE.search(line):
            link = "cause"
        elif EXCEPTION.match(line):
            wordless = bool(found) and ":" not in found[-1]
            if found and (link == "handling" or (link == "cause" and wordless)):
                found[-1] = line
            elif not found or link != "cause":
                found.append(line)
            link = ""
    return found


def ending(status: int, explained: bool = False, out_of_memory: bool = False) -> str:
    """A wait status in words. The server ends itself with SIGKILL, too, but says why before."""
    if status & 0x7F:
        number = status & 0x7F
        if out_of_memory:
            return f"was killed by signal {number}: out of memory, says the kernel"
        hint = "; out of memory? see journalctl -k" if number == 9 and not explained else ""
        return f"was killed by signal {number}{hint}"
    return f"ended with exit status {status >> 8}"


# --- starting again ---


@dataclass
class Restarts:
    """Failures that are remembered from start to start: how long to wait, and when to stay down."""

    delays: list[float]
    window_seconds: float
    boot: str = ""
    failures: list[float] = field(default_factory=list)
    reason: str = ""

    @classmethod
    def remembered(cls, plan: dict[str, Any], record: Any, boot: str, now: float) -> Restarts:
        """A record of another boot, of one that gave up, or of nonsense counts for nothing."""
        found = cls(list(plan["delays"]), plan["window_seconds"], boot)
        if not isinstance(record, dict) or record.get("boot") != boot or record.get("gave_up"):
            return found
        times = record.get("failures")
        if isinstance(times, list) and all(isinstance(item, (int, float)) for item in times):
            found.failures = [item for item in times if 0 <= now - item <= found.window_seconds]
            found.reason = str(record.get("reason", ""))
        return found

    @property
    def delay(self) -> float:
        return self.delays[min(len(self.failures), len(self.delays) - 1)]

    @property
    def last_reason(self) -> str:
        return self.reason or "it was killed before it could say why"

    @property
    def exhausted(self) -> bool:
        return len(self.failures) >= len(self.delays)

    def begin(self, now: float) -> None:
        """Counts as a failure until it is taken back: who is killed cannot write down that he failed."""
        self.failures.append(now)

    def record(self, gave_up: bool = False) -> dict[str, Any]:
        return {"boot": self.boot, "failures": self.failures, "reason": self.reason, "gave_up": gave_up}

    def words(self, reason: str) -> str:
        if self.exhausted:
            return one_line(f"gave up after {len(self.failures)} failed starts: {reason}")
        return one_line(reason)


# --- last checks ---


@dataclass(frozen=True)
class Problem:
    what: str
    passing: bool = False
    """What a killed process held comes free after a moment."""


def driver_problem(planned: str, loaded: str | None, drivers: dict[str, str] | None = None) -> list[Problem]:
    """`drivers`: {from, below}; another driver within them serves the plan as well."""
    if not planned or loaded == planned:
        return []
    if loaded is None:
        return [Problem(f"the NVIDIA driver is not loaded (planned: {planned}): nvidia-smi says why")]
    if drivers and _numbers(drivers["from"]) <= _numbers(loaded) < _numbers(drivers["below"]):
        return []
    return [Problem(f"the driver is {loaded}, the plan was made for {planned}: run site.yml again")]


def driver_note(planned: str, loaded: str | None) -> str:
    """Said of a driver that is not the planned one and serves all the same."""
    if not planned or loaded in (None, planned):
        return ""
    return f"driver {loaded} instead of the planned {planned}: site.yml plans for it"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def driver_version(text: str) -> str | None:
    """Out of /proc/driver/nvidia/version; the words around the number differ between the flavours."""
    found = re.search(r"^NVRM version:.*?\s(\d{3,}\.\d+(?:\.\d+)*)\s", text + " ", re.MULTILINE)
    return found[1] if found else None


def gpu_problems(
    planned: list[dict[str, Any]], listed: str, apps: str, own: list[int], used_mib: int
) -> list[Problem]:
    """`listed`: index, uuid, name, memory.used; `apps`: gpu_uuid, pid, used memory; as nvidia-smi prints CSV."""
    rows = {cells[0]: cells for cells in (_cells(line, 4) for line in listed.splitlines()) if cells}
    users: dict[str, list[str]] = {}
    for line in apps.splitlines():
        cells = _cells(line, 2)
        if cells and cells[1].isdigit() and int(cells[1]) not in own:
            users.setdefault(cells[0], []).append(cells[1])
    found = []
    for gpu in planned:
        row = rows.get(str(gpu["index"]))
        if row is None:
            found.append(Problem(f"GPU {gpu['index']} is not there: nvidia-smi and dmesg say more"))
            continue
        if gpu["product"] and row[2] != gpu["product"]:
            found.append(Problem(f"GPU {gpu['index']} is a {row[2]}, the plan has a {gpu['product']}"))
        if users.get(row[1]):
            pids = ", ".join(users[row[1]])
            found.append(Problem(f"GPU {gpu['index']} is used by process {pids}: end it", passing=True))
        elif row[3].isdigit() and int(row[3]) > used_mib:
            what = f"GPU {gpu['index']} has {row[3]} MiB in use by no process that can be seen"
            found.append(Problem(f"{what}: end who uses it, or reset the GPU", passing=True))
    return found


def _cells(line: str, least: int) -> list[str]:
    cells = [cell.strip() for cell in line.split(",")]
    return cells if len(cells) >= least else []


def weights_problems(
    folder: str, manifest: Any, times: dict[str, int], found: dict[str, Any]
) -> list[Problem]:
    """`found`: file -> (size, mtime in ns), or in words why it cannot be read."""
    wrong = []
    for entry in manifest.get("files", ()):
        name, there = entry["path"], found.get(entry["path"], "is missing")
        if isinstance(there, str):
            wrong.append(f"{name} {there}")
        elif there[0] != entry["size"]:
            wrong.append(f"{name} has {there[0]} bytes, not {entry['size']}")
        elif name in times and there[1] != times[name]:
            wrong.append(f"{name} was written to after it was verified")
    if not wrong:
        return []
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return [Problem(f"weights in {folder}: {'; '.join(wrong[:3])}{more}: run site.yml --tags weights")]


def space_problem(folder: str, free: int | None, needed: int) -> list[Problem]:
    if free is None:
        return [Problem(f"{folder} cannot be written to: run site.yml --tags host")]
    if free >= needed:
        return []
    return [
        Problem(f"the disk of {folder} is full: {free >> 20} MiB free, {needed >> 20} MiB needed: make room")
    ]


def all_at_once(problems: list[Problem]) -> str:
    words = "; ".join(problem.what for problem in problems)
    return one_line(f"not started: {words}")


# --- JIT cache ---


def superfluous(folders: list[tuple[str, float]], own: str, keep: int) -> list[str]:
    """Of (name, time of last use) all but the newest `keep`, and never the own."""
    others = sorted((item for item in folders if item[0] != own), key=lambda item: -item[1])
    return [name for name, _time in others[max(keep - 1, 0) :]]


# What systemd itself sets in the environment of a service (systemd.exec, "Environment variables set").
OF_SYSTEMD = re.compile(
    r"(PATH|LANG|LC_\w+|USER|LOGNAME|HOME|SHELL|TERM|INVOCATION_ID|MAINPID|MANAGERPID\w*|NOTIFY_SOCKET|JOURNAL_STREAM"
    r"|(XDG_RUNTIME|RUNTIME|STATE|CACHE|LOGS|CONFIGURATION|CREDENTIALS)_DIR(ECTORY)?|WATCHDOG_\w+|LISTEN_\w+|SYSTEMD_\w+"
    r"|MEMORY_PRESSURE_\w+|LOG_NAMESPACE|PIDFILE|FDSTORE|DEBUG_INVOCATION|REMOTE_(ADDR|PORT)|SERVICE_RESULT|EXIT_\w+"
    r"|TRIGGER_\w+)\Z"
)
PASSED_ON = "LAUNCHER_PASSES"
"""Names for the launchers of a group: torchrun adds variables of its own to what systemd gave its agent."""


def of_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that came from the unit's environment files."""
    if PASSED_ON in environment:
        names = [name for name in environment[PASSED_ON].split(",") if name in environment]
    else:
        names = [name for name in environment if not OF_SYSTEMD.match(name)]
    return {name: environment[name] for name in names}
