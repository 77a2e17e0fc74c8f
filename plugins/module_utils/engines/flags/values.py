# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether one value fits one flag, by the rules that the server's own parser applies."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ...core.refusals import closest
from .contract import Contract, Flag

PARSER = "-parser"
_COUNT = re.compile(r"^(\d+|\d+(\.\d+)?[kMGT]|\d+[KMGT]i)\Z")


@dataclass(frozen=True)
class Fault:
    code: str
    what: str
    fix: str


def check_value(contract: Contract, flag: Flag, value: Any) -> Fault | None:
    """The first thing that is wrong with a value, or None. Values come from YAML or a command line."""
    if value is None:
        return Fault("value-missing", "has no value", _expects(flag))
    if not flag.takes_value:
        if isinstance(value, bool):
            return None
        return Fault("switch-with-value", f"is a switch and takes no value, but {show(value)} was given",
                     "write true or false")  # fmt: skip
    if isinstance(value, list) and flag.type != "json":
        return _check_list(contract, flag, value)
    if isinstance(value, dict) and flag.type != "json":
        return Fault("wrong-type", "takes one value, not a mapping", _expects(flag))
    if isinstance(value, bool) and not _accepts_bool(flag):
        return Fault("bool-for-value", f"takes a value, but {show(value)} was given", _expects(flag))
    return _check_type(flag, value) or _check_choice(contract, flag, value)


def _check_list(contract: Contract, flag: Flag, values: list[Any]) -> Fault | None:
    if not flag.takes_list:
        return Fault("wrong-type", f"takes one value, but a list of {len(values)} was given", _expects(flag))
    if not values and flag.nargs == "+":
        return Fault("value-missing", "needs at least one value", _expects(flag))
    for item in values:
        if isinstance(item, dict) and flag.type == "str":
            continue  # written as JSON, as --lora-paths takes it
        if item is None or isinstance(item, (bool, list, dict)):
            return Fault("wrong-type", f"takes a plain list, but {show(item)} is in it", _expects(flag))
        fault = _check_type(flag, item) or _check_choice(contract, flag, item)
        if fault is not None:
            return fault
    return None


def _accepts_bool(flag: Flag) -> bool:
    """`?` makes the value optional, so `true` means the bare flag; some choices are the words themselves."""
    return (
        flag.nargs == "?"
        or flag.type == "json"
        or bool(flag.choices and {"true", "True"} & set(flag.choices))
    )


def _check_type(flag: Flag, value: Any) -> Fault | None:
    wrong = Fault("wrong-type", f"takes {_KINDS[flag.type]}, but {show(value)} was given", _expects(flag))
    if isinstance(value, bool):
        return None
    if flag.type == "int":
        return None if isinstance(value, int) or re.fullmatch(r"-?\d+", str(value).strip()) else wrong
    if flag.type == "float":
        return None if _is_number(value) else wrong
    if flag.type == "count":
        return None if _COUNT.match(str(value)) or re.fullmatch(r"-\d+", str(value)) else wrong
    if flag.type == "json" and isinstance(value, str):
        return None if _is_json(value) else wrong
    return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _check_choice(contract: Contract, flag: Flag, value: Any) -> Fault | None:
    if flag.choices is None or isinstance(value, bool):
        return None
    allowed = [str(choice) for choice in flag.choices]
    if str(value) in allowed:
        return None
    what = f"{show(value)} is not a choice of {contract.version}"
    other = _parser_of_that_name(contract, flag, str(value))
    if other:
        what += f": {value} is {other}"
    return Fault("wrong-choice", what, _nearest_choice(str(value), allowed))


def _parser_of_that_name(contract: Contract, flag: Flag, value: str) -> str:
    """glm47 parses tool calls and glm45 parses reasoning: flags of parsers are easily mixed up."""
    for name, other in contract.flags.items():
        if (
            flag.name.endswith(PARSER)
            and name.endswith(PARSER)
            and other != flag
            and value in (other.choices or ())
        ):
            return f"a {name.removesuffix(PARSER)} parser"
    return ""


def _nearest_choice(value: str, allowed: list[str]) -> str:
    near = closest(value, allowed)
    return f"did you mean {near[0]}?" if near else f"choose one of: {', '.join(allowed)}"


_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "count": "a whole number (8192, 8k, 8Ki)",
    "json": "JSON",
}


def _expects(flag: Flag) -> str:
    if flag.choices:
        return f"choose one of: {', '.join(str(choice) for choice in flag.choices)}"
    kind = _KINDS[flag.type]
    return f"give a list, each item {kind}" if flag.takes_list else f"give {kind}"


def show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value) if str(value) else "an empty text"
