# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`policy:` of the inventory: what it may say, what becomes of it, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.policy import (
    FIXED,
    effective,
    of_hosts,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files, make_inputs

FILES = Path(__file__).parents[5] / "files"
DEFAULTS = load_data_files([]).policy
LONGER = {"engine": {"watch": {"silence_seconds": 120}}}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, value in leaves(DEFAULTS) if path[0] not in FIXED],
    ids=lambda item: ".".join(item) if isinstance(item, tuple) else "",
)
def test_every_value_of_the_file_may_be_said_again(path: tuple[str, ...], value: Any) -> None:
    given: Any = value
    for key in reversed(path):
        given = {key: given}
    found = effective(DEFAULTS, given)
    assert [refusal.lines() for refusal in found.refusals] == []
    assert found.values == DEFAULTS and found.changed == {}


def test_one_value_leaves_its_neighbours_alone() -> None:
    found = effective(DEFAULTS, LONGER)
    assert found.values["engine"]["watch"] == {**DEFAULTS["engine"]["watch"], "silence_seconds": 120}
    assert found.values["engine"]["stop"] == DEFAULTS["engine"]["stop"]
    assert found.changed == {"engine.watch.silence_seconds": {"value": 120, "default": 42}}
    assert DEFAULTS["engine"]["watch"]["silence_seconds"] == 42


@pytest.mark.parametrize("given", [None, {}, ""])
def test_nothing_said_changes_nothing(given: Any) -> None:
    assert effective(DEFAULTS, given).values == DEFAULTS


