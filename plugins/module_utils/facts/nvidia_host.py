# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs, driver and links of the host at hand: which sources are asked, and what their gaps mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .faults import fault
from .gpu import gpus_of, joined, untold
from .host import HostIo, Ran
from .installed import parse_properties
from .kernel_events import (
    CLOSED_MODULE,
    GSP,
    INIT_FAILED,
    MODULE_REJECTED,
    OPEN_MODULE,
    OTHER_VERSION,
    SEC2,
    SXID,
    XID,
    KernelEvent,
    parse_kernel_log,
    recovery_words,
)
from .nvidia_bus import PciView, bus_faults, evidence, module_faults, pci_view
from .nvidia_driver import library_version, mismatch, parse_modinfo, parse_proc_version
from .nvidia_listing import CUDA_MISSING, Listing
from .nvidia_smi import explain, parse
from .nvidia_topology import nvlink_facts, parse_nvlink, parse_topology
from .schema import Driver, Fault, Gpu
from .values import MOST_CHARACTERS
from .xids import CURES, UNIFIED_CURES, XIDS

LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib64/nvidia",
    "/usr/local/nvidia/lib64",
    "/run/opengl-driver/lib",
)
CAPABILITY_QUERY = "--query-gpu=index,uuid,pci.bus_id,compute_cap"
_INVENTORY = ("index", "name", "uuid", "pci.bus_id", "memory.total", "memory.used", "driver_version", "count")
_HEALTH = (
    "persistence_mode",
    "mig.mode.current",
    "mig.mode.pending",
    "ecc.mode.current",
    "ecc.mode.pending",
    "ecc.errors.uncorrected.volatile.total",
    "retired_pages.pending",
    "remapped_rows.pending",
    "remapped_rows.failure",
    "gpu_recovery_action",
    "fabric.state",
    "fabric.status",
)
_MOST_QUERIES = 8
"""Drivers that lack many of these fields are too old to serve; each refusal costs one question more."""
_UNKNOWN_FIELD = re.compile(r'Field "([\w.]{1,80})" is not a valid field')
_FABRIC_PROCESS = "nv-fabricmanager"[:15]  # the kernel keeps 15 characters of a name
_UNIFIED = range(0x2E00, 0x2F00)
"""PCI device numbers of the GB10: soldered, with the host's memory."""
_CAUSES = (OPEN_MODULE, CLOSED_MODULE, SEC2, GSP, MODULE_REJECTED, OTHER_VERSION, INIT_FAILED)
_AT_START = (INIT_FAILED, GSP, SEC2, OPEN_MODULE, CLOSED_MODULE)
"""What is over where the GPU is listed now; a GPU that stays away is missing anyway."""
_EFFECTS = (
    "nvidia-smi-no-devices",
    "nvidia-smi-hangs",
    "gpu-missing",
    "gpu-none-listed",
    "driver-not-loaded",
)
_NO_REASON_NEEDED = ("driver-", "gpu-", "library-", "nvidia-smi-", "inforom-")


@dataclass
class NvidiaFacts:
    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    nvlink: dict[str, Any] = field(default_factory=dict)
    fabric_manager: str = ""
    switches: int | None = None
    """NVSwitches on the PCI bus, None where it cannot be looked at."""
    faults: list[Fault] = field(default_factory=list)


def _module(io: HostIo) -> tuple[str, str]:
    """Version and flavour of the module that is loaded."""
    version, flavour = parse_proc_version(io.read("/proc/driver/nvidia/version"))
    loaded = version or io.line("/sys/module/nvidia/version")
    if loaded and not flavour:
        on_disk, flavour_on_disk = parse_modinfo(io.run(["modinfo", "nvidia"]).out)
        flavour = flavour_on_disk if on_disk == loaded else ""
    return loaded, flavour


def _library(io: HostIo) -> str:
    for directory in LIBRARY_DIRECTORIES:
        for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
            if io.exists(f"{directory}/{name}"):
                found = library_version([io.real(f"{directory}/{name}")])
                if found:
                    return found
    return ""


def _torn(listing: Listing) -> bool:
    return any(found.code == "nvidia-smi-unreadable" for found in listing.faults)


