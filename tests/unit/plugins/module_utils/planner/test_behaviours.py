# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a model behaves: parsers, drafts, thinking, quantization and checksums, derived and shown."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render

GLM = {"tool-call-parser": "glm47", "reasoning-parser": "glm45"}
MTP = {
    "speculative-algorithm": "EAGLE", "speculative-num-steps": 3, "speculative-eagle-topk": 1,
    "speculative-num-draft-tokens": 4,
}  # fmt: skip
NO_MTP = dict.fromkeys(MTP)
OFF = {"enable-custom-logit-processor": None, "default-chat-template-kwargs": None, "model-checksum": None}
KEPT = '{"clear_thinking": false}'
OLD = "0.5.10.post1"


@pytest.mark.parametrize(
    ("kind", "count", "wanted", "release", "expected"),
    [
        ("a800", 1, {"model": "glm-4.7-int8"}, OLD, {**GLM, **MTP, **OFF, "quantization": "w8a8_int8"}),
        ("a800-580", 1, {"model": "glm-4.7-int8"}, "0.5.23", {**GLM, **MTP, "quantization": "w8a8_int8"}),
        ("a800", 1, {"model": "glm-4.7-awq"}, OLD, {**GLM, **MTP, "quantization": None, "disable-shared-experts-fusion": True}),
        ("a800", 1, {"model": "glm-4.7-gptq"}, OLD, {**GLM, **MTP, "disable-shared-experts-fusion": True}),
        ("a800-580", 1, {"model": "glm-4.7-nvfp4"}, "0.5.23", {**GLM, **NO_MTP, "quantization": None}),
        ("h200", 1, {"model": "glm-4.7-fp8"}, "0.5.23", {**GLM, **MTP, **OFF, "quantization": None}),
        ("h200", 1, {"model": "glm-4.6-fp8"}, "0.5.23", {"tool-call-parser": "glm", "reasoning-parser": "glm45"}),
        ("spark", 4, {"model": "glm-4.7-fp8"}, "0.5.23", {**GLM, **MTP}),
        # The draft of Flash needs a class that older releases lack.
        ("a800", 1, {"model": "glm-4.7-flash"}, OLD, {**GLM, **NO_MTP}),
        ("a800-580", 1, {"model": "glm-4.7-flash"}, "0.5.23", {**GLM, **MTP}),
        ("h200", 1, {"model": "glm-4.7-fp8", "speculative": False}, "0.5.23", NO_MTP),
        ("h200", 1, {"model": "glm-4.7-fp8", "thinking_budget": True}, "0.5.23",
         {**GLM, **NO_MTP, "enable-custom-logit-processor": True}),
        ("a800", 1, {"model": "glm-4.7-int8", "thinking_budget": True, "speculative": True}, OLD,
         {**GLM, **MTP, "enable-custom-logit-processor": True}),
        ("h200", 1, {"model": "glm-4.7-fp8", "preserved_thinking": True}, "0.5.23",
         {**GLM, **MTP, "default-chat-template-kwargs": KEPT}),
        ("h200", 1, {"model": "glm-4.7-flash", "preserved_thinking": True}, "0.5.23",
         {**GLM, "default-chat-template-kwargs": KEPT}),
        ("a800", 1, {"model": "glm-4.7-int8", "checksum_at_start": True}, OLD,
         {"model-checksum": "/opt/sglang/current/it/checksums.json"}),
    ],
)  # fmt: skip
def test_what_the_server_is_told(
    world: Any, kind: str, count: int, wanted: dict[str, Any], release: str, expected: dict[str, Any]
) -> None:
    plan = world.instance(kind, count, **wanted)
    assert plan.release["key"] == release
    assert {flag: plan.argument(flag) for flag in expected} == expected
    for flag, value in expected.items():
        if value is not None:
            assert f"--{flag}" in plan.argv


def test_the_words_reach_the_command_line_as_one(world: Any) -> None:
    plan = world.instance("h200", model="glm-4.7-fp8", preserved_thinking=True)
    assert plan.argv[plan.argv.index("--default-chat-template-kwargs") + 1] == KEPT


def test_the_plan_shows_what_is_on(world: Any) -> None:
    asked = {"preserved_thinking": True, "thinking_budget": True, "checksum_at_start": True}
    text = " ".join(render(world.one("h200", model="glm-4.7-fp8", **asked)).split())
    assert "parsers tools glm47, reasoning glm45, reasoning of earlier turns kept" in text
    assert "thinking budget and other logit processors, weights hashed at each start" in text
    assert "draft off: a thinking budget is asked for" in text
    assert "nothing parsed" in render(world.one("a800", model="qwen2-vl-7b", tensor_parallel=4))


def test_the_engine_is_sglang_unless_another_is_named(world: Any) -> None:
    assert world.instance("h200", model="glm-4.7-fp8").engine == "sglang"
    (refusal,) = world.one("h200", model="glm-4.7-fp8", engine="vllm").refusals
    assert refusal.code == "engine" and "engine: lightllm or sglang" in refusal.fix
