# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo-clean`, after everything else that the demo's host was good for."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .conftest import succeed


def test_demo_clean_leaves_nothing(clone: Path) -> None:
    succeed("make", "demo-clean", cwd=clone, BAREMETAL_LAB_DIR=str(clone / ".lab"), KEEP_CACHE="1")
    assert not (clone / ".lab").exists()
    for listing in (["ip", "netns", "list"], ["mount"], ["ps", "-eo", "args"]):
        shown = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        assert str(clone) not in shown
        assert "bsl-demo" not in shown
