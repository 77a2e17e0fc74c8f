# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs and their faults out of the records that nvidia-smi's outputs give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .faults import fault
from .nvidia_listing import GpuRecord, Listing
from .products import model_of
from .schema import Fault, Gpu
from .values import flag, number, pci_address, text, unreported, version

_UNHEALTHY = frozenset({"unhealthy", "degraded", "limited capacity", "true", "yes"})
_NO_ACTION = frozenset({"none", ""})


def _total(counters: tuple[str, ...]) -> int | None:
    counts = [count for count in (number(text(counter)) for counter in counters) if count is not None]
    return sum(counts) if counts else None


def gpu_of(record: GpuRecord, place: int, products: Mapping[str, str]) -> Gpu:
    raw = record.values
    product = text(raw.get("product"))
    memory = number(text(raw.get("memory_total"))) or None
    capability = version(raw.get("compute_capability"))
    index = number(raw.get("index"))
    return Gpu(
        index=place if index is None else index,
        model=model_of(product, products),
        product=product,
        memory_mib=memory,
        unified_memory=memory is None and unreported(raw.get("memory_total")) and not record.troubles,
        compute_capability=capability,
        uuid=text(raw.get("uuid")),
        pci_address=pci_address(raw.get("pci")),
        minor=number(text(raw.get("minor"))),
        pcie_generation=number(text(raw.get("pcie_generation"))),
        pcie_generation_max=number(text(raw.get("pcie_generation_max"))),
        pcie_width=number(text(raw.get("pcie_width"))),
        pcie_width_max=number(text(raw.get("pcie_width_max"))),
        mig_enabled=flag(raw.get("mig")) is True,
        ecc_enabled=flag(raw.get("ecc")),
        ecc_uncorrected=_total(record.uncorrected),
        persistence=flag(raw.get("persistence")),
        fabric_state=(raw.get("fabric_state") or "").strip(),
        memory_used_mib=number(text(raw.get("memory_used"))),
        processes=tuple(dict.fromkeys(record.processes)),
    )


def _pending(raw: Mapping[str, str], mode: str) -> bool:
    now, later = flag(raw.get(mode)), flag(raw.get(mode + "_pending"))
    return None not in (now, later) and now != later


def health(record: GpuRecord, gpu: Gpu) -> list[Fault]:
    """What is wrong with one GPU."""
    raw = record.values
    subject = f"GPU {gpu.index}"
    recovery = text(raw.get("recovery"))
    state, status = text(raw.get("fabric_state")), text(raw.get("fabric_status"))
    product_cut = not gpu.product or gpu.product.endswith("...")
    unhealthy = [
        f"{name}: {value}"
        for name, value in record.fabric_health
        if value.strip().lower() in _UNHEALTHY
        or (
            name == "incorrect configuration"
            and text(value)
            and flag(value) is None
            and value.lower() != "none"
        )
    ]
    checks: tuple[tuple[bool, str, dict[str, object]], ...] = (
        (product_cut, "gpu-product-unknown", {"product": gpu.product}),
        (gpu.memory_mib is None and not gpu.unified_memory, "gpu-memory-unknown", {}),
        (gpu.mig_enabled, "gpu-mig-enabled", {}),
        (_pending(raw, "mig"), "gpu-mig-pending", {}),
        (gpu.persistence is False, "gpu-persistence-off", {}),
        (_pending(raw, "ecc"), "gpu-ecc-pending", {}),
        (bool(gpu.ecc_uncorrected), "gpu-ecc-errors", {"count": gpu.ecc_uncorrected}),
        (flag(raw.get("pages_pending")) is True, "gpu-pages-pending", {}),
        (flag(raw.get("remap_pending")) is True, "gpu-row-remap-pending", {}),
        (flag(raw.get("remap_failure")) is True, "gpu-row-remap-failed", {}),
        (True in (flag(raw.get("channel_repair")), flag(raw.get("tpc_repair"))), "gpu-repair-pending", {}),
        (flag(raw.get("unrepairable")) is True, "gpu-memory-unrepairable", {}),
        (flag(raw.get("reset_required")) is True, "gpu-needs-reset", {"detail": "reset required"}),
        (recovery.lower() not in _NO_ACTION, "gpu-needs-reset", {"detail": f"recovery action {recovery}"}),
        (bool(record.slowdowns), "gpu-slowdown", {"reason": ", ".join(record.slowdowns)}),
        (
            bool(state) and (state, status.lower() or "success") != ("Completed", "success"),
            "fabric-not-ready",
            {"state": state, "status": status or "none"},
        ),
        (bool(unhealthy), "fabric-unhealthy", {"detail": ", ".join(unhealthy)}),
        (
            # the link of unified memory is no PCIe link, whatever its registers say
            gpu.memory_mib is not None and 0 < (gpu.pcie_width or 0) < (gpu.pcie_width_max or 0),
            "gpu-pcie-narrow",
            {"width": gpu.pcie_width, "most": gpu.pcie_width_max},
        ),
    )
    found = [fault(code, subject, detail="it says so itself", index=gpu.index) for code in record.troubles]
    found += [
        fault(code, subject, **{"index": gpu.index, **details}) for wrong, code, details in checks if wrong
    ]
    return found


def gpus_of(listing: Listing, products: Mapping[str, str]) -> tuple[tuple[Gpu, ...], list[Fault]]:
    """Every GPU of a listing, its faults and those of the listing itself."""
    gpus: list[Gpu] = []
    faults = list(listing.faults)
    for place, record in enumerate(listing.records):
        gpu = gpu_of(record, place, products)
        gpus.append(gpu)
        faults += health(record, gpu)
    if listing.attached is not None and listing.attached != len(gpus):
        faults.append(fault("gpu-list-incomplete", "driver", attached=listing.attached, listed=len(gpus)))
    return tuple(gpus), faults


def joined(listing: Listing, second: Listing) -> Listing:
    """The listing with values that only the second one has, GPU by GPU."""
    by_name = {
        name: record
        for record in second.records
        for name in (text(record.values.get("uuid")), pci_address(record.values.get("pci")))
        if name
    }
    records = []
    for record in listing.records:
        names = (text(record.values.get("uuid")), pci_address(record.values.get("pci")))
        match = next((by_name[name] for name in names if name in by_name), None)
        more = match.values if match else {}
        values = {**{name: value for name, value in more.items() if name != "index"}, **record.values}
        records.append(replace(record, values=values))
    return replace(
        listing,
        driver=listing.driver or second.driver,
        library=listing.library or second.library,
        cuda=listing.cuda or second.cuda,
        records=tuple(records),
    )
