# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments of one release as typed values, and the JSON file that holds them.

A file is {schema, version, wheel: {name, sha256}, flags: {name: entry}, architectures: [...]}.
Names stand without their leading dashes. An entry leaves out what is empty or false:

    aliases     other spellings
    dest        where the server keeps the value; two flags may share one
    kind        value, switch (given or not), toggle (also --no-NAME), ignored (accepted, does nothing)
    type        str, int, float, count ("8k" is allowed), json
    nargs       as in argparse: "+", "*", "?"
    choices     allowed values; null: restricted, but not readable from the source
    required, default, const
    deprecated  {successor, error}: error means that the server refuses it
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Flag:
    name: str
    dest: str
    kind: str = "value"
    aliases: tuple[str, ...] = ()
    type: str = "str"
    nargs: str | None = None
    choices: tuple[Any, ...] | None = None
    choices_unreadable: bool = False
    required: bool = False
    deprecated: bool = False
    successor: str = ""
    refused_by_server: bool = False

    @property
    def takes_value(self) -> bool:
        return self.kind == "value"

    @property
    def takes_list(self) -> bool:
        return self.nargs in ("+", "*")


@dataclass(frozen=True)
class Contract:
    version: str
    flags: dict[str, Flag]
    spellings: dict[str, str] = field(default_factory=dict)
    """Every accepted name, aliases and negations too -> the canonical name."""

    def flag(self, spelling: str) -> Flag | None:
        name = self.spellings.get(spelling)
        return self.flags[name] if name is not None else None


def contract_from(data: Mapping[str, Any]) -> Contract:
    if data.get("schema") != SCHEMA:
        raise ValueError(f"flag contract has schema {data.get('schema')!r}, this version reads {SCHEMA}")
    flags = {name: _flag(name, entry) for name, entry in data["flags"].items()}
    spellings: dict[str, str] = {}
    for flag in flags.values():
        for spelling in (flag.name, *flag.aliases):
            spellings[spelling] = flag.name
            if flag.kind == "toggle":
                spellings[f"no-{spelling}"] = flag.name
    return Contract(str(data["version"]), flags, spellings)


def _flag(name: str, entry: Mapping[str, Any]) -> Flag:
    deprecated = entry.get("deprecated")
    choices = entry.get("choices")
    return Flag(
        name=name,
        dest=entry["dest"],
        kind=entry["kind"],
        aliases=tuple(entry.get("aliases", ())),
        type=entry.get("type", "str"),
        nargs=entry.get("nargs"),
        choices=tuple(choices) if choices is not None else None,
        choices_unreadable="choices" in entry and choices is None,
        required=bool(entry.get("required")),
        deprecated=deprecated is not None,
        successor=(deprecated or {}).get("successor", ""),
        refused_by_server=bool((deprecated or {}).get("error")),
    )


def render(version: str, wheel: Mapping[str, str], parsed: Mapping[str, Any]) -> str:
    """The text of flags/<version>.json: sorted, one flag a line."""

    def compact(value: Any) -> str:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    def block(lines: list[str]) -> str:
        return ",\n".join(lines)

    flags = block([f"{compact(name)}:{compact(parsed['flags'][name])}" for name in sorted(parsed["flags"])])
    classes = block([compact(name) for name in sorted(parsed["architectures"])])
    return (
        f'{{"schema":{SCHEMA},\n"version":{compact(version)},\n"wheel":{compact(dict(wheel))},\n'
        f'"flags":{{\n{flags}\n}},\n"architectures":[\n{classes}\n]}}\n'
    )