def _ask(io: HostIo, *arguments: str) -> Ran:
    """nvidia-smi, unless it hung once: each further question would cost the whole time again."""
    if any(command.startswith("nvidia-smi") for command in io.hung):
        return Ran(124, timed_out=True)
    return io.run(["nvidia-smi", *arguments])


def _asked_for_all(io: HostIo) -> Listing:
    """The CSV with health; fields that this driver does not know are left out, and remain unknown."""
    fields = [*_INVENTORY, *_HEALTH]
    for _question in range(_MOST_QUERIES):
        ran = _ask(io, "--query-gpu=" + ",".join(fields), "--format=csv")
        unknown = set(_UNKNOWN_FIELD.findall((ran.out + ran.err)[:65536])) & set(fields)
        if not unknown:
            return parse(ran.out)
        fields = [name for name in fields if name not in unknown]
    return Listing("")


def _second_reading(io: HostIo, listing: Listing) -> Listing:
    """Sensors that failed once and answer now are no matter; those that fail again are kept."""
    if not any(record.sensors for record in listing.records):
        return listing
    again = parse(_ask(io, "-q", "-x").out)
    if _torn(again) or len(again.records) != len(listing.records):
        return listing
    records = [
        replace(record, sensors=tuple(name for name in record.sensors if name in other.sensors))
        for record, other in zip(listing.records, again.records)
    ]
    return replace(listing, records=tuple(records))


def _listing(io: HostIo, module: str) -> tuple[Listing, list[Fault]]:
    """The best listing that nvidia-smi gives, asked for other forms when the XML is damaged."""
    ran = _ask(io, "-q", "-x")
    if ran.timed_out:
        return Listing(""), []
    listing = parse(ran.out)
    faults = explain(ran.status, ran.out, ran.err, module)
    named = [found for found in faults if found.code != "nvidia-smi-failed"]
    if named and not listing.records:
        return Listing(""), [*faults, *listing.faults]
    if listing.records and not _torn(listing):
        return _second_reading(io, listing), faults
    damage = list(listing.faults)
    if ran.status == 0 and ran.out.strip() and not listing.form:
        damage.append(fault("nvidia-smi-unreadable", "driver", detail="no form that is known"))
    best = listing
    for form in ("text", "csv", "table"):
        other = _other_form(io, form)
        whole = bool(other.records) and not _torn(other)
        if whole and other.form != "table":
            return _completed(io, other), named
        if (whole and _torn(best)) or len(other.records) > len(best.records):
            best, faults = other, named
    # The table tells less of the health than the XML: where that came damaged, it is no way round.
    faults = [*faults, *(found for found in damage if found not in best.faults)]
    if not best.records and not faults and not io.hung:
        faults = [fault("nvidia-smi-unreadable", "driver", detail="no GPU and no reason in its output")]
    return best, faults


def _other_form(io: HostIo, form: str) -> Listing:
    if form == "csv":
        return _asked_for_all(io)
    return parse(_ask(io, *(["-q"] if form == "text" else [])).out)


def _completed(io: HostIo, listing: Listing) -> Listing:
    """A CSV that says nothing of MIG is joined with the table, which does."""
    if listing.form != "csv" or all(record.values.get("mig") for record in listing.records):
        return listing
    table = parse(_ask(io).out)
    return listing if _torn(table) else joined(listing, table)


def _links(io: HostIo, gpus: tuple[Gpu, ...]) -> tuple[dict[str, Any], list[Fault]]:
    topology = parse_topology(_ask(io, "topo", "-m").out)
    links = parse_nvlink(_ask(io, "nvlink", "-s").out)
    most = max((link.active for link in links), default=0)
    found = [
        fault("nvlink-uneven", f"GPU {link.index}", active=link.active, most=most, index=link.index)
        for link in links
        if link.active < most
    ]
    facts = nvlink_facts(topology, links, len(gpus))
    if facts.get("full") is False and facts.get("links_per_gpu"):
        islands = "; ".join(", ".join(f"GPU {gpu}" for gpu in island) for island in facts["islands"])
        found.append(fault("nvlink-partial", "NVLink", islands=islands))
    return facts, found


