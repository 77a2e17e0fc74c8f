# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of a swarm's files, compared with what libtorrent itself makes of the same files."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host as swarm_host
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import metainfo as swarm_metainfo

lt = pytest.importorskip("libtorrent")
PIECE = 1 << 16
# Around every border: of a block, of a piece, of a power of two.
SIZES = [
    0,
    1,
    16383,
    16384,
    16385,
    3 * 16384,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    3 * PIECE,
    5 * PIECE + 7,
    8 * PIECE,
]


def entries(folder: Path, sizes: list[int]) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = []
    for number, size in enumerate(sizes):
        path = folder / ("sub" if number % 3 == 0 else ".") / f"f{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = random.Random(number).randbytes(size)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        listed.append({"path": str(path.relative_to(folder)), "size": size, "sha256": digest})
    return listed


def theirs(folder: Path) -> dict[bytes, object]:
    made = lt.create_torrent(
        lt.list_files(str(folder)), PIECE, lt.create_torrent.v2_only | lt.create_torrent.canonical_files
    )
    lt.set_piece_hashes(made, str(folder.parent))
    described: dict[bytes, object] = made.generate()
    return described


@pytest.mark.parametrize("size", SIZES[1:])
def test_one_file_is_described_as_the_library_does(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "model"
    listed = entries(folder, [size, size + 1])
    hashed = [swarm_host.hash_file(str(folder), entry, PIECE) for entry in listed]
    ours = lt.bdecode(swarm_metainfo.metainfo("model", PIECE, hashed))
    assert ours[b"info"][b"file tree"] == theirs(folder)[b"info"][b"file tree"]  # type: ignore[index]
    assert ours[b"piece layers"] == theirs(folder)[b"piece layers"]


def test_many_files_are_described_as_the_library_does_and_in_its_order(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    listed = entries(folder, SIZES)
    hashed = [swarm_host.hash_file(str(folder), entry, PIECE) for entry in listed]
    content = swarm_metainfo.metainfo("model", PIECE, reversed(hashed))
    assert content == swarm_metainfo.metainfo("model", PIECE, hashed)
    ours = lt.bdecode(content)
    reference = theirs(folder)
    assert ours[b"info"][b"file tree"] == reference[b"info"][b"file tree"]  # type: ignore[index]
    assert ours[b"piece layers"] == reference[b"piece layers"]
    files = lt.load_torrent_buffer(content).ti.layout()
    real = [i for i in range(files.num_files()) if not files.file_flags(i) & files.flag_pad_file]
    paths = [files.file_path(i).removeprefix("model/") for i in real]
    assert paths == swarm_metainfo.in_order(str(entry["path"]) for entry in listed)


def test_a_chunk_that_is_no_multiple_of_a_block_must_be_the_last() -> None:
    hasher = swarm_metainfo.FileHasher("f", PIECE)
    hasher.update(memoryview(b"x" * 5))
    with pytest.raises(ValueError, match="only the last chunk"):
        hasher.update(memoryview(b"y"))


@pytest.mark.parametrize(
    "total, length",
    [(0, 1 << 20), (400 * 10**6, 1 << 20), (10**11, 2 << 20), (360 * 10**9, 8 << 20), (10**15, 64 << 20)],
)
def test_big_models_have_big_pieces(total: int, length: int) -> None:
    assert swarm_metainfo.piece_length(total) == length
