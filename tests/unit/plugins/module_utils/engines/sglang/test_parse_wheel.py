# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small made-up releases in every form that real ones use, parsed without being run."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.parse_wheel import (
    UnknownConverterError,
    parse_wheel,
)

CALLS = """
import argparse
from sglang.srt.parser.reasoning_parser import ReasoningParser
from sglang.srt.kv import HashMode

BACKENDS = ["auto", "triton"]
DRAFT_BACKENDS = [*BACKENDS, "none"]
LOCAL = {"b", "a"}

def _tool_names():
    import sys
    if "x" in sys.modules:
        return list(sys.modules["x"].names)
    from sglang.srt.names import TOOLS
    return list(TOOLS)

class ServerArgs:
    model_path: str
    port: int = 30000
    window: int = 2**4
    hidden: float = compute()

    @staticmethod
    def add_cli_args(parser):
        %s
"""
FILES = {
    "sglang/srt/parser/reasoning_parser.py": """
class ReasoningParser:
    DetectorMap: dict = {"glm45": A, "qwen3": B}
""",
    "sglang/srt/kv.py": """
from enum import IntEnum
class HashMode(IntEnum):
    NONE = 0
    ALL = 2
""",
    "sglang/srt/names.py": 'TOOLS = ("glm", "glm47")',
    "sglang/srt/models/glm4_moe.py": "\ufeffEntryClass = [Glm4MoeForCausalLM]\n",
    "sglang/srt/models/llama.py": "EntryClass = LlamaForCausalLM\n",
}


def with_calls(body: str) -> dict[str, Any]:
    text = CALLS % dedent(body).strip().replace("\n", "\n        ")
    return parse_wheel({"sglang/srt/server_args.py": text, **FILES})


def with_fields(body: str, imports: str = "") -> dict[str, Any]:
    files = {
        "sglang/srt/server_args.py": "class ServerArgs:\n    def add_cli_args(parser):\n        pass\n",
        "sglang/srt/arg_groups/choices.py": 'QUANTIZATION = ["awq", "fp8"]\n',
        "sglang/srt/graphs.py": 'class Backend:\n    FULL = "full"\n    OFF = "disabled"\n    ALL = (FULL, OFF)\n',
        "sglang/srt/arg_groups/fields/model.py": (
            "from sglang.srt.arg_groups.choices import QUANTIZATION\nfrom sglang.srt.graphs import Backend\n"
            + imports
            + "class Model(msgspec.Struct):\n    _NS_PATH = 'model'\n"
            + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
        ),
    }
    return parse_wheel(files)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('"--port", type=int, default=ServerArgs.port',
         {"dest": "port", "kind": "value", "type": "int", "default": 30000}),
        ('"--tp-size", "--tensor-parallel-size", type=int',
         {"dest": "tp_size", "kind": "value", "type": "int", "aliases": ["tensor-parallel-size"]}),
        ('"--a", dest="b", type=str, required=True',
         {"dest": "b", "kind": "value", "type": "str", "required": True}),
        ('"--a", choices=BACKENDS', {"dest": "a", "kind": "value", "type": "str", "choices": ["auto", "triton"]}),
        ('"--a", choices=["x"] + DRAFT_BACKENDS',
         {"dest": "a", "kind": "value", "type": "str", "choices": ["x", "auto", "triton", "none"]}),
        ('"--a", choices=set(LOCAL)', {"dest": "a", "kind": "value", "type": "str", "choices": ["a", "b"]}),
        ('"--a", choices=list(ReasoningParser.DetectorMap.keys())',
         {"dest": "a", "kind": "value", "type": "str", "choices": ["glm45", "qwen3"]}),
        ('"--a", choices=["auto"] + _tool_names()',
         {"dest": "a", "kind": "value", "type": "str", "choices": ["auto", "glm", "glm47"]}),
        ('"--a", choices=[m.name.lower() for m in HashMode]',
         {"dest": "a", "kind": "value", "type": "str", "choices": ["none", "all"]}),
        ('"--a", choices=ask_the_network()', {"dest": "a", "kind": "value", "type": "str", "choices": None}),
        ('"--a", type=int, nargs="+"', {"dest": "a", "kind": "value", "type": "int", "nargs": "+"}),
        ('"--a", nargs="?", const="", default=None',
         {"dest": "a", "kind": "value", "type": "str", "nargs": "?", "const": ""}),
        ('"--a", type=json.loads', {"dest": "a", "kind": "value", "type": "json"}),
        ('"--a", type=human_readable_int', {"dest": "a", "kind": "value", "type": "count"}),
        ('"--a", default=ServerArgs.window', {"dest": "a", "kind": "value", "type": "str", "default": 16}),
        ('"--hidden", default=ServerArgs.hidden', {"dest": "hidden", "kind": "value", "type": "str"}),
        ('"--a", action="store_true"', {"dest": "a", "kind": "switch"}),
        ('"--a", action=argparse.BooleanOptionalAction', {"dest": "a", "kind": "toggle"}),
        ('"--a", action=DeprecatedAction, help="Note: --a is deprecated now. Use --b."',
         {"dest": "a", "kind": "ignored", "deprecated": {"successor": "b"}}),
        ('"--a", action=DeprecatedAction, error_message="gone"',
         {"dest": "a", "kind": "ignored", "deprecated": {"error": True}}),
        ('"--a", action=DeprecatedStoreTrueAction, new_flag="--b"',
         {"dest": "a", "kind": "switch", "deprecated": {"successor": "b"}}),
        ('"--a", action=DeprecatedStoreConstAction, dest="b", const_value="x", new_flag="--b=x"',
         {"dest": "b", "kind": "switch", "deprecated": {"successor": "b=x"}}),
        ('"--a", action=DeprecatedStoreConstAction, nargs=None, choices=["amd"], new_flag="--b"',
         {"dest": "a", "kind": "value", "type": "str", "choices": ["amd"], "deprecated": {"successor": "b"}}),
        ('"--a", dest="b", action=DeprecatedAliasStoreAction, type=int, new_flag="--b"',
         {"dest": "b", "kind": "value", "type": "int", "deprecated": {"successor": "b"}}),
        ('"--a", action="store_true", help="(Deprecated: use --b=auto) Something."',
         {"dest": "a", "kind": "switch", "deprecated": {"successor": "b=auto"}}),
        ('"--lora-paths", action=LoRAPathAction, nargs="*"',
         {"dest": "lora_paths", "kind": "value", "type": "str", "nargs": "*"}),
    ],
)  # fmt: skip
def test_add_argument(call: str, expected: dict[str, Any]) -> None:
    flags = with_calls(f"parser.add_argument({call})")["flags"]
    assert list(flags.values()) == [expected]


