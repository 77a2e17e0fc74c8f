# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The committed locks are closed: an installer of the target finds all that every package asks for.

uv answers for the target's Python, machine and glibc, which need not be this machine's; metadata alone is
read, from the index that this machine is configured with.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
UV = ROOT / ".venv/bin/uv"
# The oldest and the newest of each machine; the others differ by less.
CLOSED = [
    "0.5.7-cu128-x86_64-py3.10.txt",
    "0.5.23-cu130-x86_64-py3.12.txt",
    "0.5.23-cu130-aarch64-py3.12.txt",
]
GLIBC = {"0.5.7": "2_28", "0.5.23": "2_34"}


def dry_run(lock: Path, arch: str, python: str, glibc: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What would be installed into an empty folder; hashes are those of the lock, so another file is refused."""
    return subprocess.run(
        [UV, "pip", "install", "--dry-run", "--no-config", "--require-hashes", "--no-build", "--strict",
         "--python-platform", f"{arch}-manylinux_{glibc}", "--python-version", python,
         "--target", folder, "-r", lock],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def parts(name: str) -> tuple[str, str, str, str]:
    match = re.fullmatch(r"(.+)-(cu\d+)-(\w+)-py([\d.]+)\.txt", name)
    assert match
    return match[1], match[2], match[3], match[4]


@pytest.mark.parametrize("name", CLOSED)
def test_a_lock_is_closed_for_its_own_target(name: str, tmp_path: Path) -> None:
    release, _cuda, arch, python = parts(name)
    lock = ROOT / "files/engines/sglang/locks" / name
    done = dry_run(lock, arch, python, GLIBC[release], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = len(re.findall(r"^[a-z0-9].*==", lock.read_text(), re.MULTILINE))
    assert f"Would install {wanted} packages" in done.stderr


def test_a_lock_without_one_package_is_not(tmp_path: Path) -> None:
    """--require-hashes refuses what a package asks for and the lock does not pin."""
    text = (ROOT / "files/engines/sglang/locks/0.5.23-cu130-aarch64-py3.12.txt").read_text()
    cut = tmp_path / "cut.txt"
    cut.write_text(re.sub(r"^nvidia-cuda-nvcc==.*\n.*\n", "", text, flags=re.MULTILINE))
    done = dry_run(cut, "aarch64", "3.12", "2_34", tmp_path / "env")
    assert done.returncode != 0
    assert "nvidia-cuda-nvcc" in done.stderr


def test_a_lock_of_another_machine_is_refused(tmp_path: Path) -> None:
    done = dry_run(
        ROOT / "files/engines/sglang/locks/0.5.23-cu130-x86_64-py3.12.txt",
        "aarch64",
        "3.12",
        "2_34",
        tmp_path / "env",
    )
    assert done.returncode != 0
