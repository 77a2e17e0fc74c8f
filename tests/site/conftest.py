# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands as a user types them, from the root of the project."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "tests" / "site" / "inventory"


def command(
    *words: str | Path, cwd: Path = ROOT, timeout: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it and keeps what it printed, both streams together."""
    path = f"{cwd / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, "PATH": path, "ANSIBLE_NOCOLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def succeed(*words: str | Path, cwd: Path = ROOT, timeout: float = 900, **environment: str) -> str:
    done = command(*words, cwd=cwd, timeout=timeout, **environment)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def bare_host() -> Iterator[str]:
    """A host of its own lab, fresh from its image."""
    succeed("tools/lab", "-i", INVENTORY, "up")
    yield "bare-1"
    succeed("tools/lab", "-i", INVENTORY, "down")
