# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs and their faults out of the records that nvidia-smi's outputs give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from .faults import fault
from .nvidia_listing import GpuRecord, Listing
from .products import model_of
from .schema import Fault, Gpu
from .values import count, flag, garbled, mebibytes, number, pci_address, text, unreported, version

_UNHEALTHY = frozenset({"unhealthy", "degraded", "limited capacity", "true", "yes"})
_NO_ACTION = frozenset({"none", ""})


_SWITCHES = (
    "mig", "mig_pending", "ecc", "ecc_pending", "pages_pending", "remap_pending", "remap_failure", "channel_repair",
    "tpc_repair", "unrepairable", "reset_required",
)  # fmt: skip
"""Values that are yes, no, or a word for "this GPU has no such thing"."""
_HEALTH = {
    "ecc": "ECC mode",
    "remap_pending": "row remapping",
    "remap_failure": "row remapping",
    "recovery": "recovery action",
}
_MOST_MIB = 4 * 1024 * 1024
_MOST_LANES = 32
_RECOVERY_SINCE = 580
"""From this driver branch on a recovery action is always named."""
VIRTUAL_NAME = re.compile(r"(?:[A-Za-z0-9]-\d{1,3}[QCAB]|-\d-\d{1,3}C(?:ME)?)\Z")
"""As in `GRID A100-40C`, `NVIDIA L40S-48Q` and `A100-2-10C`: a share of a GPU under the product's own name."""
_VIRTUAL_MODES = {"vgpu": "a virtual GPU (vGPU)", "vsga": "a virtual GPU (vSGA)"}
_SHARED_MODES = {"host vgpu": "shared out to virtual machines", "host vsga": "shared out to virtual machines"}


def _total(counters: tuple[str, ...]) -> int | None:
    counts = [found for found in (count(text(counter)) for counter in counters) if found is not None]
    return sum(counts) if counts else None


def gpu_of(record: GpuRecord, place: int, products: Mapping[str, str]) -> Gpu:
    raw = record.values
    product = text(raw.get("product"))
    memory = mebibytes(text(raw.get("memory_total"))) or None
    capability = version(raw.get("compute_capability"))
    index = number(raw.get("index"))
    return Gpu(
        index=place if index is None else index,
        model=model_of(product, products),
        product=product,
        memory_mib=memory,
        unified_memory=memory is None
        and unreported(raw.get("memory_total"))
        and flag(raw.get("mig")) is not True
        and not record.troubles,
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
        memory_used_mib=mebibytes(text(raw.get("memory_used"))),
        processes=tuple(dict.fromkeys(record.processes)),
    )


def _pending(raw: Mapping[str, str], mode: str) -> bool:
    now, later = flag(raw.get(mode)), flag(raw.get(mode + "_pending"))
    return None not in (now, later) and now != later


def _unclear(record: GpuRecord) -> list[str]:
    """Values that a plan rests on and that are neither a value nor a word for none."""
    raw = record.values
    said = [f"{name.replace('_', ' ')}: {raw[name]}" for name in _SWITCHES if garbled(raw.get(name))]
    said += [
        f"error counter: {counter}"
        for counter in record.uncorrected
        if text(counter) and count(text(counter)) is None
    ]
    if raw.get("uuid") and text(raw["uuid"]) and not re.fullmatch(r"(?:GPU|MIG)-[\w-]+", raw["uuid"]):
        said.append(f"UUID: {raw['uuid']}")
    if text(raw.get("compute_capability")) and not re.fullmatch(
        r"\d{1,2}\.\d", raw["compute_capability"].strip()
    ):
        said.append(f"compute capability: {raw['compute_capability']}")
    if text(raw.get("index")) and count(raw["index"]) is None:
        said.append(f"index: {raw['index']}")
    if "\ufffd" in raw.get("product", ""):
        said.append(f"name: {raw['product']}")
    said += [f"two values: {path}" for path in record.conflicts]
    return [
        words[:120] for words in [*said, *(f"missing: {name.replace('_', ' ')}" for name in record.missing)]
    ]


def _impossible(gpu: Gpu) -> str:
    """Numbers that no GPU has."""
    if gpu.memory_mib is not None and gpu.memory_mib > _MOST_MIB:
        return f"{gpu.memory_mib} MiB of memory"
    if gpu.memory_mib is not None and (gpu.memory_used_mib or 0) > gpu.memory_mib:
        return f"{gpu.memory_used_mib} of {gpu.memory_mib} MiB used"
    if (gpu.pcie_width_max or 0) > _MOST_LANES or (gpu.pcie_width or 0) > _MOST_LANES:
        return f"a PCIe link of {max(gpu.pcie_width or 0, gpu.pcie_width_max or 0)} lanes"
    return ""


def _virtual(raw: Mapping[str, str], product: str) -> str:
    mode = text(raw.get("virtualization")).lower()
    if mode in _VIRTUAL_MODES or mode in _SHARED_MODES:
        return {**_VIRTUAL_MODES, **_SHARED_MODES}[mode]
    return "a virtual GPU (vGPU), by its name" if VIRTUAL_NAME.search(product) else ""


