# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret of a group through its module, run as Ansible runs it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.service import group_secret

COLLECTIONS = Path(__file__).parents[4] / "collections"
SECRET, OTHER = "a5" * 32, "5a" * 32
GROUP = {"head": "a", "path": "/etc/sglang/groups/it.key"}


def run(state: str, check: bool = False, **options: Any) -> tuple[dict[str, Any], str]:
    arguments = {"state": state, "group": "root", **options, "_ansible_check_mode": check}
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.baremetal.sglang.plugins.modules.group_secret"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_remote_tmp": "/tmp"}}),
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )  # fmt: skip
    return json.loads(done.stdout), done.stdout


def plan(*hosts: str) -> dict[str, Any]:
    group = {"secret": GROUP["path"], "members": [{"host": host, "address": "10.0.0.1"} for host in hosts]}
    return {"instances": {"it": {"service": {"group": group}}, "alone": {"service": {}}}}


def test_the_first_host_keeps_it_and_all_members_are_given_it() -> None:
    assert group_secret.kept_by(plan("a", "b"), "a") == {"it": GROUP["path"]}
    assert group_secret.kept_by(plan("a", "b"), "b") == {}
    kept = {"a": {"it": SECRET}, "b": {}}
    assert group_secret.given(plan("a", "b"), kept) == {"it": {"path": GROUP["path"], "secret": SECRET}}
    assert group_secret.given(plan("a", "b"), {})["it"]["secret"] == ""


def test_a_fingerprint_differs_and_reveals_nothing() -> None:
    assert group_secret.fingerprint(SECRET) != group_secret.fingerprint(OTHER)
    assert group_secret.fingerprint(SECRET) not in SECRET


@pytest.mark.skipif(os.geteuid() != 0, reason="the files are root's")
def test_it_is_written_once_for_root_and_the_engine_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "sglang" / "groups" / "it.key"
    secrets = {"it": {"path": str(path), "secret": SECRET}}
    assert run("present", check=True, secrets=secrets)[0]["changed"]
    assert not path.exists()
    first, shown = run("present", secrets=secrets)
    assert first["changed"] and SECRET not in shown
    assert first["fingerprints"] == {"it": group_secret.fingerprint(SECRET)}
    assert path.read_text() == SECRET + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    assert not run("present", secrets=secrets)[0]["changed"]
    assert run("kept", paths={"it": str(path)})[0]["secrets"] == {"it": SECRET}
    # A mode that was widened by hand is mended; another secret is written.
    path.chmod(0o644)
    assert run("present", secrets=secrets)[0]["changed"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert run("present", secrets={"it": {"path": str(path), "secret": OTHER}})[0]["changed"]
    assert path.read_text() == OTHER + "\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the files are root's")
@pytest.mark.parametrize("kind", ["link", "fifo", "other's", "open", "nonsense", "absent"])
def test_what_is_no_secret_of_roots_counts_as_none(tmp_path: Path, kind: str) -> None:
    path, real = tmp_path / "it.key", tmp_path / "real"
    real.write_text(SECRET + "\n")
    if kind == "link":
        path.symlink_to(real)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "nonsense":
        path.write_text("secret")
    elif kind != "absent":
        path.write_text(SECRET + "\n")
        path.chmod(0o666 if kind == "open" else 0o640)
        if kind == "other's":
            os.chown(path, 12345, -1)
    assert run("kept", paths={"it": str(path)})[0]["secrets"] == {"it": ""}


def test_a_member_whose_first_host_is_not_in_the_run_is_refused(tmp_path: Path) -> None:
    said, _shown = run("present", secrets={"it": {"path": str(tmp_path / "it.key"), "secret": ""}})
    assert said["failed"] and "leave --limit out" in said["msg"]


def test_the_controller_makes_what_is_missing_and_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.baremetal.sglang.plugins.action import group_secret as action

    def acted(**arguments: Any) -> dict[str, str]:
        made = object.__new__(action.ActionModule)
        made._task = type("Task", (), {"args": {"state": "kept", **arguments}})()
        made._execute_module = lambda **_unused: {"secrets": {"it": SECRET, "new": ""}}
        monkeypatch.setattr(action.ActionBase, "run", lambda *_unused: {})
        found: dict[str, str] = made.run()["secrets"]
        return found

    found = acted()
    assert found["it"] == SECRET and group_secret.usable(found["new"])
    assert acted()["new"] != found["new"]
    assert acted(rotate=True)["it"] != SECRET
