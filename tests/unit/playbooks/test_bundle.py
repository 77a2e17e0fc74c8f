# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a bundle from being made is told at once, before anything is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *words],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("looking", [[], ["--check"]])
def test_all_that_is_wrong_is_told_at_once_and_nothing_is_fetched(tmp_path: Path, looking: list[str]) -> None:
    entry = {
        "dest": str(tmp_path / "bundle"),
        "cache_dir": str(tmp_path / "cache"),
        "uv_lock": str(tmp_path / "uv.txt"),
        "environments": [
            {"lock": str(tmp_path / "none.txt"), "python": "3.12", "arch": "x86_64", "glibc": "2.31"}
        ],
        "pythons": [{"python": "3.12", "arch": "x86_64", "url": "file:///nowhere/cpython.tar.gz"}],
        "weights": [{"model": "glm-4.7-fp8", "revision": "r1", "source": str(tmp_path / "weights")}],
        "trees": [{"source": str(tmp_path / "tree"), "name": "moe", "kind": "moe"}],
        "sign_key": str(tmp_path / "alice"),
    }
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "tasks": [{"name": "Build", "baremetal.sglang.bundle": entry}],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path / "play.yml", *looking)
    assert done.returncode != 0
    for words in (
        f"{tmp_path}/none.txt: the lock is not there",
        f"{tmp_path}/uv.txt: the lock is not there",
        "bundle_pythons: Python 3.12 for x86_64 has neither archive nor url with sha256",
        f"{tmp_path}/weights: is not there, and was to hold the weights of glm-4.7-fp8",
        f"{tmp_path}/tree: is not there, and was to become moe of the bundle",
        f"bundle_sign_key = {tmp_path}/alice: ",
    ):
        assert words in done.stdout, (words, done.stdout)
    assert not list(tmp_path.rglob("*.whl"))
    assert not (tmp_path / "bundle/manifest.json").exists()
    assert not looking or sorted(tmp_path.rglob("*")) == before


def test_conda_packages_are_not_fetched_before_the_rest_can_be_had(tmp_path: Path) -> None:
    """The channel is a folder that is not there: whoever asks it would say so."""
    hardware = {
        "os": "ubuntu-24.04",
        "arch": "x86_64",
        "driver": "580.95.05",
        "gpus": {"model": "a800-sxm4-80gb", "count": 8},
        "fabric_manager": "running",
    }
    variables = {
        "serve": {"glm": {"model": "glm-4.7-int8", "hosts": ["gpu-01"]}},
        "declared_hardware": hardware,
        "runtime_backend": "pixi",
        "bundle_dir": str(tmp_path / "bundle"),
        "bundle_cache_dir": str(tmp_path / "cache"),
        "bundle_conda_channels": [str(tmp_path / "channel")],
        "bundle_sign_key": str(tmp_path / "alice"),
    }
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"gpu-01": {}}, "vars": variables}}))
    done = run("playbooks/bundle.yml", "-i", inventory)
    assert done.returncode != 0
    assert f"bundle_sign_key = {tmp_path}/alice: " in done.stdout, done.stdout
    assert str(tmp_path / "channel") not in done.stdout
    assert sorted(tmp_path.iterdir()) == [inventory]
