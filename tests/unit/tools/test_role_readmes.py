# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tools/role_readmes.py: the README of every role says what its argument_specs and defaults say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
ROLES = sorted((ROOT / "roles").iterdir())


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("role_readmes", ROOT / "tools/role_readmes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


role_readmes = load()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_readme_is_up_to_date(role: Path) -> None:
    written = role / "README.md"
    assert written.is_file(), "run `make readmes`"
    assert written.read_text(encoding="utf-8") == role_readmes.readme(role), "run `make readmes`"


def test_entry_points_variables_and_defaults_are_listed(tmp_path: Path) -> None:
    role = tmp_path / "example"
    for folder in ("meta", "defaults"):
        (role / folder).mkdir(parents=True)
    (role / "defaults/main.yml").write_text('example_plan: "{{ plan | first }}"\nexample_keep: 2\n')
    (role / "meta/argument_specs.yml").write_text(
        "argument_specs:\n"
        "  main:\n"
        "    short_description: Example\n"
        "    description: [Reads C(plan.json).]\n"
        "    options:\n"
        "      example_plan: {description: The plan., type: dict}\n"
        "      example_keep: {description: Releases to keep., type: int, default: 2, choices: [1, 2]}\n"
        "      example_name: {description: 'Name, see V(a) and O(b).', required: true}\n"
        "  remove: {short_description: Remove it, description: Removes it.}\n"
    )
    text = role_readmes.readme(role)
    assert "# Role `baremetal.sglang.example`" in text
    assert "Reads `plan.json`." in text
    assert "- `example_plan` (dict)  \n  The plan.  \n  Default: `{{ plan | first }}`" in text
    assert "- `example_keep` (int)  \n  Releases to keep.  \n  Choices: `1`, `2`  \n  Default: `2`" in text
    assert "- `example_name` (str, required)  \n  Name, see `a` and `b`." in text
    assert "## Entry point `remove`" in text
    assert "    tasks_from: remove" in text
