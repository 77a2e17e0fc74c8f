# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One form for what nvidia-smi says, whichever of its outputs it came from."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import Fault
from .values import undeprecated


@dataclass(frozen=True)
class GpuRecord:
    """Raw text a GPU under names of our own; gpu.py gives them meaning."""

    values: dict[str, str]
    uncorrected: tuple[str, ...] = ()
    """Volatile counters of uncorrectable errors that add up to the total."""
    slowdowns: tuple[str, ...] = ()
    """Names of active hardware slowdown reasons."""
    fabric_health: tuple[tuple[str, str], ...] = ()
    processes: tuple[int, ...] = ()
    troubles: tuple[str, ...] = ()
    """Fault codes that values themselves spell out, such as `GPU is lost`, where a plan rests on the value."""
    sensors: tuple[str, ...] = ()
    """Names of fans, clocks and the like that could not be read: the GPU works without them."""
    missing: tuple[str, ...] = ()
    """Values that this form always has, and this record has not."""
    conflicts: tuple[str, ...] = ()
    """Values that stand twice and differ."""


@dataclass(frozen=True)
class Listing:
    form: str
    """xml, text, csv, table, or "" when nothing was recognised."""
    driver: str = ""
    library: str = ""
    cuda: str = ""
    """"" when not said; "missing" when the driver says that CUDA does not answer."""
    attached: int | None = None
    records: tuple[GpuRecord, ...] = ()
    faults: tuple[Fault, ...] = ()


CUDA_MISSING = "missing"


DECISIVE = frozenset(
    {
        "product", "uuid", "pci", "minor", "memory_total", "mig", "mig_pending", "ecc", "ecc_pending", "pages_pending",
        "remap_pending", "remap_failure", "channel_repair", "tpc_repair", "unrepairable", "reset_required", "recovery",
        "virtualization",
    }
)  # fmt: skip
"""Names of values that a plan rests on: an error in one of them speaks against the GPU."""
WHOLE_GPU = ("gpu-lost", "gpu-needs-reset")
"""What any value may say of the GPU as a whole."""


def sort_troubles(said: list[tuple[str, bool, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(troubles, sensors) out of (name, whether a plan rests on it, code) of values that could not be read."""
    troubles = [code for _name, decisive, code in said if decisive or code in WHOLE_GPU]
    sensors = [name for name, decisive, code in said if not decisive and code not in WHOLE_GPU]
    return tuple(dict.fromkeys(troubles)), tuple(dict.fromkeys(sensors))


def cuda_level(said: str | None) -> str:
    """`13.0`, or CUDA_MISSING for the words that a driver without libcuda uses."""
    from_text = undeprecated(said)
    if not from_text:
        return ""
    if from_text.lower() in {"n/a", "err!", "not found"}:
        return CUDA_MISSING
    return from_text if from_text.replace(".", "").isdigit() else ""
