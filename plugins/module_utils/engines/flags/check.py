# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server flags as users write them, held against what one release accepts.

The server's own parser is more lenient than this check: it takes abbreviations, lets the later of two
spellings win, and fails on a bad value only after the host was prepared. Here every flag is written
out, once, and every problem is found before anything is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...core.refusals import Advice, Refusal, closest
from .contract import Contract, Flag
from .values import check_value, show


class Argument(NamedTuple):
    """One flag with its value, and where it was said: `serve.glm-4.7.options.max-running-requests`."""

    flag: str
    value: Any
    where: str = ""


@dataclass(frozen=True)
class Problem:
    code: str
    """Stable, kebab-case: unknown-flag, removed-flag, wrong-choice ..."""
    flag: str
    where: str
    what: str
    fix: str
    advice: bool = False
    """The run may go on."""

    def refusal(self, host: str = "") -> Refusal:
        return Refusal(self.code, host, self.where or f"--{self.flag}", self.what, self.fix)

    def as_advice(self, host: str = "") -> Advice:
        return Advice(self.code, host, self.where or f"--{self.flag}", f"{self.what}; {self.fix}")


@dataclass(frozen=True)
class Rules:
    """What the collection itself knows about flags: flags/rules.json of the engine."""

    owned: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Flag -> {setting: key of serve.<name>} or {instead: a sentence}."""
    exclusive: tuple[Mapping[str, Any], ...] = ()
    """Each {flags: [a, b], why}."""
    concepts: Mapping[str, str] = field(default_factory=dict)
    """Flag -> what it is about, in words that other engines' rules use as well."""


@dataclass(frozen=True)
class Foreign:
    """The flags of another engine, to say what one of them is called here."""

    title: str
    name: str
    contract: Contract
    rules: Rules


def rules_from(data: Mapping[str, Any]) -> Rules:
    return Rules(data["owned"], tuple(data["exclusive"]), data.get("concepts", {}))


def check_arguments(
    contract: Contract,
    arguments: Iterable[tuple[str, Any, str]],
    others: Iterable[Contract] = (),
    rules: Rules | None = None,
    instance: str = "<name>",
    able: Collection[str] = (),
    foreign: Iterable[Foreign] = (),
) -> tuple[list[Argument], list[Problem]]:
    """The arguments under their canonical names, and all problems.

    `others` are the contracts of further releases, to say where a missing flag exists; of them only
    those in `able` are offered, where it names any. Pass `rules`
    for what users wrote; leave them out for arguments that the planner made. `foreign` are the flags of
    other engines.
    """
    rules = rules or Rules()
    accepted: list[Argument] = []
    problems: list[Problem] = []
    world = _World(contract, tuple(others), rules, instance, able, tuple(foreign))
    for given in (Argument(*item) for item in arguments):
        found = _find(world, given)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        flag, value = found
        accepted.append(Argument(flag.name, value, given.where))
        problems.extend(_check_one(contract, flag, given, value))
    problems.extend(_check_together(contract, accepted, rules))
    return accepted, problems


class _World(NamedTuple):
    contract: Contract
    others: tuple[Contract, ...]
    rules: Rules
    instance: str
    able: Collection[str]
    foreign: tuple[Foreign, ...] = ()


def _find(world: _World, given: Argument) -> tuple[Flag, Any] | Problem:
    name, contract = given.flag, world.contract
    flag = contract.flag(name)
    if flag is None:
        return _not_found(world, given)
    owned = world.rules.owned.get(flag.name)
    if owned is not None:
        return Problem(
            "owned-flag", name, given.where, "is set by the collection", _owner(owned, world.instance)
        )
    if flag.kind == "toggle" and name.startswith("no-") and name[3:] in (flag.name, *flag.aliases):
        if given.value is not True:
            return Problem("switch-with-value", name, given.where,
                           f"takes no value, but {show(given.value)} was given",
                           f"write {flag.name}: true or {flag.name}: false")  # fmt: skip
        return flag, False
    return flag, given.value


def _owner(owned: Mapping[str, str], instance: str) -> str:
    if "setting" in owned:
        return f"set it through serve.{instance}.{owned['setting']} instead"
    return owned["instead"]


def _not_found(world: _World, given: Argument) -> Problem:
    name, contract = given.flag, world.contract
    plain = name.lstrip("-").replace("_", "-")
    meant = {found.name for found in map(contract.flag, _completions(contract, plain)) if found is not None}
    if len(meant) == 1 and (owner := world.rules.owned.get(next(iter(meant)))):
        return Problem("abbreviated-flag", name, given.where, f"means {next(iter(meant))}, which is set by the collection",
                       _owner(owner, world.instance))  # fmt: skip
    for spelling, words in ((plain, "dashes"), (plain.replace("-", "_"), "underscores")):
        if spelling != name and (right := contract.flag(spelling)):
            owned = world.rules.owned.get(right.name)
            return Problem("flag-spelling", name, given.where, f"flags are written with {words}, none in front",
                           _owner(owned, world.instance) if owned else f"write {spelling}")  # fmt: skip
    removed = _elsewhere(world, given, plain) or _of_other_engine(world, given, plain)
    if removed is not None:
        return removed
    longer = _completions(contract, plain)
    if longer:
        names = longer[0] if len(longer) == 1 else f"one of {', '.join(longer[:6])}"
        return Problem("abbreviated-flag", name, given.where,
                       f"unknown flag in {contract.version}; abbreviations are not accepted",
                       f"write {names}")  # fmt: skip
    near = closest(plain, contract.spellings)
    fix = f"did you mean {near[0]}?" if near else "leave it out; no flag has a similar name"
    return Problem("unknown-flag", name, given.where, f"unknown flag in {contract.version}", fix)


