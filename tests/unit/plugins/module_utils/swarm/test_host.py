# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says of its files: names, links, what is lacking, what was proven."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host as swarm_host


def entry(path: str, content: bytes = b"x") -> dict[str, Any]:
    return {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize(
    "paths, words",
    [
        (["a", "b/c"], []),
        (["../a"], ["the name '../a' would leave the folder"]),
        (["/a"], ["the name '/a' would leave the folder"]),
        (["a/../b"], ["the name 'a/../b' would leave the folder"]),
        (["./a"], ["the name './a' would leave the folder"]),
        (["a//b"], ["the name 'a//b' would leave the folder"]),
        ([""], ["the name '' would leave the folder"]),
        (["a", "a"], ["a is listed twice"]),
        (["a", "a/b"], ["a is a file and a folder"]),
    ],
)
def test_unsafe_names(paths: list[str], words: list[str]) -> None:
    assert swarm_host.unsafe_names([entry(path) for path in paths]) == words


@pytest.mark.parametrize("origin", ["../a", "/a", "b/../a", "b//a"])
def test_a_name_that_leaves_the_source(origin: str) -> None:
    assert swarm_host.unsafe_names([entry("a") | {"source_path": origin}]) == [
        f"the name {origin!r} would leave the source"
    ]
    assert swarm_host.unsafe_names([entry("a") | {"source_path": "wheels/a"}]) == []


def test_links_are_seen_wherever_they_are_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to("/etc/passwd")
    (tmp_path / "place").mkdir()
    (tmp_path / "plain").write_bytes(b"x")
    files = [entry(path) for path in ("folder/a", "file", "place", "plain/b", "plain", "absent/c")]
    assert swarm_host.links_below(str(tmp_path), files) == [
        f"{tmp_path}/file is a symbolic link",
        f"{tmp_path}/folder is a symbolic link",
        f"{tmp_path}/place is not a file",
        f"{tmp_path}/plain is not a folder",
    ]


def test_what_is_lacking_and_what_the_disk_has_to_take(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"x" * 8192)
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(1 << 20)
    (tmp_path / "short").write_bytes(b"x")
    files = [
        entry("whole", b"x" * 8192),
        {"path": "sparse", "size": 1 << 20, "sha256": ""},
        entry("short", b"x" * 9000),
        entry("gone", b"x" * 100),
    ]
    assert [e["path"] for e in swarm_host.absent(str(tmp_path), files)] == ["short", "gone"]
    assert (1 << 20) + 100 <= swarm_host.bytes_to_write(str(tmp_path), files) <= (1 << 20) + 9100


def test_only_right_files_are_described_and_every_wrong_one_is_named(tmp_path: Path) -> None:
    files = [entry("right"), entry("other"), entry("long"), entry("gone")]
    for name, content in {"right": b"x", "other": b"y", "long": b"xy"}.items():
        (tmp_path / name).write_bytes(content)
    assert swarm_host.describe("n", str(tmp_path), files[:1]) == swarm_host.describe(
        "n", str(tmp_path), files[:1]
    )
    with pytest.raises(swarm_host.HostError) as caught:
        swarm_host.describe("n", str(tmp_path), files)
    assert str(caught.value).split(": ", 1)[1] == (
        "other: content differs (sha256); long: 2 bytes instead of 1; gone: No such file or directory"
    )


def test_a_proof_ends_when_a_file_is_touched(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir(), folder.mkdir()
    (folder / "a").write_bytes(b"x")
    files = [entry("a")]
    assert not swarm_host.is_proven(str(home), str(folder), files)
    (home / swarm_host.DESCRIPTION).write_bytes(b"")
    swarm_host.remember(str(home), str(folder), files)
    assert swarm_host.is_proven(str(home), str(folder), files)
    assert not swarm_host.is_proven(str(home), str(home), files)
    os.utime(folder / "a", (1, 1))
    assert not swarm_host.is_proven(str(home), str(folder), files)


def test_an_identity_is_of_name_and_content_not_of_order() -> None:
    files = [entry("a"), entry("b", b"y")]
    assert swarm_host.identity("n", files) == swarm_host.identity("n", files[::-1])
    assert swarm_host.identity("n", files) != swarm_host.identity("m", files)
    assert swarm_host.identity("n", files) != swarm_host.identity("n", [entry("a"), entry("b", b"z")])


def test_an_address_has_to_be_of_this_host() -> None:
    assert swarm_host.numeric_address("localhost") in ("127.0.0.1", "::1")
    with pytest.raises(OSError):
        swarm_host.numeric_address("192.0.2.77")
