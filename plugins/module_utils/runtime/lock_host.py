# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host; the second is told who the first is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .store_host import RefusedError

# A killed run's installer may live a little longer and holds the lock until it is done.
ORPHAN_SECONDS = 60.0


@contextmanager
def held(path: str, what: str, patience: float = ORPHAN_SECONDS) -> Iterator[int]:
    """Yields the lock's file descriptor, to be given to every child that writes."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(handle, path, patience)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(_me(what)).encode(), 0)
        yield handle
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _me(what: str) -> dict[str, Any]:
    caller = os.environ.get("SSH_CONNECTION", "").split(" ")[0] or "this host"
    return {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "what": what, "from": caller}


def _acquire(handle: int, path: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _read(handle)
            if _lives(holder.get("pid")) or time.monotonic() > deadline:
                raise RefusedError(
                    f"another run works on this host: process {holder.get('pid', 'unknown')}, started from "
                    f"{holder.get('from', 'unknown')} at {holder.get('since', 'unknown')}, makes "
                    f"{holder.get('what', 'something')} (lock {path}). Wait until it ends and run again. "
                    "Nothing was changed."
                ) from None
            time.sleep(0.2)


def _read(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: Any) -> bool:
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
