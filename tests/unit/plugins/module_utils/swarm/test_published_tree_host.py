# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import published_tree_host as tree


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "a//b", tree.STAMP])
def test_names_that_would_leave_the_folder(name: str) -> None:
    assert tree.unsafe_paths([{"path": name, "size": 0, "sha256": ""}]) == [name]
    assert tree.unsafe_paths([{"path": "shards/one.safetensors", "size": 0, "sha256": ""}]) == []
