# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware, Variant
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import (
    load_hardware,
    load_releases,
    typed,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import Instance

CUDA = {"cu128": {"native": "570.26", "minor_compatible": "525.60.13"}}
VARIANT: dict[str, Any] = {
    "cuda": "cu128",
    "arch": "x86_64",
    "devices": ["cuda"],
    "index": "default",
    "python": ["3.12"],
    "locks": {"3.12": "a.txt"},
    "glibc": "2.28",
    "compute_capabilities": ["8.0"],
}
HARDWARE: dict[str, Any] = {
    "products": ["NVIDIA X"],
    "device": "cuda",
    "compute_capability": "8.0",
    "memory_mib": 81920,
}


def test_hardware_is_named_by_its_file() -> None:
    entries, problems = load_hardware({"/mine/x.yml": HARDWARE})
    assert problems == []
    assert entries["x"] == Hardware(
        key="x", products=("NVIDIA X",), device="cuda", compute_capability="8.0", memory_mib=81920
    )


@pytest.mark.parametrize(
    ("change", "code", "where", "what", "fix"),
    [
        ({"product": ["a"]}, "unknown-key", "x.yml", "unknown key product", "did you mean products?"),
        ({"memory_mib": None}, "wrong-type", "x.yml: memory_mib", "is empty", "write a whole number"),
        ({"memory_mib": "80G"}, "wrong-type", "x.yml: memory_mib", "'80G'", "write a whole number"),
        ({"memory_mib": True}, "wrong-type", "x.yml: memory_mib", "True", "write a whole number"),
        ({"compute_capability": 8.0}, "wrong-type", "x.yml: compute_capability", "the number 8.0",
         'write it in quotes: "8.0"'),
        ({"products": "NVIDIA X"}, "wrong-type", "x.yml: products", "not a list", "write it as [a, b]"),
        ({"products": [1]}, "wrong-type", "x.yml: products[0]", "the number 1", 'in quotes: "1"'),
        ({"fp8": "yes"}, "wrong-type", "x.yml: fp8", "'yes'", "true or false"),
        ({"environment": {"e": {"A": 1}}}, "wrong-type", "x.yml: environment.e.A", "the number 1", 'in quotes: "1"'),
        ({"environment": ["A"]}, "wrong-type", "x.yml: environment", "a list", "key: value lines"),
        ({"memory_fraction_max": "half"}, "wrong-type", "x.yml: memory_fraction_max", "'half'", "a number"),
    ],
)  # fmt: skip
def test_one_wrong_key(change: dict[str, Any], code: str, where: str, what: str, fix: str) -> None:
    entries, (problem,) = load_hardware({"x.yml": {**HARDWARE, **change}})
    assert entries == {}
    assert (problem.code, problem.where) == (code, where)
    assert what in problem.what
    assert fix in problem.fix


def test_whole_numbers_are_numbers() -> None:
    entries, problems = load_hardware({"x.yml": {**HARDWARE, "memory_fraction_max": 1}})
    assert problems == []
    assert entries["x"].memory_fraction_max == 1


def test_all_problems_of_all_files_at_once() -> None:
    documents = {"a.yml": {"products": 1}, "b.yml": "text", "c.yml": {**HARDWARE, "colour": "red"}}
    entries, problems = load_hardware(documents)
    assert entries == {}
    assert sorted((item.where, item.code) for item in problems) == [
        ("a.yml", "missing-key"),
        ("a.yml", "missing-key"),
        ("a.yml", "missing-key"),
        ("a.yml: products", "wrong-type"),
        ("b.yml", "wrong-type"),
        ("c.yml", "unknown-key"),
    ]


def test_release_takes_drivers_from_the_tag_and_classes_from_the_contract() -> None:
    documents = {"files/releases/9.9.yml": {"version": "9.9", "variants": [VARIANT]}}
    releases, problems = load_releases(documents, CUDA, {"9.9": {"architectures": ["A"]}})
    assert problems == []
    release = releases["9.9"]
    assert (release.flags, release.architectures) == ("9.9.json", ("A",))
    (variant,) = release.variants
    assert isinstance(variant, Variant)
    assert (variant.driver, variant.driver_native, variant.python) == ("525.60.13", "570.26", ("3.12",))


def test_a_variant_may_have_drivers_of_its_own() -> None:
    own = {**VARIANT, "cuda": "cu999", "driver": "600", "driver_native": "600"}
    releases, problems = load_releases({"a.yml": {"version": "1", "variants": [own]}}, CUDA, {"1": {}})
    assert problems == []
    assert releases["a"].variants[0].driver == "600"


def test_problems_of_a_release() -> None:
    documents = {"a.yml": {"version": "1", "variants": [{**VARIANT, "cuda": "cu182", "glibc": 2.28}, "x"]}}
    releases, problems = load_releases(documents, CUDA, {})
    assert releases == {}
    assert [(item.code, item.where) for item in problems] == [
        ("missing-flags", "a.yml"),
        ("unknown-cuda-tag", "a.yml: variants[0]: cuda = cu182"),
        ("wrong-type", "a.yml: variants[0]: glibc"),
        ("wrong-type", "a.yml: variants[1]"),
    ]
    assert problems[1].fix == "did you mean cu128?"


@dataclass(frozen=True)
class Figures:
    workspace_mib: float = 1.0


def test_memory_of_a_release_is_read_as_its_engine_says() -> None:
    documents = {"a.yml": {"version": "1", "variants": [VARIANT], "memory": {"workspace_mib": 3}}}
    releases, problems = load_releases(documents, CUDA, {"1": {}}, Figures)
    assert problems == [] and releases["a"].memory == Figures(3)
    _unused, problems = load_releases(documents, CUDA, {"1": {}})
    assert [(item.code, item.where) for item in problems] == [("unknown-key", "a.yml")]
    documents["a.yml"]["memory"] = {"workspace_gib": 3}
    _unused, problems = load_releases(documents, CUDA, {"1": {}}, Figures)
    assert [(item.code, item.where) for item in problems] == [("unknown-key", "a.yml: memory")]


def test_any_dataclass_can_be_read() -> None:
    value, problems = typed(
        Instance, {"name": "a", "model": "m", "hosts": ["h"], "tensor_parallel": None}, "x"
    )
    assert problems == []
    assert value == Instance(name="a", model="m", hosts=("h",))
