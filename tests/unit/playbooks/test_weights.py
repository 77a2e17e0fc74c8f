# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

"""playbooks/weights.yml as a user runs it, against a hub on loopback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_hub import COMMIT, FakeHub
from ansible_collections.baremetal.sglang.tools.make_tiny_model import make_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SECRET = "hub-secret-that-nobody-may-see"


def play(tmp_path: Path, sources: Any, *words: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    inventory = tmp_path / "hosts.yml"
    variables = {
        "declared_hardware": {"arch": "x86_64", "os": "debian-12"},
        "serve": {"tiny": {"model": "glm-4.7-tiny", "hosts": ["h1", "h2"][:1], "device": "cpu"}},
        "weights_sources": sources,
    }
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {"h1": {}, "h2": {}}, "vars": variables}}), encoding="utf-8"
    )
    given = {"weights_dir": str(tmp_path / "weights"), **extra}
    return subprocess.run(
        [str(PLAYBOOK), "playbooks/weights.yml", "-i", str(inventory), "-e", json.dumps(given), *words],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "MY_HUB_TOKEN": SECRET,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
        check=False,
    )


def test_fetched_with_a_token_that_no_output_holds_and_nothing_to_do_again(tmp_path: Path) -> None:
    with FakeHub(make_files(7), token=SECRET) as hub:
        source = {
            "type": "modelscope",
            "id": hub.repository,
            "endpoint": hub.address,
            "token_env": "MY_HUB_TOKEN",
        }
        done = play(tmp_path, {"glm-4.7-tiny": [source]}, "-vvv")
        assert done.returncode == 0, done.stdout[-4000:]
        assert f"from modelscope maker/tiny at commit {COMMIT}" in done.stdout
        assert SECRET not in done.stdout
        asked = len(hub.requests)
        again = play(tmp_path, {"glm-4.7-tiny": [source]})
        assert "was here already" in again.stdout, again.stdout[-3000:]
        assert "changed=0" in again.stdout
        assert len(hub.requests) == asked, "nobody is asked for what is here"
    folder = tmp_path / "weights/glm-4.7-tiny/local"
    assert json.loads((folder / ".weights.json").read_text())["source"]["commit"] == COMMIT
    assert not [path for path in folder.rglob("*") if SECRET.encode() in path.read_bytes()]


def test_refused_with_every_slip(tmp_path: Path) -> None:
    sources = {"glm-4.7-tinny": [{"type": "directory", "path": "/x"}], "glm-4.7-tiny": [{"type": "htp"}]}
    done = play(tmp_path, sources)
    assert done.returncode != 0
    for words in ("did you mean glm-4.7-tiny?", "did you mean http?", "2 refusals, nothing was fetched"):
        assert words in done.stdout, done.stdout[-3000:]
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"weights_dir": ""}, "weights_dir is not set"),
        ({"weights_fetch_settings": {"paralel": 3}}, "unknown setting paralel; known: "),
    ],
)
def test_refused_words(tmp_path: Path, extra: dict[str, Any], said: str) -> None:
    done = play(tmp_path, {"glm-4.7-tiny": [{"type": "directory", "path": "/x"}]}, **extra)
    assert done.returncode != 0
    assert said in done.stdout, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
