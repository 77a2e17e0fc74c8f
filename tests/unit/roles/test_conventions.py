# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults of every role equal those that its argument_specs promise; templates of typed values stand in defaults only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = sorted((Path(__file__).parents[3] / "roles").iterdir())


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_equal_the_spec(role: Path) -> None:
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    promised = {
        name: option["default"]
        for entry in spec["argument_specs"].values()
        for name, option in entry.get("options", {}).items()
        if "default" in option
    }
    typed = {
        name
        for entry in spec["argument_specs"].values()
        for name, option in entry.get("options", {}).items()
        if option.get("type", "str") not in ("str", "path", "raw")
    }
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    # A template is text: as the default of an option of another type, Galaxy and antsibull-docs reject it.
    templates = {name for name in typed if isinstance(defaults.get(name), str)}
    assert templates & set(promised) == set()
    assert {name: value for name, value in defaults.items() if name not in templates} == promised


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_variable_carries_the_name_of_its_role(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    assert [name for name in defaults if not name.startswith(f"{role.name}_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_task_files_stay_short(role: Path) -> None:
    long = {
        str(path.relative_to(role)): count
        for path in role.glob("tasks/*.yml")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 80
    }
    assert long == {}
