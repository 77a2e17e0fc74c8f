# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as files
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as folder
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sparse_model import sparse_model

PIECE = 1000


def entry(path: Path, name: str, piece: int = PIECE) -> dict[str, Any]:
    found = files.digests_of(str(path), piece)
    made: dict[str, Any] = {"path": name, "size": found.size, "sha256": found.sha256}
    return {**made, "pieces": found.pieces} if found.pieces else made


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 10 * PIECE, files.BLOCK + 7])
def test_digests_of_whole_and_pieces(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    found = files.digests_of(str(path), PIECE)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    cut = [data[start : start + PIECE] for start in range(0, size, PIECE)]
    assert found.pieces == ([hashlib.sha256(piece).hexdigest() for piece in cut] if size > PIECE else [])
    if size <= PIECE:
        assert found.git == hashlib.sha1(b"blob %d\0" % size + data).hexdigest()
    assert files.bad_pieces(str(path), entry(path, "file"), PIECE) == []


def test_each_bad_piece_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(10 * PIECE - 1))
    wanted = entry(path, "file")
    with path.open("r+b") as stream:
        for place in (0, 3 * PIECE + 5, 10 * PIECE - 2):
            stream.seek(place)
            old = stream.read(1)
            stream.seek(place)
            stream.write(bytes([old[0] ^ 1]))
    found = files.file_damage(str(tmp_path), wanted, PIECE)
    assert found is not None
    assert found.pieces == (0, 3, 9)
    assert str(found) == "file: content differs in 3 of 10 pieces (at byte 0, 3000, 9000)"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "file: missing"),
        (lambda path: os.truncate(path, 90), "file: 90 bytes instead of 100, 10 bytes missing"),
        (lambda path: os.truncate(path, 881), "file: 881 bytes instead of 100, 781 bytes too many"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "file: is a link"),
        (lambda path: (path.unlink(), path.mkdir()), "file: missing"),
    ],
)
def test_size_and_kind_are_told_in_bytes(tmp_path: Path, damage: Any, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    wanted = entry(path, "file")
    damage(path)
    assert str(files.file_damage(str(tmp_path), wanted, PIECE)) == said


def resident(path: Path) -> int:
    """Pages of a file that are in the page cache."""
    size = path.stat().st_size
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), size) as mapped:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        anchor = ctypes.c_char.from_buffer(mapped)
        assert (
            ctypes.CDLL(None).mincore(ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(size), pages)
            == 0
        )
        del anchor
        return sum(page & 1 for page in pages)


def test_reading_leaves_the_page_cache_to_others(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(os.urandom(32 << 20))
    files.sync_and_forget(str(path))
    if resident(path):
        pytest.skip("this file system keeps its files in memory")
    wanted = entry(path, "shard", 1 << 20)
    total = (32 << 20) // mmap.PAGESIZE
    assert resident(path) < total // 20
    assert files.bad_pieces(str(path), wanted, 1 << 20) == []
    assert resident(path) < total // 20
    path.read_bytes()
    assert resident(path) > total // 2, "a plain reader does fill it: the measure can tell"


def test_pages_that_a_process_has_mapped_stay(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(os.urandom(8 << 20))
    files.sync_and_forget(str(path))
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as serving:
        assert len(serving[:]) == 8 << 20
        before = resident(path)
        files.digests_of(str(path))
        assert resident(path) == before


def test_a_quick_look_at_360_gb(tmp_path: Path) -> None:
    dest = tmp_path / "m" / "r"
    assert sparse_model(dest) > 360e9
    before = os.times()
    assert folder.look(str(dest))["state"] == "whole"
    # To read them would take minutes of processor time, on any machine.
    assert sum(os.times()[:2]) - sum(before[:2]) < 10
    shard = dest / "model-00050-of-00093.safetensors"
    times = (shard.stat().st_atime_ns, shard.stat().st_mtime_ns)
    with shard.open("r+b") as stream:
        stream.seek(30)
        stream.write(b"?")
    os.utime(shard, ns=times)
    assert [str(item) for item in folder.look(str(dest))["damage"]] == [f"{shard.name}: its header differs"]


def test_amounts() -> None:
    assert [files.amount(count) for count in (0, 999, 1000, 1_500_000, 360e9)] == [
        "0 bytes",
        "999 bytes",
        "1.00 kB",
        "1.50 MB",
        "360.00 GB",
    ]


def test_the_meter_tells_rate_and_what_is_left() -> None:
    said: list[str] = []
    meter = files.Meter(1000, said.append, every=0)
    meter.already(400)
    meter.add(100)
    assert said[0].startswith("500 bytes of 1.00 kB, ")
    assert said[0].endswith(" s left")
