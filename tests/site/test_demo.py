# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` in a fresh clone: a token, no way out, and a second run that changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import inside, lab, succeed

PLAY = ("ansible-playbook", "site.yml", "-i", "inventories/lab")


def test_it_shows_question_answer_and_times(clone: Path) -> None:
    shown = (clone / ".demo.log").read_text(encoding="utf-8")
    assert "prompt   Say hi in one short sentence." in shown
    assert re.search(r"answer   \w+", shown)
    assert re.search(r"tokens   [1-9]\d* .*first token after \d+ ms", shown)
    assert "make demo-clean" in shown


def test_nothing_tried_to_leave_since_the_host_was_bare(clone: Path) -> None:
    lab(clone, "egress", "--expect-none")


# In `make test` the oldest ansible-core makes the second run, and molecule's scenario looks with --check.
@pytest.mark.long
def test_nothing_tried_to_leave_and_a_second_run_changes_nothing(clone: Path) -> None:
    lab(clone, "egress", "--mark")
    output = inside(clone, *PLAY)
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]
    lab(clone, "egress", "--expect-none", "--self-check")


def test_a_look_at_a_finished_host_finds_no_difference(clone: Path) -> None:
    output = inside(clone, *PLAY, "--check", "--diff")
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


@pytest.mark.long
@pytest.mark.parametrize(
    "tag",
    ["plan", "host", "runtime", "weights", "engine", "verify"],
)
def test_each_stage_can_be_run_alone(clone: Path, tag: str) -> None:
    output = inside(clone, *PLAY, "--tags", tag)
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


def test_the_oldest_supported_ansible_agrees(clone: Path) -> None:
    succeed("make", "oldest", cwd=clone)
    output = inside(clone, *PLAY, venv=".venv-oldest")
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


@pytest.mark.long
def test_a_user_s_shell_outside_the_lab_reaches_it_too(clone: Path) -> None:
    output = succeed(*PLAY, "--tags", "verify", cwd=clone)
    assert "answer   " in output
