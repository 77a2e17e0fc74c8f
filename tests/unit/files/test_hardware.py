# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped hardware catalogue."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import documents, shipped_hardware

ROOT = Path(__file__).parents[3]


DOCUMENTS: dict[str, Any] = documents("hardware")
HARDWARE = shipped_hardware()
SCHEMA = json.loads((ROOT / "files/schemas/hardware.schema.json").read_text(encoding="utf-8"))

# Opt-in limit of a block by compute capability, out of NVIDIA's programming guide.
SHARED_MEMORY = {
    "8.0": 166_912,
    "8.9": 101_376,
    "9.0": 232_448,
    "10.0": 232_448,
    "12.0": 101_376,
    "12.1": 101_376,
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_file_follows_the_schema(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(DOCUMENTS[name])
    assert f"{DOCUMENTS[name]['key']}.yml" == name


def test_schema_knows_every_field_of_the_code() -> None:
    assert set(SCHEMA["properties"]) == set(Hardware.__dataclass_fields__)


def test_the_schema_refuses() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    good = DOCUMENTS["gb10.yml"]
    for bad in (
        {**good, "colour": "red"},
        {**good, "compute_capability": 12.1},
        {**good, "products": []},
        {key: value for key, value in good.items() if key != "os_reserve_mib"},
        {**good, "memory_fraction_max": 1},
        {**good, "interconnect": {"kind": "wool"}},
    ):
        assert list(validator.iter_errors(bad)), bad


def test_no_product_is_named_twice() -> None:
    counted = Counter(product for entry in HARDWARE.values() for product in entry.products)
    assert [product for product, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("key", sorted(key for key in HARDWARE if key != "cpu"))
def test_chips_have_their_generations_limits(key: str) -> None:
    entry = HARDWARE[key]
    major = int(entry.compute_capability.split(".")[0])
    assert entry.shared_memory_bytes == SHARED_MEMORY[entry.compute_capability]
    assert entry.fp8 is (entry.compute_capability not in {"8.0", "8.6"})
    assert entry.fp4 is (major >= 10)
    assert bool(entry.interconnect.get("fabric_manager")) is (entry.interconnect["kind"] == "nvlink")


@pytest.mark.parametrize(
    ("key", "product", "memory_mib"),
    [
        ("a800-sxm4-80gb", "NVIDIA A800-SXM4-80GB", 81920),
        ("a800-pcie-80gb", "NVIDIA A800 80GB PCIe", 81920),
        ("h20", "NVIDIA H20", 97871),
        ("h100", "NVIDIA H100 80GB HBM3", 81559),
        ("h200", "NVIDIA H200", 143771),
        ("l40s", "NVIDIA L40S", 46068),
        ("b200", "NVIDIA B200", 183359),
        ("rtx-pro-6000", "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887),
        ("rtx-4090", "NVIDIA GeForce RTX 4090", 24564),
    ],
)
def test_names_and_memory_as_captured_from_the_driver(key: str, product: str, memory_mib: int) -> None:
    assert product in HARDWARE[key].products
    assert HARDWARE[key].memory_mib == memory_mib


def test_nvlink_of_the_a800_is_two_thirds_of_the_a100s() -> None:
    a800, a100 = (HARDWARE[key].interconnect for key in ("a800-sxm4-80gb", "a100-sxm4-80gb"))
    assert (a800["links"], a800["gb_per_second"]) == (8, 400)
    assert (a100["links"], a100["gb_per_second"]) == (12, 600)


def test_memory_of_a_spark() -> None:
    spark = HARDWARE["gb10"]
    assert spark.memory_mib == 127_535_084 // 1024
