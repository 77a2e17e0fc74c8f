# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A step that one host of a group cannot take is taken by none of them, and by all others."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.release.switching import together
from ansible_collections.baremetal.sglang.plugins.module_utils.release.together import bound, errors

GOOD: dict[str, Any] = {"peers": ["a", "b"], "problem": ""}


@pytest.mark.parametrize(
    ("steps", "host", "says"),
    [
        ({"a": [GOOD], "b": [GOOD]}, "a", ""),
        ({"a": [GOOD], "b": [GOOD, {"problem": "no token"}]}, "a", "b: no token"),
        ({"a": [GOOD], "b": [GOOD, {"skipped": True}]}, "a", ""),
        ({"a": [GOOD], "b": [{"unreachable": True}]}, "a", "b: could not be reached"),
        ({"a": [GOOD]}, "a", "b: is a member and not part of this run: leave --limit out"),
        # Taken out of the group, and gone.
        ({"a": [{"peers": ["a"], "former": ["a", "b"]}]}, "a", ""),
        ({"a": [{"former": ["a", "b"]}], "b": [{"former": ["a", "b"], "problem": "x"}]}, "a", "b: x"),
        ({"a": [GOOD], "b": [{"failed": True, "msg": "no python"}]}, "b", "b: no python"),
        ({"a": [GOOD], "b": [GOOD], "c": [{"peers": [], "problem": "other"}]}, "a", ""),
        ({"c": [{"peers": [], "problem": "own"}]}, "c", "c: own"),
    ],
)
def test_trouble_of_one_is_trouble_of_its_group(steps: Any, host: str, says: str) -> None:
    assert errors(steps, host) == says


def test_groups_that_share_a_host_are_bound_together() -> None:
    steps = {
        "a": [{"peers": ["a", "b"]}],
        "b": [{"peers": ["a", "b", "c"]}],
        "c": [{"peers": ["b", "c"]}],
        "d": [{"peers": ["d", "e"]}],
    }
    assert bound(steps, "c") == ["a", "b", "c"]
    assert bound(steps, "e") == ["d", "e"]


def test_a_plan_names_the_hosts_that_serve_together() -> None:
    old = {"instances": {"it": {"parallel": {"nnodes": 2, "hosts": ["a", "b"]}}}}
    new = {"instances": {"it": {"parallel": {"nnodes": 1, "hosts": ["a"]}}, "x": {}}}
    assert together(old, new) == ["a", "b"]
    assert together(None, new) == []
