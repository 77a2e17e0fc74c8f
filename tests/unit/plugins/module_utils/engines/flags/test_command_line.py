# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.command_line import (
    parse_words,
    to_argv,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import contract_from
from hypothesis import given
from hypothesis import strategies as st

FLAGS = Path(__file__).parents[6] / "files/engines/sglang/flags"
CONTRACT = contract_from(json.loads((FLAGS / "0.5.23.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("flag", "value", "argv"),
    [
        ("tp-size", 8, ["--tp-size", "8"]),
        ("tensor-parallel-size", 8, ["--tp-size", "8"]),
        ("enable-metrics", True, ["--enable-metrics"]),
        ("enable-metrics", False, []),
        ("dcp-replicate-q-proj", True, ["--dcp-replicate-q-proj"]),
        ("dcp-replicate-q-proj", False, ["--no-dcp-replicate-q-proj"]),
        ("cuda-graph-bs-decode", [1, 2], ["--cuda-graph-bs-decode", "1", "2"]),
        ("cuda-graph-config", {"b": 1, "a": None}, ["--cuda-graph-config", '{"a": null, "b": 1}']),
        ("model-checksum", True, ["--model-checksum"]),
        ("model-checksum", "/a.json", ["--model-checksum", "/a.json"]),
        ("chunked-prefill-size", -1, ["--chunked-prefill-size=-1"]),
        ("schedule-conservativeness", 0.3, ["--schedule-conservativeness", "0.3"]),
        ("lora-paths", [{"lora_name": "a"}], ["--lora-paths", '{"lora_name": "a"}']),
    ],
)
def test_to_argv(flag: str, value: Any, argv: list[str]) -> None:
    assert to_argv(CONTRACT, [(flag, value)]) == argv


@pytest.mark.parametrize(
    ("words", "arguments", "leftover"),
    [
        ("/models/glm --tp-size 8", [("tp-size", "8")], ("/models/glm",)),
        ("--port=30000 --enable-metrics", [("port", "30000"), ("enable-metrics", True)], ()),
        ("--cuda-graph-bs-decode 1 2 4 --tp 8", [("cuda-graph-bs-decode", ["1", "2", "4"]), ("tp", "8")], ()),
        ("--chunked-prefill-size -1", [("chunked-prefill-size", "-1")], ()),
        (
            "--unknown-thing 3 --reasoning-parser glm45",
            [("unknown-thing", "3"), ("reasoning-parser", "glm45")],
            (),
        ),
        ("--no-dcp-replicate-q-proj", [("no-dcp-replicate-q-proj", True)], ()),
        ("--enable-metrics=1", [("enable-metrics", "1")], ()),
        ("--tp-size", [("tp-size", None)], ()),
        ("--model-checksum", [("model-checksum", True)], ()),
        ("--tp-size 2 --tp-size 4", [("tp-size", "2"), ("tp-size", "4")], ()),
    ],
)
def test_words_become_flags(words: str, arguments: list[Any], leftover: tuple[str, ...]) -> None:
    command = parse_words([CONTRACT], words.split())
    assert list(command.arguments) == arguments
    assert command.leftover == leftover


VALUES = {
    "int": st.integers(-(10**9), 10**9),
    "float": st.floats(0, 1e6, allow_nan=False),
    "count": st.integers(0, 10**9),
    "str": st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Z"]), min_size=1),
    "json": st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
}
PLAIN = sorted(
    flag.name for flag in CONTRACT.flags.values() if flag.takes_value and not flag.nargs and not flag.choices
)


@given(st.data(), st.sampled_from(PLAIN))
def test_argv_is_read_back_as_given(data: st.DataObject, name: str) -> None:
    value = data.draw(VALUES[CONTRACT.flags[name].type])
    argv = to_argv(CONTRACT, [(name, value)])
    command = parse_words([CONTRACT], argv)
    written = json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
    assert command.arguments == ((name, written),)
