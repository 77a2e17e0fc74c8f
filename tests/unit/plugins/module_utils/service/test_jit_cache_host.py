# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiled code goes from folder to folder whole, and nothing else does."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.service import jit_cache_host as jit_cache
from ansible_collections.baremetal.sglang.plugins.module_utils.service.jit_cache_host import (
    JitCacheError,
    look,
    pack,
    sha256_of,
    unpack,
)


def packed(folder: Path, archive: Path) -> str:
    descriptor = os.open(archive, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        pack(str(folder), descriptor)
        return sha256_of(descriptor)
    finally:
        os.close(descriptor)


def unpacked(archive: Path, folder: Path) -> int:
    descriptor = os.open(archive, os.O_RDONLY)
    try:
        return unpack(descriptor, str(folder))
    finally:
        os.close(descriptor)


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


def test_an_archive_carries_content_and_times(folder: Path, tmp_path: Path) -> None:
    assert look(str(folder)) == {"files": 2, "bytes": 3005}
    archive = tmp_path / "x.tar.gz"
    digest = packed(folder, archive)
    assert digest == packed(folder, archive) == hashlib.sha256(archive.read_bytes()).hexdigest()
    there = tmp_path / "there" / "compiled" / "id-sm80"
    there.parent.parent.mkdir()
    assert unpacked(archive, there) == 2
    assert (there / "triton/A/kernel.cubin").read_bytes() == b"cubin"
    found = (there / "flashinfer.so").stat()
    assert (found.st_mtime, found.st_mode & 0o777) == (1_700_000_000, 0o700)
    assert not (there / "link").exists()
    assert os.listdir(there.parent) == ["id-sm80"]


def test_what_is_no_regular_file_is_neither_waited_for_nor_packed(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "triton" / "fifo")
    (folder / "out").symlink_to("/etc")
    archive = tmp_path / "x.tar.gz"
    packed(folder, archive)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["flashinfer.so", "triton/A/kernel.cubin"]


def test_a_damaged_archive_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    packed(folder, archive)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(JitCacheError, match="is damaged"):
        unpacked(archive, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    with pytest.raises(JitCacheError, match="has compiled nothing here yet"):
        packed(tmp_path / "nowhere", archive)


def test_an_archive_larger_than_the_limit_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "x.tar.gz"
    packed(folder, archive)
    monkeypatch.setattr(jit_cache, "MOST_BYTES", 3000)
    with pytest.raises(JitCacheError, match="more than"):
        packed(folder, tmp_path / "y.tar.gz")
    with pytest.raises(JitCacheError, match="more than"):
        unpacked(archive, tmp_path / "there")
    assert not (tmp_path / "there").exists()


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
    with pytest.raises(JitCacheError, match="is not a file below the folder"):
        unpacked(archive, tmp_path / "there")
    assert sorted(os.listdir(tmp_path)) == ["x.tar.gz"]
