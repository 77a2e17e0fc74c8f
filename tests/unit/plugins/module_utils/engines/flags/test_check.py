# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users write under `options`, held against the real contracts of the releases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.check import (
    Problem,
    Rules,
    check_arguments,
    rules_from,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import (
    Contract,
    contract_from,
)

FLAGS = Path(__file__).parents[6] / "files/engines/sglang/flags"
CONTRACTS: dict[str, Contract] = {
    path.stem: contract_from(json.loads(path.read_text(encoding="utf-8")))
    for path in FLAGS.glob("[0-9]*.json")
}
RULES = rules_from(json.loads((FLAGS / "rules.json").read_text(encoding="utf-8")))
ALL = list(CONTRACTS.values())


def problems(release: str, rules: Rules | None = RULES, **options: Any) -> list[Problem]:
    given = [(flag, value, f"serve.x.options.{flag} = {value}") for flag, value in options.items()]
    return check_arguments(CONTRACTS[release], given, ALL, rules, "x")[1]


@pytest.mark.parametrize(
    ("release", "flag", "value", "code", "what", "fix"),
    [
        ("0.5.23", "max-runing-requests", 4, "unknown-flag", "unknown flag in 0.5.23", "did you mean max-running-requests?"),
        ("0.5.23", "xyzzy", 4, "unknown-flag", "unknown flag in 0.5.23", "leave it out"),
        ("0.5.23", "max_running_requests", 4, "flag-spelling", "dashes", "write max-running-requests"),
        ("0.5.23", "--max-running-requests", 4, "flag-spelling", "dashes", "write max-running-requests"),
        ("0.5.23", "tp", 4, "abbreviated-flag", "means tp-size", "serve.x.tensor_parallel"),
        ("0.5.23", "tensor_parallel", 4, "abbreviated-flag", "means tp-size", "serve.x.tensor_parallel"),
        ("0.5.23", "mem-fraction", 0.8, "abbreviated-flag", "mem-fraction-static", "serve.x.memory_fraction"),
        ("0.5.10.post1", "cuda-graph-max-bs-decode", 4, "flag-of-later-release", "exists in 0.5.17",
         "write cuda-graph-max-bs, or pin"),
        ("0.5.23", "dp", 4, "abbreviated-flag", "abbreviations", "dp-size"),
        ("0.5.23", "watchdog", 4, "abbreviated-flag", "abbreviations", "write watchdog-timeout"),
        ("0.5.23", "cuda-graph-max-bs", 4, "renamed-flag", "existed in 0.5.7", "write cuda-graph-max-bs-decode"),
        ("0.5.23", "stream-output", True, "renamed-flag", "existed in 0.5.7", "write incremental-streaming-output"),
        ("0.5.23", "enable-piecewise-cuda-graph", True, "removed-flag", "existed in 0.5.7", "leave it out"),
        ("0.5.7", "enable-strict-thinking", True, "flag-of-later-release", "exists in 0.5.17", "pin release 0.5.17"),
        ("0.5.10.post1", "reasoning-parser", "glm47", "wrong-choice", "a tool-call parser", "did you mean glm45?"),
        ("0.5.23", "tool-call-parser", "glm46", "wrong-choice", "not a choice of 0.5.23", "did you mean glm"),
        ("0.5.23", "attention-backend", "zzz", "wrong-choice", "not a choice", "choose one of: triton"),
        ("0.5.23", "moe-runner-backend", 7, "wrong-choice", "7 is not a choice", "choose one of"),
        ("0.5.23", "max-running-requests", "many", "wrong-type", "a whole number, but many", "a whole number"),
        ("0.5.23", "max-running-requests", 4.5, "wrong-type", "4.5", "a whole number"),
        ("0.5.23", "schedule-conservativeness", "x", "wrong-type", "a number, but x", "a number"),
        ("0.5.23", "max-running-requests", True, "bool-for-value", "true was given", "a whole number"),
        ("0.5.23", "max-running-requests", None, "value-missing", "no value", "a whole number"),
        ("0.5.23", "max-running-requests", [1, 2], "wrong-type", "a list of 2", "a whole number"),
        ("0.5.23", "attention-backend", {"a": 1}, "wrong-type", "not a mapping", "choose one of"),
        ("0.5.23", "enable-metrics", "yes", "switch-with-value", "takes no value", "true or false"),
        ("0.5.23", "cuda-graph-bs-decode", [], "value-missing", "at least one", "a list"),
        ("0.5.23", "cuda-graph-bs-decode", [1, "x"], "wrong-type", "x was given", "a list"),
        ("0.5.23", "cuda-graph-bs-decode", [1, None], "wrong-type", "plain list", "a list"),
        ("0.5.23", "json-model-override-args", "{", None, "", ""),
        ("0.5.23", "model-loader-extra-config", "{", None, "", ""),
        ("0.5.23", "cuda-graph-config", "{", "wrong-type", "JSON", "JSON"),
        ("0.5.23", "api-key", "s", "owned-flag", "set by the collection", "never give it"),
        ("0.5.23", "admin-api-key", "s", "owned-flag", "set by the collection", "never give it"),
        ("0.5.23", "tensor-parallel-size", 8, "owned-flag", "set by", "serve.x.tensor_parallel"),
        ("0.5.23", "context-length", 8, "owned-flag", "set by", "serve.x.context_length"),
        ("0.5.23", "max-running-requests", 64, None, "", ""),
        ("0.5.23", "max-running-requests", "64", None, "", ""),
        ("0.5.23", "max-total-tokens", "8k", None, "", ""),
        ("0.5.23", "enable-metrics", False, None, "", ""),
        ("0.5.23", "cuda-graph-bs-decode", [1, 2, 4], None, "", ""),
        ("0.5.23", "cuda-graph-config", {"decode": {"backend": "full"}}, None, "", ""),
        ("0.5.23", "lora-paths", [{"lora_name": "a", "lora_path": "/b"}], None, "", ""),
    ],
)  # fmt: skip
def test_one_flag(release: str, flag: str, value: Any, code: str | None, what: str, fix: str) -> None:
    found = problems(release, **{flag: value})
    assert [item.code for item in found] == ([code] if code else [])
    for item in found:
        assert what in item.what
        assert fix in item.fix
        assert item.where == f"serve.x.options.{flag} = {value}"
        assert not item.advice


