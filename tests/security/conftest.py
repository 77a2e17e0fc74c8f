# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service user who plays the attacker, and a place that it reaches."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVICE_USER = 64123


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Root's folder that every user may enter, unlike tmp_path."""
    made = Path(tempfile.mkdtemp(prefix="privileges-", dir=_open_place()))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def _open_place() -> Path:
    """Where every user may enter all folders on the way: TMPDIR may be root's alone, and so may be where it lies."""
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")]
    return next(
        place for place in places if all(item.stat().st_mode & 0o001 for item in (place, *place.parents))
    )


@pytest.fixture
def service_user() -> int:
    if os.geteuid():
        pytest.skip("needs root, to run the attacker as another user")
    return SERVICE_USER


@pytest.fixture
def as_attacker(service_user: int) -> Iterator[Callable[[Callable[[], None]], int]]:
    """Starts something as the service user, beside the test; ends it with the test."""
    started: list[int] = []

    def start(work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setresgid(service_user, service_user, service_user)
                os.setresuid(service_user, service_user, service_user)
                work()
            finally:
                os._exit(0)
        started.append(pid)
        return pid

    yield start
    for pid in started:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
