# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding GPUs by the driver's name, and entries for new ones."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.hardware import (
    entry_to_add,
    hardware_of,
    key_of,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Gpu

H100 = Hardware(
    "h100", ("NVIDIA H100 80GB HBM3",), "cuda", "9.0", 81559, shared_memory_bytes=232448, fp8=True
)
KNOWN = {"h100": H100}


def test_the_drivers_name_is_matched_whole() -> None:
    assert hardware_of("NVIDIA H100 80GB HBM3", KNOWN) is H100
    assert hardware_of("NVIDIA H100", KNOWN) is None


@pytest.mark.parametrize(
    ("product", "key"),
    [
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada-generation"),
        ("Tesla T4", "tesla-t4"),
        ("", "my-gpu"),
    ],
)
def test_keys(product: str, key: str) -> None:
    assert key_of(product) == key


def test_an_entry_takes_what_the_generation_shares() -> None:
    text = entry_to_add(Gpu(0, "", "NVIDIA H100 NVL", 95830, compute_capability="9.0"), KNOWN)
    entry = yaml.safe_load(text)
    assert entry == {
        "key": "h100-nvl",
        "products": ["NVIDIA H100 NVL"],
        "device": "cuda",
        "compute_capability": "9.0",
        "memory_mib": 95830,
        "shared_memory_bytes": 232448,
        "fp8": True,
        "fp4": False,
        "interconnect": {"kind": "pcie"},
    }


def test_what_nobody_knows_is_left_to_fill_in() -> None:
    text = entry_to_add(Gpu(0, "", "NVIDIA New", 1000, compute_capability="13.0"), KNOWN)
    assert "shared_memory_bytes: ...  # fill in" in text
    assert "fp8: ...  # fill in" in text


def test_a_gpu_without_memory_of_its_own_is_unified() -> None:
    entry = yaml.safe_load(entry_to_add(Gpu(0, "", "NVIDIA GB20", None, compute_capability="9.0"), KNOWN))
    assert entry["unified_memory"] is True
    assert entry["memory_fraction_max"] == 0.85
