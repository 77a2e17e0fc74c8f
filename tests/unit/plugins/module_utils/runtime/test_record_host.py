# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of a live environment that somebody changed is noticed, without reading ten gigabytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.record_host import changed_files

STAMP = ".environment.json"


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    made = tmp_path / "lib/python3.12/site-packages"
    (made / "torch").mkdir(parents=True)
    (made / "torch-2.11.dist-info").mkdir()
    (made / "torch/a.py").write_text("12345")
    (made / "torch/b, c.so").write_bytes(b"1234567")
    (made / "torch-2.11.dist-info/RECORD").write_text(
        'torch/a.py,sha256=x,5\n"torch/b, c.so",sha256=y,7\ntorch-2.11.dist-info/RECORD,,\nodd\n'
    )
    for path in made.rglob("*"):
        os.utime(path, (1000, 1000))
    (tmp_path / STAMP).write_text("{}")
    os.utime(tmp_path / STAMP, (2000, 2000))
    return made


def test_a_whole_environment_has_nothing_to_say(tmp_path: Path, packages: Path) -> None:
    assert changed_files(str(tmp_path), STAMP) == []


def test_each_way_to_differ_is_named(tmp_path: Path, packages: Path) -> None:
    (packages / "torch/a.py").write_text("54321")
    (packages / "torch/b, c.so").write_bytes(b"1")
    assert changed_files(str(tmp_path), STAMP) == [
        "lib/python3.12/site-packages/torch/a.py: was written after the installation",
        "lib/python3.12/site-packages/torch/b, c.so: has 1 bytes, 7 were installed",
    ]
    (packages / "torch/a.py").unlink()
    assert changed_files(str(tmp_path), STAMP)[0].endswith("torch/a.py: is gone")


def test_two_wheels_with_a_file_of_one_name_are_no_damage(tmp_path: Path, packages: Path) -> None:
    (packages / "triton-3.dist-info").mkdir()
    (packages / "triton-3.dist-info/RECORD").write_text("torch/a.py,sha256=z,9\n")
    assert changed_files(str(tmp_path), STAMP) == []


def test_an_unfinished_environment_is_not_compared(tmp_path: Path, packages: Path) -> None:
    (tmp_path / STAMP).unlink()
    (packages / "torch/a.py").unlink()
    assert changed_files(str(tmp_path), STAMP) == []
