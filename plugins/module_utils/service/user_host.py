# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that root hands to a process which has become the service user."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from .files_host import parse_json, printable

CHILD_SECONDS = 3600.0
ANSWER_BYTES = 4 << 20
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38


class UserError(Exception):
    """What went wrong in a process that runs as the service user."""


def as_user(
    uid: int,
    gid: int,
    work: Callable[[], Any],
    groups: Iterable[int] = (),
    seconds: float = CHILD_SECONDS,
) -> Any:
    """Does the work in a child that has become the user for good; what it returns must be JSON.

    The child is in a session of its own, without the terminal of the caller, and no process of the user can trace it.
    """
    if uid == 0:
        raise UserError("the service user must not be root")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(writing, uid, gid, list(groups), work)
    os.close(writing)
    try:
        said, why = _heard(pid, reading, seconds)
    finally:
        os.close(reading)
    try:
        answer = parse_json(said.decode("utf-8"), 64) if said else {}
    except ValueError:
        answer = {}
    if why or not isinstance(answer, dict) or set(answer) not in ({"value"}, {"error"}):
        raise UserError(why or "the process that ran as the service user gave no answer")
    if "error" in answer:
        raise UserError(printable(answer["error"], 2000))
    return answer["value"]


def _child(writing: int, uid: int, gid: int, groups: list[int], work: Callable[[], Any]) -> None:
    try:
        os.setsid()
        become(uid, gid, groups)
        answer = json.dumps({"value": work()})
    except BaseException as error:
        answer = json.dumps({"error": str(error) or type(error).__name__})
    try:
        data = answer.encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Gives up all that root has; raises where that is not possible."""
    os.umask(0o077)
    # Loaded before: the user may not be able to read the place that modules come from.
    library = _library()
    if os.geteuid() == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid):
        raise UserError(f"must be root or user {uid} to run as user {uid}")
    if library is not None:
        library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        library.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _library() -> Any:
    try:
        import ctypes

        return ctypes.CDLL(None)
    except (ImportError, OSError):
        return None


def _heard(pid: int, reading: int, seconds: float) -> tuple[bytes, str]:
    """All that the child says, and why it had to be ended: its user may send it any signal."""
    said, why, running = b"", "", True
    end = time.monotonic() + seconds
    while not why:
        if select.select([reading], [], [], 0.1 if running else 0)[0]:
            block = os.read(reading, 65536)
            if not block:
                break
            said += block
            if len(said) > ANSWER_BYTES:
                why = "the process that ran as the service user said too much"
            continue
        if not running:
            break
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if found is not None and found.si_code == os.CLD_STOPPED:
            why = "the process that ran as the service user was stopped by a signal"
        elif found is not None:
            running = False
        elif time.monotonic() > end:
            why = f"the process that ran as the service user took more than {seconds:.0f} s"
    # Not reaped yet, so neither number can be another process's by now.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return said, why