def fabric_manager(io: HostIo) -> str:
    said = parse_properties(
        io.run(["systemctl", "show", "nvidia-fabricmanager.service", "--property=LoadState,ActiveState"]).out
    )
    if said.get("ActiveState") == "active":
        return "running"
    if any(io.line(f"/proc/{pid}/comm") == _FABRIC_PROCESS for pid in io.names("/proc") if pid.isdigit()):
        return "running"
    if not said.get("LoadState"):
        return ""
    return "absent" if said["LoadState"] in {"not-found", "masked"} else "stopped"


def _kernel_log(io: HostIo) -> str:
    said = io.run(["dmesg"]).out[-MOST_CHARACTERS:]
    return said or io.run(["journalctl", "-k", "-b", "-q", "--no-pager", "-o", "short", "-n", "50000"]).out


def kernel_faults(
    log: str, gpus: tuple[Gpu, ...], expected: bool = True, unified: bool = False
) -> list[Fault]:
    """What the kernel logged of GPUs since the start, each with its cure.

    `expected`: GPUs should be listed; `unified`: the GPU is soldered and shares the host's memory.
    """
    unified = unified or any(gpu.unified_memory for gpu in gpus)
    cures = {**CURES, **(UNIFIED_CURES if unified else {})}
    found = []
    for event in parse_kernel_log(log):
        index = next((gpu.index for gpu in gpus if event.address and gpu.pci_address == event.address), None)
        subject = (
            "GPU"
            if not event.address and index is None
            else f"GPU {event.address if index is None else index}"
        )
        details = {"index": "N" if index is None else index, "count": event.count, "said": event.words}
        if event.kind == XID:
            found += _xid_fault(event, subject, cures, details)
        elif event.kind == SXID:
            severity = "fatal" if event.words.lower().startswith("fatal") else "not fatal"
            found.append(
                fault("nvswitch-sxid", f"NVSwitch {event.address}", number=event.number, how=severity)
            )
        elif event.kind in _AT_START and (index is not None or (gpus and not event.address)):
            # It answers now: what was logged while it started is over.
            found.append(fault("gpu-trouble-before", subject, **details))
        elif event.kind in (MODULE_REJECTED, OTHER_VERSION):
            if not gpus and expected:
                found.append(fault(event.kind, "driver", **details))
        else:
            found.append(fault(event.kind, subject, **details))
    return found


def _xid_fault(
    event: KernelEvent, subject: str, cures: Mapping[str, str], details: Mapping[str, Any]
) -> list[Fault]:
    meaning, action = XIDS.get(event.number, ("not in the table", "support"))
    if action in ("note", "application"):
        return []
    if action == "text":
        said = recovery_words(event)
        if not said:
            return []
        meaning = f"{meaning}: {said}"
        action = "reboot" if "reboot" in said.lower() else "reset" if "reset" in said.lower() else action
    code = "gpu-needs-reboot" if action == "reboot" else "gpu-xid"
    cure = cures[action].format(index=details["index"])
    return [fault(code, subject, xid=event.number, meaning=meaning, count=event.count, action=cure)]


def strangers(io: HostIo, gpus: tuple[Gpu, ...]) -> list[Fault]:
    """Programs that compute on a GPU and are not in a unit of ours: an instance that gets it would not start."""
    by_uuid = {gpu.uuid: gpu for gpu in gpus if gpu.uuid}
    ran = _ask(io, "--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader,nounits")
    held: dict[int, list[str]] = {}
    for line in ran.out.splitlines() if ran.status == 0 else ():
        uuid, _comma, pid = (part.strip() for part in line.partition(","))
        if uuid not in by_uuid or not pid.isdigit():
            continue
        if "/sglang-" in io.read(f"/proc/{pid}/cgroup"):
            continue
        name = io.line(f"/proc/{pid}/comm")
        held.setdefault(by_uuid[uuid].index, []).append(f"{pid} ({name})" if name else pid)
    used = {gpu.index: f", {gpu.memory_used_mib} MiB in use" for gpu in gpus if gpu.memory_used_mib}
    return [
        fault("gpu-in-use", f"GPU {index}", holders=", ".join(found[:4]), used=used.get(index, ""))
        for index, found in sorted(held.items())
    ]


