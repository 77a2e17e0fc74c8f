# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core import published_tree_host as tree

CONTENT: Mapping[str, bytes] = MappingProxyType({"config.json": b"{}", "shards/one.safetensors": b"1" * 3000})


def listed(content: Mapping[str, bytes] = CONTENT) -> list[dict[str, Any]]:
    return [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in content.items()
    ]


def lay(folder: Path, content: Mapping[str, bytes] = CONTENT) -> Path:
    for path, data in content.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_good_tree_appears_read_only_and_is_known_again(tmp_path: Path) -> None:
    staging, dest = lay(tmp_path / "x.partial"), tmp_path / "deep" / "x"
    tree.publish(str(staging), str(dest), listed())
    assert not staging.exists()
    assert tree.is_published(str(dest), listed())
    assert (dest / "config.json").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json: missing"),
        (lambda folder: (folder / "config.json").write_bytes(b"{}}"), "config.json: 3 bytes instead of 2"),
        (lambda folder: (folder / "config.json").write_bytes(b"[]"), "config.json: content differs"),
    ],
)
def test_damage_is_named_and_nothing_appears(tmp_path: Path, damage: Any, said: str) -> None:
    staging, dest = lay(tmp_path / "x.partial"), tmp_path / "x"
    damage(staging)
    with pytest.raises(tree.TreeError, match=said):
        tree.publish(str(staging), str(dest), listed())
    assert not dest.exists()
    assert [entry["path"] for entry in tree.absent(str(staging), listed())] == ["config.json"]


def test_a_stranger_in_the_staging_folder_is_not_published(tmp_path: Path) -> None:
    staging, dest = lay(tmp_path / "x.partial"), tmp_path / "x"
    (staging / "stranger").write_text("?")
    tree.publish(str(staging), str(dest), listed())
    assert not (dest / "stranger").exists()


def test_a_link_is_no_file(tmp_path: Path) -> None:
    staging = lay(tmp_path / "x.partial")
    (staging / "config.json").rename(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", staging / "config.json")
    assert tree.damaged(str(staging), listed()) == ["config.json: missing"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a//b", tree.STAMP])
def test_names_that_would_leave_the_folder(name: str) -> None:
    assert tree.unsafe_paths([{"path": name, "size": 0, "sha256": ""}]) == [name]
    assert tree.unsafe_paths(listed()) == []


def test_another_list_is_another_tree(tmp_path: Path) -> None:
    staging, dest = lay(tmp_path / "x.partial"), tmp_path / "x"
    tree.publish(str(staging), str(dest), listed())
    other = {**CONTENT, "config.json": b"[]"}
    assert not tree.is_published(str(dest), listed(other))
    lay(tmp_path / "y.partial", other)
    tree.publish(str(tmp_path / "y.partial"), str(dest), listed(other))
    assert (dest / "config.json").read_bytes() == b"[]"
