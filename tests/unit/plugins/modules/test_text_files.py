# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files at once, as Ansible runs the module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COLLECTIONS = Path(__file__).parents[4] / "collections"


def run(files: dict[str, str], check: bool = False, **options: Any) -> dict[str, Any]:
    arguments = {"files": files, **options, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.baremetal.sglang.plugins.modules.file_set"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_what_is_not_as_wanted_is_written_and_nothing_else(tmp_path: Path) -> None:
    one, two = tmp_path / "new/one", tmp_path / "two"
    two.write_text("as it is\n")
    two.chmod(0o644)
    wanted = {str(one): "text\n", str(two): "as it is\n"}
    looked = run(wanted, check=True)
    assert (looked["changed"], looked["written"]) == (True, [str(one)])
    assert not one.exists()
    assert looked["diff"][0]["after"] == "text\n"
    assert run(wanted, folder_mode="0750")["written"] == [str(one)]
    assert one.read_text() == "text\n" and one.parent.stat().st_mode & 0o777 == 0o750
    assert run(wanted) == {**run(wanted), "changed": False, "written": []}


def test_a_mode_that_somebody_changed_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o666)
    assert run({str(path): "text"}, mode="0600")["changed"]
    assert path.stat().st_mode & 0o777 == 0o600
