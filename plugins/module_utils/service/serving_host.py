# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an instance serves: its unit, its health, and a token over the real API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ..facts.host import RunCommand
from ..facts.installed import parse_properties
from ..measure.client_host import Server
from ..measure.client_host import ask as ask_once
from ..measure.http_response import Reply
from .files_host import printable

POLL_SECONDS = 0.5
LAST_LINES = 25
HEALTH_SECONDS = 30
# How long a unit that says nothing about its start (Type=exec) may take to be healthy.
UNSAID_SECONDS = 1800.0
# The engine's process may be anybody's by now: neither its words nor its silence may hold up who asks.
MOST_ANSWER = 8 << 20
MOST_LOG = 32 << 20
PROPERTIES = "ActiveState,SubState,Result,ExecMainStatus,NRestarts,StatusText,Job,LoadState,UnitFileState"
Clock = Callable[[], float]


@dataclass(frozen=True)
class Question:
    """One instance, and how it is asked."""

    unit: str
    base_url: str
    command: tuple[str, ...]
    """Prints a report as roles/verify/files/probe.py does; empty for a rank that answers no requests."""
    alive: str = "/health"
    """Path that answers once the server listens."""


class NotServingError(Exception):
    """Why an instance gives no token, with the server's own last lines."""

    def __init__(self, unit: str, why: str, lines: Iterable[str]) -> None:
        self.unit, self.why, self.lines = unit, why, list(lines)
        said = "\n".join(f"  {line}" for line in self.lines)
        super().__init__(f"{unit}: {why}. Its last lines:\n{said}")


def unit_state(run: RunCommand, unit: str) -> dict[str, str]:
    _unused, out, _unused = run(["systemctl", "show", unit, f"--property={PROPERTIES}"])
    return parse_properties(str(out))


def start_of_log(invocation: str) -> list[str]:
    """The command that prints what a unit said since its start, the beginning of it where that is too long."""
    words = ["--quiet", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    # The service writes as much as the journal takes, gigabytes; all of this ends in the memory of who asks.
    return ["/bin/sh", "-c", f'journalctl "$@" | head -c {MOST_LOG}', "sh", *words]


def last_lines(run: RunCommand, unit: str, since: float = 0.0) -> list[str]:
    """The server's own, without systemd's remarks about it."""
    # Backwards: from --since on, --lines would count the first ones.
    words = [
        "journalctl",
        f"_SYSTEMD_UNIT={unit}",
        "--reverse",
        "--lines",
        str(LAST_LINES),
        "--output",
        "cat",
    ]
    _unused, out, _unused = run([*words, "--no-pager", *([f"--since=@{int(since)}"] if since else [])])
    lines = [
        printable(line, 4000) for line in str(out).splitlines() if line.strip() and line != "-- No entries --"
    ]
    return lines[::-1]


def ended(state: dict[str, str], restarts: int) -> str:
    """Why a unit that is about to serve will not; empty while it may."""
    words = f"{state.get('Result') or 'unknown'}, exit status {state.get('ExecMainStatus') or '0'}"
    said = f": {state['StatusText']}" if state.get("StatusText") else ""
    tried_again = int(state.get("NRestarts") or 0) > restarts or state.get("SubState") == "auto-restart"
    if state.get("ActiveState") == "failed" or tried_again:
        return f"the server ended while it started ({words}){said}"
    if state.get("ActiveState") == "inactive" and not state.get("Job"):
        return "the unit is not running: systemctl start it, or run site.yml --tags engine"
    return ""


def fetch(base_url: str, path: str, seconds: float) -> Reply:
    """One answer of the server on this host: no redirect is followed, and `seconds` is for all of it."""
    return ask_once(Server(base_url, silence=seconds, limit=seconds, most=MOST_ANSWER), path)


def healthy(base_url: str, path: str) -> bool:
    return fetch(base_url, path, HEALTH_SECONDS).good


@dataclass
class Watch:
    run: RunCommand
    timeout: float
    """For all together; with 0 a unit that is starting has the time that its own file gives it."""
    clock: Clock = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    is_healthy: Callable[[str, str], bool] = healthy
    since: float = 0.0
    """Lines of the log before this are another start's."""

    def fail(self, unit: str, why: str) -> NotServingError:
        return NotServingError(unit, why, last_lines(self.run, unit, self.since))

    def ready(self, question: Question, restarts: int) -> bool:
        """Whether it can be asked now; raises where it never will."""
        state = unit_state(self.run, question.unit)
        why = ended(state, restarts)
        if why:
            raise self.fail(question.unit, why)
        if state.get("ActiveState") != "active":
            return False
        return not question.command or self.is_healthy(question.base_url, question.alive)

    def ask(self, question: Question) -> dict[str, Any]:
        if not question.command:
            return {}
        _unused, out, err = self.run(list(question.command))
        try:
            answer = json.loads(out)
        except ValueError:
            said = re.sub(r"\s+", " ", str(err or out)).strip()[-800:]
            raise self.fail(question.unit, f"the probe gave no result: {said}") from None
        if not answer["ok"]:
            error = answer.get("error") or {}
            raise self.fail(
                question.unit, f"no token: {error.get('what', 'unknown')}; {error.get('fix', '')}"
            )
        return dict(answer)

    def all(self, questions: Iterable[Question], fresh: Collection[str] = ()) -> dict[str, dict[str, Any]]:
        """The answer of each, by unit; the first that cannot serve ends the wait. `fresh` units were just started."""
        waiting = list(questions)
        before = {
            question.unit: 0
            if question.unit in fresh
            else int(unit_state(self.run, question.unit).get("NRestarts") or 0)
            for question in waiting
        }
        began, answers = self.clock(), {}
        while waiting:
            for question in list(waiting):
                if self.ready(question, before[question.unit]):
                    answers[question.unit] = self.ask(question)
                    waiting.remove(question)
            late = next((question for question in waiting if self.is_late(question, began)), None)
            if late:
                raise self.too_late(late, self.clock() - began)
            if waiting:
                self.sleep(POLL_SECONDS)
        return answers

    def is_late(self, question: Question, began: float) -> bool:
        waited = self.clock() - began
        if self.timeout:
            return waited > self.timeout
        starting = unit_state(self.run, question.unit).get("ActiveState") == "activating"
        return waited > UNSAID_SECONDS and not starting

    def too_late(self, question: Question, waited: float) -> NotServingError:
        state = unit_state(self.run, question.unit)
        said = f" ({state['StatusText']})" if state.get("StatusText") else ""
        where = (
            f"no healthy answer from {question.base_url}" if question.command else "its unit is not active"
        )
        return self.fail(question.unit, f"{where} within {waited:.0f} s{said}")


def report(answer: dict[str, Any]) -> list[str]:
    lines = [f"prompt   {answer['prompt']}", f"answer   {answer['answer'] or answer.get('reasoning')}"]
    tokens = f"tokens   {answer['completion_tokens']} (prompt {answer['prompt_tokens']})"
    times = f"first token after {answer['ttft_ms']:.0f} ms, {answer['tokens_per_second']:.1f} tokens/s"
    return [*lines, f"{tokens}, {times}"]
