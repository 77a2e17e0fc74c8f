# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many files as few long streams: what is said to a host, and the few lines that listen there.

A stream is one line of JSON and then bytes. It may hold the end of one file, many small ones and the
beginning of another, so the number of round trips follows from the bytes and not from the files.
Every piece says where in its file it belongs: sending one again does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Kept in memory, once for each host that is sent to.
STREAM_BYTES = 128 << 20

# Runs on the host, under the Python that Ansible found there.
RECEIVER = """
import json, os, sys
stream = sys.stdin.buffer
head = json.loads(stream.readline())
try:
    for path, offset, length in head["pieces"]:
        target = os.path.join(head["folder"], path)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(handle).st_size < offset:
                raise OSError(0, "holds less than was sent before", target)
            os.ftruncate(handle, offset)
            os.lseek(handle, offset, os.SEEK_SET)
            while length:
                data = stream.read(min(length, 1 << 20))
                if not data:
                    raise OSError(0, "the stream ended early", target)
                length -= len(data)
                while data:
                    data = data[os.write(handle, data):]
        finally:
            os.close(handle)
except OSError as error:
    while stream.read(1 << 20):  # the sender hears the reason only after it has said everything
        pass
    print(json.dumps({"problem": "%s: %s" % (error.filename or head["folder"], error.strerror or error)}))
    sys.exit(1)
print(json.dumps({"problem": ""}))
"""


@dataclass(frozen=True)
class Piece:
    source: str
    """Relative to the folder on the sending side."""
    target: str
    """Relative to the folder on the host."""
    offset: int
    length: int


def streams(lacking: Sequence[tuple[str, str, int, int]], limit: int = STREAM_BYTES) -> Iterator[list[Piece]]:
    """Streams of at most `limit` bytes for files given as (source, target, size, bytes that are there)."""
    pieces: list[Piece] = []
    filled = 0
    for source, target, size, there in lacking:
        offset = there
        while True:
            length = min(size - offset, limit - filled)
            pieces.append(Piece(source, target, offset, length))
            filled += length
            offset += length
            if filled == limit:
                yield pieces
                pieces, filled = [], 0
            if offset == size:
                break
    if pieces:
        yield pieces


def head(folder: str, pieces: Sequence[Piece]) -> bytes:
    listed = [[piece.target, piece.offset, piece.length] for piece in pieces]
    return json.dumps({"folder": folder, "pieces": listed}).encode() + b"\n"


def progress(sent: int, total: int, seconds: float) -> str:
    """One line for a person who waits."""
    rate = sent / max(seconds, 0.001)
    left = (total - sent) / rate if rate else 0.0
    return f"{sent / 1e9:.2f} of {total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s, {left:.0f} s left"
