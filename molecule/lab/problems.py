# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab says when it cannot go on, and how it reports what it is doing."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterable


class LabError(Exception):
    """One message for the user: what is wrong and, after it, what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"


class Reporter:
    """Progress lines with the time since the command began, on stderr so that output stays parsable."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.quiet = False

    def __call__(self, subject: str, text: str) -> None:
        if not self.quiet:
            elapsed = time.monotonic() - self.started
            sys.stderr.write(f"{elapsed:6.1f} s  {subject}: {text}\n")
            sys.stderr.flush()


say = Reporter()
