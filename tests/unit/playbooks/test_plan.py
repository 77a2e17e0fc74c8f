# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plays run for real, on declared hardware and on this machine, through the engine's own containers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
A800 = {
    "os": "ubuntu-22.04",
    "arch": "x86_64",
    "driver": "550.54.15",
    "gpus": {"model": "a800-sxm4-80gb", "count": 8},
    "toolkit": {"cuda_home": "/usr/local/cuda", "nvcc": "12.8", "ptxas": "12.8", "cxx": "11", "ninja": ""},
}


def play(name: str, inventory: Path, **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PLAYBOOK), f"playbooks/{name}.yml", "-i", str(inventory), "-e", json.dumps(extra)],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )


def room(tmp_path: Path, hardware: dict[str, Any] | None = None, **serve: Any) -> Path:
    inventory = tmp_path / "hosts.yml"
    variables: dict[str, Any] = {"serve": {"glm": {"model": "glm-4.7-int8", "hosts": ["gpu-01"], **serve}}}
    if hardware is not None:
        variables["declared_hardware"] = hardware
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {"gpu-01": {}}, "vars": variables}}), encoding="utf-8"
    )
    return inventory


@pytest.mark.parametrize(
    ("inventory", "release", "hosts"),
    [("a800", "0.5.10.post1", 1), ("a800-580", "0.5.23", 1), ("spark", "0.5.23", 4)],
)
def test_an_inventory_of_ours_plans_with_no_edits(
    tmp_path: Path, inventory: str, release: str, hosts: int
) -> None:
    done = play("plan", ROOT / "inventories" / inventory, plan_dir=str(tmp_path / "plans"))
    assert done.returncode == 0, done.stdout + done.stderr
    plans = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "plans").glob("*.json")]
    assert len(plans) == hosts
    assert {item["release"]["key"] for plan in plans for item in plan["instances"].values()} == {release}
    assert "nothing was refused" in done.stdout


def test_a_second_plan_changes_nothing(tmp_path: Path) -> None:
    inventory, plans = room(tmp_path, A800), str(tmp_path / "plans")
    assert "changed: [" in play("plan", inventory, plan_dir=plans).stdout
    assert "changed: [" not in play("plan", inventory, plan_dir=plans).stdout


def test_a_refused_plan_fails_with_the_whole_list_and_writes_nothing(tmp_path: Path) -> None:
    inventory = room(
        tmp_path, A800, model="glm-4.7", options={"reasoning-parser": "glm47", "max-runing-requests": 4}
    )
    done = play("plan", inventory, plan_dir=str(tmp_path / "plans"))
    assert done.returncode != 0
    for words in (
        "serve.glm.model = glm-4.7 on gpu-01",
        "89.8 GB a GPU",
        "did you mean glm45?",
        "did you mean max-running-requests?",
        "3 refusals, nothing was changed",
    ):
        assert words in done.stdout
    assert not (tmp_path / "plans").exists()


def test_templates_and_group_names_reach_the_planner_as_values(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        """
all:
  vars:
    declared_hardware: "{{ kinds['a800'] }}"
    context: 65536
    kinds: """
        + json.dumps({"a800": A800})
        + """
    serve:
      glm:
        model: "{{ 'glm-4.7' }}-int8"
        hosts: "{{ groups['room'] }}"
        context_length: "{{ context }}"
  children:
    room:
      hosts:
        gpu-01:
""",
        encoding="utf-8",
    )
    done = play("plan", inventory, plan_dir=str(tmp_path / "plans"))
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "plans/gpu-01.json").read_text(encoding="utf-8"))
    assert plan["instances"]["glm"]["context"]["length"] == 65536


def test_facts_files_stand_in_for_hosts(tmp_path: Path) -> None:
    this = tmp_path / "this.yml"
    this.write_text(
        yaml.safe_dump(
            {
                "all": {
                    "hosts": {
                        "here": {
                            "ansible_connection": "local",
                            "ansible_python_interpreter": sys.executable,
                        }
                    }
                }
            }
        ),
        encoding="utf-8",
    )
    facts = tmp_path / "facts"
    done = play("facts", this, facts_dir=str(facts))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((facts / "here.json").read_text(encoding="utf-8"))
    assert document["host"] == "here" and document["schema"] == 1
    # The file that was written is one that the planner reads; what a machine of tests lacks is filled in.
    python = [{"path": "/usr/bin/python3", "version": "3.11.2"}]
    changed = {**document, "host": "gpu-01", "faults": [], "python": python, "glibc": "2.36", "listening": []}
    (facts / "gpu-01.json").write_text(json.dumps(changed), encoding="utf-8")
    done = play("plan", room(tmp_path, model="glm-4.7-tiny", device="cpu"), facts_dir=str(facts))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[glm] port 30000" in done.stdout


def test_facts_need_a_directory(tmp_path: Path) -> None:
    done = play("facts", room(tmp_path, A800))
    assert done.returncode != 0
    assert "-e facts_dir=facts/" in done.stdout + done.stderr


