# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of several hosts, and which instances an inventory serves on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.baremetal.sglang.plugins.filter.apply_plan import group_step_errors
from ansible_collections.baremetal.sglang.plugins.filter.inventory import expected_instances, values_by_host

ROLES = Path(__file__).parents[4] / "roles"
HOSTVARS = {"a": {"seen": {"rows": [1], "none": None}}, "b": {"seen": {}}, "c": {}}


def test_each_host_s_value_stands_by_its_name() -> None:
    assert values_by_host(["a", "b"], HOSTVARS, "seen") == {"a": HOSTVARS["a"]["seen"], "b": {}}
    assert values_by_host(["c", "a"], HOSTVARS, "seen.rows", []) == {"c": [], "a": [1]}
    assert values_by_host(["a"], HOSTVARS, "seen.none.deeper", 5) == {"a": 5}
    assert values_by_host([], HOSTVARS, "seen") == {}


@pytest.mark.parametrize("name", ["seen.rows", "other"])
def test_a_value_that_must_be_there_is_missed_by_name(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"host b has no variable {name}"):
        values_by_host(["a", "b"], {**HOSTVARS, "a": {"seen": {"rows": 1}, "other": 2}}, name)


@pytest.mark.parametrize(
    ("hosts", "on"),
    [
        ("gpu-10", []),
        ("gpu-1", ["it"]),
        (["gpu-10", "gpu-1"], ["it"]),
        (["gpu-10"], []),
        ({"gpu-1": 1}, []),
        (None, []),
        (5, []),
    ],
)
def test_one_host_is_not_taken_for_another_whose_name_begins_alike(hosts: Any, on: list[str]) -> None:
    serve = {"it": {"hosts": hosts}, "other": {"model": "x"}, "text": "gpu-1"}
    assert expected_instances(serve, "gpu-1") == on


@pytest.mark.parametrize("serve", [None, [], "gpu-1", 5])
def test_what_is_not_a_mapping_serves_nothing(serve: Any) -> None:
    assert expected_instances(serve, "gpu-1") == []


def test_roles_ask_no_text_whether_it_contains_a_host() -> None:
    found = [
        str(path)
        for path in ROLES.glob("*/**/*.yml")
        if "'contains', inventory_hostname" in path.read_text(encoding="utf-8")
        or "zip(ansible_play_hosts" in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_a_step_is_judged_with_the_one_before_it() -> None:
    good = {"peers": ["a", "b"], "problem": ""}
    assert group_step_errors({"a": good, "b": good}, "a") == ""
    assert group_step_errors({"a": good, "b": {}}, "a") == ""
    assert (
        group_step_errors({"a": good, "b": good}, "a", {"a": {}, "b": {"problem": "no token"}})
        == "b: no token"
    )
    assert group_step_errors({"a": good}, "a") == "b: is a member and not part of this run: leave --limit out"


def test_it_reads_hosts_as_ansible_keeps_them() -> None:
    """The magic variable is no plain mapping."""
    from ansible.inventory.manager import InventoryManager
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=["one,two,"])
    variables = VariableManager(loader=loader, inventory=inventory)
    for name in ("one", "two"):
        variables.set_nonpersistent_facts(name, {"seen": {"rows": [name]}})
    found = HostVars(inventory, variables, loader)
    assert values_by_host(["one", "two"], found, "seen.rows") == {"one": ["one"], "two": ["two"]}
    assert values_by_host(["one"], found, "unknown", {}) == {"one": {}}
