# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The oldest ansible-core that is promised: plays, documentation and plugins in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import ROOT, succeed
from .test_installed import PLUGINS

PLAYS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("playbooks/*.yml"), ROOT / "site.yml"])


def test_it_is_the_version_that_the_collection_names(oldest: Path) -> None:
    shown = succeed(oldest / "ansible", "--version", cwd=ROOT)
    needed = (ROOT / "meta/runtime.yml").read_text(encoding="utf-8").split('">=')[1].split('"')[0]
    assert f"[core {needed}]" in shown


@pytest.mark.parametrize("inventory", ["a800", "spark", "lab"])
def test_it_plans(oldest: Path, inventory: str) -> None:
    shown = succeed(
        oldest / "ansible-playbook", "playbooks/plan.yml", "-i", f"inventories/{inventory}", cwd=ROOT
    )
    assert "nothing was refused" in shown
    assert "[DEPRECATION WARNING]" not in shown


def test_it_reads_every_play(oldest: Path) -> None:
    shown = succeed(oldest / "ansible-playbook", "--syntax-check", "-i", "inventories/a800", *PLAYS, cwd=ROOT)
    assert all(f"playbook: {play}" in shown for play in PLAYS)


@pytest.mark.parametrize("kind", PLUGINS)
def test_it_shows_the_documentation(oldest: Path, kind: str) -> None:
    names = [f"baremetal.sglang.{name}" for name in PLUGINS[kind]]
    shown = succeed(oldest / "ansible-doc", "--type", kind, "--json", *names, cwd=ROOT)
    assert set(json.loads(shown[shown.index("{\n") :])) == set(names)


@pytest.mark.long
def test_its_own_plugin_tests_pass(oldest: Path) -> None:
    """What touches Ansible's own classes: modules, and plays with their actions and filters."""
    succeed(
        oldest / "python",
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/unit/playbooks",
            "tests/unit/plugins/modules",
        ),
        cwd=ROOT,
    )
