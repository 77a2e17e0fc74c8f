# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is kept of the last result, for monitoring."""

from __future__ import annotations

import json

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.record import recorded

RESULTS = [
    {"status": "passed", "tag": "api", "name": "chat"},
    {"status": "failed", "tag": "tools", "name": "single call"},
    {"status": "skipped", "tag": "api", "name": "image"},
]


def test_an_instance_is_replaced_and_others_stay() -> None:
    first = recorded("", "a", RESULTS, 10.4)
    both = json.loads(recorded(first, "b", [], 20))
    assert both == {
        "a": {"time": 10, "passed": 1, "failed": ["tools: single call"]},
        "b": {"time": 20, "passed": 0, "failed": []},
    }
    assert json.loads(recorded(first, "a", RESULTS[:1], 30))["a"]["failed"] == []


@pytest.mark.parametrize("before", ["{", "[]", "null", '"x"'])
def test_what_cannot_be_read_is_begun_anew(before: str) -> None:
    assert list(json.loads(recorded(before, "a", [], 1))) == ["a"]