@pytest.mark.parametrize(
    ("release", "flag", "fix"),
    [
        ("0.5.17", "stream-output", "write incremental-streaming-output"),
        ("0.5.23", "enable-dp-attention", "write attn-dp-size"),
        ("0.5.17", "prefill-round-robin-balance", "leave it out"),
    ],
)
def test_deprecated_flag_is_advice(release: str, flag: str, fix: str) -> None:
    (found,) = problems(release, **{flag: True})
    assert (found.code, found.advice) == ("deprecated-flag", True)
    assert fix in found.fix


def test_deprecated_flag_that_the_server_refuses_is_no_advice() -> None:
    entry = {"dest": "a", "kind": "ignored", "deprecated": {"successor": "b", "error": True}}
    contract = contract_from({"schema": 1, "version": "9", "flags": {"a": entry}})
    (found,) = check_arguments(contract, [("a", True, "")])[1]
    assert (found.code, found.advice) == ("deprecated-flag", False)


def test_aliases_become_the_canonical_name() -> None:
    given = [("tensor-parallel-size", 8, "here"), ("no-dcp-replicate-q-proj", True, "")]
    accepted, found = check_arguments(CONTRACTS["0.5.23"], given)
    assert accepted == [("tp-size", 8, "here"), ("dcp-replicate-q-proj", False, "")]
    assert found == []


def test_negation_takes_no_value() -> None:
    (found,) = problems("0.5.23", **{"no-dcp-replicate-q-proj": False})
    assert found.code == "switch-with-value"
    assert found.fix == "write dcp-replicate-q-proj: true or dcp-replicate-q-proj: false"


def test_same_value_under_two_names() -> None:
    given = [("tp-size", 8, "one"), ("tensor-parallel-size", 4, "two")]
    (found,) = check_arguments(CONTRACTS["0.5.23"], given)[1]
    assert (found.code, found.where) == ("flag-given-twice", "two")
    assert "tp-size (one)" in found.what


def test_flags_that_exclude_each_other() -> None:
    found = problems(
        "0.5.23", **{"disable-shared-experts-fusion": True, "enforce-shared-experts-fusion": True}
    )
    assert [item.code for item in found] == ["flags-exclude-each-other"]
    both = {"disable-shared-experts-fusion": False, "enforce-shared-experts-fusion": True}
    assert problems("0.5.23", **both) == []


def test_all_problems_at_once() -> None:
    found = problems(
        "0.5.23", **{"xyzzy": 1, "attention-backend": "zzz", "api-key": "k", "max-running-requests": "x"}
    )
    assert [item.code for item in found] == ["unknown-flag", "wrong-choice", "owned-flag", "wrong-type"]


def test_problem_reads_well() -> None:
    (found,) = problems("0.5.10.post1", **{"reasoning-parser": "glm47"})
    assert found.refusal("gpu-01").lines() == [
        "REFUSED  serve.x.options.reasoning-parser = glm47 on gpu-01",
        "  glm47 is not a choice of 0.5.10.post1: glm47 is a tool-call parser",
        "  did you mean glm45?",
    ]


def test_a_secret_is_never_repeated() -> None:
    found = check_arguments(
        CONTRACTS["0.5.23"], [("api-key", "s3cret", "serve.x.options.api-key")], ALL, RULES
    )[1]
    assert all("s3cret" not in item.what + item.fix + item.where for item in found)


@pytest.mark.parametrize("flag", sorted(RULES.owned))
def test_owned_flag_exists(flag: str) -> None:
    assert any(flag in contract.flags for contract in ALL)


@pytest.mark.parametrize("flag", sorted({flag for rule in RULES.exclusive for flag in rule["flags"]}))
def test_exclusive_flag_exists(flag: str) -> None:
    assert any(flag in contract.flags for contract in ALL)


def test_owned_settings_are_keys_of_an_instance() -> None:
    from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import Instance

    settings = {entry["setting"] for entry in RULES.owned.values() if "setting" in entry}
    assert settings <= set(Instance.__dataclass_fields__)
