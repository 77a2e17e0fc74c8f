# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README in two languages with the same content, and links between documents that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_README = 120
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text(name), re.MULTILINE | re.DOTALL)


def prose(name: str) -> str:
    return re.sub(r"^```.*?^```$", "", text(name), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_is_short(name: str) -> None:
    assert len(text(name).splitlines()) <= LONGEST_README


def test_both_languages_have_the_same_examples_headings_and_links() -> None:
    english, chinese = "README.md", "README.zh-CN.md"
    assert blocks(english) == blocks(chinese)
    for pattern in (r"^#+", r"^\|", r"^- "):
        count = [len(re.findall(pattern, prose(name), re.MULTILINE)) for name in (english, chinese)]
        assert count[0] == count[1], pattern
    links = [
        set(re.findall(r"\]\(([^)]+)\)", text(name))) - {english, chinese} for name in (english, chinese)
    ]
    assert links[0] == links[1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\((?!\w+:)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_every_page_is_in_the_handbook() -> None:
    pages = {path.stem for path in ROOT.glob("docs/*.md")} - {"index"}
    listed = re.findall(r"^([\w-]+)$", text("docs/index.md"), re.MULTILINE)
    assert sorted(listed) == sorted(pages)
