# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running commands, and knowing a process again after its number may have been reused."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .problems import LabError


@dataclass(frozen=True)
class ProcessId:
    """A process number with the moment it began: together they name one process only."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        if fields[0] in ("Z", "X"):
            return None
        return cls(pid, int(fields[19]))

    @property
    def alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def kill(self) -> None:
        if self.alive:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def run(
    command: Sequence[str | Path],
    *,
    text_input: str | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; what it said becomes the error when it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, input=text_input, stdin=None if text_input is not None else subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False, timeout=timeout,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed on this machine") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise LabError(f"`{' '.join(words)}` failed:\n  " + "\n  ".join(said[-8:]))
    return done


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """A reader, or a command that was killed, sees the old text or the new, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.chmod(mode)
    beside.rename(path)


def read_json(path: Path) -> Any:
    """The value in a file; None when there is none, or a cut-off one from a crashed machine."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def mounts_below(path: Path) -> list[str]:
    """What is mounted at a path or under it, the innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mounted = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4])
        if mounted == str(path) or mounted.startswith(f"{path}/"):
            found.append(mounted)
    return found[::-1]


def remove_tree(path: Path) -> None:
    """Removes a directory of the lab and nothing else. A process that was killed may have left the
    machine's own directories mounted in it, and removing through a mount would empty those."""
    if not path.exists():
        return
    for mounted in mounts_below(path.resolve()):
        run(["umount", mounted], check=False)
    for mounted in mounts_below(path.resolve()):
        run(["umount", "--lazy", mounted], check=False)
    if left := mounts_below(path.resolve()):
        raise LabError(
            f"{path} is not removed, because {', '.join(left)} cannot be unmounted. Unmount it by hand and repeat."
        )
    run(["rm", "-rf", "--one-file-system", "--", path])
