# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All facts about the host at hand. A part that fails becomes a fault, never the end of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable, TypeVar

from . import system
from .disks import disks
from .fabric import fabric
from .faults import fault
from .host import HostIo
from .installed import installed
from .network import interfaces, listening
from .nvidia_host import NvidiaFacts, nvidia_facts
from .rdma import rdma_devices, rdma_faults
from .schema import Disk, Fault, HostFacts, OperatingSystem, Python, RdmaDevice, Toolkit
from .toolkit import toolkit

T = TypeVar("T")
DEFAULT_PATHS = ("/opt/sglang", "/var/lib/sglang", "/var/cache/sglang")


@dataclass(frozen=True)
class Wanted:
    """What the caller chooses."""

    host: str = ""
    """"" takes the host's own name."""
    paths: tuple[str, ...] = DEFAULT_PATHS
    python_paths: tuple[str, ...] = ()
    products: Mapping[str, str] = field(default_factory=dict)
    """Product name as the driver says it -> key of files/hardware."""


def gather(io: HostIo, wanted: Wanted) -> HostFacts:
    faults: list[Fault] = []

    def part(name: str, read: Callable[[], T], otherwise: T, code: str = "probe-failed") -> T:
        try:
            return read()
        except Exception as error:  # a part of the host that nobody foresaw must not hide the others
            faults.append(fault(code, name, detail=f"{type(error).__name__}: {error}"))
            return otherwise

    no_rows: tuple[dict[str, Any], ...] = ()
    no_disks: tuple[tuple[Disk, ...], list[Fault]] = ((), [])
    no_cpu: tuple[str, int | None] = ("", None)
    no_sizes: dict[str, int | None] = {}
    no_limits: dict[str, str] = {}
    no_rdma: tuple[RdmaDevice, ...] = ()
    no_python: tuple[Python, ...] = ()
    no_number: int | None = None
    no_system = OperatingSystem(id="")
    no_path: str | None = None
    no_faults: list[Fault] = []
    nothing: dict[str, Any] = {}
    nvidia = part("GPUs", lambda: nvidia_facts(io, wanted.products), NvidiaFacts(), "gpu-probe-failed")
    room, disk_faults = part("disks", lambda: disks(io, list(wanted.paths)), no_disks)
    rdma = part("RDMA", lambda: rdma_devices(io), no_rdma)
    ports = part("taken ports", lambda: listening(io), no_rows)
    sizes = part("memory", lambda: system.memory(io), no_sizes)
    model, threads = part("processor", lambda: system.cpu(io), no_cpu)
    facts = HostFacts(
        host=wanted.host or io.identity("hostname"),
        arch=io.identity("arch"),
        os=part("operating system", lambda: system.operating_system(io), no_system),
        kernel=io.identity("osrelease"),
        glibc=part("glibc", io.libc, ""),
        systemd=part("systemd", lambda: system.systemd(io), no_number),
        python=part("Python", lambda: system.pythons(io, list(wanted.python_paths)), no_python),
        cpu_model=model,
        cpu_threads=threads,
        memory_gib=system.gib(sizes.get("total")),
        swap_gib=system.gib(sizes.get("swap")),
        limits=part("limits", lambda: system.limits(io), no_limits),
        driver=nvidia.driver,
        gpus=nvidia.gpus,
        nvlink=nvidia.nvlink,
        fabric_manager=nvidia.fabric_manager,
        nvswitches=nvidia.switches,
        rdma=rdma,
        interfaces=part("interfaces", lambda: interfaces(io), no_rows),
        fabric=part("network manager", lambda: fabric(io), nothing),
        disks=room,
        listening=ports,
        toolkit=part("compilers", lambda: toolkit(io), Toolkit()),
        nft=part("firewall", lambda: io.program("nft"), no_path),
        installed=part("installed", lambda: installed(io, ports), nothing),
    )
    faults += nvidia.faults + disk_faults
    faults += part("RDMA ports", lambda: rdma_faults(io, rdma), no_faults)
    faults += part("reserved memory", lambda: system.kho_faults(io), no_faults)
    if not io.exists("/run/systemd/system"):
        faults.append(fault("systemd-not-running", "systemd"))
    faults += [
        fault("command-hangs", command.split()[0], command=command, seconds=f"{io.timeout:g}")
        for command in dict.fromkeys(io.hung)
        if not command.startswith("nvidia-smi")
    ]
    return replace(facts, faults=tuple(faults))
