# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a switch to a release does to a host: which units stop, change, start, and what to go back to. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..planner.compare import differences
from .members import Member, Release


@dataclass(frozen=True)
class Unfinished:
    """Written before the first change of a switch and taken away after the last."""

    to: str
    back: str
    units: tuple[str, ...]
    """Whose process may not be what its unit says."""
    since: str = ""


@dataclass(frozen=True)
class Record:
    """What a host remembers about its switches."""

    served: tuple[str, ...] = ()
    """Releases that gave tokens, the newest last."""
    unfinished: Unfinished | None = None
    failed: dict[str, str] = field(default_factory=dict)
    """The last switch that did not end in tokens: release, why, when."""


@dataclass(frozen=True)
class Unit:
    """A unit file of ours as it lies on the host."""

    text: str
    enabled: bool
    state: str
    """ActiveState of systemd."""


@dataclass(frozen=True)
class Found:
    current: str
    releases: Mapping[str, Release]
    units: Mapping[str, Unit]
    record: Record


@dataclass(frozen=True)
class Switch:
    to: str
    back: str
    """The release to return to; empty where none has served."""
    flip: bool = False
    write: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    settle: bool = False
    """An earlier switch was cut off, so that even an unchanged host has to be proven."""
    why: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return bool(
            self.flip or self.write or self.remove or self.stop or self.start or self.enable or self.settle
        )

    @property
    def touched(self) -> tuple[str, ...]:
        return tuple(sorted({*self.stop, *self.start}))


RUNNING = ("active", "activating", "reloading", "deactivating")


def decide(found: Found, to: str, forced: Collection[str] = ()) -> Switch:
    """`forced` are units that restart whatever their state."""
    wanted = found.releases[to]
    live = found.releases.get(found.current)
    cut_off = found.record.unfinished
    why = {
        member.unit: reason
        for name, member in wanted.members.items()
        if (reason := _reason(found, live, wanted, name, forced))
    }
    units = [member.unit for member in wanted.members.values()]
    remove = sorted(unit for unit in _known(found) if unit not in units and unit in found.units)
    write = sorted(unit for unit in units if _text(found, unit) != wanted.text_of(unit))
    enable = sorted(unit for unit in units if unit not in found.units or not found.units[unit].enabled)
    start = sorted(why)
    going = [unit for unit in [*start, *remove] if unit in found.units]
    stop = sorted(unit for unit in going if found.units[unit].state in RUNNING)
    return Switch(
        to=to,
        back=_back(found, to),
        flip=found.current != to,
        write=tuple(write),
        remove=tuple(remove),
        stop=tuple(stop),
        start=tuple(start),
        enable=tuple(enable),
        settle=cut_off is not None or to not in found.record.served,
        why={**why, **dict.fromkeys(remove, "is in the plan no more")},
    )


def _reason(found: Found, live: Release | None, wanted: Release, name: str, forced: Collection[str]) -> str:
    """Why the instance has to be started anew; empty when it may go on."""
    unit = wanted.members[name].unit
    if unit in forced:
        return "was asked to restart"
    if unit not in found.units:
        return "is new"
    if found.record.unfinished and unit in found.record.unfinished.units:
        return "an earlier switch was cut off"
    if live is None or name not in live.proofs:
        return "is new"
    if changed := _changed(live.proofs[name], wanted.proofs[name]):
        return f"changed: {changed}"
    if found.units[unit].text != wanted.text_of(unit):
        return "its unit file is not the planned one"
    if found.units[unit].state not in RUNNING:
        return f"is {found.units[unit].state or 'not running'}"
    return ""


def _changed(before: Mapping[str, str], after: Mapping[str, str], most: int = 4) -> str:
    """The files that differ, by name; empty when the server reads the same."""
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def _text(found: Found, unit: str) -> str | None:
    return found.units[unit].text if unit in found.units else None


def _known(found: Found) -> set[str]:
    """Units that one of our releases brought; others with a similar name are left alone."""
    return {member.unit for release in found.releases.values() for member in release.members.values()}


