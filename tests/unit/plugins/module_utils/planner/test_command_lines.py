# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.command import (
    model_of,
    serve_of_command,
)

DATA = Path(__file__).resolve().parents[3] / "data/command_lines.yml"
ROWS = yaml.safe_load(DATA.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_what_the_plan_says_of_a_command_line(world: Any, row: dict[str, Any]) -> None:
    facts = world.hosts(row["machine"], row.get("count", 1))
    release = "0.5.10.post1" if row["machine"] == "a800" else "0.5.23"
    serve = serve_of_command(world.contracts[release], row["command"], world.catalogues.models, facts)
    result = world.plan(facts, serve)
    said = "\n".join(line for refusal in result.refusals for line in refusal.lines())
    assert sorted({refusal.code for refusal in result.refusals}) == sorted(row["refusals"]), said
    for words in row.get("contains", []):
        assert words in said
    told = {advice.code for advice in result.advice}
    assert set(row.get("advice", [])) <= told, told


def test_a_command_keeps_what_the_author_said(world: Any) -> None:
    text = "A=1 python -m sglang.launch_server --model-path zai-org/GLM-4.7-FP8 --tp-size 8 --port 8000 --nonsense 3"
    serve = serve_of_command(world.contracts["0.5.23"], text, world.catalogues.models, ["h"])
    assert serve == {
        "command": {
            "model": "glm-4.7-fp8",
            "hosts": ["h"],
            "tensor_parallel": 8,
            "port": 8000,
            "options": {"nonsense": 3},
            "environment": {"A": "1"},
        }
    }


def test_a_command_that_starts_no_server_is_named(world: Any) -> None:
    with pytest.raises(ValueError, match="no command that starts a server"):
        serve_of_command(world.contracts["0.5.23"], "ls -l", world.catalogues.models, [])


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("zai-org/GLM-4.7", "glm-4.7"),
        ("ZhipuAI/GLM-4.7", "glm-4.7"),
        ("./weights/GLM-4.7/", "glm-4.7"),
        ("/data/other", "/data/other"),
    ],
)
def test_models_are_found_by_hub_id_and_directory(world: Any, given: str, key: str) -> None:
    assert model_of(given, world.catalogues.models) == key
