# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service user owns the folder of an instance and none above it, on hosts of earlier versions after the next run."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.baremetal.sglang.plugins.modules import folder_set, temporary_instance
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

Attacker = Callable[[Callable[[], None]], int]


@pytest.fixture
def account(service_user: int, monkeypatch: pytest.MonkeyPatch) -> int:
    real = pwd.getpwnam
    engine = pwd.struct_passwd(("engine", "x", service_user, service_user, "", "/", "/usr/sbin/nologin"))
    monkeypatch.setattr(folder_set.pwd, "getpwnam", lambda name: engine if name == "engine" else real(name))
    return service_user


def run(folders: list[dict[str, str]], check_mode: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = {}

    class EndError(Exception):
        pass

    def exit_json(_self: object, **found: Any) -> None:
        answer.update(found)
        raise EndError

    def fail_json(_self: object, msg: str, **_more: Any) -> None:
        answer.update(failed=True, msg=msg)
        raise EndError

    with (
        pytest.MonkeyPatch.context() as patched,
        patch_module_args({"folders": folders, "_ansible_check_mode": check_mode}),
    ):
        patched.setattr(basic.AnsibleModule, "exit_json", exit_json)
        patched.setattr(basic.AnsibleModule, "fail_json", fail_json)
        with contextlib.suppress(EndError):
            folder_set.main()
    return answer


def wanted(state: Path) -> list[dict[str, str]]:
    return [
        {"path": str(state), "owner": "root", "mode": "0755"},
        {"path": str(state / "a"), "owner": "engine", "mode": "0750"},
    ]


def owners(*paths: Path) -> list[tuple[int, int, int]]:
    return [(path.lstat().st_uid, path.lstat().st_gid, path.lstat().st_mode & 0o7777) for path in paths]


def earlier_version(state: Path, account: int) -> None:
    (state / "a").mkdir(parents=True)
    (state / "a" / "starts.json").write_text("{}")
    for path in (state, state / "a", state / "a" / "starts.json"):
        os.chown(path, account, account)
    state.chmod(0o750)


def test_a_host_of_an_earlier_version_is_taken_over_once(reachable: Path, account: int) -> None:
    state = reachable / "sglang"
    earlier_version(state, account)
    assert run(wanted(state), check_mode=True)["folders"] == [str(state), str(state / "a")]
    assert owners(state) == [(account, account, 0o750)]
    assert run(wanted(state))["changed"]
    assert owners(state, state / "a") == [(0, 0, 0o755), (account, account, 0o750)]
    assert owners(state / "a" / "starts.json")[0][:2] == (account, account)
    assert run(wanted(state)) == {"changed": False, "folders": [], "diff": {"before": "", "after": ""}}


def test_a_link_that_was_planted_before_the_take_over_gives_nothing_away(
    reachable: Path, account: int
) -> None:
    state, victim = reachable / "sglang", reachable / "victim"
    victim.mkdir(mode=0o700)
    earlier_version(state, account)
    (state / "a").rename(state / "b")
    (state / "a").symlink_to(victim)
    os.lchown(state / "a", account, account)
    assert "must be a folder" in run(wanted(state))["msg"]
    assert owners(victim) == [(0, 0, 0o700)]


def test_the_take_over_wins_against_a_user_who_swaps_the_folder(
    reachable: Path, account: int, as_attacker: Attacker
) -> None:
    state, victim = reachable / "sglang", reachable / "victim"
    victim.mkdir(mode=0o700)
    earlier_version(state, account)

    def race() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.rename(state / "a", state / "b")
                os.symlink(victim, state / "a")
                os.unlink(state / "a")
                os.rename(state / "b", state / "a")

    as_attacker(race)
    for _round in range(200):
        os.chown(state, account, account)
        run(wanted(state))
    assert owners(victim) == [(0, 0, 0o700)]


def test_access_lists_of_the_service_user_end_with_the_take_over(reachable: Path, account: int) -> None:
    state = reachable / "sglang"
    earlier_version(state, account)
    # Version 2; the owner, the service user by name, the group, the mask and others have all rights.
    entries = [
        (1, 7, 0xFFFFFFFF),
        (2, 7, account),
        (4, 7, 0xFFFFFFFF),
        (16, 7, 0xFFFFFFFF),
        (32, 5, 0xFFFFFFFF),
    ]
    text = (2).to_bytes(4, "little") + b"".join(
        tag.to_bytes(2, "little") + rights.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, rights, who in entries
    )
    try:
        for name in ("system.posix_acl_access", "system.posix_acl_default"):
            os.setxattr(state, name, text)
    except OSError as error:
        pytest.skip(f"this file system has no access lists: {error}")
    assert run(wanted(state))["changed"]
    assert [name for name in os.listxattr(state) if "acl" in name] == []
    assert not run(wanted(state))["changed"]


def test_a_temporary_instance_takes_the_parents_over_too(
    reachable: Path, account: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = reachable / "sglang"
    earlier_version(state, account)
    monkeypatch.setattr(
        temporary_instance.grp,
        "getgrnam",
        lambda _name: temporary_instance.grp.struct_group(("e", "x", account, [])),
    )
    temporary_instance.owned(str(state / "smoke"), "engine", "engine")
    assert owners(state, state / "smoke") == [(0, 0, 0o755), (account, account, 0o750)]


def test_in_every_plan_only_the_folders_of_instances_are_the_service_users() -> None:
    result = World(load_data_files([])).one("h200", model="glm-4.7")
    folders = next(iter(result.plans.values())).host_settings["directories"]
    parents = {"/var/lib/sglang", "/var/cache/sglang"}
    owned = {item["path"] for item in folders if item["owner"] != "root"}
    assert parents <= {item["path"] for item in folders if item["owner"] == "root" and item["mode"] == "0755"}
    assert owned and all(os.path.dirname(path) in parents for path in owned)
    for path in owned:
        assert [item["path"] for item in folders].index(os.path.dirname(path)) < [
            item["path"] for item in folders
        ].index(path)
