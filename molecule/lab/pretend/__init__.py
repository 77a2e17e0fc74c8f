# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that look like GPU hosts at their outermost edge: a layer made of the data and the captures named there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..paths import REPOSITORY
from ..problems import LabError
from ..processes import remove_tree

HERE = Path(__file__).parent
DATA = "usr/lib/lab-gpu"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PROGRAMS = {"usr/bin/nvidia-smi": "nvidia_smi.py", f"{DATA}/driver": "driver.py", "usr/bin/dmesg": "dmesg.py"}
UUID = "GPU-00000000-0000-0000-0000-%012u"
PRETENDED = (
    "nvidia-smi: answers from a capture, changed by state that a test writes",
    "dmesg: prints what a test wrote; journalctl -k of a container has no kernel lines",
    "/proc/driver/nvidia, NVIDIA's devices on the PCI bus, device nodes: there, and no driver behind them",
    "libcuda: no device to every question; libnvidia-ml: counts and names the GPUs",
    "nvidia-persistenced and nvidia-fabricmanager: units that run and do nothing",
)
"""What a host with `pretend` makes believe; everything else of it is real."""
UNITS = {
    "lab-gpu.service": (
        "[Unit]\nDescription=Pretended NVIDIA driver\nDefaultDependencies=no\nBefore=sysinit.target\n"
        "After=local-fs.target systemd-tmpfiles-setup-dev.service\n\n"
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/{DATA}/driver\n",
        "sysinit.target",
    ),
    "nvidia-persistenced.service": (
        "[Unit]\nDescription=Pretended NVIDIA persistence daemon\n\n[Service]\nExecStart=/usr/bin/sleep infinity\n",
        "multi-user.target",
    ),
    "nvidia-fabricmanager.service": (
        "[Unit]\nDescription=Pretended NVIDIA fabric manager\n\n[Service]\nExecStart=/usr/bin/sleep infinity\n",
        "multi-user.target",
    ),
}
# ProtectProc= mounts a proc of its own, which shows no pretended driver; a real one is part of the kernel.
CONFINED = (
    f"[Service]\nTemporaryFileSystem=/proc/driver:ro\nBindReadOnlyPaths=/{DATA}/proc:/proc/driver/nvidia\n"
)


@dataclass(frozen=True)
class Edge:
    """What one file of this folder says."""

    product: str
    compute_capability: str
    pci_device: str
    driver: str
    cuda: str
    flavour: str
    dtd: str
    capture: str
    topology: str
    nvlinks: int
    addresses: tuple[str, ...]
    switches: tuple[str, ...]
    elements: dict[str, str | None]

    def gpus(self) -> list[dict[str, str]]:
        return [
            {"address": f"0000:{bus}:00.0", "uuid": UUID % (number + 1)}
            for number, bus in enumerate(self.addresses)
        ]

    def facts(self) -> dict[str, Any]:
        """What the programs on the host read."""
        names = ("product", "compute_capability", "pci_device", "driver", "flavour", "dtd", "nvlinks")
        return {
            **{name: getattr(self, name) for name in names},
            "gpus": self.gpus(),
            "switches": [f"0000:{bus}:00.0" for bus in self.switches],
        }


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in HERE.glob("*.yml")))


def read(name: str) -> Edge:
    import yaml  # only here: `tools/lab` also runs with a bare Python

    said = yaml.safe_load((HERE / f"{name}.yml").read_text())
    return Edge(**{key: tuple(value) if isinstance(value, list) else value for key, value in said.items()})


def listing(edge: Edge) -> str:
    """The XML of `nvidia-smi -q -x`: the first GPU of the capture, once for each GPU of the edge."""
    root = ElementTree.fromstring((REPOSITORY / edge.capture).read_text())
    first = root.findall("gpu")[0]
    for gpu in root.findall("gpu"):
        root.remove(gpu)
    _put(
        root,
        {"driver_version": edge.driver, "cuda_version": edge.cuda, "attached_gpus": str(len(edge.addresses))},
    )
    _put(first, edge.elements)
    for number, said in enumerate(edge.gpus()):
        gpu = ElementTree.fromstring(ElementTree.tostring(first))
        address = f"0000{said['address']}".upper()
        gpu.set("id", address)
        bus = edge.addresses[number].upper()
        _put(
            gpu,
            {
                "uuid": said["uuid"],
                "serial": f"{number + 1:013d}",
                "minor_number": str(number),
                "pci/pci_bus": bus,
                "pci/pci_device": "00",
                "pci/pci_bus_id": address,
            },
        )
        root.append(gpu)
    return ElementTree.tostring(root, encoding="unicode")


def _put(element: ElementTree.Element, values: dict[str, str | None]) -> None:
    for path, value in values.items():
        above, _slash, name = path.rpartition("/")
        parent = element.find(above) if above else element
        found = parent.find(name) if parent is not None else None
        if parent is None or found is None:
            raise LabError(f"the capture has no element {path}; correct it in {HERE}")
        if value is None:
            parent.remove(found)
        else:
            found.text = value


def build(name: str, folder: Path) -> Path:
    """The layer, made once in `folder`: it must not change under a host that runs."""
    layer = folder / name
    if layer.exists():
        return layer
    edge = read(name)
    beside = folder / f".{name}"
    remove_tree(beside)
    write(beside, f"{DATA}/facts.json", json.dumps(edge.facts(), indent=1))
    write(beside, f"{DATA}/gpus.xml", listing(edge))
    write(beside, f"{DATA}/topology.txt", (REPOSITORY / edge.topology).read_text())
    for place, program in PROGRAMS.items():
        write(beside, place, "#!/usr/bin/python3\n" + (HERE / "host" / program).read_text(), 0o755)
    units = "usr/lib/systemd/system"
    for unit, (text, target) in UNITS.items():
        write(beside, f"{units}/{unit}", text)
        wants = beside / units / f"{target}.wants"
        wants.mkdir(exist_ok=True)
        (wants / unit).symlink_to(f"../{unit}")
    write(beside, f"{units}/sglang-.service.d/lab-gpu.conf", CONFINED)
    _libraries(edge, beside / LIBRARIES)
    beside.rename(layer)
    return layer


def write(layer: Path, place: str, text: str, mode: int = 0o644) -> None:
    path = layer / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _libraries(edge: Edge, folder: Path) -> None:
    run([sys.executable, HERE.parent / "stub_driver/build.py", folder])
    (folder / "libcuda.so.1").rename(folder / f"libcuda.so.{edge.driver}")
    major, minor = edge.cuda.split(".")
    words = {
        "COUNT": len(edge.addresses),
        "PRODUCT": f'"{edge.product}"',
        "DRIVER": f'"{edge.driver}"',
        "UUID_FORMAT": f'"{UUID}"',
        "CUDA_LEVEL": int(major) * 1000 + int(minor) * 10,
    }
    library = folder / f"libnvidia-ml.so.{edge.driver}"
    defined = [f"-D{name}={value}" for name, value in words.items()]
    run(["gcc", "-shared", "-fPIC", "-O1", "-fvisibility=hidden", *defined, "-Wl,-soname,libnvidia-ml.so.1",
         "-o", library, HERE / "nvml.c"])  # fmt: skip
    for name in ("libcuda.so", "libnvidia-ml.so"):
        (folder / f"{name}.1").symlink_to(f"{name}.{edge.driver}")


def run(words: list[Any]) -> None:
    done = subprocess.run([os.fspath(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, words))}\n  {done.stderr.strip() or done.stdout.strip()}")
