# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import pruning_host as pruning
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import MANIFEST, STAMP


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for age, name in enumerate(("glm/a", "glm/b", "glm/c", "qwen/a")):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        for file in (MANIFEST, STAMP, "shard"):
            (folder / file).write_text("{}")
            os.utime(folder / file, (1000 + age, 1000 + age))
    (tmp_path / "weights/glm/d.partial").mkdir()
    (tmp_path / "weights/glm/notes").mkdir()
    return tmp_path


def found(root: Path) -> list[pruning.Published]:
    return pruning.published_below(str(root / "weights"), str(root / "releases"), "/nowhere")


def link(root: Path, name: str) -> None:
    place = root / "releases/r1/tiny"
    place.mkdir(parents=True)
    (place / "weights").symlink_to(root / "weights" / name)


def names(items: list[pruning.Published]) -> list[str]:
    return [item.name for item in items]


def test_what_is_published(root: Path) -> None:
    assert names(found(root)) == ["glm/a", "glm/b", "glm/c", "qwen/a"]
    assert pruning.published_below("/nowhere/at/all", "/nowhere") == []


@pytest.mark.parametrize(
    ("keep", "going"),
    [(9, []), (1, ["glm/a", "glm/b"]), (0, ["glm/a", "glm/b", "glm/c", "qwen/a"])],
)
def test_the_newest_stay(root: Path, keep: int, going: list[str]) -> None:
    assert names(pruning.choose(found(root), [], keep, [])) == going


def test_what_a_release_links_to_or_a_plan_names_stays(root: Path) -> None:
    link(root, "glm/a")
    there = found(root)
    assert there[0].used_by == "release r1"
    assert names(pruning.choose(there, [str(root / "weights/glm/b")], 0, [])) == ["glm/c", "qwen/a"]


def test_what_a_process_has_open_stays(root: Path) -> None:
    shard = root / "weights/glm/b/shard"
    code = (
        f"import mmap, sys; f = open({str(shard)!r}); m = mmap.mmap(f.fileno(), 0, prot=1); f.close(); "
        "print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        there = pruning.published_below(str(root / "weights"), str(root / "releases"))
        assert [item.used_by for item in there] == ["", f"process {process.pid}", "", ""]
        process.communicate()


def test_named_ones_go_and_no_others(root: Path) -> None:
    assert names(pruning.choose(found(root), [], 0, ["glm/b"])) == ["glm/b"]


def test_why_a_named_one_may_not_go(root: Path) -> None:
    link(root, "glm/a")
    said = pruning.refusals(found(root), [str(root / "weights/glm/b")], ["glm/a", "glm/b", "glm/x", "glm/c"])
    assert said == [
        "glm/a: is in use by release r1: serve another revision first",
        "glm/b: is in the plan of this host: plan another model first",
        "glm/x: is not published here; published: glm/a, glm/b, glm/c, qwen/a",
    ]


def test_taken_away_with_its_empty_folder(root: Path) -> None:
    there = found(root)
    pruning.take_away(there[3])
    assert not (root / "weights/qwen").exists()
    pruning.take_away(there[0])
    assert names(found(root)) == ["glm/b", "glm/c"]
    assert (root / "weights/glm/d.partial").is_dir()
