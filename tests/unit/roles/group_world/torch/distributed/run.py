# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for torchrun where no torch is: one worker, never again, and its end told the same way.

The lab runs the real one.
"""

from __future__ import annotations

import subprocess
from types import SimpleNamespace


class ChildFailedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.failures = {0: SimpleNamespace(exitcode=code)}


def main(words: list[str]) -> None:
    worker = words[words.index("--no-python") + 1 :]
    code = subprocess.call(worker)
    if code:
        raise ChildFailedError(code)
