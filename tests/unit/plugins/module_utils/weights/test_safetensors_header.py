# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import json
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.safetensors_header import (
    HeaderError,
    read_header,
)
from hypothesis import given
from hypothesis import strategies as st

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b": {"dtype": "F32", "shape": [], "data_offsets": [12, 16]},
    "c": {"dtype": "U8", "shape": [0], "data_offsets": [16, 16]},
}


def file(header: Any, data: int = 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def read(content: bytes) -> Any:
    return read_header(io.BytesIO(content), len(content))


def test_a_good_file() -> None:
    header = read(file(GOOD))
    assert list(header.tensors) == ["a", "b", "c"]
    assert header.tensors["a"].shape == (2, 3)
    assert header.data_bytes == 16
    assert header.raw == file(GOOD, 0)


def changed(name: str, **values: Any) -> bytes:
    return file({**GOOD, name: {**GOOD[name], **values}})


CASES = {
    "empty": (b"", "has 0 bytes, too short"),
    "short": (b"1234567", "has 7 bytes"),
    "a pickle": (b"PK\x03\x04" + bytes(100), "not a safetensors file"),
    "an absurd header": ((1 << 40).to_bytes(8, "little") + bytes(100), "not a safetensors file"),
    "cut in the header": (file(GOOD)[:60], "truncated"),
    "cut in the data": (file(GOOD, 9), "is truncated: .* 7 are missing"),
    "too long": (file(GOOD, 16 + 781), "is too long: .* 781 too many"),
    "no json": (file(b"{nonsense}"), "no JSON"),
    "no utf-8": (file(b'{"\xff": 1}'), "no JSON"),
    "a list": (file([1]), "does not begin with {"),
    "a key twice": (file(b'{"a": 1, "a": 2}'), "'a' is there twice"),
    "metadata that is not text": (file({**GOOD, "__metadata__": {"a": 1}}), "__metadata__"),
    "more keys": (changed("a", strides=[1]), "nothing else"),
    "unknown dtype": (changed("a", dtype="BF17"), "unknown dtype 'BF17'"),
    "negative shape": (changed("a", shape=[-2, -3]), "not a list of counts"),
    "shape of truth": (changed("a", shape=[True, 6]), "not a list of counts"),
    "shape and range": (changed("a", shape=[2, 4]), "takes 16 bytes, its range has 12"),
    "half a byte": (changed("a", dtype="F4", shape=[3]), "its range"),
    "range backwards": (changed("a", data_offsets=[12, 0]), "not a range"),
    "a gap": (
        file(
            {
                **GOOD,
                "b": {**GOOD["b"], "data_offsets": [14, 18]},
                "c": {**GOOD["c"], "data_offsets": [18, 18]},
            },
            18,
        ),
        "gap of 2 bytes before tensor b",
    ),
    "an overlap": (
        file(
            {
                **GOOD,
                "b": {**GOOD["b"], "data_offsets": [10, 14]},
                "c": {**GOOD["c"], "data_offsets": [14, 14]},
            },
            14,
        ),
        "tensors a and b overlap by 2 bytes",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_true_is_named(name: str) -> None:
    content, said = CASES[name]
    with pytest.raises(HeaderError, match=said):
        read(content)


def test_four_bit_tensors() -> None:
    header = file({"w": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, 2)
    assert read(header).tensors["w"].size == 2


@given(st.binary(max_size=200))
def test_any_bytes_give_a_header_or_a_reason(content: bytes) -> None:
    try:
        read(content)
    except HeaderError as error:
        assert str(error)


@given(st.integers(0, len(file(GOOD)) - 1), st.integers(0, 255))
def test_a_changed_byte_never_crashes(position: int, value: int) -> None:
    content = bytearray(file(GOOD))
    content[position] = value
    try:
        read(bytes(content))
    except HeaderError as error:
        assert str(error)