def _capped(raw: Mapping[str, str]) -> bool:
    now, usual = number(text(raw.get("clock_application"))), number(text(raw.get("clock_default")))
    return bool(now and usual and now < usual)


def _stuck(raw: Mapping[str, str], record: GpuRecord) -> bool:
    """Busy, slow, and no reason is given."""
    busy, clock, most = (number(text(raw.get(name))) for name in ("utilization", "clock", "clock_max"))
    return bool(busy and clock and most and busy >= 90 and clock * 2 < most and not record.slowdowns)


def _silent(record: GpuRecord, branch: int) -> list[str]:
    """What of a GPU's health nobody told, in words."""
    raw = record.values
    names = [name for name in _HEALTH if name != "recovery" or branch >= _RECOVERY_SINCE]
    silent = [_HEALTH[name] for name in names if not text(raw.get(name)) and not unreported(raw.get(name))]
    if not record.uncorrected:
        silent.append("uncorrectable errors")
    return list(dict.fromkeys(silent))


def untold(listing: Listing) -> list[Fault]:
    """What remains unknown after every form of nvidia-smi was asked."""
    branch = number(listing.driver.partition(".")[0]) or 0
    found = []
    for place, record in enumerate(listing.records):
        raw = record.values
        index = number(raw.get("index"))
        details = {"index": place if index is None else index}
        subject = f"GPU {details['index']}"
        if unreported(raw.get("memory_total")):
            # The host's own memory has no slices, no spare rows and no counters.
            continue
        mig = raw.get("mig")
        if flag(mig) is None and not unreported(mig) and not garbled(mig):
            found.append(fault("gpu-mig-unknown", subject, **details))
        silent = _silent(record, branch)
        if silent:
            found.append(fault("gpu-health-unknown", subject, detail=", ".join(silent), **details))
    return found


def health(record: GpuRecord, gpu: Gpu) -> list[Fault]:
    """What is wrong with one GPU."""
    raw = record.values
    unclear, virtual, impossible = _unclear(record), _virtual(raw, gpu.product), _impossible(gpu)
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
        (bool(unclear), "gpu-unreadable", {"detail": "; ".join(unclear[:6])}),
        (bool(impossible), "gpu-numbers-impossible", {"detail": impossible}),
        (bool(virtual), "gpu-virtual", {"what": virtual}),
        (bool(record.sensors), "gpu-sensor-unreadable", {"detail": ", ".join(record.sensors[:6])}),
        (
            _capped(raw),
            "gpu-clocks-capped",
            {"clock": text(raw.get("clock_application")), "usual": text(raw.get("clock_default"))},
        ),
        (
            _stuck(raw, record),
            "gpu-clocks-stuck",
            {"clock": text(raw.get("clock")), "most": text(raw.get("clock_max"))},
        ),
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
    gpus.sort(key=lambda gpu: gpu.index)
    faults += _not_one_each(gpus)
    if listing.attached is not None and listing.attached != len(gpus):
        faults.append(fault("gpu-list-incomplete", "driver", attached=listing.attached, listed=len(gpus)))
    return tuple(gpus), faults


def _not_one_each(gpus: list[Gpu]) -> list[Fault]:
    """A GPU that stands twice, or a gap between the indexes of nvidia-smi."""
    found = []
    for name in ("uuid", "pci_address", "index"):
        values = [getattr(gpu, name) for gpu in gpus if getattr(gpu, name) not in ("", None)]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            found.append(
                fault("gpu-listed-twice", f"GPU {twice[0]}", name=name.replace("_", " "), value=twice[0])
            )
    if not found and gpus and gpus[-1].index != len(gpus) - 1:
        found.append(fault("gpu-list-incomplete", "driver", attached=gpus[-1].index + 1, listed=len(gpus)))
    return found[:1]


def _names(record: GpuRecord) -> tuple[str, str]:
    return text(record.values.get("uuid")), pci_address(record.values.get("pci"))


def joined(listing: Listing, second: Listing) -> Listing:
    """The listing with values that only the second one has, GPU by GPU."""
    by_name = {name: record for record in second.records for name in _names(record) if name}
    nameless = len(listing.records) == len(second.records) and not (
        by_name and any(any(_names(record)) for record in listing.records)
    )
    records = []
    for place, record in enumerate(listing.records):
        match = next((by_name[name] for name in _names(record) if name in by_name), None)
        if match is None and nameless and text(second.records[place].values.get("product")):
            match = second.records[place]
        more = match.values if match else {}
        values = {**{name: value for name, value in more.items() if name != "index"}, **record.values}
        uncorrected = record.uncorrected or (match.uncorrected if match else ())
        records.append(replace(record, values=values, uncorrected=uncorrected))
    return replace(
        listing,
        driver=listing.driver or second.driver,
        library=listing.library or second.library,
        cuda=listing.cuda or second.cuda,
        records=tuple(records),
    )
