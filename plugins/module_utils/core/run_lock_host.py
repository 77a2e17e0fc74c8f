# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host, over all its tasks.

The lock is a file in /run, so that it does not survive the host, and a beat beside it that the controller renews
while its run lives. A beat that is too old is that of a controller which lost its power or its network.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

PATH = "/run/sglang-run.lock"
BEAT = "/run/sglang-run.beat"
UPTIME = "/proc/uptime"
BEAT_SECONDS = 15.0
STALE_SECONDS = 60.0


class HeldError(Exception):
    """Another run works on the host."""


def uptime(path: str = UPTIME) -> float:
    """Seconds since the machine was started: a clock that nobody sets."""
    with open(path, encoding="ascii") as stream:
        return float(stream.read().split()[0])


def beat_command(run: str) -> str:
    """What the controller has the host do while the run lives."""
    return f"grep -qs {run} {PATH} && cat {UPTIME} >{BEAT}"


def free_command(run: str) -> str:
    return f"grep -qs {run} {PATH} && rm -f {PATH} {BEAT}"


def is_live(holder: Mapping[str, Any], beat: float | None, now: float) -> bool:
    """Whether the holder's controller was heard of lately; its first beat is the taking itself."""
    if not holder:
        return False
    heard = max(float(holder.get("taken", 0.0)), beat if beat is not None else 0.0)
    return 0 <= now - heard < STALE_SECONDS


def words(holder: Mapping[str, Any]) -> str:
    return (
        f"another run works on this host: {holder.get('what', 'unknown')} of {holder.get('owner', 'unknown')}, "
        f"since {holder.get('since', 'unknown')} (lock {PATH})"
    )


def advice() -> str:
    return (
        "Wait until it ends, or end it there. A run whose controller is gone gives the lock back by itself, "
        f"after {STALE_SECONDS:.0f} s at most"
    )


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Read and written by one process at a time."""
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if not _is_the_one_at(stream, path):
                continue
            yield stream
            return


def _is_the_one_at(stream: Any, path: str) -> bool:
    """False when its holder removed it while we waited."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def holder_of(path: str = PATH, beat: str = BEAT, now: float | None = None) -> dict[str, Any]:
    """Who holds the lock; empty when nobody does."""
    try:
        with open(path, encoding="utf-8") as stream:
            holder = _parsed(stream.read())
    except OSError:
        return {}
    return holder if is_live(holder, _beat(beat), uptime() if now is None else now) else {}


def take(
    run: str,
    owner: str,
    what: str,
    patience: float,
    path: str = PATH,
    beat: str = BEAT,
    now: Callable[[], float] = uptime,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Takes the lock, or raises who has it; returns what was found out of date, in words."""
    end = now() + patience
    while True:
        with _opened(path) as stream:
            holder = _parsed(stream.read())
            if holder.get("run") == run:
                return ""
            if not is_live(holder, _beat(beat), now()):
                _write(stream, {"run": run, "owner": owner, "what": what, "taken": now(), "since": _today()})
                return (
                    f"{words(holder)}; its controller is gone, so the lock was taken over" if holder else ""
                )
        if now() >= end:
            raise HeldError(f"{words(holder)}. {advice()}.")
        sleep(0.2)


def _write(stream: Any, holder: Mapping[str, Any]) -> None:
    stream.seek(0)
    stream.truncate()
    json.dump(holder, stream)
    stream.flush()


def _today() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _beat(path: str) -> float | None:
    try:
        return uptime(path)
    except (OSError, ValueError, IndexError):
        return None


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
