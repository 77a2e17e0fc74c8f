# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import streams


def receive(folder: Path, pieces: list[streams.Piece], data: bytes) -> str:
    done = subprocess.run(
        [sys.executable, "-c", streams.RECEIVER],
        input=streams.head(str(folder), pieces) + data,
        capture_output=True,
        check=False,
    )
    return str(json.loads(done.stdout)["problem"])


@pytest.mark.parametrize(
    ("sizes", "there", "limit", "count"),
    [
        ([10] * 170, 0, 1000, 2),  # many small files travel together
        ([2500], 0, 1000, 3),  # a large one is cut
        ([2500], 600, 1000, 2),  # and taken up where it stopped
        ([1000], 0, 1000, 1),
        ([1000, 0, 0], 0, 1000, 2),  # empty files come into being too
        ([5], 5, 1000, 1),
        ([], 0, 1000, 0),
    ],
)
def test_streams_follow_from_bytes(
    tmp_path: Path, sizes: list[int], there: int, limit: int, count: int
) -> None:
    lacking = [(f"s{number}", f"t{number}", size, there) for number, size in enumerate(sizes)]
    found = list(streams.streams(lacking, limit))
    assert len(found) == count
    for number, size in enumerate(sizes):
        if there:
            (tmp_path / f"t{number}").write_bytes(b"x" * there)
        assert size == there + sum(
            piece.length for one in found for piece in one if piece.source == f"s{number}"
        )
    for pieces in found:
        assert sum(piece.length for piece in pieces) <= limit
        assert receive(tmp_path, pieces, b"x" * sum(piece.length for piece in pieces)) == ""
    assert [(tmp_path / f"t{number}").read_bytes() for number in range(len(sizes))] == [
        b"x" * size for size in sizes
    ]


def test_a_piece_that_is_sent_again_does_no_harm(tmp_path: Path) -> None:
    first, second = streams.Piece("a", "a", 0, 3), streams.Piece("a", "a", 3, 3)
    for piece, data in ((first, b"abc"), (second, b"dxx"), (second, b"def")):
        assert receive(tmp_path, [piece], data) == ""
    assert (tmp_path / "a").read_bytes() == b"abcdef"


@pytest.mark.parametrize(
    ("piece", "data", "said"),
    [
        (streams.Piece("a", "a", 5, 1), b"x", "a: holds less than was sent before"),
        (streams.Piece("a", "a", 0, 5), b"x", "a: the stream ended early"),
        (streams.Piece("a", "no/a", 0, 1), b"x", "no/a: No such file or directory"),
        (streams.Piece("a", "link", 0, 1), b"x", "link: Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_taken_is_named(tmp_path: Path, piece: streams.Piece, data: bytes, said: str) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert receive(tmp_path, [piece], data).endswith(said)


def test_progress_is_one_line() -> None:
    assert streams.progress(500_000_000, 2_000_000_000, 5) == "0.50 of 2.00 GB, 100 MB/s, 15 s left"
