# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expressions (PCRE) that find the model's name in a JSON body exactly as a JSON parser would, or find nothing.

Member by member, nested values as a whole: only a `model` of the outermost object counts, however its letters are escaped. A
body that names it twice, or that is no JSON object, matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .text import quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
"""Model names that a gateway can serve: any other would be ambiguous in a path, a log or its configuration."""
GROUP = 3
"""Number of the group with the name, in the spelling of the body."""

_STRING = r'"(?:[^"\\]++|\\.)*+"'
_SPACE = r"[ \t\r\n]*+"
# Within a nested value it is enough to tell strings and brackets apart.
_INSIDE = r'(?:[^]["{}]++|(?&s)|(?&c))*+'
_DEFINED = rf"(?s)(?(DEFINE)(?<s>{_STRING})(?<c>\{{{_INSIDE}\}}|\[{_INSIDE}\]))"
_VALUE = r'(?:(?&s)|(?&c)|[^]["{},: \t\r\n]++)'


def spellings(name: str) -> str:
    """Every way in which a JSON string may spell these characters."""
    return "".join(map(_letter, name))


def _letter(letter: str) -> str:
    digits = "".join(
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(letter):04x}"
    )
    short = r"\\?/" if letter == "/" else re.escape(letter)
    return rf"(?:{short}|\\u{digits})"


_KEY = f'"{spellings("model")}"'
_OTHER = rf"{_SPACE}(?!{_KEY}{_SPACE}:)(?&s){_SPACE}:{_SPACE}{_VALUE}{_SPACE}"
_NAMED = rf'^{_SPACE}\{{(?:{_OTHER},)*+{_SPACE}{_KEY}{_SPACE}:{_SPACE}"((?:[^"\\]++|\\.)*+)"{_SPACE}'

WHOLE = rf"{_DEFINED}{_NAMED}(?:,{_OTHER})*+\}}{_SPACE}\z"
"""Of a body that is here as a whole."""
FIRST_PART = rf"{_DEFINED}{_NAMED}(?:,{_OTHER})*+(?!,{_SPACE}{_KEY}).*+\z"
"""Of a body whose end has not been read."""


def model_in_body(models: Iterable[str]) -> list[str]:
    """Rules that set txn.spelled to the name in the body, and txn.model to the one of these models that it spells."""
    asked = "!METH_GET !{ var(txn.model) -m found }"
    lines = [
        "    http-request set-var(txn.size) req.body_size",
        "    acl cut req.body_len,sub(txn.size) -m int lt 0",
    ]
    for expression, condition in ((WHOLE, "!cut"), (FIRST_PART, "cut")):
        name = quoted(f"req.body,regsub('{expression}','\\{GROUP}')")
        found = f"{{ req.body -m reg {quoted(expression)} }}"
        lines.append(f"    http-request set-var(txn.spelled) {name} if {asked} {condition} {found}")
    for model in models:
        spelled = quoted(rf"^{spellings(model)}\z")
        lines.append(
            f"    http-request set-var(txn.model) {quoted(f'str({model})')} if {{ var(txn.spelled) -m reg {spelled} }}"
        )
    return lines
