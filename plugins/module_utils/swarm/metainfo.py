# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description that a swarm shares: BitTorrent v2 metainfo, the same for the same files everywhere.

Each file has a Merkle tree of SHA-256 over blocks of 16 KiB; the layer of whole pieces travels with the
description, so that a receiver can judge every piece when it arrives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union

BLOCK = 16 * 1024
SMALLEST_PIECE = 1 << 20
LARGEST_PIECE = 64 << 20
MOST_PIECES = 50_000
NO_BLOCK = bytes(32)

Bencoded = Union[int, bytes, "list[Bencoded]", "dict[bytes, Bencoded]"]


@dataclass(frozen=True)
class HashedFile:
    path: str
    size: int
    sha256: str
    root: bytes
    layer: tuple[bytes, ...]


def piece_length(total: int) -> int:
    """Small enough that hosts can pass pieces on early, large enough that a big model has few of them."""
    length = SMALLEST_PIECE
    while total // length > MOST_PIECES and length < LARGEST_PIECE:
        length *= 2
    return length


def bencode(value: Bencoded) -> bytes:
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def merkle_root(hashes: list[bytes], width: int, padding: bytes) -> bytes:
    """The root of a tree with `width` leaves, a power of two; what is lacking is `padding`."""
    level = hashes
    while width > 1:
        if len(level) % 2:
            level = [*level, padding]
        level = [hashlib.sha256(level[at] + level[at + 1]).digest() for at in range(0, len(level), 2)]
        padding = hashlib.sha256(padding + padding).digest()
        width //= 2
    return level[0] if level else padding


def power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


class FileHasher:
    """SHA-256 of a file and its Merkle tree, in one reading. Chunks are multiples of 16 KiB, the last aside."""

    def __init__(self, path: str, length: int) -> None:
        self.path = path
        self.size = 0
        self._whole = hashlib.sha256()
        self._blocks_of_piece = length // BLOCK
        self._length = length
        self._leaves: list[bytes] = []
        self._layer: list[bytes] = []

    def update(self, chunk: memoryview) -> None:
        if self.size % BLOCK:
            raise ValueError("only the last chunk may end inside a block")
        self._whole.update(chunk)
        self.size += len(chunk)
        for at in range(0, len(chunk), BLOCK):
            self._leaves.append(hashlib.sha256(chunk[at : at + BLOCK]).digest())
            if len(self._leaves) == self._blocks_of_piece:
                self._layer.append(merkle_root(self._leaves, self._blocks_of_piece, NO_BLOCK))
                self._leaves = []

    def finish(self) -> HashedFile:
        digest = self._whole.hexdigest()
        if not self.size:
            return HashedFile(self.path, 0, digest, b"", ())
        if self.size <= self._length:
            whole = self._layer or [merkle_root(self._leaves, power_of_two(len(self._leaves)), NO_BLOCK)]
            return HashedFile(self.path, self.size, digest, whole[0], ())
        if self._leaves:
            self._layer.append(merkle_root(self._leaves, self._blocks_of_piece, NO_BLOCK))
            self._leaves = []
        no_piece = merkle_root([], self._blocks_of_piece, NO_BLOCK)
        root = merkle_root(self._layer, power_of_two(len(self._layer)), no_piece)
        return HashedFile(self.path, self.size, digest, root, tuple(self._layer))


def in_order(paths: Iterable[str]) -> list[str]:
    """The order of files in a v2 description: by the bytes of each part of the path."""
    return sorted(paths, key=lambda path: [part.encode() for part in path.split("/")])


def _tree(files: Iterable[HashedFile]) -> dict[bytes, Bencoded]:
    top: dict[bytes, Bencoded] = {}
    for entry in files:
        folder = top
        for part in entry.path.split("/"):
            below = folder.setdefault(part.encode(), {})
            if not isinstance(below, dict):
                raise ValueError(f"{entry.path} lies below a file")
            folder = below
        described: dict[bytes, Bencoded] = {b"length": entry.size}
        if entry.root:
            described[b"pieces root"] = entry.root
        folder[b""] = described
    return top


def metainfo(name: str, length: int, files: Iterable[HashedFile]) -> bytes:
    """The description, byte for byte the same for the same name, piece length and contents."""
    files = list(files)
    layers: dict[bytes, Bencoded] = {entry.root: b"".join(entry.layer) for entry in files if entry.layer}
    info: Mapping[bytes, Bencoded] = {
        b"file tree": _tree(files),
        b"meta version": 2,
        b"name": name.encode(),
        b"piece length": length,
        # No other way to find peers than the list that the agent is given.
        b"private": 1,
    }
    return bencode({b"info": dict(info), b"piece layers": layers})
