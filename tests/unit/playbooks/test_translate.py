# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/translate.yml, run for real and without an inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
NOTES = """\
# Serve it

```bash
export CUDA_VISIBLE_DEVICES=0,1,2,3
python3 -m sglang.launch_server \\
  --model-path zai-org/GLM-4.7-Flash \\
  --tp 4 --host 0.0.0.0 --max-runing-requests 8
```
Or with another engine: `vllm serve zai-org/GLM-4.7-Flash`
"""
H200 = {"gpus": {"model": "h200", "count": 8}, "driver": "580.95.05", "arch": "x86_64", "os": "ubuntu-24.04"}


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PLAYBOOK), "playbooks/translate.yml", *(word for item in arguments for word in ("-e", item))],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_notes_are_translated_and_judged(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text(NOTES, encoding="utf-8")
    done = play(
        f"command_file={path}", json.dumps({"translate_hardware": H200, "translate_hosts": ["gpu-01"]})
    )
    assert done.returncode == 0, done.stdout + done.stderr
    start = done.stdout.index("serve:")
    entry = yaml.safe_load(done.stdout[start : done.stdout.index("\n#", start)])
    assert entry == {
        "serve": {
            "glm-4.7-flash": {
                "model": "glm-4.7-flash",
                "hosts": ["gpu-01"],
                "tensor_parallel": 4,
                "gpus": [0, 1, 2, 3],
                "options": {"max-runing-requests": 8},
            }
        }
    }
    assert "did you mean max-running-requests?" in done.stdout
    assert "engine vllm is not supported yet" in done.stdout
    assert "1 entry, nothing was changed" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.md"]


@pytest.mark.slow
def test_a_command_on_the_command_line_is_taken_whole() -> None:
    done = play(
        "command=A=1 B=2 python3 -m sglang.launch_server --model-path=zai-org/GLM-4.7-Flash --port=8000"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("model: glm-4.7-flash", "port: 8000", "A: '1'", "B: '2'"):
        assert words in done.stdout


@pytest.mark.slow
def test_neither_a_command_nor_a_file_is_refused() -> None:
    done = play()
    assert done.returncode != 0
    assert "REFUSED  command, command_file" in done.stdout
