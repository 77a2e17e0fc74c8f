# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the members of a group decide together, without looking at anything: no clock, no sockets, no processes."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any

from decisions import Restarts, one_line

GATHER, RUN, DOWN = "gather", "run", "down"
# Who only reports that a peer went away is not the one that broke the group.
OF_A_PEER = re.compile(
    r"connection (closed|reset|refused)|closed by peer|broken pipe|recvvalue|remote process|\bpeer\b|gloo|nccl"
    r"|socket|tcpstore|rendezvous|timed? ?out|no token for",
    re.IGNORECASE,
)
OWN, SILENT, ECHO = 0, 1, 2


def rank_of_cause(said: str, lost: bool) -> int:
    """A cause of its own comes before a connection that broke, and that before the echo of another's end."""
    if lost:
        return SILENT
    return ECHO if OF_A_PEER.search(said) else OWN


@dataclass
class Cause:
    host: str
    said: str
    lost: bool = False
    wanted: bool = False

    def words(self) -> str:
        return f"{self.host}: {self.said}"


def first_cause(causes: list[Cause]) -> Cause:
    """Of all that was said within a moment, the one that the others follow from."""
    return min(causes, key=lambda cause: (not cause.wanted, rank_of_cause(cause.said, cause.lost)))


# --- one truth ---


def differences(truths: dict[str, dict[str, str]]) -> list[str]:
    """`truths`: host -> what -> value. In words, one line a thing that is not the same everywhere, host by host."""
    found = []
    for what in sorted({name for truth in truths.values() for name in truth}):
        values = {host: truth.get(what, "") for host, truth in truths.items()}
        if len(set(values.values())) > 1:
            found.append(
                f"{what}: " + ", ".join(f"{host} {value or 'none'}" for host, value in values.items())
            )
    return found


def skewed(offsets: dict[str, float], most: float) -> list[str]:
    """`offsets`: host -> seconds that its clock is before the head's."""
    return [
        f"clock: {host} is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the first host"
        for host, offset in offsets.items()
        if abs(offset) > most
    ]


# --- the first host's view ---


@dataclass
class Seat:
    """A member as the first host sees it."""

    host: str
    present: bool = False
    heard: float = 0.0
    missing_since: float = 0.0
    """Wall clock, for people."""
    truth: dict[str, str] = field(default_factory=dict)
    offset: float = 0.0
    generation: int = 0
    loaded: bool = False
    """torch takes seconds to load, from a cold disk many: who is not through cannot join."""
    ready: bool = False
    status: str = ""
    held: str = ""
    """Why the health watch of its host keeps it from serving."""