def _driver_faults(bus: PciView, module: str, library: str, has_program: bool) -> list[Fault]:
    """What the parts of a driver say about each other, before nvidia-smi is asked."""
    other = {address: name for address, name in bus.gpus.items() if name and name != "nvidia"}
    found = [fault("gpu-other-driver", f"GPU {address}", driver=name) for address, name in other.items()]
    ours = len(bus.gpus) - len(other)
    if ours and not (module or library or has_program):
        found.append(fault("driver-missing", "driver", count=ours))
    if module and not has_program:
        found.append(fault("nvidia-smi-missing", "driver"))
    if library and not module and not has_program and ours:
        found.append(fault("driver-not-loaded", "driver", detail=f"libraries are {library}"))
    if mismatch(module, library):
        found.append(fault("library-mismatch", "driver", module=module, library=library))
    return found


def _unique(faults: list[Fault]) -> list[Fault]:
    """One fault a code and subject: sources tell the same story twice."""
    return list({(found.code, found.subject): found for found in reversed(faults)}.values())[::-1]


def _with_causes(faults: list[Fault]) -> list[Fault]:
    """What only follows from a cause that the kernel named is cured with it, and not by reseating a GPU."""
    cause = next((found for found in faults if found.code in _CAUSES), None)
    if cause is None:
        return faults
    fix = f"cure what the kernel says of {cause.subject} ({cause.code}): {cause.fix}"
    return [replace(found, fix=fix) if found.code in _EFFECTS else found for found in faults]


def nvidia_facts(io: HostIo, products: Mapping[str, str]) -> NvidiaFacts:
    bus = pci_view(io)
    module, flavour = _module(io)
    library = _library(io)
    has_program = bool(io.program("nvidia-smi"))
    facts = NvidiaFacts(
        faults=[*_driver_faults(bus, module, library, has_program), *module_faults(bus, flavour)]
    )
    facts.switches = bus.switches
    listing = Listing("")
    if has_program:
        listing, said = _listing(io, module)
        facts.faults += said
    if listing.records:
        query = _ask(io, CAPABILITY_QUERY, "--format=csv")
        listing = joined(listing, parse(query.out))
        facts.gpus, of_gpus = gpus_of(listing, products)
        facts.faults += [*of_gpus, *untold(listing), *bus_faults(bus, facts.gpus)]
        facts.nvlink, of_links = _links(io, facts.gpus)
        facts.faults += [*of_links, *strangers(io, facts.gpus)]
        if listing.cuda == CUDA_MISSING:
            facts.faults.append(fault("libcuda-missing", "driver"))
    else:
        facts.faults += listing.faults
    if mismatch(module, listing.driver) and listing.records:
        detail = f"it names driver {listing.driver}, the kernel module is {module}"
        facts.faults.append(fault("nvidia-smi-unreadable", "driver", detail=detail))
    if any(command.startswith("nvidia-smi") for command in io.hung):
        facts.faults.append(fault("nvidia-smi-hangs", "driver", seconds=f"{io.timeout:g}"))
    version = module or listing.driver
    if version or library:
        told = next((found.what for found in facts.faults if found.code == "library-mismatch"), "")
        in_words = re.search(r"libraries are (\d+(?:\.\d+)+)", told)
        facts.driver = Driver(
            version=version,
            flavour=flavour,
            library_version=library or (in_words.group(1) if in_words else listing.library),
            cuda="" if listing.cuda == CUDA_MISSING else listing.cuda,
        )
    signs = evidence(io, bus, module)
    if facts.driver or bus.gpus or signs:
        facts.fabric_manager = fabric_manager(io)
        facts.faults += kernel_faults(
            _kernel_log(io),
            facts.gpus,
            bool(signs),
            any(number in _UNIFIED for number in bus.numbers.values()),
        )
        if bus.switches and facts.fabric_manager in ("stopped", "absent"):
            facts.faults.append(fault("fabric-manager-down", "fabric manager", state=facts.fabric_manager))
    if (
        signs
        and not facts.gpus
        and not any(found.code.startswith(_NO_REASON_NEEDED) for found in facts.faults)
    ):
        facts.faults.append(fault("gpu-none-listed", "driver", evidence=signs))
    facts.faults = _with_causes(_unique(facts.faults))
    return facts
