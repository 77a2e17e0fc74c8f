# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled code goes from folder to folder whole, and nothing else does."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.service.jit_cache_host import (
    CompiledCodeError,
    look,
    pack,
    sha256_of,
    unpack,
)

OWNER = (os.getuid(), os.getgid())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here" / "id-sm80"
    (made / "triton" / "A").mkdir(parents=True)
    (made / "triton" / "A" / "kernel.cubin").write_bytes(b"cubin")
    (made / "flashinfer.so").write_bytes(b"x" * 3000)
    (made / "flashinfer.so").chmod(0o755)
    (made / "link").symlink_to("/etc/passwd")
    os.utime(made / "flashinfer.so", (1_700_000_000, 1_700_000_000))
    return made


def test_it_arrives_with_content_times_and_owner(folder: Path, tmp_path: Path) -> None:
    assert look(str(folder)) == {"files": 2, "bytes": 3005}
    archive = str(tmp_path / "x.tar.gz")
    digest = pack(str(folder), archive)
    assert digest == pack(str(folder), archive) == sha256_of(archive)
    there = tmp_path / "there" / "compiled" / "id-sm80"
    there.parent.parent.mkdir()
    assert unpack(archive, str(there), OWNER, digest) == 2
    assert (there / "triton/A/kernel.cubin").read_bytes() == b"cubin"
    found = (there / "flashinfer.so").stat()
    assert (found.st_mtime, found.st_mode & 0o777, found.st_uid) == (1_700_000_000, 0o700, OWNER[0])
    assert not (there / "link").exists()
    assert os.listdir(there.parent) == ["id-sm80"]


def test_an_archive_that_is_another_one_or_cut_off(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    pack(str(folder), str(archive))
    with pytest.raises(CompiledCodeError, match="differs from what was packed"):
        unpack(str(archive), str(tmp_path / "there"), OWNER, "0" * 64)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(CompiledCodeError, match="is damaged"):
        unpack(str(archive), str(tmp_path / "there"), OWNER)
    assert not (tmp_path / "there").exists()
    with pytest.raises(CompiledCodeError, match="has compiled nothing here yet"):
        pack(str(tmp_path / "nowhere"), str(archive))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../out", tarfile.REGTYPE),
        ("/etc/out", tarfile.REGTYPE),
        ("a/../../out", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("node", tarfile.CHRTYPE),
    ],
)
def test_nothing_leaves_the_folder(tmp_path: Path, name: str, kind: bytes) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        member.size = 1 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(CompiledCodeError, match="is no file below the folder"):
        unpack(str(archive), str(tmp_path / "there"), OWNER)
    assert sorted(os.listdir(tmp_path)) == ["x.tar.gz"]
