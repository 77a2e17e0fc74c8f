# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.planner.compare import differences
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.explain import explain
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import memory_bar, render


def document(world: Any, kind: str = "a800", **wanted: Any) -> dict[str, Any]:
    result = world.one(kind, **{"model": "glm-4.7-int8", **wanted})
    assert not result.refusals
    return dict(next(iter(result.plans.values())).to_dict())


def test_reasons_alone_are_no_difference(world: Any) -> None:
    changed = copy.deepcopy(document(world))
    changed["instances"]["it"]["release"]["why"] = "other words"
    assert differences(document(world), changed) == []


def test_an_upgrade_reads_in_words(world: Any) -> None:
    lines = differences(document(world), document(world, "a800-580"))
    assert "it: release 0.5.10.post1 / cu128 -> 0.5.23 / cu130" in lines
    assert "it: flag --cuda-graph-max-bs 48 removed" in lines
    assert "it: flag --cuda-graph-max-bs-decode 48 added" in lines
    assert any(line.startswith("it: environment ") for line in lines)


def test_a_changed_option_is_one_line(world: Any) -> None:
    lines = differences(document(world), document(world, context_length=65536))
    assert lines == ["it: flag --context-length 202752 -> 65536"]


def test_the_table_says_it_on_one_screen(world: Any) -> None:
    text = render(world.one("a800", model="glm-4.7-int8"))
    lines = text.splitlines()
    assert len(lines) < 25
    assert lines[0] == "a800-1  8x A800-SXM4-80GB  driver 550.54.15 (CUDA 12.4 level)"
    for word in ("release", "model", "memory", "context", "kernels", "compiles"):
        assert any(line.strip().startswith(word) for line in lines), word
    assert lines[-1] == "1 host, 1 model, nothing was refused"


def test_equal_hosts_share_a_paragraph(world: Any) -> None:
    facts = world.hosts("a800", 3)
    serve = {"it": {"model": "glm-4.7-int8", "hosts": ["a800-1"]}}
    one = render(world.plan(facts, serve))
    assert one.splitlines()[-1].startswith("1 host,")
    many = world.hosts("cpu", 3)
    plans = {}
    for host in many:
        result = world.plan(many, {"it": {"model": "glm-4.7-tiny", "hosts": [host]}})
        plans.update(result.plans)
    text = render(type(result)(plans))
    assert text.splitlines()[0].startswith("cpu-1, cpu-2, cpu-3  no GPU")


def test_refusals_end_in_their_count(world: Any) -> None:
    text = render(world.one("a800", model="glm-4.7", accept=["x"]))
    assert text.splitlines()[-1] == "2 refusals, nothing was changed"
    assert text.count("REFUSED") == 2


def test_the_bar_is_as_long_as_what_is_taken() -> None:
    memory = {
        "usable_bytes": 80e9,
        "weights_bytes": 40e9,
        "kv_bytes": 20e9,
        "draft_bytes": 0,
        "graph_bytes": 1e9,
        "reserve_bytes": 20e9,
    }
    assert memory_bar(memory).startswith("[############======......]  weights 40.0  KV 20.0  graphs 1.0")


def test_explain_says_why_each_release_is_not_the_one(world: Any) -> None:
    facts = world.hosts("a800")
    serve = {"it": {"model": "glm-4.7-int8", "hosts": list(facts)}}
    lines = explain(world.inputs(facts), serve)
    assert any("0.5.23" in line and "needs driver 580" in line for line in lines)
    assert any("0.5.10.post1" in line and "chosen" in line for line in lines)
    assert any("0.5.7" in line and "security floor" in line for line in lines)


def test_explain_another_model_and_release(world: Any) -> None:
    facts = world.hosts("a800")
    serve = {"it": {"model": "glm-4.7-int8", "hosts": list(facts)}}
    inputs = world.inputs(facts)
    cannot = explain(inputs, serve, release="0.5.10.post1", model="glm-4.7")
    assert cannot[0] == "it: glm-4.7 on 0.5.10.post1: cannot"
    would = explain(inputs, serve, release="0.5.10.post1", model="glm-4.7-awq")
    assert would[0].startswith("it: glm-4.7-awq on 0.5.10.post1: would work")
    assert "did you mean" in explain(inputs, serve, release="0.5.22")[0]
