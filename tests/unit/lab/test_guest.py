# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that carries a guest's own files in its initial RAM disk."""

from __future__ import annotations

import stat
from pathlib import Path

from lab.guest import archive, write_initrd


def entries(data: bytes) -> dict[str, tuple[int, bytes]]:
    """An independent reader of the `newc` form."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += 110 + fields[11]
        at += -at % 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[at : at + fields[6]])
        at += fields[6]
        at += -at % 4


def test_archive(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/key").write_text("secret")
    (tmp_path / "etc/key").chmod(0o600)
    found = entries(archive(tmp_path, "lab-seed"))
    assert list(found) == ["lab-seed", "lab-seed/etc", "lab-seed/etc/key"]
    assert found["lab-seed/etc/key"] == (stat.S_IFREG | 0o600, b"secret")


def test_the_archive_begins_on_a_border_of_four(tmp_path: Path) -> None:
    (tmp_path / "seed").mkdir()
    (tmp_path / "base").write_bytes(b"12345")
    write_initrd(tmp_path / "base", tmp_path / "seed", tmp_path / "initrd")
    assert (tmp_path / "initrd").read_bytes().index(b"070701") == 8
