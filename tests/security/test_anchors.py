# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No expression ends in a dollar sign: it also matches before a final newline, so a checked value could carry one."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [
    path
    for folder in ("plugins", "roles", "tools", "playbooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
SCHEMAS = sorted((ROOT / "files").rglob("*.schema.json"))
PLAYS = [
    path
    for folder in ("roles", "playbooks")
    for suffix in ("*.yml", "*.j2")
    for path in sorted((ROOT / folder).rglob(suffix))
]
FUNCTIONS = ("compile", "match", "search", "fullmatch", "findall", "finditer", "split", "sub", "subn")
MANY_LINES = re.compile(r"\(\?[a-z]*m[a-z]*[):]")
# An escaped character, a class of characters, or a dollar sign that stands for the end.
TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|(\$)(?!\(\?!\\n\))", re.DOTALL)
IN_JINJA = re.compile(r"(?:regex_search|regex_findall|is (?:not )?(?:match|search|regex))\(\s*(['\"])(.*?)\1")


def loose_end(pattern: str) -> bool:
    """Whether a dollar sign means an end of the text; in the mode of many lines it is an end of a line."""
    return not MANY_LINES.match(pattern) and any(found[1] for found in TOKEN.finditer(pattern))


def _text(node: ast.expr) -> str:
    """The constant parts of a pattern; of bytes and f-strings too."""
    if isinstance(node, ast.Constant):
        value = node.value
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "x" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return ""


def expressions(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in FUNCTIONS
            and node.args
            and "MULTILINE" not in ast.dump(node)
        ):
            yield node.lineno, _text(node.args[0])


def patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from (key for key in schema.get("patternProperties", {}))
        for value in schema.values():
            yield from patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from patterns(value)


@pytest.mark.parametrize(
    ("pattern", "loose"),
    [
        (r"^[a-z]+$", True),
        (r"^a$|^b\Z", True),
        (r"(\d+|$)", True),
        (r"^[a-z]+\Z", False),
        (r"[a-z$]+", False),
        (r"[]$]", False),
        (r"cost \$5", False),
        (r"(?m)^x$", False),
        (r"^x$(?!\n)", False),
    ],
)
def test_the_scan_knows_a_loose_end(pattern: str, loose: bool) -> None:
    assert loose_end(pattern) is loose


def test_no_expression_in_python_has_a_loose_end() -> None:
    assert len(PYTHON) > 200
    found = [
        f"{path.relative_to(ROOT)}:{line}: {pattern}"
        for path in PYTHON
        for line, pattern in expressions(path.read_text(encoding="utf-8"))
        if loose_end(pattern)
    ]
    assert found == []


def test_no_schema_has_a_loose_end() -> None:
    found = [
        f"{path.name}: {pattern}"
        for path in SCHEMAS
        for pattern in patterns(json.loads(path.read_text(encoding="utf-8")))
        if loose_end(pattern)
    ]
    assert SCHEMAS and found == []


def test_no_expression_in_a_play_has_a_loose_end() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[2]}"
        for path in PLAYS
        for match in IN_JINJA.finditer(path.read_text(encoding="utf-8"))
        if loose_end(match[2])
    ]
    assert found == []
