# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.transfer_batches import asked, rounds

TORCH, SGLANG, KERNEL = (
    {"path": f"wheels/{name}.whl", "size": size, "sha256": letter * 64}
    for name, size, letter in (("torch", 9, "a"), ("sglang", 5, "b"), ("kernel", 7, "c"))
)
OLD: dict[str, Any] = {"id": "old", "files": [TORCH, SGLANG]}
NEW: dict[str, Any] = {"id": "new", "files": [TORCH, KERNEL]}


def words(found: list[dict[str, Any]]) -> list[tuple[list[str], list[str], list[str]]]:
    return [
        (entry["hosts"], entry["seeds"], [item["source_path"] for item in entry["files"]]) for entry in found
    ]


def test_each_file_is_asked_about_once() -> None:
    assert asked({"h1": [OLD, NEW], "h2": [NEW]}) == [TORCH, SGLANG, KERNEL]


def test_bare_hosts_get_all_of_it_in_one_round() -> None:
    paths = [TORCH["path"], SGLANG["path"]]
    (found,) = rounds({"h1": [OLD], "h2": [OLD]}, {"h1": paths, "h2": paths})
    assert found["hosts"] == ["h1", "h2"]
    assert found["seeds"] == []
    assert found["files"][0] == {
        "path": f"{'a' * 64}/torch.whl", "size": 9, "sha256": "a" * 64, "source_path": "wheels/torch.whl",
    }  # fmt: skip
    assert found["name"].startswith("content ")


def test_a_late_host_gets_it_from_those_that_hold_it() -> None:
    missing: dict[str, Any] = {"h1": [], "h2": [OLD]}
    assert words(rounds(missing, {"h1": [], "h2": [TORCH["path"], SGLANG["path"]]})) == [
        (["h2"], ["h1"], [TORCH["path"], SGLANG["path"]])
    ]


def test_a_host_is_not_given_again_what_it_has() -> None:
    """One is upgraded while another joins: what both lack goes to both, the rest only to the new one."""
    missing = {"h1": [NEW], "h2": [NEW]}
    lacking = {"h1": [KERNEL["path"]], "h2": [KERNEL["path"], TORCH["path"]]}
    assert words(rounds(missing, lacking)) == [
        (["h2"], ["h1"], [TORCH["path"]]),
        (["h1", "h2"], [], [KERNEL["path"]]),
    ]


def test_what_one_host_alone_needs_comes_from_the_controller() -> None:
    assert rounds({"h1": [OLD], "h2": []}, {"h1": [SGLANG["path"]], "h2": [SGLANG["path"]]}) == []


def test_hosts_of_another_architecture_are_left_alone() -> None:
    arm = {"id": "arm", "files": [KERNEL]}
    paths = [KERNEL["path"], TORCH["path"], SGLANG["path"]]
    found = rounds(
        {"x1": [OLD], "x2": [OLD], "a1": [arm], "a2": [arm]}, dict.fromkeys(("x1", "x2", "a1", "a2"), paths)
    )
    assert words(found) == [
        (["x1", "x2"], [], [TORCH["path"], SGLANG["path"]]),
        (["a1", "a2"], [], [KERNEL["path"]]),
    ]