def _back(found: Found, to: str) -> str:
    """What served until now, else the newest release that has served; nothing for a restart of the current one."""
    cut_off = found.record.unfinished
    if to == found.current and not cut_off:
        return ""
    served = found.record.served
    candidates = [cut_off.back if cut_off else found.current, *reversed(served)]
    proven = [name for name in candidates if name != to and name in served and name in found.releases]
    return proven[0] if proven else ""


def stays_words(found: Found, to: str) -> str:
    """Why a release that gives no tokens stays."""
    if to == found.current and to in found.record.served:
        return "It served before and stays current; its units try again as their restart limits allow."
    return "No other release has served here, so there is none to go back to."


def relieved(found: Found, switch: Switch) -> list[Member]:
    """Instances that serve, have to restart, and have another server that can take their requests meanwhile."""
    return [
        member
        for _name, member in sorted(found.releases[switch.to].members.items())
        if member.standby and member.unit in switch.start
        if member.unit in found.units and found.units[member.unit].state == "active"
    ]


def standby_words(found: Found, switch: Switch) -> list[str]:
    return [
        f"{member.standby_unit} takes the requests of {member.unit} meanwhile"
        for member in relieved(found, switch)
    ]


def previous(found: Found) -> str:
    """The release that served before the current one, if it is still there."""
    others = [name for name in found.record.served if name != found.current and name in found.releases]
    return others[-1] if others else ""


def after_success(record: Record, to: str) -> Record:
    return Record(served=(*(name for name in record.served if name != to), to))


def after_failure(record: Record, to: str, back: str, failed: dict[str, str]) -> Record:
    """What failed is proven no longer; what was gone back to is the newest that is.

    A failed restart proves nothing against its release: a GPU may have been busy. It keeps its place.
    """
    if not back:
        return Record(served=record.served, failed=failed)
    served = [name for name in record.served if name not in (to, back)]
    return Record(served=(*served, back), failed=failed)


def together(*plans: Mapping[str, Any] | None) -> list[str]:
    """The hosts that serve an instance together with this one, before or after a switch."""
    instances = [item for plan in plans if plan for item in plan.get("instances", {}).values()]
    sizes = [item.get("parallel", {}) for item in instances]
    return sorted({host for size in sizes if int(size.get("nnodes", 1)) > 1 for host in size["hosts"]})


def superfluous(found: Found, keep: int) -> list[str]:
    """Releases that may go: all but the newest `keep`, never the current, the one before it, or one in a switch."""
    cut_off = found.record.unfinished
    needed = {found.current, previous(found), *((cut_off.to, cut_off.back) if cut_off else ())}
    rank = {name: number for number, name in enumerate(found.record.served)}
    ordered = sorted(
        found.releases.values(),
        key=lambda item: (item.id in needed, rank.get(item.id, -1), item.made, item.id),
        reverse=True,
    )
    return [item.id for item in ordered[max(keep, 1) :] if item.id not in needed]


def words(
    found: Found, switch: Switch, before: Mapping[str, Any] | None, after: Mapping[str, Any]
) -> list[str]:
    lines = [f"release {found.current or 'none'} -> {switch.to}"] if switch.flip else []
    lines += [f"  {line}" for line in _differences(before, after)]
    lines += [f"{unit} stops and goes away: {switch.why[unit]}" for unit in switch.remove]
    lines += [f"{unit} {_verb(switch, unit)}: {switch.why[unit]}" for unit in switch.start]
    going_on = _going_on(found, switch)
    lines += [f"{unit} goes on without a restart" for unit in going_on] if switch.changes else []
    return lines


def _differences(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    try:
        return differences(before, after)
    except (KeyError, TypeError):
        # A rollback over versions of this collection must not fail for want of words.
        return ["its plan was made by another version of this collection"]


def _verb(switch: Switch, unit: str) -> str:
    return "restarts" if unit in switch.stop else "starts"


def _going_on(found: Found, switch: Switch) -> Iterable[str]:
    members = found.releases[switch.to].members.values() if switch.to in found.releases else ()
    return sorted(member.unit for member in members if member.unit not in switch.start)
