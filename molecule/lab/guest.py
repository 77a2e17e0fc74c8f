# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU guest: a host with a kernel of its own, for what a container cannot show (RDMA, modules, sysctl)."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from . import network
from .disk import Disk
from .images import Image, cache_directory
from .paths import HostPaths
from .preflight import EMULATORS
from .problems import LabError, say
from .processes import read_json, run, write_json
from .spec import HostSpec, LabSpec

DEFAULT_MEMORY = 1024**3
PROBE_SECONDS = 15
CONSOLES = {"x86_64": "ttyS0", "aarch64": "ttyAMA0"}
MACHINES = {"x86_64": "q35", "aarch64": "virt"}
# An old processor: what newer ones can do (AVX) takes an emulator far longer than doing without.
EMULATED = {"x86_64": "Nehalem", "aarch64": "max"}


class GuestDisk(Disk):
    """The same layers as image files: each written one leads to the one under it."""

    def mount(self, image: Image, layers: tuple[str, ...]) -> None:
        disk = self.upper / "disk.qcow2"
        if disk.exists():
            return
        under = [layer / "disk.qcow2" for layer in self.chain()]
        base, kind = (under[0], "qcow2") if under else (image.disk, "raw")
        beside = disk.with_name(".disk.qcow2")
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", kind, beside])
        beside.rename(disk)

    def mounted(self) -> bool:
        return False


def command(lab: LabSpec, host: HostSpec, paths: HostPaths, image: Image) -> list[str]:
    """The emulator's command line, run in the lab's network namespace."""
    architecture = os.uname().machine
    # Emulated processors in threads of their own can meet a kernel that is patching itself, and panic.
    accelerator = "kvm" if kvm_works(image) else "tcg,thread=single"
    initrd = paths.directory / "initrd.img"
    write_initrd(image.initrd, paths.seed, initrd)
    append = (
        f"root=/dev/vda rw console={CONSOLES[architecture]} net.ifnames=0 mitigations=off panic=-1 "
        "systemd.mask=systemd-networkd-wait-online.service systemd.mask=e2scrub_reap.service"
    )
    words = [
        "nsenter", f"--net={network.NAMESPACES / paths.lab.namespace}",
        EMULATORS[architecture][0], "-name", host.name, "-machine", MACHINES[architecture], "-accel", accelerator,
        "-cpu", "host" if accelerator == "kvm" else EMULATED[architecture], "-smp", str(max(1, int(host.cpus or 1))),
        "-m", f"{(host.memory or DEFAULT_MEMORY) // 1024**2}M",
        "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-monitor", "none",
        "-kernel", str(image.kernel), "-initrd", str(initrd), "-append", append,
        "-drive", f"file={paths.directory / 'upper/disk.qcow2'},if=virtio,format=qcow2,cache=unsafe,discard=unmap",
        "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
    ]  # fmt: skip
    for index in range(host.nics):
        words += [
            "-netdev", f"tap,id=nic{index},ifname={network.port(host, index)},script=no,downscript=no",
            "-device", f"virtio-net-pci,netdev=nic{index},mac={network.mac(lab.name, host, index)},host_mtu={host.mtu},romfile=",
        ]  # fmt: skip
    return words


def kvm_works(image: Image) -> bool:
    """Whether the kernel really boots under KVM: /dev/kvm may be there and still run nothing. The kernel
    has no root and panics, which ends the emulator; one that never gets there is killed."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    known = cache_directory() / "kvm.json"
    asked = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(), "kernel": image.recipe.key}
    answer = read_json(known)
    if answer and {key: answer.get(key) for key in asked} == asked:
        return bool(answer["works"])
    architecture = os.uname().machine
    words = [
        EMULATORS[architecture][0], "-machine", MACHINES[architecture], "-accel", "kvm", "-cpu", "host", "-m", "512M",
        "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(image.kernel),
        "-append", f"console={CONSOLES[architecture]} panic=-1",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PROBE_SECONDS
        )
        works = done.returncode == 0 and b"Kernel panic" in done.stdout
    except subprocess.TimeoutExpired:
        works = False
    say(
        "guests",
        "KVM works here"
        if works
        else "KVM does not work here; guests are emulated, and take a minute to boot",
    )
    write_json(known, {**asked, "works": works})
    return works


def write_initrd(base: Path, seed: Path, target: Path) -> None:
    """The image's initial RAM disk with the host's own files behind it, as a second archive."""
    first = base.read_bytes()
    beside = target.with_name(f".{target.name}")
    beside.write_bytes(first + bytes(-len(first) % 4) + archive(seed, "lab-seed"))
    beside.chmod(0o600)
    beside.rename(target)


def archive(tree: Path, prefix: str) -> bytes:
    """A directory as a cpio archive in the `newc` form that kernels read; all owned by root."""
    paths = [tree, *sorted(tree.rglob("*"))]
    names = [prefix, *(f"{prefix}/{path.relative_to(tree)}" for path in paths[1:])]
    entries = [
        _entry(name, path, number) for number, (name, path) in enumerate(zip(names, paths, strict=True), 1)
    ]
    return b"".join(entries) + _header("TRAILER!!!", 0, 0, b"")


def _entry(name: str, path: Path, number: int) -> bytes:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        return _header(name, number, mode, b"")
    if not stat.S_ISREG(mode):
        raise LabError(f"{path} is neither a file nor a directory, so a guest cannot be given it")
    return _header(name, number, mode, path.read_bytes())


def _header(name: str, number: int, mode: int, data: bytes) -> bytes:
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(f"{field:08X}".encode() for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
