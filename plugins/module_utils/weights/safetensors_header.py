# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of a safetensors file: which tensors it holds, and whether that can be true.

The format: 8 bytes with the length of a JSON header (little endian), the header, then the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""The limit that the format's own reader has."""

DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "C64": 64,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}


class HeaderError(Exception):
    """Says what is wrong with the file, in words that name tensors and bytes."""


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    tensors: dict[str, Tensor]
    data_start: int
    """Where the tensors' bytes begin: length field and header."""
    raw: bytes
    """Length field and header as they are in the file."""

    @property
    def data_bytes(self) -> int:
        return sum(tensor.size for tensor in self.tensors.values())


def unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object hook that refuses what json would silently overwrite."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HeaderError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def read_raw(stream: BinaryIO, size: int) -> bytes:
    """Length field and header of a file of `size` bytes, as they are."""
    field = stream.read(LENGTH_BYTES)
    if len(field) < LENGTH_BYTES:
        raise HeaderError(f"has {size} bytes, too short for a header")
    length = int.from_bytes(field, "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise HeaderError(f"says its header has {length} bytes: this is not a safetensors file")
    begin = stream.read(1)
    if begin not in (b"{", b""):
        raise HeaderError("has a header that does not begin with {: this is not a safetensors file")
    if LENGTH_BYTES + length > size:
        raise HeaderError(f"says its header has {length} bytes and has {size} bytes in all: truncated")
    return field + begin + stream.read(length - 1)


def read_header(stream: BinaryIO, size: int) -> Header:
    """The header of a file of `size` bytes, proven against that size."""
    return parse(read_raw(stream, size), size)


def parse(raw: bytes, size: int) -> Header:
    try:
        document = json.loads(raw[LENGTH_BYTES:].decode("utf-8"), object_pairs_hook=unique_keys)
    except (UnicodeDecodeError, ValueError) as error:
        raise HeaderError(f"has a header that is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise HeaderError("has a header that is no JSON object")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(value, str) for value in metadata.values()):
        raise HeaderError("has __metadata__ that is not a mapping of texts")
    tensors = {name: _tensor(name, entry) for name, entry in document.items()}
    _refuse_holes(tensors)
    header = Header(tensors, len(raw), raw)
    expected = header.data_start + header.data_bytes
    if size < expected:
        raise HeaderError(f"is truncated: {size} bytes instead of {expected}, {expected - size} are missing")
    if size > expected:
        raise HeaderError(f"is too long: {size} bytes instead of {expected}, {size - expected} too many")
    return header


def _tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise HeaderError(f"tensor {name}: needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in DTYPE_BITS:
        raise HeaderError(f"tensor {name}: unknown dtype {dtype!r}")
    if not _counts(shape):
        raise HeaderError(f"tensor {name}: shape {shape!r} is not a list of counts")
    if not _counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise HeaderError(f"tensor {name}: data_offsets {offsets!r} are not a range")
    bits = DTYPE_BITS[dtype]
    for count in shape:
        bits *= count
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise HeaderError(
            f"tensor {name}: {dtype} {shape} takes {bits / 8:.0f} bytes, its range has {offsets[1] - offsets[0]}"
        )
    return Tensor(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )


def _refuse_holes(tensors: dict[str, Tensor]) -> None:
    position, before = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start > position:
            raise HeaderError(f"has a gap of {tensor.start - position} bytes before tensor {name}")
        if tensor.start < position:
            raise HeaderError(f"tensors {before} and {name} overlap by {position - tensor.start} bytes")
        position, before = tensor.end, name
