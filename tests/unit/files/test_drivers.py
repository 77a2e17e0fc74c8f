# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""files/drivers.yml: how long each branch of the driver is maintained."""

from __future__ import annotations

import re

import yaml
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import FILES

BRANCHES = yaml.safe_load((FILES / "drivers.yml").read_text(encoding="utf-8"))["branches"]
SYSTEMS = yaml.safe_load((FILES / "operating_systems.yml").read_text(encoding="utf-8"))


def test_each_branch_has_an_end_or_is_current() -> None:
    for name, entry in BRANCHES.items():
        assert re.fullmatch(r"\d{3}", name)
        assert set(entry) <= {"ends", "ended", "long_term"}, name
        assert not ("ends" in entry and "ended" in entry), name
        assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", entry.get("ends", "2026-01")), name


def test_long_term_branches_say_when_they_end() -> None:
    lasting = {name for name, entry in BRANCHES.items() if entry.get("long_term")}
    assert lasting == {"535", "580", "620"}
    assert all("ends" in BRANCHES[name] for name in lasting)


def test_every_branch_that_can_be_declared_is_known() -> None:
    assert set(SYSTEMS["driver_cuda"]) <= set(BRANCHES)