@pytest.mark.parametrize(
    ("field", "name", "expected"),
    [
        ('host: A[str, "Help."] = "127.0.0.1"', "host",
         {"dest": "host", "kind": "value", "type": "str", "default": "127.0.0.1"}),
        ('a: A[int, "One " + f"two {x}"] = 1', "a", {"dest": "a", "kind": "value", "type": "int", "default": 1}),
        ('model_path: A[str, Arg(help="H", aliases=["--model"])]', "model-path",
         {"dest": "model_path", "kind": "value", "type": "str", "aliases": ["model"], "required": True}),
        ('a: A[str, Arg(required=False)]', "a", {"dest": "a", "kind": "value", "type": "str"}),
        ('a_b: A[bool, "H"] = False', "a-b", {"dest": "a_b", "kind": "switch"}),
        ('a: A[Optional[bool], Arg(action=argparse.BooleanOptionalAction)] = None', "a",
         {"dest": "a", "kind": "toggle"}),
        ('a: A[int | None, "H"] = None', "a", {"dest": "a", "kind": "value", "type": "int"}),
        ('a: A[Union[float, None], "H"] = None', "a", {"dest": "a", "kind": "value", "type": "float"}),
        ('a: A[List[int], "H"] = None', "a", {"dest": "a", "kind": "value", "type": "int", "nargs": "+"}),
        ('a: A[Optional[list[str]], Arg(nargs="*")] = None', "a",
         {"dest": "a", "kind": "value", "type": "str", "nargs": "*"}),
        ('a: A[List[str], Arg(type_parser=json_list_type)] = None', "a",
         {"dest": "a", "kind": "value", "type": "json"}),
        ('a: A[Literal[None, "x", "y"], "H"] = None', "a",
         {"dest": "a", "kind": "value", "type": "str", "choices": ["x", "y"]}),
        ('a: A[Optional[str], Arg(choices=QUANTIZATION)] = None', "a",
         {"dest": "a", "kind": "value", "type": "str", "choices": ["awq", "fp8"]}),
        ('a: A[str, Arg(choices=Backend.ALL)] = "full"', "a",
         {"dest": "a", "kind": "value", "type": "str", "choices": ["full", "disabled"], "default": "full"}),
        ('fp8_gemm_runner_backend: A[str, Arg(cli_name="--fp8-gemm-backend")] = "auto"', "fp8-gemm-backend",
         {"dest": "fp8_gemm_runner_backend", "kind": "value", "type": "str", "default": "auto"}),
        ('a: A[str, Arg(action=LoRAPathAction, action_kwargs={"type": str, "nargs": "*"})] = None', "a",
         {"dest": "a", "kind": "value", "type": "str", "nargs": "*"}),
    ],
)  # fmt: skip
def test_annotated_field(field: str, name: str, expected: dict[str, Any]) -> None:
    assert with_fields(field)["flags"] == {name: expected}


@pytest.mark.parametrize(
    "field",
    ["a: A[bool, Arg(no_cli=True)] = False", "a: int = 3", 'a = Derived("H")', 'a: A[int, NS("x")] = 1'],
)
def test_field_that_is_no_flag(field: str) -> None:
    assert with_fields(field)["flags"] == {}


def test_default_of_a_call_is_taken_from_the_field_when_it_cannot_be_read() -> None:
    files = {
        "sglang/srt/server_args.py": dedent("""
            class ServerArgs:
                sampling_backend: A[str, Arg(no_cli=True)] = "pytorch"
                def add_cli_args(parser):
                    parser.add_argument("--sampling-backend", default=_declared("sampling_backend"))
                    parser.add_argument("--old", dest="sampling_backend", default=argparse.SUPPRESS)
            """)
    }
    flags = parse_wheel(files)["flags"]
    assert flags["sampling-backend"]["default"] == "pytorch"
    assert "default" not in flags["old"]


def test_architectures() -> None:
    assert with_calls("pass")["architectures"] == ["Glm4MoeForCausalLM", "LlamaForCausalLM"]


@pytest.mark.parametrize(
    "call", ['"--a", type=a_new_converter', '"--a", action=ANewAction', '"--a", type=lambda x: x']
)
def test_what_is_not_understood_stops_the_parser(call: str) -> None:
    with pytest.raises(UnknownConverterError):
        with_calls(f"parser.add_argument({call})")


def test_names_that_import_each_other_do_not_loop() -> None:
    files = {
        "sglang/srt/server_args.py": dedent("""
            from sglang.srt.b import X
            class ServerArgs:
                def add_cli_args(parser):
                    parser.add_argument("--a", choices=X)
            """),
        "sglang/srt/b.py": "from sglang.srt.c import X\n",
        "sglang/srt/c.py": "from sglang.srt.b import X\n",
    }
    assert parse_wheel(files)["flags"]["a"]["choices"] is None
