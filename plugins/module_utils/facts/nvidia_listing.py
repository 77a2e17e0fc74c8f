# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One form for what nvidia-smi says, whichever of its outputs it came from."""

from __future__ import annotations

from dataclasses import dataclass

from .schema import Fault


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
    """Fault codes that values themselves spell out, such as `GPU is lost`."""


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


def cuda_level(said: str | None) -> str:
    """`13.0`, or CUDA_MISSING for the words that a driver without libcuda uses."""
    from_text = (said or "").strip()
    if not from_text:
        return ""
    if from_text.lower() in {"n/a", "err!", "not found"}:
        return CUDA_MISSING
    return from_text if from_text.replace(".", "").isdigit() else ""
