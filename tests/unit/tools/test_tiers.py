# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver of the test tiers: every test belongs to a step, disks are asked for, leftovers go, failures are short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import leftovers
import steps
import tiers

sys.path.remove(str(ROOT / "tools"))


def test_every_test_module_belongs_to_exactly_one_step() -> None:
    claims: dict[str, list[str]] = {}
    for path in [*ROOT.glob("tests/*/**/test_*.py")]:
        name = str(path.relative_to(ROOT))
        claims[name] = [
            step.name
            for step in steps.STEPS
            for part in step.pytest
            if name == part or name.startswith(f"{part}/")
        ]
    assert len(claims) > 50
    assert {name: found for name, found in claims.items() if len(found) != 1} == {}


def test_steps_name_files_and_steps_that_exist() -> None:
    names = [step.name for step in steps.STEPS]
    assert len(names) == len(set(names))
    for step in steps.STEPS:
        assert {*step.needs, *step.after} <= set(names)
        assert bool(step.command) != bool(step.pytest), step.name
        missing = [path for path in step.pytest if not (ROOT / path).exists()]
        assert [path for path in missing if path != "tests/security"] == [], step.name


def test_the_page_for_contributors_lists_every_step() -> None:
    page = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    assert [step.name for step in steps.STEPS if f"| `{step.name}` |" not in page] == []


def test_the_short_tier_runs_no_slow_and_the_middle_one_no_long_test() -> None:
    assert "not slow" in steps.MARKERS["check"] and "not long" in steps.MARKERS["check"]
    assert steps.MARKERS["test"] == "not long" and steps.MARKERS["all"] == ""
    assert [step.name for step in steps.STEPS if step.first == "check" and not step.runs_in("all")] == []


def test_one_step_is_chosen_with_what_it_needs() -> None:
    assert [step.name for step in tiers.chosen("all", "engine")] == ["environment", "engine"]
    assert [step.name for step in tiers.chosen("test", "engine")] == ["engine"]
    assert [step.name for step in tiers.chosen("test", "groups, unit")] == ["unit", "groups"]
    assert {step.name for step in tiers.chosen("test", "")} < {step.name for step in tiers.chosen("all", "")}


def test_an_unknown_step_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiers.chosen("all", "grups")
    said = capsys.readouterr().err
    assert "unknown step grups" in said and "groups" in said


def test_a_step_of_a_longer_tier_is_refused_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiers.chosen("test", "guest")
    assert "sudo make test-all ONLY=guest" in capsys.readouterr().err


class Usage:
    free = 10 * tiers.GIB
    used = 0


