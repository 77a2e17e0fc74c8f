# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What loading the NVIDIA driver makes on a host: /proc/driver/nvidia, GPUs on the PCI bus, device nodes, its libraries.

Runs before anything else of the host, once a boot. A test that writes another version to INSTALLED changes the driver
at the next reboot, as an installed package does.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

DATA = Path("/usr/lib/lab-gpu")
INSTALLED = Path("/var/lib/lab-gpu/driver")
PROC = DATA / "proc"
BUS = Path("/sys/bus/pci/devices")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
MAJOR, UVM_MAJOR, CAPABILITIES_MAJOR, CONTROL_MINOR = 195, 510, 234, 255


def mount(place: Path) -> None:
    if not os.path.ismount(place):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "lab-gpu", str(place)], check=True)


def node(path: str, major: int, minor: int, mode: int = 0o666) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not os.path.exists(path):
        os.mknod(path, mode | stat.S_IFCHR, os.makedev(major, minor))
        os.chmod(path, mode)


def device(address: str, number: str, kind: str, driver: str) -> None:
    place = BUS / address
    place.mkdir(exist_ok=True)
    for name, value in (("vendor", "0x10de"), ("device", number), ("class", kind)):
        (place / name).write_text(f"{value}\n")
    if not (place / "driver").is_symlink():
        (place / "driver").symlink_to(f"../../drivers/{driver}")


def proc(facts: dict, version: str) -> None:
    kind = "Open Kernel Module for x86_64" if facts["flavour"] == "open" else "x86_64 Kernel Module"
    shutil.rmtree(PROC, ignore_errors=True)
    PROC.mkdir()
    (PROC / "version").write_text(f"NVRM version: NVIDIA UNIX {kind}  {version}  Release Build  (lab)\n")
    for minor, gpu in enumerate(facts["gpus"]):
        place = PROC / "gpus" / gpu["address"]
        place.mkdir(parents=True)
        (place / "information").write_text(
            f"Model: \t\t {facts['product']}\nGPU UUID: \t {gpu['uuid']}\nDevice Minor: \t {minor}\n"
        )
    mount(Path("/proc/driver"))
    shutil.copytree(PROC, "/proc/driver/nvidia", dirs_exist_ok=True)


def libraries(version: str) -> None:
    for name in ("libcuda.so", "libnvidia-ml.so"):
        (now,) = LIBRARIES.glob(f"{name}.*.*")
        target = LIBRARIES / f"{name}.{version}"
        if now != target:
            now.rename(target)
        link = LIBRARIES / f"{name}.1"
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)


def main() -> None:
    facts = json.loads((DATA / "facts.json").read_text())
    version = INSTALLED.read_text().strip() if INSTALLED.exists() else facts["driver"]
    Path("/run/lab-gpu").mkdir(exist_ok=True)
    proc(facts, version)
    libraries(version)
    mount(BUS)
    for gpu in facts["gpus"]:
        device(gpu["address"], facts["pci_device"], "0x030200", "nvidia")
    for address in facts["switches"]:
        device(address, "0x1af1", "0x068000", "nvidia-nvswitch")
    for minor in (*range(len(facts["gpus"])), CONTROL_MINOR):
        node("/dev/nvidiactl" if minor == CONTROL_MINOR else f"/dev/nvidia{minor}", MAJOR, minor)
    node("/dev/nvidia-uvm", UVM_MAJOR, 0)
    node("/dev/nvidia-uvm-tools", UVM_MAJOR, 1)
    for minor, mode in ((1, 0o400), (2, 0o444)):
        node(f"/dev/nvidia-caps/nvidia-cap{minor}", CAPABILITIES_MAJOR, minor, mode)


if __name__ == "__main__":
    main()
