# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("kind", "change", "wanted", "release"),
    [
        ("a800", {}, {"model": "glm-4.7-int8"}, "0.5.10.post1"),
        ("a800-580", {}, {"model": "glm-4.7-int8"}, "0.5.23"),
        # The first driver of CUDA 12 runs every CUDA 12 wheel.
        ("a800", {"driver": "525.60.13"}, {"model": "glm-4.7-int8"}, "0.5.10.post1"),
        ("h200", {}, {"model": "glm-4.7-fp8"}, "0.5.23"),
        ("spark", {}, {"model": "glm-4.7-flash-fp8"}, "0.5.23"),
        ("h200", {}, {"model": "glm-4.7-fp8", "release": "0.5.17"}, "0.5.17"),
        # An older glibc rules the newer wheels out although the driver would do.
        ("a800-580", {"glibc": "2.31", "toolkit": {"cuda_home": "/c", "nvcc": "12.8"}},
         {"model": "glm-4.7-int8"}, "0.5.10.post1"),
    ],
)  # fmt: skip
def test_the_newest_that_everything_allows(
    world: Any, kind: str, change: dict[str, Any], wanted: dict[str, Any], release: str
) -> None:
    python = {"python": world.host("a800", "a").python} if kind == "a800" else {}
    assert world.instance(kind, host={**python, **change}, **wanted).release["key"] == release


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("a800", {}, "needs driver 580.65.06, the host has 550.54.15"),
        ("a800-580", {"glibc": "2.31"}, "needs glibc 2.34, the host has 2.31"),
        (
            "h200",
            {"python": ()},
            "needs Python 3.11 or 3.12, the host has none: runtime_python_kits: ['3.12'] brings one",
        ),
    ],
)
def test_why_not_the_newest(world: Any, kind: str, change: dict[str, Any], reason: str) -> None:
    refusals = world.one(kind, host=change, model="glm-4.7-int8", release="0.5.23").refusals
    assert [refusal.what for refusal in refusals] == [reason]


def test_a_pin_that_cannot_work_names_the_newest_that_can(world: Any) -> None:
    refusal = world.one("a800", model="glm-4.7-int8", release="0.5.23").refusals[0]
    assert refusal.where == "serve.it.release = 0.5.23"
    assert "use release: 0.5.10.post1" in refusal.fix


def test_a_model_class_decides_too(world: Any) -> None:
    plan = world.instance("a800", model="glm-4.7-flash", accept=["below-security-floor"])
    rejected = {entry["release"]: entry["why"] for entry in plan.release["rejected"]}
    assert rejected["0.5.7"] == "does not know Glm4MoeLiteForCausalLM"


def test_python_from_the_bundle_where_the_host_has_none_that_fits(world: Any) -> None:
    facts = world.hosts("h200", python=())
    serve = {"it": {"model": "glm-4.7-fp8", "hosts": list(facts)}}
    assert [item.code for item in world.plan(facts, serve).refusals] == ["no-release"]
    result = world.plan(facts, serve, python_kits=("3.12",))
    environment = result.plans["h200-1"].instances["it"].environment
    assert environment["interpreter"] == "/opt/sglang/python/3.12/bin/python3"
    assert environment["interpreter_from"] == "bundle"


def test_without_a_lock_the_plan_says_where_the_wheels_come_from(world: Any) -> None:
    releases = {
        key: replace(item, variants=tuple(replace(variant, locks={}) for variant in item.variants))
        for key, item in world.releases.items()
    }
    facts = world.hosts("h200")
    result = world.plan(
        facts,
        {"it": {"model": "glm-4.7-fp8", "hosts": list(facts)}},
        engines=world.with_sglang(releases=releases),
    )
    plan = result.plans["h200-1"].instances["it"]
    assert plan.environment["id"] == ""
    assert "cannot be bundled" in plan.release["bundle"]


def test_a_rule_that_only_one_release_breaks_lets_the_next_older_one_serve(world: Any) -> None:
    newest = world.releases["0.5.23"]
    broken = replace(
        newest,
        known_bad=(
            {"component": "torch", "severity": "refuse", "what": "it is broken", "fix": "take another"},
        ),
    )
    engines = world.with_sglang(releases={**world.releases, "0.5.23": broken})
    facts = world.hosts("h200")
    wanted = {"model": "glm-4.7-fp8", "hosts": list(facts)}
    result = world.plan(facts, {"it": wanted}, engines=engines)
    release = result.plans["h200-1"].instances["it"].release
    assert release["key"] == "0.5.17"
    assert release["rejected"][0] == {"release": "0.5.23", "why": "it is broken"}
    pinned = world.plan(facts, {"it": {**wanted, "release": "0.5.23"}}, engines=engines)
    assert [item.code for item in pinned.refusals] == ["component-known-bad"]


def test_a_known_fault_of_a_release_is_warned_of_and_told_to_verify(world: Any) -> None:
    result = world.one("a800", model="glm-4.7-int8")
    (plan,) = result.plans.values()
    release = plan.instances["it"].release
    assert release["version"] == "0.5.10.post1"
    assert list(release["known_faults"]) == ["tools: parser cases, streamed"]
    assert any("lose the closing brace" in item.what for item in result.advice)
    (plan,) = world.one("a800-580", model="glm-4.7-int8").plans.values()
    assert plan.instances["it"].release["known_faults"] == {}
