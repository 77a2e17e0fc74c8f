# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs, driver and links of the host at hand: which sources are asked, and what their gaps mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .faults import fault
from .gpu import gpus_of, joined
from .host import HostIo, Ran
from .installed import parse_properties
from .nvidia_driver import XIDS, library_version, mismatch, parse_modinfo, parse_proc_version, parse_xids
from .nvidia_listing import CUDA_MISSING, Listing
from .nvidia_smi import explain, parse
from .nvidia_topology import nvlink_facts, parse_nvlink, parse_topology
from .schema import Driver, Fault, Gpu

PCI = "/sys/bus/pci/devices"
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
FALLBACKS: tuple[list[str], ...] = (
    ["-q"],
    ["--query-gpu=index,name,uuid,pci.bus_id,memory.total,memory.used,driver_version", "--format=csv"],
    [],
)
_FABRIC_PROCESS = "nv-fabricmanager"[:15]  # the kernel keeps 15 characters of a name


@dataclass
class NvidiaFacts:
    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    nvlink: dict[str, Any] = field(default_factory=dict)
    fabric_manager: str = ""
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True)
class PciView:
    gpus: dict[str, str]
    """Address -> kernel driver, of every GPU that is no virtual function."""
    switches: int


def pci_view(io: HostIo) -> PciView:
    gpus: dict[str, str] = {}
    switches = 0
    for address in io.names(PCI):
        place = f"{PCI}/{address}"
        if io.line(f"{place}/vendor") != "0x10de":
            continue
        kind = io.line(f"{place}/class")
        if kind.startswith(("0x0300", "0x0302")) and not io.exists(f"{place}/physfn"):
            gpus[address] = io.link(f"{place}/driver").rpartition("/")[2]
        switches += kind.startswith("0x0680")
    return PciView(gpus, switches)


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


def _listing(io: HostIo, module: str) -> tuple[Listing, list[Fault]]:
    """The best listing that nvidia-smi gives, asked for other forms when the XML is damaged."""
    ran = _ask(io, "-q", "-x")
    if ran.timed_out:
        return Listing(""), []
    listing = parse(ran.out)
    faults = explain(ran.status, ran.out, ran.err, module)
    named = [found for found in faults if found.code != "nvidia-smi-failed"]
    if named and not listing.records:
        return Listing(""), faults
    best = listing
    for arguments in FALLBACKS:
        if best.records and not _torn(best):
            break
        other = parse(_ask(io, *arguments).out)
        whole = bool(other.records) and not _torn(other)
        if whole or len(other.records) > len(best.records):
            best = other
            faults = named
    if not best.records and not faults and not _torn(best) and not io.hung:
        faults.append(fault("nvidia-smi-unreadable", "driver", detail="no GPU and no reason in its output"))
    return best, faults


def _links(io: HostIo) -> tuple[dict[str, Any], list[Fault]]:
    topology = parse_topology(_ask(io, "topo", "-m").out)
    links = parse_nvlink(_ask(io, "nvlink", "-s").out)
    most = max((link.active for link in links), default=0)
    uneven = [
        fault("nvlink-uneven", f"GPU {link.index}", active=link.active, most=most, index=link.index)
        for link in links
        if link.active < most
    ]
    return nvlink_facts(topology, links), uneven


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


def _xid_faults(io: HostIo, gpus: tuple[Gpu, ...]) -> list[Fault]:
    found = []
    for (address, xid), count in parse_xids(io.run(["dmesg"]).out).items():
        index = next((gpu.index for gpu in gpus if gpu.pci_address.startswith(address)), None)
        subject = f"GPU {address if index is None else index}"
        meaning, action = XIDS[xid]
        found.append(fault("gpu-xid", subject, xid=xid, meaning=meaning, count=count, action=action))
    return found


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


def _missing(bus: PciView, gpus: tuple[Gpu, ...]) -> list[Fault]:
    """GPUs that the bus has and the listing lacks; a listing without addresses proves nothing."""
    listed = {gpu.pci_address for gpu in gpus if gpu.pci_address}
    lost = [address for address, name in bus.gpus.items() if address not in listed and name in ("", "nvidia")]
    return [fault("gpu-missing", f"GPU {address}") for address in lost] if listed else []


def _unique(faults: list[Fault]) -> list[Fault]:
    """One fault a code and subject: sources tell the same story twice."""
    return list({(found.code, found.subject): found for found in reversed(faults)}.values())[::-1]


def nvidia_facts(io: HostIo, products: Mapping[str, str]) -> NvidiaFacts:
    bus = pci_view(io)
    module, flavour = _module(io)
    library = _library(io)
    has_program = bool(io.program("nvidia-smi"))
    facts = NvidiaFacts(faults=_driver_faults(bus, module, library, has_program))
    listing = Listing("")
    if has_program:
        listing, said = _listing(io, module)
        facts.faults += said
    if listing.records:
        query = _ask(io, CAPABILITY_QUERY, "--format=csv")
        listing = joined(listing, parse(query.out))
        facts.gpus, of_gpus = gpus_of(listing, products)
        facts.faults += of_gpus + _missing(bus, facts.gpus)
        facts.nvlink, uneven = _links(io)
        facts.faults += uneven
        if listing.cuda == CUDA_MISSING:
            facts.faults.append(fault("libcuda-missing", "driver"))
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
    if facts.driver or bus.gpus:
        facts.fabric_manager = fabric_manager(io)
        facts.faults += _xid_faults(io, facts.gpus)
        if bus.switches and facts.fabric_manager in ("stopped", "absent"):
            facts.faults.append(fault("fabric-manager-down", "fabric manager", state=facts.fabric_manager))
    facts.faults = _unique(facts.faults)
    return facts
