# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive that root unpacks writes, and points, nowhere but into its own folder."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import python_kit_host as python_kit
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.safe_tar import (
    UnsafeArchiveError,
    unpack,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError

FILE, LINK, HARD, FOLDER = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def packed(path: Path, *members: tuple[str, bytes, str], **more: Any) -> Path:
    """Each member: name, type, and text or where it leads."""
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, more.get("mode", 0o755)
            if kind == FILE:
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                archive.addfile(member)
    return path


PYTHON = ("python/bin/python3", FILE, "#!/bin/sh\necho 3.12.1 x86_64\n")
HOSTILE: dict[str, list[tuple[str, bytes, str]]] = {
    "chained links that lead out": [("a", LINK, "."), ("b", LINK, "a/.."), ("b/owned", FILE, "x")],
    "a chain that only points out": [("a", LINK, "."), ("b", LINK, "a/../outside/secret")],
    "a long chain": [("d/e", FOLDER, ""), ("d/up", LINK, "e/.."), ("x", LINK, "d/up/../../outside")],
    "a file below a link": [("bin", LINK, "sub"), ("sub", FOLDER, ""), ("bin/x", FILE, "x")],
    "a file through a link of its name": [("x", LINK, "y"), ("x", FILE, "x")],
    "the same with another spelling": [("x", LINK, "y"), ("./x", FILE, "x")],
    "a second name of a file outside": [("x", HARD, "../outside/secret")],
    "a second name through a link": [("a", LINK, "."), ("x", HARD, "a/../outside/secret")],
    "a second name of a link": [("a", LINK, "b"), ("x", HARD, "a")],
    "an absolute link": [("x", LINK, "/etc/shadow")],
    "a link in a circle": [("a", LINK, "b"), ("b", LINK, "a")],
    "an absolute name": [("/tmp/owned", FILE, "x")],
    "a name that climbs": [("a/../../owned", FILE, "x")],
    "a device": [("null", tarfile.CHRTYPE, "")],
    "a pipe": [("pipe", tarfile.FIFOTYPE, "")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_leads_out_is_refused_before_anything_is_written(tmp_path: Path, case: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    archive = packed(tmp_path / "kit.tar.gz", PYTHON, *HOSTILE[case])
    with pytest.raises(UnsafeArchiveError, match="is refused: "):
        unpack(str(archive), str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()
    with pytest.raises(RefusedError, match="is refused: "):
        python_kit.unpack(str(archive), str(tmp_path / "home"), "3.12", lambda _command: "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kit.tar.gz", "outside"]


def test_an_honest_kit_is_unpacked(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "kit.tar.gz",
        ("./python", FOLDER, ""),
        PYTHON,
        ("python/bin/python", LINK, "python3"),
        ("python/bin/python3.12", HARD, "python/bin/python3"),
        ("python/lib/here", LINK, "../bin/../bin/python"),
        mode=0o4777,
    )
    home = tmp_path / "home"
    python_kit.unpack(str(archive), str(home), "3.12", lambda _command: "3.12.1 x86_64")
    assert (home / "lib/here").resolve() == (home / "bin/python3").resolve()
    assert (home / "bin/python3.12").read_text().startswith("#!")
    for path in home.rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o7022 == 0, path


def test_a_kit_that_is_larger_than_the_disk_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(tmp_path / "kit.tar.gz", PYTHON)
    small = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: small)
    with pytest.raises(RefusedError, match="are needed for the Python"):
        python_kit.unpack(str(archive), str(tmp_path / "home"), "3.12", lambda _command: "")
