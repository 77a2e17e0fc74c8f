# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word for each concept (docs/glossary.md): words that were used before stay out of what users read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BANNED: dict[str, str] = yaml.safe_load((ROOT / "tests/unit/data/banned_words.yml").read_text("utf-8"))
PATTERNS = {re.compile(pattern, re.IGNORECASE): instead for pattern, instead in BANNED.items()}
READ = (
    "*.md",
    "docs/*.md",
    "roles/*/README.md",
    "roles/*/meta/*.yml",
    "roles/*/tasks/*.yml",
    "roles/*/templates/*.j2",
    "playbooks/*.yml",
    "plugins/filter/*.yml",
    "files/*.yml",
    "inventories/**/*.yml",
    "changelogs/fragments/*.yml",
    "Makefile",
)
PROGRAMS = ("plugins/**/*.py", "roles/*/files/**/*.py", "tools/*.py")
DATA = ("plugins/module_utils/measure/prompts.py",)
"""Its words are text for a model to read."""


def found(text: str) -> list[tuple[int, str]]:
    return [
        (number, f"{match[0]}: use {instead}")
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, instead in PATTERNS.items()
        if (match := pattern.search(line))
    ]


def found_in_program(text: str) -> list[tuple[int, str]]:
    """In texts, docstrings and the names that the file defines."""
    said = []
    for node in ast.walk(ast.parse(text)):
        texts = []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts = [node.value]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            texts = [re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", node.name)]
        elif isinstance(node, ast.arg):
            texts = [node.arg.replace("_", " ")]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            texts = [node.id.replace("_", " ")]
        said += [(getattr(node, "lineno", 0), what) for part in texts for _line, what in found(part)]
    return said


def all_of(patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def test_the_patterns_find_what_they_are_for() -> None:
    for line in (
        "# The front door",
        "an inner door",
        "a relief",
        "## Never seen",
        "x is no such value",
        "colour is no key of it",
        "a vigil",
        "on the shelf",
        "at the desk",
        "a wish",
        "they talk over sockets",
    ):
        assert found(line), line
    for line in ("outdoors at the gateway", "there is no key nobody", "desktop", "relieved", "shelfmark"):
        assert found(line) == [], line


def test_names_and_texts_of_programs_are_looked_at() -> None:
    for program in (
        "class DeskClerk: pass",
        "def load_shelf(): pass",
        "def f(wish): pass",
        "errand = 1",
        "print(f'{x} is no such value')",
    ):
        assert found_in_program(program), program
    assert found_in_program("spec = load_data_files()") == []


def test_texts_for_users_keep_to_the_glossary() -> None:
    paths = all_of(READ)
    assert len(paths) > 150
    assert [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in paths
        for line, what in found(path.read_text("utf-8"))
    ] == []


def test_programs_keep_to_the_glossary() -> None:
    paths = [path for path in all_of(PROGRAMS) if str(path.relative_to(ROOT)) not in DATA]
    assert len(paths) > 250
    assert [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in paths
        for line, what in found_in_program(path.read_text("utf-8"))
    ] == []
