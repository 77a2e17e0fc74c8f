# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.release.driver_host import unfit_drivers

CHECKS = {"driver": "580.95.05", "drivers": {"from": "580.65.06", "below": "581"}}


@pytest.mark.parametrize(
    ("loaded", "problem"),
    [
        ("580.95.05", ""),
        ("580.105.08", ""),
        ("550.54.15", "glm was planned for driver 580.95.05, 550.54.15 is loaded"),
        ("", "glm was planned for driver 580.95.05, none is loaded"),
    ],
)
def test_a_rollback_looks_at_the_driver_before_it_stops_anything(
    tmp_path: Path, loaded: str, problem: str
) -> None:
    version = tmp_path / "version"
    if loaded:
        version.write_text(
            f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {loaded}  Release Build\n"
        )
    plan = {"instances": {"glm": {"service": {"checks": CHECKS}}}}
    assert unfit_drivers(plan, str(version)) == ([f"{version}: {problem}"] if problem else [])
    assert unfit_drivers({"instances": {"tiny": {}}}, str(version)) == []
