# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which environments stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import retention_host as retention
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import Store
from ansible_collections.baremetal.sglang.tests.unit.fixtures import stand_in_wheels as stand_in
from ansible_collections.baremetal.sglang.tests.unit.fixtures.killed_host import Host

pytestmark = pytest.mark.slow


def environment(folder: Path, name: str, made: float) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / ".environment.json").write_text(json.dumps({"made": made}))
    return folder / name


@pytest.fixture
def four(tmp_path: Path) -> Path:
    for age, name in enumerate(("newest", "second", "third", "oldest")):
        environment(tmp_path / "envs", name, 1000 - age)
    return tmp_path / "envs"


@pytest.mark.parametrize(
    ("keep", "used", "going"),
    [
        (2, set(), ["third", "oldest"]),
        (2, {"oldest"}, ["third"]),
        (0, {"newest", "third"}, ["second", "oldest"]),
        (9, set(), []),
    ],
)
def test_the_newest_and_the_used_stay(four: Path, keep: int, used: set[str], going: list[str]) -> None:
    found = retention.environments(str(four))
    assert [item.name for item in retention.superfluous(found, used, keep)] == going


def test_a_release_keeps_its_environment_even_where_the_folder_is_a_link(tmp_path: Path, four: Path) -> None:
    elsewhere = tmp_path / "opt"
    elsewhere.symlink_to(tmp_path)
    release = tmp_path / "releases" / "r1" / "tiny"
    release.mkdir(parents=True)
    (release / "env").symlink_to(elsewhere / "envs" / "third")
    assert retention.linked(str(elsewhere / "releases"), str(elsewhere / "envs")) == {"third"}
    assert retention.linked(str(tmp_path / "releases"), str(four)) == {"third"}


@pytest.mark.parametrize("how", ["directory", "program", "mapped"])
def test_a_process_keeps_its_environment(four: Path, how: str) -> None:
    (four / "third" / "bin").mkdir()
    (four / "third" / "bin" / "python").symlink_to(sys.executable)
    (four / "third" / "library").write_bytes(b"x" * 5000)
    program, cwd = [sys.executable], "/"
    mapping = "pass"
    if how == "directory":
        cwd = str(four / "third")
    elif how == "program":
        program = [str(four / "third" / "bin" / "python")]
    else:
        library = str(four / "third" / "library")
        mapping = f"import mmap; file = open({library!r}); kept = mmap.mmap(file.fileno(), 0, prot=1)"
    code = f"{mapping}\nprint(flush=True)\ninput()"
    with subprocess.Popen([*program, "-c", code], cwd=cwd, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert retention.running(str(four)) == {"third"}
        process.communicate(b"\n")
    assert retention.running(str(four)) == set()


def test_a_store_loses_what_no_environment_needs(tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    old, new = tmp_path / "old", tmp_path / "new"
    first = stand_in.bundle(old, {"only_old": {"only_old.py": ""}})
    second = stand_in.bundle(new)
    for name, bundle, files in (("one", old, first), ("two", new, second)):
        assert host.bring(bundle, files) == []
        host.make(files, name)
    store, folder = Store(host.store.folder), str(host.folder / "envs")
    kept = retention.environments(folder)
    assert retention.pruned(store, kept, False) == []
    retention.remove([folder + "/one"])
    kept = retention.environments(folder)
    going = retention.pruned(store, kept, True)
    assert sorted(line.rsplit(": ")[-1] for line in going if "unpacked" in line) == ["only_old-1.0"]
    assert len(going) == 3  # its wheel, its lock, and the wheel unpacked
    assert retention.pruned(store, kept, False) == going
    assert retention.pruned(store, kept, False) == []
    assert not os.path.exists(folder + "/one")
    assert host.make(second, "three").seconds
    assert host.warnings == []
