# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the screen of somebody who runs a playbook of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.slow
PLAY = """\
- name: Stage one
  hosts: all
  gather_facts: false
  tasks:
    - name: Read something
      ansible.builtin.command: "true"
      changed_when: false

    - name: Skip something
      ansible.builtin.command: "true"
      when: false

    - name: Change something
      ansible.builtin.command: "true"
      changed_when: inventory_hostname == 'h1'

    - name: Report on all hosts
      ansible.builtin.debug:
        msg: ["first line", "second line"]
      run_once: true

    - name: Report on each host
      ansible.builtin.debug:
        msg: "one of {{ ansible_play_hosts | length }}"

    - name: Refuse it
      ansible.builtin.fail:
        msg: |-
          REFUSED  serve.glm.model = "x"
            is in no catalogue
            say glm-4.7
      when: refused | default(false)

    - name: Crash
      ansible.builtin.command: "false"
      when: crashed | default(false)
"""


def screen(tmp_path: Path, *words: str, name: str = "site.yml") -> str:
    (tmp_path / name).write_text(PLAY)
    done = subprocess.run(
        [
            Path(sys.executable).parent / "ansible-playbook",
            "-i",
            "h1,h2,",
            "-c",
            "local",
            tmp_path / name,
            *words,
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_changes_and_reports_are_shown_and_nothing_else(tmp_path: Path) -> None:
    lines = [line for line in screen(tmp_path).splitlines() if line and not line.startswith("PLAY RECAP")]
    assert lines[0] == "== Stage one"
    assert lines[1].startswith("TASK [Change something] **")
    assert lines[2:5] == ["changed: [h1]", "first line", "second line"]
    assert sorted(lines[5:7]) == ["h1: one of 2", "h2: one of 2"]
    assert "Read something" not in str(lines) and "Skip something" not in str(lines)
    assert "changed=1" in lines[7] and "changed=0" in lines[8]


def test_a_refusal_is_printed_once_as_it_was_written(tmp_path: Path) -> None:
    text = screen(tmp_path, "-e", '{"refused": true}')
    assert text.count('REFUSED  serve.glm.model = "x"\n  is in no catalogue\n  say glm-4.7\n') == 1
    assert "fatal: [h2]: as above" in text or "fatal: [h1]: as above" in text
    assert "Origin:" not in text and "[ERROR]" not in text


def test_a_crash_keeps_all_that_helps_to_find_it(tmp_path: Path) -> None:
    text = screen(tmp_path, "-e", '{"crashed": true}')
    assert '"cmd": ["false"]' in text and '"rc": 1' in text


def test_a_playbook_that_answers_a_question_prints_the_answer_alone(tmp_path: Path) -> None:
    text = screen(tmp_path, name="plan.yml")
    assert "PLAY RECAP" not in text and "== Stage one" not in text
    assert "first line\nsecond line\n" in text


def test_v_shows_everything(tmp_path: Path) -> None:
    text = screen(tmp_path, "-v")
    assert "TASK [Read something]" in text and "PLAY [Stage one]" in text
