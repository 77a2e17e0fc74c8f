# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import Instance, parse_serve

HOSTS = ["gpu-01", "gpu-02"]


def parse(**wanted: Any) -> tuple[list[Instance], list[str]]:
    instances, refusals = parse_serve({"glm": {"model": "m", "hosts": ["gpu-01"], **wanted}}, HOSTS)
    return instances, [refusal.code for refusal in refusals]


def test_what_is_not_said_is_left_to_the_plan() -> None:
    instances, codes = parse()
    assert codes == []
    assert instances == [Instance("glm", "m", ("gpu-01",))]


def test_one_host_may_stand_without_a_list() -> None:
    assert parse(hosts="gpu-02")[0][0].hosts == ("gpu-02",)


def test_flags_may_carry_their_dashes() -> None:
    assert parse(options={"--max-running-requests": 4})[0][0].options == {"max-running-requests": 4}


def test_variables_become_text() -> None:
    assert parse(environment={"A": 1})[0][0].environment == {"A": "1"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", 3),
        ("model", ""),
        ("hosts", []),
        ("hosts", [1]),
        ("port", "30000"),
        ("port", 0),
        ("port", 65536),
        ("port", True),
        ("tensor_parallel", 0),
        ("tensor_parallel", 1.5),
        ("memory_fraction", 1),
        ("memory_fraction", "0.8"),
        ("speculative", "yes"),
        ("thinking_budget", 1),
        ("gpus", [-1]),
        ("gpus", "0,1"),
        ("device", "gpu"),
        ("options", ["a"]),
        ("environment", {"A": ["x"]}),
        ("accept", [1]),
    ],
)
def test_a_wrong_type_is_refused_at_its_place(key: str, value: Any) -> None:
    _instances, refusals = parse_serve({"glm": {"model": "m", "hosts": ["gpu-01"], key: value}}, HOSTS)
    assert [refusal.code for refusal in refusals] == ["serve-type"]
    assert refusals[0].where == f"serve.glm.{key} = {value!r}"


def test_a_misspelt_key_names_the_closest() -> None:
    _instances, refusals = parse_serve(
        {"glm": {"model": "m", "hosts": ["gpu-01"], "contextlength": 1}}, HOSTS
    )
    assert refusals[0].fix == "did you mean context_length?"


def test_a_server_flag_beside_the_keys_is_sent_to_options() -> None:
    _instances, refusals = parse_serve({"glm": {"model": "m", "hosts": ["gpu-01"], "tp-size": 8}}, HOSTS)
    assert "serve.glm.options.tp-size: 8" in refusals[0].fix


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("glm-4.7", True),
        ("0", True),
        ("GLM", False),
        ("-a", False),
        ("a b", False),
        ("a/b", False),
        ("", False),
    ],
)
def test_names_become_units(name: str, legal: bool) -> None:
    _instances, refusals = parse_serve({name: {"model": "m", "hosts": ["gpu-01"]}}, HOSTS)
    assert ([refusal.code for refusal in refusals] == []) is legal


def test_a_host_of_no_inventory_names_the_closest() -> None:
    _instances, refusals = parse_serve({"glm": {"model": "m", "hosts": ["gpu-1"]}}, HOSTS)
    assert refusals[0].code == "host-not-in-inventory"
    assert "gpu-01" in refusals[0].fix


def test_the_same_port_on_another_host_is_no_collision() -> None:
    _instances, refusals = parse_serve(
        {"a": {"model": "m", "hosts": ["gpu-01"]}, "b": {"model": "m", "hosts": ["gpu-02"]}}, HOSTS
    )
    assert refusals == []


def test_every_problem_of_every_instance_comes_at_once() -> None:
    _instances, refusals = parse_serve(
        {"A": {"model": 1, "hosts": ["x"], "y": 2}, "b": {}, "c": {"model": "m", "hosts": ["gpu-01"] * 2}},
        HOSTS,
    )
    assert [refusal.code for refusal in refusals] == [
        "instance-name",
        "serve-type",
        "serve-unknown-key",
        "host-not-in-inventory",
        "serve-missing",
        "serve-missing",
        "member-twice",
    ]


@pytest.mark.parametrize(
    ("wanted", "fix"),
    [
        ({"port": "30000"}, "30000 without quotes"),
        ({"tensor-parallel": 4}, "write tensor_parallel"),
        ({"--context-length": 4096}, "write context_length"),
        ({"max-running-requests": 4}, "serve.it.options.max-running-requests"),
    ],
)
def test_near_misses_are_told_the_right_word(wanted: dict[str, Any], fix: str) -> None:
    _found, refusals = parse_serve({"it": {"model": "m", "hosts": "h", **wanted}}, ("h",))
    assert [fix in refusal.fix for refusal in refusals] == [True]


def test_no_risk_may_be_said_in_words() -> None:
    found, refusals = parse_serve({"it": {"model": "m", "hosts": "h", "accept": []}}, ("h",))
    assert refusals == [] and found[0].accept == ()
