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


LARGEST_DESCRIPTION = 256 << 20
DEEPEST = 64


def problems(description: bytes, files: Iterable[Mapping[str, object]]) -> list[str]:
    """What in a description from another host is not what the list of files says: looked at before a byte is fetched."""
    if len(description) > LARGEST_DESCRIPTION:
        return ["it is too large"]
    try:
        found = bdecode(description)
        if not isinstance(found, dict) or bencode(found) != description:
            return ["it is not in its canonical form"]
        return _differences(found, {str(entry["path"]): int(str(entry["size"])) for entry in files})
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return ["it is malformed"]


def bdecode(text: bytes) -> Bencoded:
    value, end = _decode(text, 0, 0)
    if end != len(text):
        raise ValueError("something follows")
    return value


def _decode(text: bytes, at: int, depth: int) -> tuple[Bencoded, int]:
    if depth > DEEPEST:
        raise ValueError("too deep")
    kind = text[at : at + 1]
    if kind == b"i":
        end = text.index(b"e", at, at + 24)
        return int(text[at + 1 : end]), end + 1
    if kind in (b"l", b"d"):
        items: list[Bencoded] = []
        at += 1
        while text[at : at + 1] != b"e":
            item, at = _decode(text, at, depth + 1)
            items.append(item)
        if kind == b"l":
            return items, at + 1
        if len(items) % 2:
            raise ValueError("a key without a value")
        return {_key(key): value for key, value in zip(items[::2], items[1::2])}, at + 1
    colon = text.index(b":", at, at + 12)
    end = colon + 1 + int(text[at:colon])
    if end > len(text) or not text[at:colon].isdigit():
        raise ValueError("a text without its end")
    return text[colon + 1 : end], end


def _key(value: Bencoded) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a key that is not text")
    return value


def _differences(found: dict[bytes, Bencoded], wanted: dict[str, int]) -> list[str]:
    info, layers = found[b"info"], found[b"piece layers"]
    if not isinstance(info, dict) or not isinstance(layers, dict):
        return ["it is malformed"]
    said = []
    strange = sorted(set(found) - {b"info", b"piece layers"})
    strange += sorted(set(info) - {b"file tree", b"meta version", b"name", b"piece length", b"private"})
    said += [f"it has a field {name.decode('ascii', 'replace')!r}" for name in strange]
    length = piece_length(sum(wanted.values()))
    if (info[b"meta version"], info[b"private"]) != (2, 1):
        said.append("it is of another version, or not private")
    if info[b"piece length"] != length:
        said.append(f"its pieces have {info[b'piece length']!r} bytes instead of {length}")
    described = dict(_leaves(info[b"file tree"], ()))
    for path in sorted({*described, *wanted}):
        size = described.get(path, (None, b""))[0]
        if size != wanted.get(path):
            said.append(f"{path[:200]!r} has {size} bytes instead of {wanted.get(path)}")
    if said:
        return said
    roots = {root: size for size, root in described.values() if size > length}
    if set(layers) != set(roots):
        return ["its layers are not those of its files"]
    no_piece = merkle_root([], length // BLOCK, NO_BLOCK)
    for root, size in roots.items():
        layer, count = layers[root], -(-size // length)
        if not isinstance(layer, bytes) or len(layer) != 32 * count:
            return ["a layer has another length"]
        hashes = [layer[at : at + 32] for at in range(0, len(layer), 32)]
        if merkle_root(hashes, power_of_two(count), no_piece) != root:
            return ["a layer does not lead to its root"]
    return []


def _leaves(tree: Bencoded, above: tuple[str, ...]) -> Iterable[tuple[str, tuple[int, bytes]]]:
    """Path -> size and root, for every file below."""
    if not isinstance(tree, dict) or not tree:
        raise ValueError("an empty folder")
    for name, below in tree.items():
        if not isinstance(below, dict):
            raise ValueError("a file without fields")
        if b"" not in below:
            yield from _leaves(below, (*above, name.decode()))
            continue
        described = below[b""]
        if len(below) > 1 or not isinstance(described, dict) or set(described) - {b"length", b"pieces root"}:
            raise ValueError("a file with other fields")
        size, root = described[b"length"], described.get(b"pieces root", b"")
        if not isinstance(size, int) or not isinstance(root, bytes) or len(root) != (32 if size else 0):
            raise ValueError("a file without a size or a root")
        yield "/".join((*above, name.decode())), (size, root)


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
