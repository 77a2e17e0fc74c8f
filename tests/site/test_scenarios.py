# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every molecule scenario, from destroy to destroy; its name says what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, succeed

# One whole scenario belongs to `make test`; the others boot hosts and the real engine as `demo` does there.
SHORT = ("refuses_bad_input",)
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in SCENARIOS],
)
def test_scenario(scenario: str, tmp_path: Path) -> None:
    succeed(
        "molecule", "test", "--scenario-name", scenario, timeout=3600, BAREMETAL_LAB_DIR=str(tmp_path / "lab")
    )
