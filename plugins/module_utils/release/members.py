# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release and its members as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Member:
    """One instance of a release."""

    name: str
    unit: str
    port: int
    serves: str
    rank: int
    """Only the first rank answers requests."""
    standby: str = ""
    """The server that takes its requests while it is exchanged."""
    standby_port: int = 0
    alive: str = "/health"
    """Path that answers once the server listens."""
    token: str = "/health"
    """Path that answers only when a token was made."""

    @property
    def standby_unit(self) -> str:
        return f"sglang-{self.standby}.service" if self.standby else ""


@dataclass(frozen=True)
class Release:
    id: str
    folder: str
    members: dict[str, Member]
    proofs: dict[str, dict[str, str]] = field(default_factory=dict)
    """{instance: {path that its server reads: hash}}; equal in two releases means that nothing changes for it."""
    plan: dict[str, Any] = field(default_factory=dict)
    made: float = 0.0
    texts: dict[str, str] = field(default_factory=dict)
    """Unit files by name."""

    def text_of(self, unit: str) -> str:
        return self.texts.get(unit, "")
