# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.versions import (
    at_least,
    minor,
    served,
    version_key,
)


def test_releases_sort_as_people_mean_it() -> None:
    order = ["0.5.7", "0.5.9", "0.5.10rc1", "0.5.10", "0.5.10.post1", "0.5.11", "0.5.23", "1.0"]
    mixed = [order[place] for place in (3, 0, 7, 5, 1, 6, 2, 4)]
    assert sorted(mixed, key=version_key) == order


@pytest.mark.parametrize(
    ("version", "floor", "enough"),
    [
        ("550.54.15", "525.60.13", True),
        ("550.54.15", "580.65.06", False),
        ("580.65.06", "580.65.06", True),
        ("2.36", "2.34", True),
        ("2.28", "2.34", False),
        ("", "2.34", True),
        ("12.10", "12.9", True),
        ("12.8.93", "12.9", False),
        ("2.9.1+cu128", "2.9.1", True),
    ],
)
def test_floors(version: str, floor: str, enough: bool) -> None:
    assert at_least(version, floor) is enough


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ("8.0", ("8.0", "9.0"), True),
        ("8.6", ("8.0",), True),
        ("8.0", ("8.6",), False),
        ("12.1", ("12.0",), True),
        ("12.1", ("9.0", "10.0"), False),
        ("7.5", ("8.0",), False),
        ("", ("8.0",), True),
    ],
)
def test_code_runs_on_its_own_major_from_its_minor_up(
    capability: str, built: tuple[str, ...], runs: bool
) -> None:
    assert served(capability, built) is runs


def test_minor() -> None:
    assert minor("3.11.2") == "3.11"
