# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about one host: the schema shared by gathered facts files and `declared_hardware`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..catalogue.entries import Hardware
from ..core.decode import Problem, decode
from ..core.refusals import Refusal, RefusedError
from ..core.text_checks import DEVICE, NETDEV, PATH, one_line
from .declared import expand, interface_problems
from .products import model_of

SCHEMA = 1
HIGHEST_MINOR = 255


@dataclass(frozen=True)
class Fault:
    """A named thing that is wrong with the host, as a fact: the planner decides what follows."""

    code: str
    """Stable, kebab-case: driver-missing, library-mismatch, gpu-lost, fabric-manager-down ..."""
    subject: str
    """What it concerns: `driver`, `GPU 3`, `rocep1s0f0` ..."""
    what: str
    fix: str


@dataclass(frozen=True)
class Gpu:
    index: int
    model: str
    """A key of files/hardware, or "" when the product is in no catalogue."""
    product: str
    """As the driver names it: "NVIDIA A800-SXM4-80GB"."""
    memory_mib: int | None = None
    """None when the driver reports none, as on unified memory: see HostFacts.memory_of."""
    unified_memory: bool = False
    compute_capability: str = ""
    uuid: str = ""
    pci_address: str = ""
    """As sysfs writes it: "000f:01:00.0", where the driver says "0000000F:01:00.0"."""
    minor: int | None = None
    """Its device node is /dev/nvidia<minor>; mostly, but not always, the index."""
    pcie_generation: int | None = None
    """At the moment: idle GPUs fall back to 1."""
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    mig_enabled: bool = False
    ecc_enabled: bool | None = None
    ecc_uncorrected: int | None = None
    persistence: bool | None = None
    fabric_state: str = ""
    """As reported: "Completed", "In Progress", "N/A" ...; "" when the driver says nothing."""
    memory_used_mib: int | None = None
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Driver:
    version: str
    flavour: str = ""
    """"open", "proprietary" or "" when unknown."""
    library_version: str = ""
    """The user-space library's version where it could be read: differs on a half-done upgrade."""
    cuda: str = ""
    """The CUDA level that the driver offers, such as "12.4"."""


@dataclass(frozen=True)
class RdmaDevice:
    name: str
    port: int = 1
    netdev: str = ""
    state: str = ""
    """"active", "down" ..."""
    phys_state: str = ""
    """"linkup", "polling", "disabled" ...: why a port is down."""
    link_layer: str = ""
    rate_gbps: float | None = None
    mtu: int | None = None
    """MTU of the netdev."""
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_speed: str = ""
    pci_address: str = ""
    gids: tuple[dict[str, Any], ...] = ()
    """Each {index, gid, type, address, netdev}; type as in sysfs ("RoCE v2"), address the IPv4 where mapped."""
    switch_id: str = ""
    port_name: str = ""
    """phys_switch_id and phys_port_name pair the twins of a DGX Spark port."""
    numa_node: int | None = None
    firmware: str = ""
    vendor: str = ""
    """PCI vendor and device as sysfs writes them ("0x15b3"), and the kernel driver: which family of cards it is."""
    device: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Disk:
    path: str
    """A directory that the collection would write to, such as /opt/sglang."""
    mount: str
    file_system: str
    total_gib: float
    free_gib: float
    hard_links: bool = True
    reflink: bool = False


@dataclass(frozen=True)
class Python:
    path: str
    version: str


@dataclass(frozen=True)
class Toolkit:
    """Run-time compilers found on the host; empty strings when absent."""

    cuda_home: str = ""
    nvcc: str = ""
    """Version, such as "12.8.93"."""
    ptxas: str = ""
    cxx: str = ""
    ninja: str = ""
    cuda_homes: tuple[str, ...] = ()
    """Every /usr/local/cuda*, newest first."""


@dataclass(frozen=True)
class OperatingSystem:
    id: str
    """ID of os-release: debian, ubuntu, rhel, openeuler, kylin ...; DGX OS says ubuntu."""
    version_id: str = ""
    name: str = ""
    dgx: str = ""
    """Version of DGX OS, "" elsewhere."""


