# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` in a fresh clone: a token, no way out, a second run that changes nothing, and nothing left."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, command, succeed

PLAY = ("ansible-playbook", "site.yml", "-i", "inventories/lab")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is in the work tree, committed or not, laid out as a newcomer's clone, and the demo run in it."""
    folder = tmp_path_factory.mktemp("newcomer") / "baremetal-sglang"
    succeed("git", "clone", "--quiet", ROOT, folder)
    changed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, changed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            succeed("cp", "-P", ROOT / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    output = succeed("make", "demo", cwd=folder, BAREMETAL_LAB_DIR=str(folder / ".lab"))
    (folder / ".demo.log").write_text(output, encoding="utf-8")
    yield folder
    succeed("tools/lab", "--name", "demo", "down", cwd=folder, BAREMETAL_LAB_DIR=str(folder / ".lab"))


def lab(clone: Path, *words: str) -> str:
    return succeed(
        "tools/lab", "-i", "inventories/lab", *words, cwd=clone, BAREMETAL_LAB_DIR=str(clone / ".lab")
    )


def inside(clone: Path, *words: str, venv: str = ".venv") -> str:
    """Runs in the lab's network, as `make demo` does."""
    program = clone / venv / "bin" / words[0]
    return lab(clone, "exec", "--", str(program), *words[1:])


def test_it_shows_question_answer_and_times(clone: Path) -> None:
    shown = (clone / ".demo.log").read_text(encoding="utf-8")
    assert "prompt   Say hi in one short sentence." in shown
    assert re.search(r"answer   \w+", shown)
    assert re.search(r"tokens   [1-9]\d* .*first token after \d+ ms", shown)
    assert "make demo-clean" in shown


def test_nothing_tried_to_leave_and_a_second_run_changes_nothing(clone: Path) -> None:
    lab(clone, "egress", "--mark")
    output = inside(clone, *PLAY)
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]
    lab(clone, "egress", "--expect-none", "--self-check")


def test_a_look_at_a_finished_host_finds_no_difference(clone: Path) -> None:
    output = inside(clone, *PLAY, "--check", "--diff")
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


@pytest.mark.parametrize("tag", ["plan", "host", "runtime", "weights", "engine", "verify"])
def test_each_stage_can_be_run_alone(clone: Path, tag: str) -> None:
    output = inside(clone, *PLAY, "--tags", tag)
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


def test_the_oldest_supported_ansible_agrees(clone: Path) -> None:
    succeed("make", "oldest", cwd=clone)
    output = inside(clone, *PLAY, venv=".venv-oldest")
    assert re.search(r"lab-1 .* changed=0 .* failed=0", output), output[-3000:]


def test_a_user_s_shell_outside_the_lab_reaches_it_too(clone: Path) -> None:
    output = succeed(*PLAY, "--tags", "verify", cwd=clone)
    assert "answer   " in output


def test_a_flag_that_the_server_rejects_is_shown_in_its_own_words(clone: Path) -> None:
    """The planner cannot know every limit; what it lets through must fail with the server's last lines."""
    extra = '{"serve": {"tiny": {"model": "glm-4.7-tiny", "hosts": ["lab-1"], "device": "cpu", "options": {"max-total-tokens": 1}}}}'
    done = command(*PLAY, "-e", extra, cwd=clone)
    assert done.returncode != 0
    assert "Its last lines:" in done.stdout
    assert "Traceback" in done.stdout or "Error" in done.stdout
    output = inside(clone, *PLAY)
    assert "answer   " in output


def test_demo_clean_leaves_nothing(clone: Path) -> None:
    succeed("make", "demo-clean", cwd=clone, BAREMETAL_LAB_DIR=str(clone / ".lab"), KEEP_CACHE="1")
    assert not (clone / ".lab").exists()
    for listing in (["ip", "netns", "list"], ["mount"], ["ps", "-eo", "args"]):
        shown = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        assert str(clone) not in shown
        assert "bsl-demo" not in shown
