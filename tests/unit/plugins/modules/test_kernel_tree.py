# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree of kernel files on a disk: whole, repeatable, and only what the plan checked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_config import names_of

ROOT = Path(__file__).parents[4]
FOLDER = "sglang/moe/configs"
MINE, OLD = "E=8,N=64,device_name=NVIDIA_H200.json", "E=9,N=64,device_name=NVIDIA_H200.json"
OTHER = "E=8,N=64,device_name=NVIDIA_B200.json"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    root = tmp_path / "env/lib/python3.12/site-packages" / FOLDER
    (root / "triton_3_5_1").mkdir(parents=True)
    for name in (MINE, OLD, OTHER, MINE.replace(".json", "_down.json")):
        (root / "triton_3_5_1" / name).write_text(f'{{"1": "{name}"}}')
    return tmp_path / "env"


def entry(content: str = "", copy: str = "", digest: str = "") -> dict[str, str]:
    return {
        "path": f"configs/triton_3_8_0/{MINE}", "name": MINE, "content": content, "copy": copy,
        "sha256": digest or sha(content),
    }  # fmt: skip


def run(path: Path, environment: Path, *files: dict[str, str], **more: Any) -> dict[str, Any]:
    given = {
        "path": str(path), "environment": str(environment), "shipped": FOLDER, "names": names_of("NVIDIA H200"), "below": "configs",
        "files": list(files), "note": "made here", "leave_out": [MINE.replace(".json", "_down.json")], **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.baremetal.sglang.plugins.modules.kernel_tree"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": given}),
        env={"PYTHONPATH": str(ROOT / "collections")}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def test_the_planned_file_and_the_releases_own_for_this_gpu(tmp_path: Path, environment: Path) -> None:
    path = tmp_path / "moe"
    first = run(path, environment, entry("{}"))
    assert first["changed"]
    assert sorted(first["tree"]) == [
        "ORIGIN.txt", f"configs/triton_3_5_1/{MINE}", f"configs/triton_3_5_1/{OLD}", f"configs/triton_3_8_0/{MINE}",
    ]  # fmt: skip
    assert (path / f"configs/triton_3_8_0/{MINE}").read_text() == "{}"
    assert (path / "ORIGIN.txt").read_text() == "made here\n"
    assert not run(path, environment, entry("{}"))["changed"]
    (path / "configs/triton_next").mkdir()
    (path / "configs/triton_next/x.json").write_text("{}")
    again = run(path, environment, entry("{}"))
    assert again["changed"] and "x.json" in again["diff"]["before"]
    assert not (path / "configs/triton_next").exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["env", "moe"]


def test_a_copy_of_the_releases_own(tmp_path: Path, environment: Path) -> None:
    digest = sha(f'{{"1": "{MINE}"}}')
    run(tmp_path / "moe", environment, entry(copy=f"triton_3_5_1/{MINE}", digest=digest))
    assert (tmp_path / f"moe/configs/triton_3_8_0/{MINE}").read_text() == f'{{"1": "{MINE}"}}'


@pytest.mark.parametrize(
    ("copy", "digest", "words"),
    [
        (f"triton_3_5_1/{MINE}", "0" * 64, "the plan checked"),
        (f"triton_3_1_0/{MINE}", "0" * 64, "has no triton_3_1_0"),
    ],
)
def test_an_environment_that_is_not_the_planned_one(
    tmp_path: Path, environment: Path, copy: str, digest: str, words: str
) -> None:
    done = run(tmp_path / "moe", environment, entry(copy=copy, digest=digest))
    assert done["failed"] and words in done["msg"] and str(environment) in done["msg"]
    assert not (tmp_path / "moe").exists()


def test_a_check_writes_nothing(tmp_path: Path, environment: Path) -> None:
    checked = run(tmp_path / "moe", environment, entry("{}"), _ansible_check_mode=True)
    assert checked["changed"] and MINE in checked["diff"]["after"]
    assert not (tmp_path / "moe").exists()
    fresh = run(tmp_path / "moe", tmp_path / "not-there", entry("{}"), _ansible_check_mode=True)
    assert fresh["changed"] and "failed" not in fresh