@dataclass(frozen=True)
class HostFacts:
    host: str
    arch: str
    """As `uname -m`: x86_64 or aarch64."""
    os: OperatingSystem
    source: str = "gathered"
    """"gathered" or "declared"."""
    kernel: str = ""
    glibc: str = ""
    systemd: int | None = None
    python: tuple[Python, ...] = ()
    cpu_model: str = ""
    cpu_threads: int | None = None
    memory_gib: float | None = None
    swap_gib: float | None = None
    limits: dict[str, str] = field(default_factory=dict)
    """What a service gets by default: {memlock: "unlimited", nofile: "1048576"}; soft limits as
    `nofile_soft`, those of process 1 itself as `pid1_nofile`."""
    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    nvlink: dict[str, Any] = field(default_factory=dict)
    """{links_per_gpu: 8, devices: [GPU0, ..., NIC0], topology: [["X", "NV8", ...]], nics: {NIC0: mlx5_0},
    cpu_affinity: [...], numa: [...], gb_per_second_per_link: 26.562}, as far as known; `full` where NVLink joins
    every two GPUs, false with `islands` where it joins some."""
    fabric_manager: str = ""
    """"running", "stopped", "absent" or "" when unknown."""
    nvswitches: int | None = None
    """On the PCI bus; None where nobody looked, as on declared hosts."""
    rdma: tuple[RdmaDevice, ...] = ()
    interfaces: tuple[dict[str, Any], ...] = ()
    """Each {name, mtu, state, addresses: [...], speed_mbps, pci_address}."""
    fabric: dict[str, Any] = field(default_factory=dict)
    """{python, manager, default_interfaces: [...], nccl_conf: {NAME: value}} (facts/fabric.py);
    {} when nobody looked."""
    disks: tuple[Disk, ...] = ()
    listening: tuple[dict[str, Any], ...] = ()
    """Taken ports, each {port, address, process, pid}."""
    toolkit: Toolkit = field(default_factory=Toolkit)
    nft: str | None = None
    """Path of the program nft, "" when it is not there, None when nobody looked."""
    installed: dict[str, Any] = field(default_factory=dict)
    """What of ours is there: {environments: [...], weights: [...], releases: [...], current, instances: [...]};
    an instance is {name, unit, state, sub_state, result, port, ports, release}."""
    faults: tuple[Fault, ...] = ()

    def memory_of(self, gpu: Gpu) -> int | None:
        """MiB that a GPU can address: its own, or the host's where they share it."""
        if gpu.memory_mib is None and gpu.unified_memory and self.memory_gib is not None:
            return int(self.memory_gib * 1024)
        return gpu.memory_mib

    def with_models(self, hardware: Mapping[str, Hardware]) -> HostFacts:
        """The same facts with GPU models looked up, for facts taken where no catalogue was."""
        names = {product: key for key, entry in hardware.items() for product in entry.products}
        gpus = tuple(replace(gpu, model=model_of(gpu.product, names)) for gpu in self.gpus)
        return replace(self, gpus=gpus)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, the form of a facts file."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"schema": SCHEMA, **plain}

    @classmethod
    def from_dict(
        cls,
        data: Any,
        host: str = "",
        where: str = "declared_hardware",
        hardware: Mapping[str, Hardware] | None = None,
        systems: Mapping[str, Mapping[str, Any]] | None = None,
        driver_cuda: Mapping[str, str] | None = None,
    ) -> HostFacts:
        """A facts file (it has `schema`), or the short form that people declare.

        Raises RefusedError with everything that is wrong. `where` is the name of the variable or file;
        `systems` and `driver_cuda` are `operating_systems` and `driver_cuda` of files/operating_systems.yml.
        """
        if not isinstance(data, Mapping):
            problem = Problem("", data, "must be a mapping", "write {gpus: {model, count}, driver, arch, os}")
            raise RefusedError([_refusal(problem, host, where)])
        problems: list[Problem] = []
        # A host says this of itself, and parts of it end in files of other hosts.
        data = one_line(data)
        if "schema" in data:
            long = {key: value for key, value in data.items() if key != "schema"}
            if data["schema"] != SCHEMA:
                problem = Problem(
                    "schema", data["schema"], "is another schema", f"gather again: this reads {SCHEMA}"
                )
                raise RefusedError([_refusal(problem, host, where)])
        else:
            long, problems = expand(data, host, hardware or {}, systems or {}, driver_cuda or {})
        facts, more = decode(cls, long)
        told = {problem.path for problem in problems}
        problems += [problem for problem in more if problem.path.split(".")[0].split("[")[0] not in told]
        problems += interface_problems(facts.interfaces) if facts else []
        problems += _device_problems(facts) if facts else []
        if problems or facts is None:
            raise RefusedError(_refusal(problem, host, where) for problem in problems)
        found: HostFacts = facts
        # The path becomes the first word of commands and units.
        return replace(
            found, python=tuple(item for item in found.python if not item.path or PATH.match(item.path))
        )


def _device_problems(facts: HostFacts) -> list[Problem]:
    """Names and numbers that programs of root make paths of: below /sys, /dev and the network's configuration."""
    found = []
    for number, device in enumerate(facts.rdma):
        if not DEVICE.match(device.name):
            fix = "write a name as `rdma link` prints it: rocep1s0f1"
            found.append(Problem(f"rdma[{number}].name", device.name, "invalid name of an RDMA device", fix))
        if device.netdev and not NETDEV.match(device.netdev):
            fix = "write a name as `ip link` prints it: enp1s0f1np1"
            found.append(
                Problem(f"rdma[{number}].netdev", device.netdev, "invalid name of an interface", fix)
            )
    for number, gpu in enumerate(facts.gpus):
        if gpu.minor is not None and not 0 <= gpu.minor <= HIGHEST_MINOR:
            fix = "leave it out, or write the number of its node /dev/nvidia<minor>"
            found.append(Problem(f"gpus[{number}].minor", gpu.minor, "invalid number of a device node", fix))
    return found


def _refusal(problem: Problem, host: str, where: str) -> Refusal:
    place = f"{where}.{problem.path}" if problem.path else where
    said = "" if problem.value is None else f" = {json.dumps(problem.value, default=str)}"
    return Refusal("declared-hardware", host, place + said.replace('"', ""), problem.what, problem.fix)
