# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points are measured, in which order, and what is refused or skipped with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import scenarios
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.scenarios import Asked, AskedError
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import behaviour

FILES = Path(__file__).parents[5] / "files"
DATA = yaml.safe_load((FILES / "bench.yml").read_text(encoding="utf-8"))

ALL = Asked()


def instance(**flags: Any) -> dict[str, Any]:
    said = {"tool_call_parser": "glm47", "reasoning_parser": "glm45", **flags}
    return {
        "behaviour": behaviour({flag.replace("_", "-"): value for flag, value in said.items()}),
        "context": {"length": 32768}, "kernels": {"tree": {"files": []}}, "parallel": {"nnodes": 1},
    }  # fmt: skip


def made(
    asked: Asked = ALL, cannot: Any = (), **flags: Any
) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    points, skipped = scenarios.points(DATA, instance(**flags), asked, dict(cannot))
    why: dict[str, list[str]] = {}
    for one in skipped:
        why.setdefault(one["scenario"], []).append(one["why"])
    return points, why


def test_the_data_is_as_its_schema_says() -> None:
    jsonschema.validate(DATA, json.loads((FILES / "schemas/bench.schema.json").read_text(encoding="utf-8")))
    assert set(DATA["titles"]) == set(scenarios.METRICS) == set(scenarios.MAKERS)
    for profile in DATA["profiles"].values():
        assert set(profile["scenarios"]) == set(scenarios.METRICS) - {"sweep"}


def test_every_named_scenario_is_there_and_repeated() -> None:
    points, why = made()
    names = {point["scenario"] for point in points}
    assert names == {
        "context",
        "concurrency",
        "agentic",
        "thinking",
        "prefix",
        "random",
        "sharegpt",
        "accuracy",
    }
    assert len({point["key"] for point in points}) == len(points)
    assert (
        sum(point["key"].startswith("context/512/") for point in points)
        == DATA["profiles"]["standard"]["blocks"]
    )
    assert "-e bench_scratch=beside" in why["speculative"][0]


def test_sizes_beyond_the_context_are_skipped_and_said() -> None:
    points, why = made()
    assert {point["input"] for point in points if point["scenario"] == "context"} == {512, 4096, 16384}
    assert any("131072" in word and "32768 of this instance" in word for word in why["context"])


def test_settings_are_interleaved() -> None:
    points, _why = made(Asked(scenarios=("thinking",)))
    assert [(point["block"], point["setting"]) for point in points] == [
        (0, "on"), (0, "off"), (1, "off"), (1, "on"), (2, "on"), (2, "off"),
    ]  # fmt: skip
    assert points[0]["body"] != points[1]["body"]
    assert points[0]["seed"] == points[1]["seed"] != points[2]["seed"]


@pytest.mark.parametrize(
    ("scenario", "flags", "cannot", "why"),
    [
        ("thinking", {"reasoning_parser": None}, {}, "does not think"),
        ("agentic", {"tool_call_parser": None}, {}, "no tool-call parser"),
        ("agentic", {"grammar_backend": "none"}, {}, "takes no tools"),
        ("accuracy", {}, {"answers": "random weights"}, "random weights"),
        ("prefix", {"disable_radix_cache": True}, {}, "prefix cache is off"),
        ("speculative", {}, {}, "nothing to switch off"),
        ("moe_file", {"load_format": "dummy"}, {}, "dummy weights send all tokens to the same experts"),
    ],
)
def test_what_the_instance_cannot_do_is_said(
    scenario: str, flags: dict[str, Any], cannot: Any, why: str
) -> None:
    points, said = made(Asked(scenarios=(scenario,), scratch=True), cannot, **flags)
    assert points == []
    assert why in said[scenario][0]


def test_a_group_of_hosts_starts_no_other_server() -> None:
    several = {**instance(speculative_algorithm="EAGLE"), "parallel": {"nnodes": 4}}
    points, skipped = scenarios.points(DATA, several, Asked(scenarios=("speculative",), scratch=True), {})
    assert points == []
    assert "several hosts" in skipped[0]["why"]


def test_other_servers_are_listed_once() -> None:
    points, _why = made(
        Asked(scenarios=("speculative", "moe_file"), scratch=True), speculative_algorithm="EAGLE"
    )
    found = scenarios.servers(points)
    assert [one["name"] for one in found] == [
        "speculative: on", "speculative: off", "moe_file: tuned", "moe_file: default",
    ]  # fmt: skip
    assert found[1]["setting"] == {"speculative": False}


def test_a_sweep_tries_every_combination_beside_the_plan() -> None:
    sweep = {"settings": {"memory_fraction": [0.8, 0.85], "options": [{"chunked-prefill-size": 4096}]}}
    points, _why = made(Asked(scenarios=("sweep",), sweep=sweep, scratch=True, blocks=1))
    assert [point["setting"] for point in points] == [
        "as planned",
        "memory_fraction=0.8, options={'chunked-prefill-size': 4096}",
        "memory_fraction=0.85, options={'chunked-prefill-size': 4096}",
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(profile="quik"), "did you mean quick"),
        (Asked(scenarios=("contxt",)), "did you mean context"),
        (Asked(parameters={"context": {"contexs": [1]}}), "did you mean contexts"),
        (Asked(parameters={"contex": {}}), "did you mean context"),
        (Asked(parameters={"context": {"contexts": "512"}}), "does not look like"),
        (Asked(parameters={"context": {"output": -1}}), "does not look like"),
        (Asked(scenarios=("sweep",), sweep={"settings": {"a": 5}}, scratch=True), "give a list of values"),
        (Asked(scenarios=("sweep",), sweep={"load": {}}, scratch=True), "sweep.settings is empty"),
        (Asked(scenarios=("sweep",), sweep={"settings": {"a": list(range(99))}}, scratch=True), "at most 32"),
    ],
)
def test_bad_words_are_refused(asked: Asked, words: str) -> None:
    with pytest.raises(AskedError, match=words):
        made(asked)


def test_all_bad_words_at_once() -> None:
    with pytest.raises(AskedError) as caught:
        made(Asked(scenarios=("contxt", "speed"), parameters={"context": {"outputs": 1}}))
    assert len(str(caught.value).splitlines()) == 3
