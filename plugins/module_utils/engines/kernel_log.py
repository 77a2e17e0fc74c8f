# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server's log says of its kernel tuning files, against what the plan expects.

An engine that brings such files puts its messages and what each means into the plan (`kernels.log`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FILE, FALLBACK, DEFAULT, UP, NEVER = "file", "fallback", "default", "up", "never"
"""The file that was asked for; that of another Triton; default tiles; the up-projection's; no look at all."""


@dataclass(frozen=True)
class Message:
    outcome: str
    text: str
    """With {wanted}, {used} and {triton} where the engine puts paths and a version."""

    def pattern(self) -> re.Pattern[str]:
        parts = re.split(r"(\{(?:wanted|used|triton)\})", self.text)
        return re.compile(
            "".join(
                f"(?P<{part[1:-1]}>{'.+?[.]json' if part != '{triton}' else '[0-9.]+?'})"
                if part.startswith("{")
                else re.escape(part)
                for part in parts
            )
        )


@dataclass(frozen=True)
class Said:
    """One kind of line, however many ranks wrote it."""

    outcome: str
    wanted: str = ""
    """Path that the engine looked for first."""
    used: str = ""
    triton: str = ""

    @property
    def name(self) -> str:
        return posixpath.basename(self.wanted)

    def words(self) -> str:
        if self.outcome == FILE:
            return f"{self.name} from {posixpath.dirname(self.wanted)}"
        if self.outcome == FALLBACK:
            return f"{self.name} from {posixpath.dirname(self.used)} (tuned with Triton {self.triton})"
        if self.outcome == DEFAULT:
            return f"default tiles, no file {self.wanted}"
        if self.outcome == UP:
            return f"{self.name} is not there: the tiles of the first multiplication serve both"
        return "no file was looked for (deterministic inference)"


def read(lines: Iterable[str], messages: Iterable[Message]) -> list[Said]:
    """Every statement once, in the order of the log."""
    patterns = [(message.outcome, message.pattern()) for message in messages]
    found: dict[Said, None] = {}
    for line in lines:
        for outcome, pattern in patterns:
            match = pattern.search(line)
            if match:
                found.setdefault(Said(outcome, **match.groupdict()))
                break
    return list(found)


def problems(said: list[Said], log: Mapping[str, Any]) -> list[str]:
    """Where the log says something else than the plan; empty when it is as planned."""
    found = []
    expected = {item["name"]: item for item in log["expected"]}
    for name, item in expected.items():
        mine = [
            one for one in said if (one.outcome == NEVER if item["outcome"] == NEVER else one.name == name)
        ]
        if not mine:
            found.append(_silence(item, bool(log.get("quiet"))))
        for one in mine:
            path = one.wanted if one.outcome == FILE else ""
            if one.outcome != item["outcome"] or (item["path"] and path != item["path"]):
                found.append(f"planned {_planned(item)}; the server took {one.words()}")
    for one in said:
        if one.outcome in (DEFAULT, FALLBACK) and one.name not in (*expected, *log["tolerated"]):
            found.append(f"the plan knows nothing of it: the server took {one.words()}")
        elif one.outcome == NEVER and NEVER not in {item["outcome"] for item in expected.values()}:
            found.append(f"planned {', '.join(map(_planned, expected.values()))}; {one.words()}")
    return found


def _planned(item: Mapping[str, str]) -> str:
    if item["outcome"] == FILE:
        return f"{item['path']}"
    return "default tiles" if item["outcome"] == DEFAULT else "no look for files"


def _silence(item: Mapping[str, str], quiet: bool) -> str:
    if quiet and item["outcome"] == FILE:
        return (
            f"the log does not say whether {item['path']} was taken: the log level in options hides that line; "
            "take it out of options, or set it to info"
        )
    return f"no line of the log says what was taken for {item['name'] or 'the experts'} (planned: {_planned(item)})"
