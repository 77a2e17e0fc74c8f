# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every source of weights offers to the fetcher, and how its failures are told apart."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source


class SourceError(Exception):
    """This source cannot give it; asking again would not help, the next source may."""


class Interrupted(Exception):  # noqa: N818  (it interrupts, and the fetch goes on)
    """The connection or the server failed for now; `wait` is what the server asked for, in seconds."""

    def __init__(self, words: str, wait: float | None = None) -> None:
        super().__init__(words)
        self.wait = wait


class FromTheStart(Exception):  # noqa: N818
    """The server cannot go on where the file stops."""


@dataclass(frozen=True)
class RemoteFile:
    name: str
    size: int
    sha256: str = ""
    """As the source publishes it; empty where it does not."""
    git: str = ""


@dataclass(frozen=True)
class Settings:
    """Thresholds of files/policy.yml."""

    parallel: int
    attempts: int
    back_off_seconds: float
    back_off_limit_seconds: float
    stall_seconds: float
    slow_bytes_per_second: int
    slow_seconds: float
    progress_seconds: float


class Repository(Protocol):
    files: list[RemoteFile]
    origin: dict[str, str]
    """Type, name and commit, as the manifest records them."""

    def read(self, name: str, offset: int) -> Iterator[bytes | memoryview]: ...


@dataclass
class Patience:
    """Bounded attempts with growing pauses; progress gives all of them back."""

    settings: Settings
    say: Callable[[str], None]
    failures: int = field(default=0)

    def progress(self) -> None:
        self.failures = 0

    def pause(self, what: str, error: Interrupted) -> None:
        self.failures += 1
        if self.failures >= self.settings.attempts:
            raise SourceError(f"{what}: {error}; given up after {self.failures} attempts in a row") from error
        wait = self.settings.back_off_seconds * 2 ** (self.failures - 1)
        if error.wait is not None:
            wait = error.wait
        wait = min(wait, self.settings.back_off_limit_seconds)
        self.say(f"  {what}: {error}; again in {wait:.0f} s")
        time.sleep(wait * (1 + random.random() / 10))


def patiently(what: str, patience: Patience, ask: Callable[[], Any]) -> Any:
    """Asks until there is an answer, or patience ends in a SourceError."""
    while True:
        try:
            return ask()
        except Interrupted as error:
            patience.pause(what, error)


def token_of(source: Source) -> str:
    """The token that the inventory points to; its value goes nowhere but into a request."""
    if source.token_env:
        value = os.environ.get(source.token_env, "")
        if not value:
            raise SourceError(
                f"{source.where}.token_env = {source.token_env}: the variable is not set on the controller"
            )
        return value.strip()
    if source.token_file:
        path = Path(source.token_file).expanduser()
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SourceError(
                f"{source.where}.token_file = {path}: cannot be read: {error.strerror}"
            ) from error
    return ""