@pytest.mark.parametrize(
    ("given", "where", "fix"),
    [
        (5, "policy = 5", "write policy: {engine"),
        ({"engin": {}}, "policy.engin", "did you mean engine?"),
        ({"engine": {"watch": {"silence_second": 1}}}, "policy.engine.watch.silence_second = 1", "silence_seconds"),
        ({"engine": {"watch": 5}}, "policy.engine.watch = 5", "a mapping"),
        ({"engine": {"watch": {"silence_seconds": "120"}}}, "silence_seconds = '120'", "a whole number"),
        ({"engine": {"watch": {"silence_seconds": 0}}}, "silence_seconds = 0", "a number above 0"),
        ({"engine": {"watch": {"silence_seconds": True}}}, "silence_seconds = True", "a whole number"),
        ({"engine": {"restart": {"delays": 3}}}, "delays = 3", "a list"),
        ({"engine": {"restart": {"delays": [1, -2]}}}, "delays", "above 0"),
        ({"fabric": {"gates": {"share": 1.5}}}, "share = 1.5", "at most 1"),
        ({"ports": {"swarm": 70000}}, "swarm = 70000", "at most 65535"),
        ({"faults": {"gpu-lost": "ignored"}}, "gpu-lost = 'ignored'", "refuse, refuse-group, advise or ignore"),
        ({"engines": {"sglang": {"memory": {"fraction_unwise": 2}}}}, "fraction_unwise", "a number above 0, at most 1"),
        ({"engines": {"sglan": {}}}, "policy.engines.sglan", "did you mean sglang?"),
        ({"directories": {"root": "/data"}}, "policy.directories", "leave it out"),
        ({"remove": {"always": ["/"]}}, "policy.remove", "leave it out"),
        ({"account": {"user": "root"}}, "policy.account", "leave it out"),
        ({"cache_variables": {"X": "../../etc"}}, "policy.cache_variables.X", "below the cache folder"),
        ({"cache_variables": {"A\nB": "x"}}, "policy.cache_variables.A?B", "name of a variable"),
        ({"offline_variables": {"A": "1\n2"}}, "policy.offline_variables.A", "plain text"),
        ({"monitoring": {"journal": {"SystemMaxUse": "4G\n[x]"}}}, "SystemMaxUse", "plain text"),
        ({"host": {"limits": {"nofile": "1\nExecStartPre=+/x"}}}, "nofile", "a whole number"),
        ({"host": {"shared_memory": "50%\nUser=root"}}, "shared_memory", "plain text"),
        ({"gateway": {"configuration": "/etc/a b"}}, "configuration", "an absolute path"),
        ({"gateway": {"packages": ["x; rm"]}}, "packages", "plain text"),
        ({"engine": {"logs": {"sglang": {"ready": "("}}}}, "ready", "a regular expression"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_its_place(given: Any, where: str, fix: str) -> None:
    found = effective(DEFAULTS, given)
    (refusal,) = found.refusals
    assert where in refusal.where and fix in refusal.fix
    assert found.values == DEFAULTS


def test_everything_that_is_wrong_comes_at_once() -> None:
    given = {"engin": 1, "ports": {"swarm": "x"}, "keep": {"relases": 3}}
    assert len(effective(DEFAULTS, given).refusals) == 3


def test_hosts_of_one_inventory_have_one_policy() -> None:
    assert of_hosts(DEFAULTS, {"a": LONGER, "b": LONGER}).values["engine"]["watch"]["silence_seconds"] == 120
    (refusal,) = of_hosts(DEFAULTS, {"a": LONGER, "b": None}).refusals
    assert refusal.code == "policy-differs" and refusal.host == "b"


def test_a_changed_value_is_planned_and_shown_with_its_origin(world: Any) -> None:
    changed = effective(world.data_files.policy, LONGER)
    facts = world.hosts("cpu")
    serve = {"it": {"model": "glm-4.7-tiny", "hosts": list(facts)}}
    result = world.plan(facts, serve, policy=changed.values, policy_changed=changed.changed)
    plan = result.plans["cpu-1"]
    assert plan.instances["it"].service["watch"]["silence_seconds"] == 120
    assert "policy    engine.watch.silence_seconds = 120, by the inventory; else 42" in render(result)
    assert "by the inventory" not in render(world.plan(facts, serve))


def test_thresholds_of_an_engine_reach_its_package(world: Any) -> None:
    changed = effective(
        world.data_files.policy, {"engines": {"sglang": {"memory": {"chunked_prefill": 2048}}}}
    )
    assert list(changed.changed) == ["engines.sglang.memory.chunked_prefill"]
    facts = world.hosts("h200")
    serve = {"it": {"model": "glm-4.7-fp8", "hosts": list(facts)}}
    for policy, size in ((world.data_files.policy, 8192), (changed.values, 2048)):
        (plan,) = world.plan(facts, serve, policy=policy).plans.values()
        told = {item.flag: item.value for item in plan.instances["it"].arguments}
        assert told["chunked-prefill-size"] == size


def test_what_is_of_an_engine_is_left_to_the_planner() -> None:
    """Roles read files/policy.yml alone."""
    defaults = yaml.safe_load((FILES / "policy.yml").read_text(encoding="utf-8"))
    for given in (
        {"engines": {"sglang": {"memory": {"chunked_prefill": 1}}}},
        {"engine": {"logs": {"sglang": {}}}},
    ):
        found = effective(defaults, given)
        assert not found.refusals
    assert effective(defaults, {"engine": {"log": {}}}).refusals


def test_the_inventory_s_policy_reaches_the_planner() -> None:
    given = {"catalogue_dirs": [], "facts_dir": "", "serve": {}, "runtime_backend": "uv", "python_kits": []}
    variables = {"policy": {"parallel": {"tensor_over_hosts_gbit": 10}}}
    inputs, refusals = make_inputs(given, ("h",), lambda _host, name: variables.get(name))
    assert refusals == []
    assert inputs.policy["parallel"]["tensor_over_hosts_gbit"] == 10
    variables["policy"] = {"paralel": {}}
    _inputs, refusals = make_inputs(given, ("h",), lambda _host, name: variables.get(name))
    assert [refusal.code for refusal in refusals] == ["policy"]
