# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server arguments and one release's contract: names, choices, and the check of what will be passed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..core.refusals import Advice, Refusal
from ..engines.flags.check import Foreign, Rules, check_arguments
from ..engines.flags.command_line import to_argv
from ..engines.flags.contract import Contract
from .plan import Argument
from .serve_spec import Instance


class FlagNames:
    """Answers about flags by any of their names."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def knows(self, flag: str) -> bool:
        return flag in self.contract.spellings

    def primary(self, flag: str) -> str:
        """The release's main spelling; an unknown flag stays as it is, for the check to refuse."""
        return self.contract.spellings.get(flag, flag)

    def deprecated(self, flag: str) -> bool:
        found = self.contract.flag(flag)
        return found is not None and found.deprecated

    def first(self, *names: str) -> str:
        """The first of several names that the release has, those not deprecated before the others."""
        present = [name for name in names if self.knows(name)]
        current = [name for name in present if not self.deprecated(name)]
        return self.primary((current or present)[0]) if present else ""

    def allows(self, flag: str, value: Any) -> bool:
        """Whether the release has the flag and the value is one of its choices, where it has any."""
        found = self.contract.flag(flag)
        return found is not None and (found.choices is None or value in found.choices)

    def command_line(self, arguments: Iterable[Argument]) -> list[str]:
        known = [(item.flag, item.value) for item in arguments if self.knows(item.flag)]
        return to_argv(self.contract, known)


def flag_problems(
    names: FlagNames,
    instance: Instance,
    arguments: Iterable[Argument],
    others: Iterable[Contract],
    rules: Rules,
    host: str,
    able: Collection[str] = (),
    foreign: Iterable[Foreign] = (),
) -> tuple[list[Refusal], list[Advice]]:
    """The user's options as written, and what the planner itself would pass."""
    further = list(others)
    place = f"serve.{instance.name}.options"
    options = [
        (flag, value, f"{place}.{flag} = {_shown(value)}")
        for flag, value in instance.options.items()
        # None takes back what the plan would set; a name that no release knows is refused all the same.
        if value is not None or not names.knows(flag)
    ]
    _said, problems = check_arguments(names.contract, options, further, rules, instance.name, able, foreign)
    told = {names.primary(problem.flag) for problem in problems}
    ours = [
        (item.flag, item.value, _origin(instance, item))
        for item in arguments
        if item.flag not in told and not item.origin.startswith(place)
    ]
    _made, more = check_arguments(names.contract, ours, further)
    found = [*problems, *(item for item in more if not item.advice)]
    return (
        [item.refusal(host) for item in found if not item.advice],
        [item.as_advice(host) for item in found if item.advice],
    )


def _origin(instance: Instance, item: Argument) -> str:
    if item.origin.startswith("serve."):
        return f"{item.origin} = {_shown(item.value)}"
    return f"serve.{instance.name} (--{item.flag} {_shown(item.value)}, from {item.origin})"


def _shown(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}.get(value, str(value))
        if not isinstance(value, (list, dict, int, float)) or isinstance(value, bool)
        else str(value)
    )


def as_mapping(contracts: Mapping[str, Contract], but: str) -> list[Contract]:
    return [contract for key, contract in contracts.items() if key != but]
