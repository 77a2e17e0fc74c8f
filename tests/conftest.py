# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Side by side (pytest -n 2 --dist loadgroup), tests that share a host stay together and the long ones begin first."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# Tests of one folder share the demo's host, or the project as others get it; in the others a file has its own host.
TOGETHER = ("site", "collection")
ORDER = ("site", "lab", "swarm", "collection", "unit")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def kind(item: pytest.Item) -> str:
        return item.path.relative_to(TESTS).parts[0]

    for item in items:
        if kind(item) != "unit":
            group = kind(item) if kind(item) in TOGETHER else f"{kind(item)}/{item.path.stem}"
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: ORDER.index(kind(item)))
