# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each play that changes a host runs on hosts whose lock was taken before, whatever tags are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
CHANGING = {
    "host",
    "fabric",
    "runtime",
    "firewall",
    "weights",
    "acceptance",
    "engine",
    "health",
    "gateway",
    "monitoring",
}
READING = {
    # Asked of any host, also of one that another run works on.
    ("certificates.yml", "Revocation lists"): "a revocation waits for nobody",
    ("keys.yml", "Keys"): "a key can be taken back at any time",
    ("verify.yml", "Weights"): "reads and hashes",
    ("verify.yml", "Fabric"): "measures",
    ("weights.yml", "Weights"): "runs on the controller",
}


def roles(play: dict[str, Any]) -> set[str]:
    named = [item["role"] if isinstance(item, dict) else item for item in play.get("roles", ())]
    for task in tasks(play):
        for key in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if key in task:
                named.append(task[key]["name"])
    return {name.rpartition(".")[2] for name in named}


def tasks(play: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for task in play.get("tasks", ()):
        yield task
        yield from tasks({"tasks": task.get("block", [])})


def hosts(play: dict[str, Any]) -> set[str]:
    return set(play["hosts"].split(":"))


@pytest.mark.parametrize("path", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.name)
def test_what_changes_a_host_holds_its_lock(path: Path) -> None:
    plays = yaml.safe_load(path.read_text(encoding="utf-8"))
    held: list[tuple[set[str], set[str]]] = []
    for play in plays:
        if any("baremetal.sglang.run_lock" in task for task in tasks(play)):
            held.append((hosts(play), set(play.get("tags", ()))))
        if not roles(play) & CHANGING or (path.name, play["name"]) in READING:
            continue
        for tag in play.get("tags") or [""]:
            covered = set().union(*(names for names, tags in held if not tags or tag in tags), set())
            assert hosts(play) <= covered or "all" in covered, f"{play['name']}, tag {tag or 'none'}"
