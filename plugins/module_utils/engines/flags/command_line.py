# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags to an argument vector for the server, and a shell command line back to flags."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .contract import Contract, Flag

_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z", re.DOTALL)
_LAUNCHERS = ("sglang.launch_server", "sglang.srt.launch_server")
_CONTROL = ("&", "&&", "||", "|", ";")


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
    """A launch command taken apart."""

    arguments: tuple[tuple[str, Any], ...]
    environment: dict[str, str] = field(default_factory=dict)
    leftover: tuple[str, ...] = ()
    """Words that belong to no flag."""


def is_launch_command(text: str) -> bool:
    return any(name in text for name in _LAUNCHERS) or bool(re.search(r"\bsglang\s+serve\b", text))


def parse_command(contract: Contract, text: str) -> Command:
    """`A=1 python -m sglang.launch_server --tp-size 8 ...` or `sglang serve ...` -> its flags.

    Unknown flags are kept as they stand, with the value that follows them, so that a check can name
    them. Repeated flags stay repeated.
    """
    words = shlex.split(text.replace("\\\r\n", " ").replace("\\\n", " "), comments=True)
    environment: dict[str, str] = {}
    start = _launcher_end(words)
    for word in words[:start]:
        match = _ASSIGNMENT.match(word)
        if match:
            environment[match.group(1)] = match.group(2)
    arguments: list[tuple[str, Any]] = []
    leftover: list[str] = []
    rest = words[start:]
    end = next(
        (index for index, word in enumerate(rest) if word in _CONTROL or word.startswith((">", "2>"))),
        len(rest),
    )
    rest = rest[:end]
    position = 0
    while position < len(rest):
        word = rest[position]
        position += 1
        if not _is_option(word):
            leftover.append(word)
            continue
        name, equals, inline = word.lstrip("-").partition("=")
        flag = contract.flag(name)
        values = [inline] if equals else []
        if not equals and (flag is None or flag.takes_value):
            limit = len(rest) if flag is not None and flag.takes_list else position + 1
            while position < min(limit, len(rest)) and not _is_option(rest[position]):
                values.append(rest[position])
                position += 1
        arguments.append((name, _value(flag, values)))
    return Command(tuple(arguments), environment, tuple(leftover))


def _launcher_end(words: list[str]) -> int:
    for index, word in enumerate(words):
        if word in _LAUNCHERS:
            return index + 1
        if word == "serve" and index and words[index - 1].rsplit("/", 1)[-1] == "sglang":
            return index + 1
    raise ValueError("no `python -m sglang.launch_server` and no `sglang serve` in this command")


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
