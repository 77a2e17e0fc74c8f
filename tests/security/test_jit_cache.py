# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JIT cache is carried while the service user rearranges it: nothing of root's is read, written or given away."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.baremetal.sglang.plugins.module_utils.service.folders_host import make_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.service.user_host import as_user
from ansible_collections.baremetal.sglang.plugins.modules import jit_cache

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

Attacker = Callable[[Callable[[], None]], int]
SECRET = "root's own"
FILES = 60


@pytest.fixture
def host(reachable: Path, service_user: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance's cache, root's staging folder, and files of root that the attacker wants."""
    account = pwd.struct_passwd(("engine", "x", service_user, service_user, "", "/", "/usr/sbin/nologin"))
    monkeypatch.setattr(jit_cache.pwd, "getpwnam", lambda _name: account)
    (reachable / "staging").mkdir(mode=0o700)
    (reachable / "roots").mkdir(mode=0o755)
    for number in range(FILES):
        path = reachable / "roots" / f"f{number}"
        path.write_text(SECRET)
        path.chmod(0o600)
    (reachable / "cache").mkdir()
    make_folder(str(reachable / "cache" / "it"), service_user, service_user, 0o750)
    return reachable


def run(host: Path, state: str, **more: Any) -> dict[str, Any]:
    """What the module answers; a failure too."""
    answer: dict[str, Any] = {}

    class EndError(Exception):
        pass

    def exit_json(_self: object, **found: Any) -> None:
        answer.update(found)
        raise EndError

    def fail_json(_self: object, msg: str, **_more: Any) -> None:
        answer.update(failed=True, msg=msg)
        raise EndError

    given = {
        "folder": str(host / "cache" / "it" / "compiled" / "id-sm80"),
        "archive": str(host / "staging" / "it.tar.gz"),
        "state": state,
        "user": "engine",
        **more,
    }
    with pytest.MonkeyPatch.context() as patched, patch_module_args(given):
        patched.setattr(basic.AnsibleModule, "exit_json", exit_json)
        patched.setattr(basic.AnsibleModule, "fail_json", fail_json)
        with contextlib.suppress(EndError):
            jit_cache.main()
    json.dumps(answer)
    return answer


def fill(host: Path, service_user: int) -> None:
    def work() -> None:
        folder = host / "cache" / "it" / "compiled" / "id-sm80" / "triton"
        folder.mkdir(parents=True)
        for number in range(FILES):
            (folder / f"f{number}").write_text("kernel")

    as_user(service_user, service_user, work)


def roots_files_are_untouched(host: Path) -> bool:
    found = [(path.stat(), path.read_text()) for path in (host / "roots").iterdir()]
    owner = (host / "roots").stat().st_uid
    return (
        owner == 0
        and len(found) == FILES
        and all(
            (state.st_uid, state.st_gid, state.st_mode & 0o777, text) == (0, 0, 0o600, SECRET)
            for state, text in found
        )
    )


def test_a_cache_is_carried_whole_and_belongs_to_the_service_user(host: Path, service_user: int) -> None:
    fill(host, service_user)
    taken = run(host, "packed")
    assert (taken["changed"], taken["files"], taken["bytes"]) == (True, FILES, FILES * len("kernel"))
    archive = host / "staging" / "it.tar.gz"
    assert (archive.stat().st_uid, archive.stat().st_mode & 0o777) == (0, 0o600)
    assert not run(host, "unpacked", sha256=taken["sha256"])["changed"]
    (host / "cache" / "it" / "compiled").rename(host / "before")
    given = run(host, "unpacked", sha256=taken["sha256"])
    assert (given["changed"], given["files"]) == (True, FILES)
    for path in (host / "cache" / "it" / "compiled").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (service_user, service_user)
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_an_archive_that_is_not_the_recorded_one_is_refused(host: Path, service_user: int) -> None:
    fill(host, service_user)
    taken = run(host, "packed")
    (host / "cache" / "it" / "compiled").rename(host / "before")
    with (host / "staging" / "it.tar.gz").open("ab") as stream:
        stream.write(b"x")
    assert "differs from what was recorded" in run(host, "unpacked", sha256=taken["sha256"])["msg"]
    assert not (host / "cache" / "it" / "compiled").exists()


def test_staging_below_a_folder_of_the_service_user_is_refused(host: Path, service_user: int) -> None:
    fill(host, service_user)
    found = run(host, "packed", archive=str(host / "cache" / "it" / "x.tar.gz"))
    assert f"can be changed by user {service_user}" in found["msg"]


def test_packing_follows_no_folder_that_is_swapped(
    host: Path, service_user: int, as_attacker: Attacker
) -> None:
    fill(host, service_user)
    folder = host / "cache" / "it" / "compiled" / "id-sm80"

    def race() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.rename(folder / "triton", folder / "aside")
                os.symlink(host / "roots", folder / "triton")
                os.unlink(folder / "triton")
                os.rename(folder / "aside", folder / "triton")

    as_attacker(race)
    for _round in range(40):
        if "sha256" in run(host, "packed"):
            with tarfile.open(host / "staging" / "it.tar.gz") as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    assert stream is not None and stream.read() == b"kernel"
    assert roots_files_are_untouched(host)


def test_unpacking_gives_nothing_away_when_its_folder_becomes_a_link(
    host: Path, service_user: int, as_attacker: Attacker
) -> None:
    fill(host, service_user)
    taken = run(host, "packed")
    above = host / "cache" / "it" / "compiled"
    part = above / "id-sm80.partial"

    def race() -> None:
        number = 0
        while True:
            number += 1
            with contextlib.suppress(OSError):
                if part.is_dir() and not part.is_symlink():
                    os.rename(part, above / f"aside{number}")
                    os.symlink(host / "roots", part)
                    time.sleep(0.02)
                    os.unlink(part)
            with contextlib.suppress(OSError):
                os.rename(above / "id-sm80", above / f"aside{number}x")

    as_attacker(race)
    for _round in range(40):
        # As long as the attacker keeps its link there.
        time.sleep(0.03)
        run(host, "unpacked", sha256=taken["sha256"])
    assert roots_files_are_untouched(host)
    assert sorted(os.listdir(host / "roots")) == sorted(f"f{number}" for number in range(FILES))
