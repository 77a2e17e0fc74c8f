# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Titles: a task begins with an imperative verb and names its object; a play is a noun phrase."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VERBS = frozenset(yaml.safe_load((ROOT / "tests/unit/data/title_verbs.yml").read_text("utf-8"))["verbs"])
CLAUSES = frozenset(
    ["a", "an", "are", "at", "do", "does", "for", "is", "it", "no", "they", "the", "what", "which", "who"]
)
"""Words that begin a clause or a question."""
UNNAMED = frozenset(("it", "its", "them", "they"))
"""Pronouns in the place of an object."""
TASKS = ("roles/*/tasks/*.yml", "roles/*/handlers/*.yml", "playbooks/*.yml", "molecule/*/*.yml", "site.yml")
EXAMPLES = ("plugins/modules/*.py", "plugins/filter/*.yml")


def entries(found: Any) -> Iterator[dict[str, Any]]:
    """Plays and tasks of a file, blocks included."""
    for entry in found if isinstance(found, list) else []:
        yield entry
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from entries(entry.get(part))


def is_play(entry: dict[str, Any]) -> bool:
    return "hosts" in entry or any(key.endswith("import_playbook") for key in entry)


def example_of(text: str, suffix: str) -> Any:
    if suffix == ".yml":
        return yaml.safe_load(yaml.safe_load(text).get("EXAMPLES") or "")
    found = re.search(r'^EXAMPLES = r?"""(.*?)^"""', text, re.DOTALL | re.MULTILINE)
    return yaml.safe_load(found[1]) if found else None


def task_errors(title: str) -> list[str]:
    words = title.split()
    return [
        wrong
        for wrong, is_so in (
            (
                "does not begin with an imperative verb of VERBS",
                not words or words[0].rstrip(",") not in VERBS,
            ),
            ("names no object", len(words) < 2 or words[1].lower() in UNNAMED),
            ("ends in a full stop or a question mark", title.endswith((".", "?", "!"))),
        )
        if is_so
    ]


def play_errors(title: str) -> list[str]:
    words = title.split()
    return [
        wrong
        for wrong, is_so in (
            ("does not begin with a capital", not title[:1].isupper()),
            ("is a clause, not a noun phrase", not words or words[0].lower() in CLAUSES or len(words) > 4),
            ("ends in a full stop or a question mark", title.endswith((".", "?", "!"))),
        )
        if is_so
    ]


def title_errors(entry: dict[str, Any]) -> list[str]:
    title = str(entry.get("name", ""))
    if not title and any(key.endswith("meta") for key in entry):
        return []
    found = play_errors(title) if is_play(entry) else task_errors(title)
    return [f"{title!r} {wrong}" for wrong in found]


def test_what_a_title_must_not_be_is_found() -> None:
    for title in (
        "What was done", "Is it here?", "They run, and start at boot", "Packages", "Stop it", "install HAProxy",
        "Install HAProxy.", "Restart", "The launcher", "",
    ):  # fmt: skip
        assert task_errors(title), title
    for title in (
        "Look at the inventory of hosts",
        "what runs",
        "Bare hosts to a served token",
        "Is it here?",
        "",
    ):
        assert play_errors(title), title
    assert task_errors("Install HAProxy") == task_errors("Copy, verify and publish missing weights") == []
    assert play_errors("Engine preflight") == []


def test_tasks_and_plays_have_such_titles() -> None:
    paths = sorted({path for pattern in TASKS for path in ROOT.glob(pattern)})
    named = [(path, entry) for path in paths for entry in entries(yaml.safe_load(path.read_text("utf-8")))]
    assert len(named) > 400
    assert [
        f"{path.relative_to(ROOT)}: {error}" for path, entry in named for error in title_errors(entry)
    ] == []


def test_examples_of_modules_and_filters_have_such_titles() -> None:
    paths = sorted({path for pattern in EXAMPLES for path in ROOT.glob(pattern)})
    named = [
        (path, entry) for path in paths for entry in entries(example_of(path.read_text("utf-8"), path.suffix))
    ]
    assert len(named) > 80
    assert [
        f"{path.relative_to(ROOT)}: {error}" for path, entry in named for error in title_errors(entry)
    ] == []
