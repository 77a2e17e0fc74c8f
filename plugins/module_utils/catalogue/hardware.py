# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding a GPU in the hardware catalogue, and the entry to write for one that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ..facts.schema import Gpu
from .entries import Hardware

UNKNOWN = "...  # fill in"


def hardware_of(product: str, hardware: Mapping[str, Hardware]) -> Hardware | None:
    """The entry whose products hold the name that the driver prints."""
    for entry in hardware.values():
        if product in entry.products:
            return entry
    return None


def key_of(product: str) -> str:
    name = re.sub(r"^NVIDIA\s+(GeForce\s+)?", "", product.strip(), flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "my-gpu"


def entry_to_add(gpu: Gpu, hardware: Mapping[str, Hardware] | None = None) -> str:
    """YAML for a GPU that no entry names: what the driver said, and what GPUs of its chip generation share."""
    kin = _same_generation(gpu.compute_capability, hardware or {})
    unified = gpu.unified_memory or (gpu.memory_mib is None and not gpu.mig_enabled)
    lines = [
        f"key: {key_of(gpu.product)}",
        f"products: [{json.dumps(gpu.product)}]",
        "device: cuda",
        f"compute_capability: {json.dumps(gpu.compute_capability) if gpu.compute_capability else UNKNOWN}",
        f"memory_mib: {gpu.memory_mib if gpu.memory_mib else UNKNOWN}",
        f"shared_memory_bytes: {kin.shared_memory_bytes if kin else UNKNOWN}",
        f"fp8: {_yes(kin.fp8) if kin else UNKNOWN}",
        f"fp4: {_yes(kin.fp4) if kin else UNKNOWN}",
        "# kind: nvlink (with links and gb_per_second), pcie or none; fabric_manager: true where there is an NVSwitch",
        f"interconnect: {{kind: {'none' if unified else 'pcie'}}}",
    ]
    if unified:
        lines += ["unified_memory: true", "os_reserve_mib: 4096", "memory_fraction_max: 0.85"]
    return "\n".join(lines) + "\n"


def _same_generation(capability: str, hardware: Mapping[str, Hardware]) -> Hardware | None:
    for entry in hardware.values():
        if capability and entry.compute_capability == capability:
            return entry
    return None


def _yes(value: bool) -> str:
    return "true" if value else "false"