@pytest.mark.parametrize("cached", [0, 5])
def test_a_disk_that_is_too_small_is_refused_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cached: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("BAREMETAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tiers.shutil, "disk_usage", lambda _folder: Usage())
    monkeypatch.setattr(tiers, "size_of", lambda _folder: cached * tiers.GIB)
    with pytest.raises(SystemExit):
        tiers.require_disk("test")
    said = capsys.readouterr().err
    needed = tiers.DISK_GIB["test"] + tiers.CACHE_GIB - cached
    assert (
        f"need {needed} GiB on the disk of {tmp_path}, which has 10 GiB free: free {needed - 10} GiB" in said
    )
    assert said.count("\n") == 1


def test_the_middle_tier_needs_no_more_than_forty_gib_of_disk() -> None:
    assert tiers.DISK_GIB["test"] + tiers.CACHE_GIB <= 40


# --- what an interrupted run left ---


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Registry, namespaces and scratch folders of a machine, and the commands that were run on it."""
    commands: list[list[str]] = []
    run = subprocess.run

    def record(words: list[str], check: bool = False, **options: Any) -> Any:
        commands.append(words)
        return (
            run(words, check=check, **options)
            if words[0] == "rm"
            else subprocess.CompletedProcess(words, 0, "", "")
        )

    for name in ("registry", "netns", "scratch"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(leftovers, "REGISTRY", tmp_path / "registry")
    monkeypatch.setattr(leftovers, "NAMESPACES", tmp_path / "netns")
    monkeypatch.setattr(leftovers.subprocess, "run", record)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    return {"folder": tmp_path, "commands": commands}


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def make_lab(machine: dict[str, Any], name: str, state: Path) -> None:
    (machine["folder"] / "registry" / name).mkdir()
    (machine["folder"] / "registry" / name / "lab.json").write_text(
        json.dumps({"state": str(state), "hosts": {}})
    )


def test_only_what_belongs_to_processes_that_are_gone_is_taken_away(machine: dict[str, Any]) -> None:
    old = gone()
    parent = machine["folder"] / "scratch"
    ours = leftovers.begin_scratch(parent)
    orphan = parent / f"{leftovers.PREFIX}{old}-1-x"
    orphan.mkdir()
    make_lab(machine, f"test-{old}-engine", Path("/nowhere"))
    make_lab(machine, f"test-{os.getpid()}-engine", Path("/nowhere"))
    make_lab(machine, "demo", orphan / "demo/.lab/demo")
    make_lab(machine, "mine", Path("/srv/lab/mine"))
    for name in (f"swt{old}", f"swt{old}-0", f"swt{os.getpid()}-0", "swarm-of-others", "bsl-mine"):
        (machine["folder"] / "netns" / name).touch()

    words = ["import time; time.sleep(600)", str(orphan / "inventory"), str(parent / "other")]
    running = [subprocess.Popen([sys.executable, "-c", words[0], word]) for word in words[1:]]

    removed = leftovers.remove_leftovers(ROOT)

    assert running[0].wait(300) == -9 and running[1].poll() is None
    running[1].kill()
    running[1].wait()
    assert removed == ["demo", f"test-{old}-engine", *removed[2:4], str(orphan)]
    assert set(removed[2:4]) == {f"swt{old}", f"swt{old}-0"}
    assert ours.exists() and not orphan.exists()
    ended = [words[2] for words in machine["commands"] if words[-1] == "down"]
    assert ended == ["demo", f"test-{old}-engine"]


def test_a_number_that_another_process_has_now_is_no_owner(machine: dict[str, Any]) -> None:
    folder = leftovers.begin_scratch(machine["folder"] / "scratch")
    assert not leftovers.is_orphan(folder)
    started = leftovers.started(os.getpid())
    assert leftovers.is_orphan(folder.with_name(folder.name.replace(str(started), str(started - 1))))
    assert not leftovers.is_orphan(folder.with_name(f"{leftovers.PREFIX}mine"))


def test_the_labs_of_a_finished_step_go_before_its_folder(machine: dict[str, Any]) -> None:
    folder = machine["folder"] / "scratch/step"
    folder.mkdir()
    make_lab(machine, "serves-a-token", folder / ".lab/serves-a-token")
    assert leftovers.remove_leftovers(ROOT, folder) == ["serves-a-token", str(folder)]
    assert not folder.exists()


# --- a failed run ---

FAILING = """
def test_it(tmp_path):
    assert {1: "one"} == {1: "two"}, "the host did not answer"
"""
LOGGED = """\
2026-01-01 12:00:00,000 p=1 u=root n=ansible INFO| TASK [baremetal.sglang.engine : Start the unit] ****
2026-01-01 12:00:01,000 p=1 u=root n=ansible ERROR| fatal: [e1]: FAILED! => {"msg": "no token"}
"""


def test_a_failure_is_told_in_few_lines_with_the_last_task(tmp_path: Path) -> None:
    (tmp_path / "test_failing.py").write_text(FAILING)
    (tmp_path / "ansible.log").write_text(LOGGED)
    evidence = tmp_path / "logs" / "step"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={tmp_path}",
         "-p", "ansible_collections.baremetal.sglang.tests.conftest", tmp_path / "test_failing.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "collections"), "BAREMETAL_TEST_EVIDENCE": str(evidence),
             "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log")},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    shown = tiers.report_failure(tmp_path / "logs", "step")
    assert len(shown) <= tiers.REPORT_LINES
    text = "\n".join(shown)
    assert "test_failing.py::test_it" in text and "the host did not answer" in text
    assert "TASK [baremetal.sglang.engine : Start the unit]" in text and "no token" in text


def test_a_step_without_tests_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "types.log").write_text("\n".join(f"line {number}" for number in range(500)))
    shown = tiers.report_failure(tmp_path, "types")
    assert len(shown) <= tiers.REPORT_LINES
    assert shown[-1] == "line 499"


def test_every_failed_test_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "unit.xml").write_text(
        '<testsuite><testcase classname="tests.unit.test_a" name="test_one" time="1"><failure message="assert 1 ==\n 2"/>'
        '</testcase><testcase classname="tests.unit.test_a" name="test_two" time="1"/></testsuite>'
    )
    (tmp_path / "yaml.log").write_text("a.yml\n  24:121 error line too long\n")
    assert tiers.failed_tests(tmp_path, ["unit", "yaml"]) == [
        "unit: test_a::test_one: assert 1 == 2", "yaml: 24:121 error line too long",
    ]  # fmt: skip


def test_a_step_whose_need_failed_is_not_run(tmp_path: Path) -> None:
    broken = steps.Step("broken", "fails", "check", command=("false",))
    after = steps.Step("after", "needs it", "check", command=("true",), needs=("broken",))
    sound = steps.Step("sound", "passes", "check", command=("true",))
    run = tiers.Run("check", [after, broken, sound], tmp_path, None)
    run.all_steps()
    assert {name: result for name, (result, _seconds) in run.results.items()} == {
        "broken": "FAILED", "after": "FAILED", "sound": "ok",
    }  # fmt: skip
    assert run.order_of_failures == ["broken", "after"]


def test_only_files_that_changed_since_they_passed_are_linted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    (tmp_path / "roles").mkdir()
    for name in ("one.yml", "two.yml", "text.md"):
        (tmp_path / "roles" / name).write_text("---\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(tmp_path)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)

    assert tiers.changed_files(("roles",), {})[0] == []
    (tmp_path / "roles/one.yml").write_text("--- # other\n")
    (tmp_path / "roles/new.yml").write_text("---\n")
    changed, now = tiers.changed_files(("roles",), {})
    assert changed == ["roles/new.yml", "roles/one.yml"]
    assert tiers.changed_files(("roles",), now)[0] == []
    subprocess.run([*git, "commit", "-qam", "more"], check=True)
    (tmp_path / "roles/two.yml").unlink()
    assert tiers.changed_files(("roles",), now)[0] == []
    (tmp_path / "roles/new.yml").write_text("--- # again\n")
    assert tiers.changed_files(("roles",), now)[0] == ["roles/new.yml"]
