# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch commands that are handed around: the entry that each becomes, and what the plan says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import (
    Translation,
    model_of,
    translate,
)

DATA = Path(__file__).resolve().parents[3] / "data/command_lines.yml"
ROWS = yaml.safe_load(DATA.read_text(encoding="utf-8"))


def translated(world: Any, text: str, hosts: Any = ()) -> Translation:
    return translate(world.data_files.engines, world.catalogues.models, text, hosts)


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_command_becomes_an_entry(world: Any, row: dict[str, Any]) -> None:
    found = translated(world, row["command"])
    assert {entry.name: entry.values for entry in found.entries} == row["serve"]
    said = "\n".join(remark for entry in found.entries for remark in entry.remarks)
    for words in row.get("remarks", []):
        assert words in said
    refused = "\n".join(line for refusal in found.refusals for line in refusal.lines())
    assert [refusal.code for refusal in found.refusals] == row.get("untranslated", [])
    for words in row.get("says", []):
        assert words in refused


@pytest.mark.parametrize("row", [row for row in ROWS if row["serve"]], ids=lambda row: row["name"])
def test_what_the_plan_says_of_the_entry(world: Any, row: dict[str, Any]) -> None:
    facts = world.hosts(row["machine"], row.get("count", 1))
    (entry,) = translated(world, row["command"], facts).entries
    release = {"release": row["release"]} if "release" in row else {}
    result = world.plan(facts, {entry.name: {**entry.values, **release}}, engines=world.with_wheel())
    said = "\n".join(line for refusal in result.refusals for line in refusal.lines())
    assert sorted({refusal.code for refusal in result.refusals}) == sorted(row["refusals"]), said
    for words in row.get("contains", []):
        assert words in said
    told = {advice.code for advice in result.advice}
    assert set(row.get("advice", [])) <= told, told


NODES = """
On the first:
```bash
export NCCL_DEBUG=INFO
python3 -m sglang.launch_server --model-path zai-org/GLM-4.7-FP8 --tp-size 4 --nnodes 2 \\
  --node-rank 0 --dist-init-addr 10.0.0.1:50000   # the first
```
and on the second `python3 -m sglang.launch_server` with another rank:
```bash
export NCCL_DEBUG=INFO
python3 -m sglang.launch_server --model-path zai-org/GLM-4.7-FP8 --tp-size 4 --nnodes 2 \\
  --node-rank 1 --dist-init-addr 10.0.0.1:50000
```
"""


def test_the_commands_of_a_group_are_one_entry(world: Any) -> None:
    (entry,) = translated(world, NODES).entries
    assert entry.lines == (5, 11)
    assert entry.values == {
        "model": "glm-4.7-fp8",
        "hosts": ["host-1", "host-2"],
        "tensor_parallel": 4,
        "dist_port": 50000,
        "environment": {"NCCL_DEBUG": "INFO"},
    }


def test_too_few_hosts_for_the_ranks_are_refused(world: Any) -> None:
    found = translated(world, NODES, ["gpu-1"])
    assert {refusal.code for refusal in found.refusals} == {"command-hosts"}


@pytest.mark.parametrize(
    ("command", "values"),
    [
        ("sglang serve zai-org/GLM-4.7-Flash --tp-size 1", {"tensor_parallel": 1}),
        ("A=1 B=2 nohup python -m sglang.launch_server --model-path zai-org/GLM-4.7-Flash > log 2>&1 &",
         {"environment": {"A": "1", "B": "2"}}),
        ("cd /srv && CUDA_VISIBLE_DEVICES=2,3 python3.11 -m sglang.launch_server --model-path zai-org/GLM-4.7-Flash",
         {"gpus": [2, 3]}),
        ("$ pixi run --environment cu128 python -m sglang.launch_server --model-path=zai-org/GLM-4.7-Flash",
         {}),
        ("docker run --gpus all -e HF_TOKEN=hf_x -e NCCL_DEBUG=INFO -v /data:/models -p 30000:30000 image "
         "python3 -m sglang.launch_server --model-path /models/GLM-4.7-Flash --host 0.0.0.0",
         {"environment": {"NCCL_DEBUG": "INFO"}}),
        ("docker run -v /data:/models image python3 -m sglang.launch_server --model-path /models/mine",
         {"model": "/data/mine"}),
        ("docker exec node bash -c 'export A=1; python3 -m sglang.launch_server --model-path zai-org/GLM-4.7-Flash'",
         {"environment": {"A": "1"}}),
        ("ssh gpu-1 \"nohup python3 -m sglang.launch_server --model-path zai-org/GLM-4.7-Flash --port 8000\"",
         {"port": 8000}),
        ("MODEL=/data/mine\npython3 -m sglang.launch_server --model-path $MODEL --tp_size 2",
         {"model": "/data/mine", "tensor_parallel": 2}),
        ("python -m sglang.launch_server --model-path zai-org/GLM-4.7-Flash --stream-interval 4 --log-requests-level 1.5",
         {"options": {"stream-interval": 4, "log-requests-level": 1.5}}),
    ],
)  # fmt: skip
def test_wrappers_and_ways_to_write(world: Any, command: str, values: dict[str, Any]) -> None:
    found = translated(world, command)
    assert found.refusals == ()
    (entry,) = found.entries
    assert entry.values == {"model": "glm-4.7-flash", "hosts": ["host-1"], **values}


def test_a_secret_is_left_out_and_not_repeated(world: Any) -> None:
    (entry,) = translated(world, "HF_TOKEN=hf_y python -m sglang.launch_server --model-path /data/m").entries
    assert "environment" not in entry.values
    assert "environment_files" in "".join(entry.remarks) and "hf_y" not in "".join(entry.remarks)


def test_an_unknown_variable_is_named(world: Any) -> None:
    (entry,) = translated(world, "python -m sglang.launch_server --model-path /data/m --tp-size $TP").entries
    assert any(remark.startswith("$TP:") for remark in entry.remarks)


def test_an_unknown_flag_is_named_for_each_release(world: Any) -> None:
    text = "python -m sglang.launch_server --model-path /data/m --max-runing-requests 4 --cuda-graph-max-bs 8"
    (entry,) = translated(world, text).entries
    fixes = {
        release: {problem.flag: problem.fix for problem in problems}
        for release, problems in entry.problems.items()
    }
    assert set(fixes) == set(world.sglang.contracts)
    assert all("max-running-requests" in found["max-runing-requests"] for found in fixes.values())
    assert "cuda-graph-max-bs-decode" in fixes["0.5.23"]["cuda-graph-max-bs"]
    assert "cuda-graph-max-bs" not in fixes["0.5.10.post1"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ls -l", "command-missing"),
        ("Use `python -m sglang.launch_server` (or `pixi run python ...`) to start it.", "command-missing"),
        ("The module python -m sglang.launch_server --model-path x starts it.", "command-missing"),
        ("python -m sglang.launch_server --tp-size 8", "command-model"),
        ("python -m vllm.entrypoints.openai.api_server --model m", "engine-unsupported"),
        ("vllm serve zai-org/GLM-4.7 --tensor-parallel-size 8", "engine-unsupported"),
    ],
)
def test_what_cannot_be_translated_is_named(world: Any, text: str, code: str) -> None:
    found = translated(world, text)
    assert (found.entries, [refusal.code for refusal in found.refusals]) == ((), [code])


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
