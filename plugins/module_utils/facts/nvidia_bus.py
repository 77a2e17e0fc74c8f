# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA devices on the PCI bus: which there are, what else says that a GPU is there, and what contradicts them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .faults import fault
from .host import HostIo
from .kernel_events import CLOSED_MODULE, OPEN_MODULE
from .schema import Fault, Gpu

PCI = "/sys/bus/pci/devices"
_OPEN_ONLY = 0x2900
"""PCI device numbers from here on are Blackwell and later, which only the open kernel modules drive."""
_CLOSED_ONLY = 0x1E00
"""Those below are older than Turing, which only the proprietary modules drive."""


@dataclass(frozen=True)
class PciView:
    gpus: dict[str, str]
    """Address -> kernel driver, of every GPU that is no virtual function."""
    switches: int | None
    """NVSwitches; None where the bus cannot be looked at."""
    numbers: dict[str, int] = field(default_factory=dict)
    """Address -> PCI device number."""


def _hexadecimal(text: str) -> str:
    return text.lower().removeprefix("0x").strip()


def pci_view(io: HostIo) -> PciView:
    gpus: dict[str, str] = {}
    numbers: dict[str, int] = {}
    switches = 0
    addresses = io.names(PCI)
    for address in addresses:
        place = f"{PCI}/{address}"
        if _hexadecimal(io.line(f"{place}/vendor")) != "10de":
            continue
        kind = _hexadecimal(io.line(f"{place}/class"))
        if kind.startswith("03") and not io.exists(f"{place}/physfn"):
            gpus[address] = io.link(f"{place}/driver").rpartition("/")[2]
            number = _hexadecimal(io.line(f"{place}/device"))
            if re.fullmatch(r"[0-9a-f]{4}", number):
                numbers[address] = int(number, 16)
        switches += kind.startswith("0680")
    return PciView(gpus, switches if addresses else None, numbers)


def evidence(io: HostIo, bus: PciView, module: str) -> str:
    """What says that this host has a GPU, whatever nvidia-smi lists; "" for nothing."""
    held = [address for address, name in bus.gpus.items() if name in ("", "nvidia")]
    nodes = [name for name in io.names("/dev") if re.fullmatch(r"nvidia\d+", name)]
    of_driver = io.names("/proc/driver/nvidia/gpus")
    signs = (
        (bool(held), f"the PCI bus has {len(held)} NVIDIA GPU(s)"),
        (bool(of_driver), f"the kernel driver knows {len(of_driver)} GPU(s)"),
        (bool(nodes), f"there are device nodes ({', '.join(nodes[:4])})"),
        (bool(module or io.names("/sys/module/nvidia")), "the NVIDIA kernel module is loaded"),
    )
    return next((words for found, words in signs if found), "")


def bus_faults(bus: PciView, gpus: tuple[Gpu, ...]) -> list[Fault]:
    """Where the bus and the listing differ; without addresses only the numbers can be compared."""
    listed = {gpu.pci_address for gpu in gpus if gpu.pci_address}
    held = [address for address, name in bus.gpus.items() if name in ("", "nvidia")]
    if not listed:
        if gpus and held and len(held) != len(gpus):
            return [fault("gpu-list-incomplete", "driver", attached=len(held), listed=len(gpus))]
        return []
    found = [fault("gpu-missing", f"GPU {address}") for address in held if address not in listed]
    if bus.gpus:
        found += [
            fault("gpu-not-on-bus", f"GPU {gpu.index}", address=gpu.pci_address)
            for gpu in gpus
            if gpu.pci_address and gpu.pci_address not in bus.gpus
        ]
    return found


def module_faults(bus: PciView, flavour: str) -> list[Fault]:
    """A kernel module of the kind that cannot drive a GPU of this host."""
    found = []
    for address, number in bus.numbers.items():
        if flavour == "proprietary" and number >= _OPEN_ONLY:
            found.append(fault(OPEN_MODULE, f"GPU {address}"))
        elif flavour == "open" and number < _CLOSED_ONLY:
            found.append(fault(CLOSED_MODULE, f"GPU {address}"))
    return found
