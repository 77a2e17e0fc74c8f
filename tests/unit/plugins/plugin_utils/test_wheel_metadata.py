# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What wheels say of themselves is read once on a machine, and again where the note of it cannot be believed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.cyclonedx import Package
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_metadata import Packages

FOUND = Package("small", "1.2", expression="MIT")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "small-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "small-1.2.dist-info/METADATA", "Name: small\nVersion: 1.2\nLicense-Expression: MIT\n"
        )
    return path


def test_read_once(wheel: Path, tmp_path: Path) -> None:
    assert Packages(tmp_path / "notes").of(wheel, "a" * 64) == FOUND
    wheel.write_bytes(b"no wheel any more")
    assert Packages(tmp_path / "notes").of(wheel, "a" * 64) == FOUND
    with pytest.raises(zipfile.BadZipFile):
        Packages(tmp_path / "notes").of(wheel, "b" * 64)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        "{}",
        '{"format": 0, "name": "other", "version": "1"}',
        '{"format": 1, "name": "other"}',
        '{"format": 1, "name": 5, "version": "1"}',
        '{"format": 1, "name": "other", "version": "1", "more": ""}',
    ],
)
def test_a_note_that_cannot_be_believed_is_written_anew(wheel: Path, tmp_path: Path, note: str) -> None:
    place = tmp_path / "notes" / f"{'a' * 64}.json"
    place.parent.mkdir()
    place.write_text(note)
    assert Packages(place.parent).of(wheel, "a" * 64) == FOUND
    assert '"name": "small"' in place.read_text()
