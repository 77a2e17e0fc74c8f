# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.command_line import (
    is_launch_command,
    parse_command,
    to_argv,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import contract_from
from hypothesis import given
from hypothesis import strategies as st

FLAGS = Path(__file__).parents[6] / "files/flags"
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


COMMAND = r"""
NCCL_DEBUG=INFO CUDA_VISIBLE_DEVICES=0,1 /opt/env/bin/python -m sglang.launch_server \
  --model-path /models/glm --tp 8 --port=30000 --enable-metrics \
  --cuda-graph-bs-decode 1 2 4 --chunked-prefill-size -1 --json-model-override-args '{"a": 1}' \
  --unknown-thing 3 --reasoning-parser "glm45" >> log 2>&1 &
"""


def test_parse_command() -> None:
    command = parse_command(CONTRACT, COMMAND)
    assert dict(command.arguments) == {
        "model-path": "/models/glm",
        "tp": "8",
        "port": "30000",
        "enable-metrics": True,
        "cuda-graph-bs-decode": ["1", "2", "4"],
        "chunked-prefill-size": "-1",
        "json-model-override-args": '{"a": 1}',
        "unknown-thing": "3",
        "reasoning-parser": "glm45",
    }
    assert command.environment == {"NCCL_DEBUG": "INFO", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert command.leftover == ()


@pytest.mark.parametrize(
    ("text", "arguments", "leftover"),
    [
        ("sglang serve /models/glm --tp-size 8", [("tp-size", "8")], ("/models/glm",)),
        ("uv run sglang serve --model-path a && echo", [("model-path", "a")], ()),
        (
            "python3 -m sglang.launch_server --no-dcp-replicate-q-proj",
            [("no-dcp-replicate-q-proj", True)],
            (),
        ),
        ("python3 -m sglang.launch_server --enable-metrics=1", [("enable-metrics", "1")], ()),
        ("python3 -m sglang.launch_server --tp-size", [("tp-size", None)], ()),
        ("python3 -m sglang.launch_server --model-checksum", [("model-checksum", True)], ()),
        ("python3 -m sglang.launch_server --tp-size 2 --tp-size 4", [("tp-size", "2"), ("tp-size", "4")], ()),
        ("python3 -m sglang.launch_server --enable-metrics # a note", [("enable-metrics", True)], ()),
    ],
)
def test_parse_short_commands(text: str, arguments: list[Any], leftover: tuple[str, ...]) -> None:
    command = parse_command(CONTRACT, text)
    assert list(command.arguments) == arguments
    assert command.leftover == leftover


@pytest.mark.parametrize(
    ("text", "expected"),
    [("python -m sglang.launch_server --x", True), ("sglang  serve a", True), ("pip install sglang", False)],
)
def test_is_launch_command(text: str, expected: bool) -> None:
    assert is_launch_command(text) is expected


def test_other_commands_are_refused() -> None:
    with pytest.raises(ValueError, match="launch_server"):
        parse_command(CONTRACT, "vllm serve x --port 1")


VALUES = {
    "int": st.integers(-(10**9), 10**9),
    "float": st.floats(0, 1e6, allow_nan=False),
    "count": st.integers(0, 10**9),
    "str": st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Z"]), min_size=1).filter(
        # shlex forgets quotes, so a quoted operator looks like the end of the command.
        lambda text: text not in ("&", "&&", "|", "||", ";") and not text.startswith((">", "2>"))
    ),
    "json": st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
}
PLAIN = sorted(
    flag.name for flag in CONTRACT.flags.values() if flag.takes_value and not flag.nargs and not flag.choices
)


@given(st.data(), st.sampled_from(PLAIN))
def test_argv_is_read_back_as_given(data: st.DataObject, name: str) -> None:
    import shlex

    value = data.draw(VALUES[CONTRACT.flags[name].type])
    argv = to_argv(CONTRACT, [(name, value)])
    command = parse_command(CONTRACT, shlex.join(["python", "-m", "sglang.launch_server", *argv]))
    written = json.dumps(value, sort_keys=True) if isinstance(value, dict) else str(value)
    assert command.arguments == ((name, written),)
