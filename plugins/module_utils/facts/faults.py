# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault that fact gathering can name: what it means and what to do, once."""

from __future__ import annotations

from .schema import Fault

TEXTS: dict[str, tuple[str, str]] = {
    "driver-missing": (
        "the PCI bus shows {count} NVIDIA GPU(s), no NVIDIA driver is installed",
        "install the NVIDIA driver for this GPU, then restart the host",
    ),
    "driver-not-loaded": (
        "an NVIDIA driver is on the disk, its kernel module is not loaded: {detail}",
        "run `modprobe nvidia`; if it fails, `dmesg | grep -i nvidia` says why (secure boot, kernel update)",
    ),
    "gpu-other-driver": (
        "the kernel driver {driver} holds this GPU",
        "blacklist {driver} and restart the host, so that the nvidia module can take the GPU",
    ),
    "library-mismatch": (
        "the loaded kernel module is {module}, the libraries are {library}",
        "restart the host (or unload and load the nvidia modules): an upgrade was not finished",
    ),
    "libcuda-missing": (
        "the driver answers, its CUDA library (libcuda.so.1) does not",
        "install the compute libraries of the same driver version (libnvidia-compute, nvidia-driver-cuda)",
    ),
    "nvidia-smi-no-library": (
        "nvidia-smi does not find the driver's own library (libnvidia-ml.so.1)",
        "install the driver's libraries of the same version, run `ldconfig`",
    ),
    "nvidia-smi-missing": (
        "the NVIDIA kernel module is loaded, the program nvidia-smi is not installed",
        "install the driver's utilities of the same version (nvidia-utils, nvidia-driver-cuda)",
    ),
    "nvidia-smi-hangs": (
        "nvidia-smi gave no answer within {seconds} s",
        "look for Xid lines in `dmesg`; restart the host; raise command_timeout if the host is only slow",
    ),
    "nvidia-smi-failed": (
        "nvidia-smi ended with status {status}: {said}",
        "run `nvidia-smi` on the host and mend what it says",
    ),
    "nvidia-smi-unreadable": (
        "the output of nvidia-smi is damaged or incomplete: {detail}",
        "run `nvidia-smi -q -x` on the host and look at its end; repeat the run",
    ),
    "nvidia-smi-no-devices": (
        "nvidia-smi finds no GPU",
        "see `lspci -d 10de:` and `dmesg | grep -i nvrm`; reseat the GPU or restart the host",
    ),
    "nvidia-smi-no-permission": (
        "nvidia-smi may not ask the driver",
        "run as root; check the rights of /dev/nvidia* and the control group of the session",
    ),
    "gpu-lost": (
        "the GPU has fallen off the PCI bus",
        "restart the host; if it comes back, power it off fully and reseat or replace the GPU",
    ),
    "gpu-missing": (
        "on the PCI bus, not listed by nvidia-smi",
        "look for its address in `dmesg`; restart the host; reseat or replace the GPU",
    ),
    "gpu-list-incomplete": (
        "the driver counts {attached} GPU(s), {listed} could be read",
        "run `nvidia-smi -L` on the host; restart it if GPUs stay away",
    ),
    "gpu-needs-reset": (
        "the driver wants this GPU reset ({detail})",
        "stop what uses it, then `nvidia-smi --gpu-reset -i {index}` or restart the host",
    ),
    "gpu-unreadable": (
        "values of this GPU cannot be read ({detail})",
        "run `nvidia-smi -q -i {index}` on the host; restart it if the errors stay",
    ),
    "gpu-memory-unknown": (
        "no memory size was reported",
        "run `nvidia-smi -q -i {index} -d MEMORY` on the host",
    ),
    "gpu-product-unknown": (
        "no complete product name was reported (`{product}`)",
        "run `nvidia-smi -q -i {index}` on the host; the table form cuts long names",
    ),
    "gpu-mig-enabled": (
        "MIG mode is on: the GPU is cut into slices",
        "`nvidia-smi -i {index} -mig 0`, then reset the GPU or restart the host",
    ),
    "gpu-mig-pending": (
        "a change of the MIG mode waits for a reset",
        "reset the GPU or restart the host",
    ),
    "gpu-persistence-off": (
        "persistence mode is off: the driver may unload between runs, first access is slow",
        "enable and start nvidia-persistenced, or `nvidia-smi -pm 1`",
    ),
    "gpu-ecc-pending": (
        "a change of the ECC mode waits for a reset",
        "restart the host",
    ),
    "gpu-ecc-errors": (
        "{count} uncorrectable memory error(s) since the driver was loaded",
        "reset the GPU or restart the host; replace the GPU if they come back",
    ),
    "gpu-pages-pending": (
        "memory pages wait to be retired",
        "reset the GPU or restart the host",
    ),
    "gpu-row-remap-pending": (
        "a memory row waits to be remapped",
        "reset the GPU or restart the host before it serves",
    ),
    "gpu-row-remap-failed": (
        "remapping of a memory row failed: no spare row is left",
        "replace the GPU",
    ),
    "gpu-repair-pending": (
        "a repair of a memory channel or TPC waits for a reset",
        "reset the GPU or restart the host",
    ),
    "gpu-memory-unrepairable": ("memory that cannot be repaired", "replace the GPU"),
    "gpu-power-cable": (
        "an external power cable is not attached",
        "power the host off and attach the GPU's power cables",
    ),
    "gpu-interrupts": (
        "the kernel sees an interrupt problem with a GPU",
        "see `dmesg`; check the BIOS and IOMMU settings",
    ),
    "inforom-corrupted": (
        "the GPU's infoROM is damaged",
        "restart the host; if it stays, have the GPU replaced",
    ),
    "gpu-slowdown": (
        "the hardware slows the GPU down now ({reason})",
        "check cooling and power supply of the host (BMC sensors)",
    ),
    "gpu-pcie-narrow": (
        "PCIe link runs {width} lanes of {most}",
        "reseat the GPU or its riser; check the slot's width in the BIOS",
    ),
    "gpu-xid": (
        "the kernel logged Xid {xid} ({meaning}), {count} time(s) since start",
        "see `dmesg | grep Xid`; {action}",
    ),
    "fabric-not-ready": (
        "the GPU fabric is not ready: state {state}, status {status}",
        "start nvidia-fabricmanager of the driver's exact version, then wait for `Completed`",
    ),
    "fabric-unhealthy": (
        "the GPU fabric reports {detail}",
        "see `nvidia-smi -q` (Fabric) and the fabric manager's log",
    ),
    "fabric-manager-down": (
        "NVSwitches are there and the fabric manager is {state}: CUDA fails with error 802",
        "install nvidia-fabricmanager of the driver's exact version, enable and start it",
    ),
    "nvlink-uneven": (
        "{active} NVLinks are active, other GPUs of this host have {most}",
        "`nvidia-smi nvlink -s -i {index}`; reset the GPUs, reseat or replace the GPU or its bridge",
    ),
    "systemd-not-running": (
        "systemd is not process 1, so no service can be installed",
        "start the host with systemd as its init",
    ),
    "mount-read-only": ("mounted read-only at {mount}", "mount it read-write or choose another directory"),
    "mount-noexec": (
        "mounted with noexec at {mount}: no program can start from it",
        "mount it without noexec or choose another directory",
    ),
    "command-hangs": (
        "`{command}` gave no answer within {seconds} s",
        "run it on the host; raise command_timeout if the host is only slow",
    ),
    "probe-failed": (
        "could not be read: {detail}",
        "report this with the output of the host_facts module",
    ),
}


def fault(code: str, subject: str, **details: object) -> Fault:
    what, fix = TEXTS[code]
    return Fault(code=code, subject=subject, what=what.format(**details).strip(), fix=fix.format(**details))