def _of_other_engine(world: _World, given: Argument, plain: str) -> Problem | None:
    """A flag that another engine has, and what the same thing is called here."""
    for other in world.foreign:
        flag = other.contract.flag(plain) or other.contract.flag(plain.replace("-", "_"))
        if flag is None:
            continue
        owned, concept = other.rules.owned.get(flag.name), other.rules.concepts.get(flag.name)
        same = [
            name
            for name, about in world.rules.concepts.items()
            if concept and about == concept and world.contract.flag(name)
        ]
        if owned and "setting" in owned:
            fix = _owner(owned, world.instance)
        elif same:
            fix = f"write {' or '.join(same)}"
        else:
            fix = f"leave it out, or use engine: {other.name}"
        return Problem("flag-of-other-engine", given.flag, given.where, f"is a flag of {other.title}", fix)
    return None


def _completions(contract: Contract, start: str) -> list[str]:
    return sorted({full for full in contract.spellings if full.startswith(start)}) if start else []


def _elsewhere(world: _World, given: Argument, name: str) -> Problem | None:
    """A flag that other releases have: renamed when one of them, or this one, names its successor."""
    contract = world.contract
    having = sorted((o for o in world.others if o.flag(name)), key=lambda other: _order(other.version))
    if not having:
        return None
    versions = ", ".join(other.version for other in having)
    earlier = [other for other in having if _order(other.version) < _order(contract.version)]
    if not earlier:
        before = _predecessor(contract, name, having)
        pins = [other.version for other in having if other.version in world.able or not world.able]
        pin = f", or pin release {pins[0]}" if pins else ""
        return Problem("flag-of-later-release", name, given.where,
                       f"is not a flag of {contract.version}; it exists in {versions}",
                       (f"write {before}" if before else "leave it out") + pin)  # fmt: skip
    successor = _successor(contract, name, earlier)
    if successor:
        return Problem("renamed-flag", name, given.where,
                       f"is gone in {contract.version}; it existed in {versions}",
                       f"write {successor}")  # fmt: skip
    near = closest(name, contract.spellings)
    fix = f"leave it out; the closest flag there is {near[0]}" if near else "leave it out"
    return Problem("removed-flag", name, given.where,
                   f"is gone in {contract.version}; it existed in {versions}", fix)  # fmt: skip


def _predecessor(contract: Contract, name: str, later: list[Contract]) -> str:
    """What this release calls a flag that later ones renamed."""
    for other in later:
        for flag in other.flags.values():
            if flag.successor.split("=")[0].split(" ")[0] == name and contract.flag(flag.name):
                return flag.name
    return ""


def _successor(contract: Contract, name: str, earlier: list[Contract]) -> str:
    for other in reversed(earlier):
        flag = other.flag(name)
        if flag is not None and flag.successor and contract.flag(flag.successor.split("=")[0].split(" ")[0]):
            return flag.successor
    dests = {flag.dest for other in earlier for flag in [other.flag(name)] if flag is not None}
    same = [flag.name for flag in contract.flags.values() if flag.dest in dests and not flag.deprecated]
    return same[0] if len(same) == 1 else ""


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.replace("post", "").split(".") if part.isdigit())


def _check_one(contract: Contract, flag: Flag, given: Argument, value: Any) -> list[Problem]:
    problems = []
    fault = check_value(contract, flag, value)
    if fault is not None:
        problems.append(Problem(fault.code, flag.name, given.where, fault.what, fault.fix))
    if flag.deprecated:
        fix = f"write {flag.successor}" if flag.successor else "leave it out"
        what = f"is deprecated in {contract.version}"
        if flag.kind == "ignored":
            what += " and does nothing"
        problems.append(
            Problem("deprecated-flag", flag.name, given.where, what, fix, advice=not flag.refused_by_server)
        )
    return problems


def _check_together(contract: Contract, accepted: list[Argument], rules: Rules) -> list[Problem]:
    problems = []
    by_dest: dict[str, Argument] = {}
    for argument in accepted:
        dest = contract.flags[argument.flag].dest
        first = by_dest.setdefault(dest, argument)
        if first is not argument:
            also = f" ({first.where})" if first.where else ""
            problems.append(
                Problem("flag-given-twice", argument.flag, argument.where,
                        f"sets what {first.flag}{also} already sets, and the server keeps only the last",
                        "keep one of the two"))  # fmt: skip
    given = {argument.flag: argument for argument in accepted if argument.value is not False}
    for rule in rules.exclusive:
        clash = [name for name in rule["flags"] if name in given]
        if len(clash) > 1:
            last = given[clash[-1]]
            problems.append(
                Problem("flags-exclude-each-other", last.flag, last.where,
                        f"{' and '.join(clash)} exclude each other: {rule['why']}",
                        "keep one of the two"))  # fmt: skip
    return problems
