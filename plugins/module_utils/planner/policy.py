# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`policy:` of the inventory over files/policy.yml: the file itself says which keys and kinds of values there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.refusals import Refusal, did_you_mean
from ..core.text_checks import CONTROL, PATH, VARIABLE, control_characters

# Programs on the hosts know these places and this user by heart.
FIXED = ("directories", "account", "remove")
# Mappings whose keys are data: any name is allowed, values are as those that are there.
OPEN = (
    "cache_variables",
    "offline_variables",
    "host.limits",
    "host.packages_for",
    "monitoring.journal",
    "engine.logs",
)
# Data of the engines, which is checked where all of it is read: by the planner.
OF_ENGINES = ("engine.logs", "engines")
# Zero says "none" there; everywhere else a number is above it.
FROM_ZERO = re.compile(
    r"engine\.restart\.delays|memory\.\w*(?:adjust|floor|swap)\w*|weights\.reserve_bytes|engine\.checks\.\w+"
)
SHARES = re.compile(r"fabric\.gates\.share|engines\.\w+\.memory\.fraction_\w+")
WORDS = re.compile(r"[A-Za-z0-9_@%+=:/.,* -]*\Z")
RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (r"(?:gateway|monitoring)\.(?:configuration|run|data|textfiles)|path", PATH, "an absolute path"),
    (r"(?:cache|offline)_variables\.name", VARIABLE, "the name of a variable"),
    (r"cache_variables", re.compile(r"(?!.*\.\.)[A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)*\Z"), "a path below the cache folder"),
    (r"host\.packages_for", re.compile(r"[a-z0-9+.-]*(?:\{python\}[a-z0-9+.-]*)?\Z"), "the name of a package"),
    (r"faults", re.compile(r"(?:refuse|refuse-group|advise|ignore)\Z"), "refuse, refuse-group, advise or ignore"),
    (r"gateway\.endpoints", re.compile(r"(?:GET|POST|PUT|DELETE|PATCH) /[A-Za-z0-9._/-]*\Z"), "an entry such as POST /tokenize"),
)  # fmt: skip


@dataclass(frozen=True)
class Policy:
    values: dict[str, Any]
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Dotted key -> {value, default} of what the inventory replaces."""
    refusals: tuple[Refusal, ...] = ()


def effective(defaults: Mapping[str, Any], given: Any) -> Policy:
    """The defaults with the inventory's values in their place; the defaults alone where anything is refused."""
    if given in (None, {}, ""):
        return Policy(dict(defaults))
    if not isinstance(given, Mapping):
        refusal = _refusal(
            "", given, "must be a mapping", "write policy: {engine: {watch: {silence_seconds: 120}}}"
        )
        return Policy(dict(defaults), {}, (refusal,))
    work = _Work()
    values = work.mapping("", defaults, given)
    if work.refusals:
        return Policy(dict(defaults), {}, tuple(work.refusals))
    return Policy(values, work.changed)


def of_hosts(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Policy:
    """The policy of all hosts of one inventory, which are planned together."""
    said = {host: value for host, value in given.items() if value not in (None, {}, "")}
    different = [host for host in given if given[host] != next(iter(given.values()))]
    if said and different:
        refusal = Refusal(
            "policy-differs",
            different[0],
            "policy",
            f"{different[0]} has another policy than {next(iter(given))}, and the hosts of an inventory are planned together",
            "write policy: in group_vars/all.yml",
        )
        return Policy(dict(defaults), {}, (refusal,))
    return effective(defaults, next(iter(said.values()), None))


def _refusal(key: str, value: Any, what: str, fix: str) -> Refusal:
    shown = "" if isinstance(value, Mapping) else f" = {value!r}"
    return Refusal("policy", "", f"policy{'.' if key else ''}{key}{shown}", what, fix)


class _Work:
    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.changed: dict[str, dict[str, Any]] = {}

    def mapping(self, place: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(defaults)
        for raw, value in given.items():
            key = CONTROL.sub("?", str(raw))
            here = f"{place}.{key}" if place else key
            if here in FIXED:
                fix = "leave it out: programs on the hosts rely on these places"
                self.refusals.append(_refusal(here, value, "it cannot be changed in this version", fix))
            elif key in defaults:
                found[key] = self.value(here, defaults[key], value)
            elif place in OF_ENGINES and not defaults:
                found[key] = value
            elif place in OPEN:
                if place.endswith("_variables") and not VARIABLE.match(key):
                    self._wrong(here, value, "the name of a variable")
                found[key] = self.value(here, next(iter(defaults.values())), value)
            else:
                self.refusals.append(
                    _refusal(here, value, "unknown key of files/policy.yml", did_you_mean(key, defaults))
                )
        return found

    def value(self, place: str, default: Any, value: Any) -> Any:
        if isinstance(default, Mapping):
            if isinstance(value, Mapping):
                return self.mapping(place, default, value)
            return self._wrong(place, value, "a mapping")
        problem = next(self._problems(place, default, value), "")
        if problem:
            return self._wrong(place, value, problem)
        if value != default:
            self.changed[place] = {"value": value, "default": default}
        return value

    def _wrong(self, place: str, value: Any, wanted: str) -> Any:
        self.refusals.append(_refusal(place, value, "invalid value for this key", f"write {wanted}"))
        return value

    def _problems(self, place: str, default: Any, value: Any) -> Iterator[str]:
        """What should stand there instead; nothing where the value fits."""
        if isinstance(default, bool) or isinstance(value, bool):
            if type(value) is not type(default):
                yield "true or false" if isinstance(default, bool) else _kind(default)
        elif isinstance(default, (int, float)):
            yield from _number_problems(place, default, value)
        elif isinstance(default, list):
            if not isinstance(value, list):
                yield f"a list, such as {default}"
                return
            for item in value:
                yield from self._problems(place, default[0] if default else "", item)
        elif isinstance(default, Mapping):
            # An entry of a list, such as a phase of the log: its keys are those of the first one.
            if not isinstance(value, Mapping) or not set(value) <= {*default, "bar"}:
                yield f"a mapping with the keys {', '.join(default)}"
        else:
            yield from _text_problems(place, value)


def _kind(default: Any) -> str:
    return {int: "a whole number", float: "a number", str: "text"}.get(type(default), "another value")


def _number_problems(place: str, default: float, value: Any) -> Iterator[str]:
    share = bool(SHARES.fullmatch(place))
    whole = isinstance(default, int) and not share
    if not isinstance(value, (int, float)) or (whole and not isinstance(value, int)):
        yield _kind(default)
    elif share and not 0 < value <= 1:
        yield "a number above 0, at most 1"
    elif value < 0 or (value == 0 and not FROM_ZERO.match(place)):
        yield "a number above 0"
    elif re.search(r"(?:^|[._])ports?(?:\Z|(?=[._]))", place) and value > 65535:
        yield "a port number, at most 65535"


def _text_problems(place: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield "text, in quotes where it looks like a number"
        return
    for where, pattern, words in RULES:
        if re.match(rf"(?:{where})(?:\.|\Z)", place):
            if not pattern.match(value):
                yield words
            return
    if place.startswith("engine.logs"):
        try:
            re.compile(value)
        except re.error as error:
            yield f"a regular expression ({error})"
        if any(control_characters(value, place)):
            yield "text on one line"
    elif not WORDS.match(value):
        yield "plain text: letters, digits and _ @ % + = : / . , * -"
