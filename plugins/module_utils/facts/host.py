# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The only access to the host: files below a root, bounded commands, disk numbers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

PROGRAM_DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_MOST_BYTES = 16 * 1024 * 1024
"""Of a file, and of what a command prints: the rest is left out."""
_CHUNK = 64 * 1024
"""The kernel refuses to read /proc/sys into a buffer of many megabytes."""


@dataclass(frozen=True)
class Ran:
    status: int
    out: str = ""
    err: str = ""
    timed_out: bool = False
    missing: bool = False


@dataclass(frozen=True)
class Space:
    total_bytes: int
    free_bytes: int


class RunCommand(Protocol):
    """AnsibleModule.run_command, as far as it is used here."""

    def __call__(self, args: list[str], **options: Any) -> tuple[int, Any, Any]: ...


class _Expired(BaseException):
    """Not an Exception: nothing between the alarm and the waiting caller may swallow it."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def expire(_number: int, _frame: FrameType | None) -> None:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _text(raw: Any) -> str:
    cut = (raw or b"")[:_MOST_BYTES] if isinstance(raw, bytes) else str(raw or "")[:_MOST_BYTES]
    return cut.decode("utf-8", "replace") if isinstance(cut, bytes) else cut


class HostIo:
    """Reads the host it runs on, or a tree below `root` that looks like one."""

    def __init__(self, run_command: RunCommand, root: str = "/", timeout: float = 20.0) -> None:
        self._run_command = run_command
        self.root = root
        self.timeout = timeout
        self.hung: list[str] = []
        """Commands that gave no answer in their time."""

    def _at(self, path: str) -> Path:
        return Path(self.root, path.lstrip("/"))

    def read(self, path: str) -> str:
        """The text of a file; "" when it is missing or may not be read."""
        try:
            with self._at(path).open("rb", buffering=0) as file:
                chunks = iter(lambda: file.read(_CHUNK), b"")
                return b"".join(islice(chunks, _MOST_BYTES // _CHUNK)).decode("utf-8", "replace")
        except OSError:
            return ""

    def line(self, path: str) -> str:
        return self.read(path).strip()

    def names(self, path: str) -> list[str]:
        try:
            return sorted(entry.name for entry in self._at(path).iterdir())
        except OSError:
            return []

    def link(self, path: str) -> str:
        """Where a symbolic link points, "" when it is none."""
        try:
            return str(self._at(path).readlink())
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        try:
            return self._at(path).exists()
        except OSError:
            return False

    def real(self, path: str) -> str:
        """The path with its links followed, as seen from the root."""
        real = os.path.realpath(self._at(path))
        top = os.path.realpath(self.root).rstrip("/")
        return real[len(top) :] or "/" if real.startswith(top + "/") or real == top else real

    def space(self, path: str) -> Space | None:
        try:
            found = os.statvfs(self._at(path))
        except OSError:
            return None
        return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def program(self, name: str) -> str:
        """The full path of a program, "" when it is not there; PATH counts only on the host itself."""
        if name.startswith("/"):
            places = [name]
        else:
            directories = list(PROGRAM_DIRECTORIES)
            if self.root == "/":
                directories += [part for part in os.environ.get("PATH", "").split(os.pathsep) if part]
            places = [f"{directory}/{name}" for directory in directories]
        for place in places:
            full = self._at(place)
            if full.is_file() and os.access(full, os.X_OK):
                return str(full)
        return ""

    def run(self, command: Sequence[str], timeout: float | None = None) -> Ran:
        """Runs a program in at most `timeout` seconds, even one that the kernel cannot kill."""
        program = self.program(command[0])
        if not program:
            return Ran(127, missing=True)
        started: list[Any] = []
        limit = self.timeout if timeout is None else min(timeout, self.timeout)
        begin = time.monotonic()
        try:
            with _alarm(limit):
                status, out, err = self._run_command(
                    [program, *command[1:]],
                    encoding=None,
                    expand_user_and_vars=False,
                    environ_update={"LC_ALL": "C.UTF-8", "LANGUAGE": "C", "TERM": "dumb"},
                    before_communicate_callback=started.append,
                    handle_exceptions=False,
                )
        except _Expired:
            for process in started:
                process.kill()
            self.hung.append(" ".join(command))
            return Ran(124, err=f"{time.monotonic() - begin:.0f} s", timed_out=True)
        except (OSError, ValueError) as error:
            return Ran(126, err=str(error))
        return Ran(status, _text(out), _text(err))

    def libc(self) -> str:
        """Version of the host's GNU C library, "" for another one."""
        if self.root == "/":
            try:
                return (os.confstr("CS_GNU_LIBC_VERSION") or "").replace("glibc", "").strip()
            except (ValueError, OSError):
                return ""
        for directory in (
            "lib64",
            "usr/lib64",
            *(f"{top}/{arch}-linux-gnu" for top in ("lib", "usr/lib") for arch in ("x86_64", "aarch64")),
        ):
            found = re.search(r"GNU C Library .*?version (\d+\.\d+)", self.read(f"{directory}/libc.so.6"))
            if found:
                return found.group(1)
        return ""

    def identity(self, name: str) -> str:
        """`hostname`, `osrelease` or `arch` of the kernel; only the host itself can be asked directly."""
        if self.root == "/":
            known = os.uname()
            return {"hostname": known.nodename, "osrelease": known.release, "arch": known.machine}[name]
        return self.line(f"/proc/sys/kernel/{name}")