@dataclass
class Head:
    """Who is there, whether they may start, and why they have to stop."""

    hosts: list[str]
    """In the order of ranks; the first is this one."""
    group: str
    restarts: Restarts
    lost_seconds: float
    blame_seconds: float
    skew_seconds: float
    generation: int = 0
    phase: str = GATHER
    serving_since: float = 0.0
    ended: str = ""
    """How the generation before this one ended."""
    causes: list[Cause] = field(default_factory=list)
    down_at: float = 0.0
    start_at: float = 0.0
    leaving: str = ""
    """The member that was asked to stop: requests are let finish before all go down."""
    seats: dict[str, Seat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for host in self.hosts:
            self.seats.setdefault(host, Seat(host))

    def hears(self, host: str, message: dict[str, Any], now: float, wall: float) -> str:
        """One message of a member. Why it is turned away, or nothing."""
        seat = self.seats.get(host)
        if seat is None or message.get("group") != self.group:
            return (
                f"{host or 'this host'} is not a member of this group "
                f"({', '.join(self.hosts)}): run site.yml for all hosts of the group"
            )
        seat.present, seat.heard = True, now
        seat.truth = dict(message.get("truth") or {})
        seat.offset = (message.get("time") or wall) - wall
        seat.loaded = bool(message.get("loaded"))
        seat.generation = message.get("generation") or 0
        seat.ready, seat.status = bool(message.get("ready")), message.get("status") or ""
        seat.held = message.get("held") or ""
        if self.phase == GATHER:
            return ""
        if message.get("down"):
            self.breaks(Cause(host, message["down"]), now)
        elif message.get("leave") and not self.leaving:
            self.leaving = host
        return ""

    def loses(self, host: str, why: str, now: float, wall: float) -> None:
        seat = self.seats[host]
        if not seat.present:
            return
        seat.present, seat.ready, seat.missing_since = False, False, wall
        if self.phase != GATHER:
            self.breaks(Cause(host, why, lost=True), now)

    def breaks(self, cause: Cause, now: float) -> None:
        if any(known.host == cause.host and not known.lost for known in self.causes):
            return
        self.causes.append(cause)
        if self.phase == RUN:
            self.phase, self.down_at = DOWN, now

    def silent(self, now: float, patience: float = 1.0) -> list[str]:
        """Members that have said nothing for too long; `patience` times as long before a start."""
        return [
            host
            for host in self.hosts[1:]
            if self.seats[host].present and now - self.seats[host].heard > self.lost_seconds * patience
        ]

    @property
    def missing(self) -> list[str]:
        return [host for host in self.hosts if not self.seats[host].present]

    @property
    def loading(self) -> list[str]:
        return [host for host in self.hosts if not self.seats[host].loaded]

    @property
    def held(self) -> list[str]:
        return [f"{host}: {self.seats[host].held}" for host in self.hosts if self.seats[host].held]

    def objections(self) -> list[str]:
        """Why those who are there must not start together."""
        there = [seat for seat in self.seats.values() if seat.present]
        return [
            *differences({seat.host: seat.truth for seat in there}),
            *skewed({seat.host: seat.offset for seat in there}, self.skew_seconds),
        ]

    def may_start(self, now: float) -> bool:
        """All are there and alike, and the pause after the last failure is over; counts the start."""
        if self.phase != GATHER or self.missing or self.held or self.objections() or self.loading:
            self.start_at = 0.0
            return False
        if not self.start_at:
            self.start_at = now + self.restarts.delay
        if now < self.start_at:
            return False
        self.restarts.begin(now)
        self.generation += 1
        self.phase, self.causes, self.leaving, self.start_at = RUN, [], "", 0.0
        for seat in self.seats.values():
            seat.ready = False
        return True

    def is_over(self, now: float) -> bool:
        """The moment in which a better cause may still be told is past."""
        told = {cause.host for cause in self.causes}
        return self.phase == DOWN and (
            now - self.down_at >= self.blame_seconds or told >= set(self.hosts) or self.causes[0].wanted
        )

    def cause(self) -> Cause:
        return first_cause(self.causes)

    def waits_for(self, now: float) -> str:
        """In one line: what stands between here and a start."""
        before = f"generation {self.generation} ended: {self.ended}; " if self.ended else ""
        if self.missing:
            shown = ", ".join(
                f"{host} (missing since {clock(self.seats[host].missing_since)})" for host in self.missing
            )
            return f"{before}{self.count()}, waiting for {shown}"
        if self.held:
            return f"not started, stopped by the health watch: {'; '.join(self.held)}"
        objections = self.objections()
        if objections:
            return f"not started, the members differ: {'; '.join(objections)}: run site.yml for all of them"
        if self.loading:
            return f"{before}{self.count()}, loading torch on {', '.join(self.loading)}"
        left = max(self.start_at - now, 0.0)
        if left > 0:
            number, bound = len(self.restarts.failures) + 1, len(self.restarts.delays)
            pause = f"waiting {self.restarts.delay:.0f} s before start {number} of {bound}"
            return f"{before}{self.count()}, {pause}"
        return f"{before}{self.count()}, starting"

    def count(self) -> str:
        return f"{len(self.hosts) - len(self.missing)} of {len(self.hosts)} members"

    def beat(self, now: float, status: str, serving: bool) -> dict[str, Any]:
        """What every member is told, all the time."""
        return {
            "phase": self.phase,
            "generation": self.generation,
            "count": self.count(),
            "serving": serving,
            "status": self.waits_for(now) if self.phase == GATHER else status,
        }


def clock(wall: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall)) if wall else "the start"


def head_words(generation: int, count: str, own: str) -> str:
    return one_line(f"generation {generation}, {count}: {own}")


def member_words(beat: dict[str, Any], head: str, own: str) -> str:
    if beat["phase"] == GATHER:
        return one_line(f"{beat['status']} (says {head})")
    return one_line(f"generation {beat['generation']}, {beat['count']}: {own}; {head}: {beat['status']}")
