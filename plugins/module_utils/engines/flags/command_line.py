# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags to an argument vector for the server, and the words of a command line back to flags."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .contract import Contract, Flag


def to_argv(contract: Contract, arguments: Iterable[tuple[str, Any]]) -> list[str]:
    """Checked arguments as the server's command line; a switch that is false is left out."""
    argv: list[str] = []
    for name, value in arguments:
        flag = contract.flags[contract.spellings[name]]
        argv.extend(_rendered(flag, value))
    return argv


def _rendered(flag: Flag, value: Any) -> list[str]:
    option = f"--{flag.name}"
    if not flag.takes_value:
        if value:
            return [option]
        return [f"--no-{flag.name}"] if flag.kind == "toggle" else []
    if flag.nargs == "?" and isinstance(value, bool):
        return [option] if value else []
    if isinstance(value, list) and flag.takes_list and flag.type != "json":
        return [option, *(_text(item) for item in value)]
    text = _text(value)
    # A value that begins with a dash would be read as a flag.
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, sort_keys=True)
    return str(value)


@dataclass(frozen=True)
class Command:
    """The words behind an engine's name taken apart."""

    arguments: tuple[tuple[str, Any], ...]
    leftover: tuple[str, ...] = ()
    """Words that belong to no flag."""


def parse_words(contracts: Sequence[Contract], words: Sequence[str]) -> Command:
    """`--tp-size 8 --enable-metrics ...` -> its flags; the first release that has a flag says whether it takes a value.

    Unknown flags are kept as they stand, with the value that follows them, so that a check can name
    them. Repeated flags stay repeated.
    """
    arguments: list[tuple[str, Any]] = []
    leftover: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if not _is_option(word):
            leftover.append(word)
            continue
        name, equals, inline = word.lstrip("-").partition("=")
        flag = next((found for contract in contracts if (found := contract.flag(name))), None)
        values = [inline] if equals else []
        if not equals and (flag is None or flag.takes_value):
            limit = len(words) if flag is not None and flag.takes_list else position + 1
            while position < min(limit, len(words)) and not _is_option(words[position]):
                values.append(words[position])
                position += 1
        arguments.append((name, _value(flag, values)))
    return Command(tuple(arguments), tuple(leftover))


def _is_option(word: str) -> bool:
    """-1 is a value, -tp is not."""
    return word.startswith("-") and len(word) > 1 and not re.fullmatch(r"-\d+(\.\d+)?", word)


def _value(flag: Flag | None, values: list[str]) -> Any:
    if flag is not None and not flag.takes_value:
        return values[0] if values else True
    if flag is not None and flag.takes_list:
        return list(values)
    if not values:
        return True if flag is None or flag.nargs == "?" else None
    return values[0]
