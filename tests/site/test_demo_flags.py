# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flag contract of a release against the argument parser of the engine itself, on the demo's host."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.command_line import to_argv
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import (
    Flag,
    contract_from,
)

from .conftest import ROOT, lab

FLAGS = ROOT / "files/engines/sglang/flags"
PYTHON = "/opt/sglang/current/tiny/env/bin/python"

CONVERTERS = {
    "str": {None, "str", "nullable_str", "parse_cuda_graph_backend_arg"},
    "int": {"int"},
    "float": {"float"},
    "count": {"human_readable_int"},
    "json": {"loads", "json_list_type", "parse_cuda_graph_config_arg"},
}
# A package beside the engine (smg-grpc-servicer) hooks these into the launcher for its own gRPC server.
# They are in no wheel of the engine, and the collection never uses that server: they stay refused.
ADDED_BY_PLUGINS = {"--servicer-impl", "--metrics-port", "--metrics-host"}
ACTIONS = """
import argparse, json, importlib.metadata
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(add_help=False)
ServerArgs.add_cli_args(parser)
plain = (str, int, float, bool, list)
print("CONTRACT" + json.dumps([importlib.metadata.version("sglang"), [
    {"options": action.option_strings, "dest": action.dest, "nargs": action.nargs,
     "choices": None if action.choices is None else [c for c in action.choices if c is not None],
     "hidden": action.help == argparse.SUPPRESS, "required": action.required, "type": getattr(action.type, "__name__", None),
     "default": action.default if isinstance(action.default, plain) else None}
    for action in parser._actions]]))
"""
PARSE = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
ServerArgs.add_cli_args(parser)
given = parser.parse_args(["--model-path", "m", *sys.argv[1:]])
print("CONTRACT" + json.dumps({key: repr(value) for key, value in vars(given).items()}))
"""


def engine(clone: Path, *arguments: str) -> str:
    return lab(
        clone, "ssh", "lab-1", shlex.join(["env", "HOME=/tmp", "SGLANG_USE_CPU_ENGINE=1", PYTHON, *arguments])
    )


class Real:
    """What the engine's parser says of itself, beside the contract of the same release."""

    def __init__(self, clone: Path) -> None:
        printed = engine(clone, "-c", ACTIONS)
        self.version, self.actions = json.loads(printed.split("CONTRACT", 1)[1])
        self.document: dict[str, Any] = json.loads(
            (FLAGS / f"{self.version}.json").read_text(encoding="utf-8")
        )
        self.contract = contract_from(self.document)
        self.described: dict[str, Flag] = self.contract.flags


@pytest.fixture(scope="module")
def real(clone: Path) -> Real:
    return Real(clone)


def spellings(flag: Flag) -> list[str]:
    names = [flag.name, *flag.aliases]
    return sorted(
        [f"--{name}" for name in names] + [f"--no-{name}" for name in names if flag.kind == "toggle"]
    )


def test_every_action_is_described(real: Real) -> None:
    assert {action["options"][0][2:] for action in real.actions} == set(real.described)


def test_each_flag_is_as_the_engine_has_it(real: Real) -> None:
    entries = real.document["flags"]
    wrong = []
    for action in real.actions:
        flag = real.described[action["options"][0][2:]]
        entry = entries[flag.name]
        choices = None if flag.choices is None else sorted(map(str, flag.choices))
        expected = None if action["choices"] is None else sorted(map(str, action["choices"]))
        default = action["default"] if action["default"] not in (False, []) else None
        pairs = {
            "options": (spellings(flag), sorted(action["options"])),
            "dest": (flag.dest, action["dest"]),
            "choices": (choices, expected),
            "required": (flag.required, action["required"]),
            "nargs": (flag.nargs if flag.takes_value else 0, action["nargs"]),
            "default": (entry.get("default") or None, default or None),
        }
        wrong += [(flag.name, key, *pair) for key, pair in pairs.items() if pair[0] != pair[1]]
        if flag.takes_value and action["type"] not in CONVERTERS[flag.type]:
            wrong.append((flag.name, "type", flag.type, action["type"]))
    assert wrong == []


def test_help_prints_the_same_options(clone: Path, real: Real) -> None:
    """The whole way: what a user reads from the launcher."""
    printed = engine(clone, "-m", "sglang.launch_server", "--help")
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", printed))
    hidden = {option for action in real.actions if action["hidden"] for option in action["options"]}
    contract = {spelling for flag in real.described.values() for spelling in spellings(flag)}
    assert contract - hidden <= shown
    usage = printed.split("\n\n", 1)[0]
    in_usage = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", usage))
    assert in_usage - contract == ADDED_BY_PLUGINS


def test_the_engine_reads_what_is_rendered(clone: Path, real: Real) -> None:
    given: list[tuple[str, Any]] = [
        ("tp-size", 2),
        ("enable-metrics", True),
        ("disable-radix-cache", False),
        ("chunked-prefill-size", -1),
        ("reasoning-parser", "glm45"),
        ("tool-call-parser", "glm47"),
        ("json-model-override-args", {"a": 1}),
        ("lora-paths", [{"lora_name": "a", "lora_path": "/b"}]),
        ("max-running-requests", 64),
    ]
    argv = to_argv(real.contract, given)
    parsed = json.loads(engine(clone, "-c", PARSE, *argv).split("CONTRACT", 1)[1])
    assert parsed["tp_size"] == "2"
    assert parsed["enable_metrics"] == "True"
    assert parsed["disable_radix_cache"] == "False"
    assert parsed["chunked_prefill_size"] == "-1"
    assert parsed["tool_call_parser"] == "'glm47'"
    assert parsed["json_model_override_args"] == repr('{"a": 1}')
    assert parsed["lora_paths"] == repr([{"lora_name": "a", "lora_path": "/b"}])
