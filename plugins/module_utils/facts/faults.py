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
        "see `lspci -d 10de:` and `dmesg | grep -i nvrm`; restart the host; where that does not help, start it cold",
    ),
    "nvidia-smi-no-permission": (
        "nvidia-smi may not ask the driver",
        "run as root; check the rights of /dev/nvidia* and the control group of the session",
    ),
    "gpu-in-use": (
        "process {holders} computes on it{used}",
        "end it before site.yml runs, or leave this GPU out with gpus: an instance does not start on a GPU in use",
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
    "gpu-probe-failed": (
        "reading the GPUs failed, so nobody knows whether there are any: {detail}",
        "report this with the output of the host_facts module; device: cpu plans without GPUs",
    ),
    "gpu-none-listed": (
        "{evidence}, and nvidia-smi lists no GPU",
        "run `nvidia-smi` and `dmesg | grep -i nvrm` on the host; device: cpu plans without GPUs",
    ),
    "gpu-listed-twice": (
        "nvidia-smi lists two GPUs with the {name} {value}: its output is damaged",
        "repeat the run; run `nvidia-smi -L` on the host",
    ),
    "gpu-not-on-bus": (
        "nvidia-smi lists a GPU at {address}, the PCI bus has none there",
        "repeat the run; compare `nvidia-smi -L` and `lspci -d 10de:` on the host",
    ),
    "gpu-numbers-impossible": (
        "nvidia-smi reports {detail}: no GPU has that",
        "run `nvidia-smi -q -i {index}` on the host; reinstall the driver if it says so again",
    ),
    "gpu-virtual": (
        "this is {what}: the whole GPU is not at the disposal of this host",
        "pass the whole GPU through to this host (PCI passthrough), or name another host",
    ),
    "gpu-mig-unknown": (
        "nothing says whether MIG mode is off",
        "run `nvidia-smi -q -i {index}` on the host and look at MIG Mode; repeat the run",
    ),
    "gpu-health-unknown": (
        "the form of nvidia-smi that could be read says nothing about: {detail}",
        "run `nvidia-smi -q -x` on the host and mend what keeps it from answering",
    ),
    "gpu-sensor-unreadable": (
        "{detail} could not be read twice; the GPU works without",
        "look at `nvidia-smi -q -i {index}`; a restart of the host or new driver clears most of these",
    ),
    "gpu-clocks-capped": (
        "the clock is capped at {clock}, the default is {usual}",
        "`nvidia-smi -i {index} -rac` gives the default clocks back",
    ),
    "gpu-clocks-stuck": (
        "the GPU is busy at {clock} of {most} and names no reason",
        "take all power from the host for a minute (a restart does not clear this), then look again",
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
    "gpu-needs-reboot": (
        "the kernel logged Xid {xid} ({meaning}), {count} time(s) since start: no reset of the GPU is enough",
        "see `dmesg | grep -i xid`; {action}",
    ),
    "gpu-trouble-before": (
        "the GPU answers now; before, the kernel logged {count} time(s): {said}",
        "watch `dmesg | grep NVRM`; update the driver if it comes back",
    ),
    "gpu-init-failed": (
        "the driver could not start this GPU: {said}",
        "see the lines before it in `dmesg`; shut the host down, take all power from it for a minute, start it cold",
    ),
    "gpu-gsp-timeout": (
        "the GPU's own system processor (GSP) does not answer: {said}",
        "shut the host down, take all power from it for a minute, start it cold; update the driver if it comes back",
    ),
    "gpu-sec2-timeout": (
        "the GPU's security processor (SEC2) does not answer: {said}",
        "finish the system and firmware update, shut the host down and take all power from it for a minute; see that "
        "the open kernel modules are installed",
    ),
    "gpu-needs-open-module": (
        "the proprietary kernel module is loaded, and this GPU works with the open one alone",
        "install the open kernel modules of the same driver version (nvidia-driver-NNN-open), restart the host",
    ),
    "gpu-needs-proprietary-module": (
        "the open kernel module is loaded, and this GPU is too old for it",
        "install the proprietary kernel modules of a driver up to 580, restart the host",
    ),
    "gpu-memory-frozen": (
        "the driver found no memory for itself, {count} time(s) since start: hosts that share memory freeze after this",
        "stop the engine, restart the host, leave more memory free (memory_fraction)",
    ),
    "module-version-mismatch": (
        "a program and the kernel module are of different driver versions: {said}",
        "restart the host (or unload and load the nvidia modules): an upgrade was not finished",
    ),
    "module-rejected": (
        "the kernel did not take the nvidia module: {said}",
        "with Secure Boot enrol the key that signed it (mokutil --import) or install signed modules of the distribution; "
        "after a kernel update build the module for the running kernel",
    ),
    "nvswitch-sxid": (
        "the kernel logged SXid {number} of this NVSwitch, {how}",
        "see `dmesg | grep SXid` and the fabric manager's log; reset all GPUs of the host, or restart it",
    ),
    "nvlink-partial": (
        "NVLink joins only {islands}; between these groups data goes over PCIe",
        "name GPUs of one group with gpus: [...], or attach the missing NVLink bridges",
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
    "kho-reservation": (
        "kernel {kernel} keeps {gib} GiB for kexec handover (CmaFree is above CmaTotal): registering memory for RDMA "
        "fails with `Cannot allocate memory`",
        "boot with kho=off: install nvidia-spark-grub-kho or add it to the kernel command line, run update-grub, restart "
        "the host; see that every boot entry has it",
    ),
    "rdma-device-dangling": (
        "the kernel names this RDMA device, and {detail}",
        "see `dmesg | grep -i mlx`; restart the host; reseat the card if it stays",
    ),
    "rdma-port-polling": (
        "the port looks for a link and finds none ({layer}, physical state Polling)",
        "check cable and transceiver at both ends and that the switch port is enabled; on InfiniBand that a subnet "
        "manager runs",
    ),
    "rdma-port-disabled": (
        "the port is switched off ({layer}, physical state Disabled)",
        "bring its interface up (`ip link set DEV up`), put in the cable, or enable the port (`ibportstate`, `mlxlink -d "
        "{device}`)",
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


_MOST_DETAIL = 300


def fault(code: str, subject: str, **details: object) -> Fault:
    what, fix = TEXTS[code]
    said = {
        name: value[:_MOST_DETAIL] if isinstance(value, str) else value for name, value in details.items()
    }
    return Fault(code=code, subject=subject, what=what.format(**said).strip(), fix=fix.format(**said))