def test_users_catalogues_stand_beside_ours_and_bad_entries_are_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "hardware").mkdir(parents=True)
    ours = (ROOT / "files/hardware/a800-sxm4-80gb.yml").read_text(encoding="utf-8")
    (mine / "hardware/my-gpu.yml").write_text(ours.replace("a800-sxm4-80gb", "my-gpu"), encoding="utf-8")
    inventory = room(tmp_path, {**A800, "gpus": {"model": "my-gpu", "count": 8}})
    assert play("plan", inventory).returncode != 0
    done = play("plan", inventory, catalogue_dirs=[str(mine)])
    assert done.returncode == 0, done.stdout + done.stderr
    (mine / "hardware/bad.yml").write_text("key: bad\nmemory: 1\n", encoding="utf-8")
    done = play("plan", inventory, catalogue_dirs=[str(mine)])
    assert done.returncode != 0
    assert "bad.yml" in done.stdout and "unknown key memory" in done.stdout


def test_a_model_in_a_directory_is_read_from_its_config(tmp_path: Path) -> None:
    directory = tmp_path / "my-model"
    directory.mkdir()
    config = {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "num_hidden_layers": 4,
        "hidden_size": 1024,
        "intermediate_size": 2048,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "n_routed_experts": 16,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 512,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 8192,
        "vocab_size": 32000,
        "torch_dtype": "bfloat16",
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    inventory = room(tmp_path, A800, model=str(directory))
    done = play("plan", inventory, plan_dir=str(tmp_path / "plans"))
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "plans/gpu-01.json").read_text(encoding="utf-8"))
    assert plan["instances"]["glm"]["weights"]["path"] == str(directory)
    shutil.rmtree(directory)
    done = play("plan", inventory)
    assert done.returncode != 0
    assert "there is no config.json in it" in done.stdout


def test_explain_answers_why_not(tmp_path: Path) -> None:
    done = play("explain", room(tmp_path, A800), release="0.5.23")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needs driver 580.65.06, the host has 550.54.15" in done.stdout


def test_an_empty_request_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {gpu-01: {}}}\n", encoding="utf-8")
    done = play("plan", inventory)
    assert done.returncode != 0
    assert "nothing is asked for" in done.stdout


@pytest.mark.parametrize("name", ["plan", "facts", "bundle", "explain", "site"])
def test_an_inventory_without_hosts_is_refused(tmp_path: Path, name: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n", encoding="utf-8")
    done = play(name, inventory)
    assert done.returncode != 0
    assert "REFUSED  inventory: it names no host" in done.stdout + done.stderr


README_PLANS = {
    "a800": (8, {"context-length": 131072}, {}),
    # Four hosts, each a quarter of every layer, over RDMA: never pipeline stages over sockets.
    "spark": (
        4,
        {
            **{"tp-size": 4, "nnodes": 4, "node-rank": 0, "dist-init-addr": "192.168.101.11:31000"},
            **{"context-length": 32768, "tool-call-parser": "glm47", "reasoning-parser": "glm45"},
            **{"speculative-algorithm": "EAGLE", "speculative-num-steps": 3},
        },
        {"NCCL_NET": "IB", "NCCL_IB_DISABLE": "0", "NCCL_IB_HCA": "=roceP2p1s0f1,rocep1s0f1"},
    ),
}


@pytest.mark.parametrize("group", README_PLANS)
def test_the_inventories_of_the_readme_give_the_plan_that_it_promises(tmp_path: Path, group: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    (block,) = [block for block in blocks if block.startswith(f"{group}:")]
    (tmp_path / "hosts.yml").write_text(block, encoding="utf-8")
    done = play("plan", tmp_path / "hosts.yml", plan_dir=str(tmp_path / "plans"))
    assert done.returncode == 0, done.stdout
    assert "nothing was refused" in done.stdout
    tensor_parallel, arguments, environment = README_PLANS[group]
    plans = sorted((tmp_path / "plans").glob("*.json"))
    instance = json.loads(plans[0].read_text(encoding="utf-8"))["instances"]["glm-4.7"]
    planned = {entry["flag"]: entry["value"] for entry in instance["arguments"]}
    assert {flag: planned.get(flag) for flag in arguments} == arguments
    assert (instance["parallel"]["tp"], instance["parallel"]["pp"]) == (tensor_parallel, 1)
    variables = {entry["name"]: entry["value"] for entry in instance["environment_variables"]}
    assert {name: variables.get(name) for name in environment} == environment
    if group == "spark":
        assert len(plans) == 4
        assert instance["warnings"] == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (None, "this directory is not there"),
        ([], "no facts file"),
        (["gpu-1.json"], "it has facts of gpu-1;"),
    ],
)
def test_a_facts_directory_without_the_host_is_refused(
    tmp_path: Path, files: list[str] | None, said: str
) -> None:
    facts = tmp_path / "facts"
    for name in files or []:
        facts.mkdir()
        (facts / name).write_text("{}", encoding="utf-8")
    if files == []:
        facts.mkdir()
    done = play("plan", room(tmp_path, A800), facts_dir=str(facts))
    assert done.returncode != 0
    assert f"REFUSED  facts_dir = {facts}" in done.stdout
    assert said in done.stdout
    assert "the inventory has gpu-01" in done.stdout


@pytest.mark.parametrize("name", ["stop", "rollback", "keys"])
def test_an_invalid_policy_is_refused_once_by_plays_that_plan_nothing(name: str, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    local = {"ansible_connection": "local"}
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {"a": local, "b": local}, "vars": {"policy": {"engin": {}}}}})
    )
    done = play(name, inventory)
    said = done.stdout + done.stderr
    assert done.returncode and "did you mean engine?" in said, said
    assert "filter plugin" not in said and "Finalization" not in said, said
    assert said.count("fatal:") == 1, said
