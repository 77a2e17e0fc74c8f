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
    *words: str | Path, cwd: Path = ROOT, timeout: float = 3600, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it and keeps what it printed, both streams together."""
    path = f"{cwd / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # Which lab a command means is said by the test alone, not by what ran before it.
    ours = {key: value for key, value in os.environ.items() if not key.startswith("BAREMETAL_LAB")}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**ours, "PATH": path, "ANSIBLE_NOCOLOR": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def succeed(*words: str | Path, cwd: Path = ROOT, timeout: float = 3600, **environment: str) -> str:
    done = command(*words, cwd=cwd, timeout=timeout, **environment)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def bare_host() -> Iterator[str]:
    """A host of its own lab, fresh from its image."""
    succeed("tools/lab", "-i", INVENTORY, "up")
    yield "bare-1"
    succeed("tools/lab", "-i", INVENTORY, "down")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is in the work tree, committed or not, laid out as a newcomer's clone, and the demo run in it."""
    folder = tmp_path_factory.mktemp("newcomer") / "baremetal-sglang"
    succeed("git", "clone", "--quiet", ROOT, folder)
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, changed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            succeed("cp", "-P", ROOT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    output = succeed("make", "demo", cwd=folder, BAREMETAL_LAB_DIR=str(folder / ".lab"))
    (folder / ".demo.log").write_text(output, encoding="utf-8")
    yield folder
    succeed("tools/lab", "--name", "demo", "down", cwd=folder, BAREMETAL_LAB_DIR=str(folder / ".lab"))


def lab(clone: Path, *words: str) -> str:
    return succeed(
        "tools/lab", "-i", "inventories/lab", *words, cwd=clone, BAREMETAL_LAB_DIR=str(clone / ".lab")
    )


def inside(clone: Path, *words: str, venv: str = ".venv") -> str:
    """Runs in the lab's network, as `make demo` does."""
    program = clone / venv / "bin" / words[0]
    return lab(clone, "exec", "--", str(program), *words[1:])
