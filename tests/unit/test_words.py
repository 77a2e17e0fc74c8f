# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word for each concept (docs/glossary.md): words that were used before stay out of what users read."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BANNED = {
    r"\b(front|inner) doors?\b|\bdoors?\b": "gateway, internal listener",
    r"\breliefs?\b": "standby",
    r"^#+ Never seen": "Not tested",
    r"\bis no such\b": "invalid, unknown",
    r"\bvigil\b": "monitor",
}
READ = (
    "*.md",
    "docs/*.md",
    "roles/*/README.md",
    "roles/*/meta/*.yml",
    "roles/*/tasks/*.yml",
    "playbooks/*.yml",
)


def found(text: str) -> list[tuple[int, str]]:
    return [
        (number, f"{match[0]}: use {instead}")
        for number, line in enumerate(text.splitlines(), 1)
        for pattern, instead in BANNED.items()
        if (match := re.search(pattern, line, re.IGNORECASE))
    ]


def test_the_patterns_find_what_they_are_for() -> None:
    for line in (
        "# The front door",
        "an inner door",
        "a relief",
        "## Never seen",
        "x is no such value",
        "a vigil",
    ):
        assert found(line), line
    assert found("outdoors at the gateway") == []


def test_texts_for_users_keep_to_the_glossary() -> None:
    paths = sorted({path for pattern in READ for path in ROOT.glob(pattern)})
    assert len(paths) > 50
    said = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in paths
        for line, what in found(path.read_text("utf-8"))
    ]
    assert said == []
