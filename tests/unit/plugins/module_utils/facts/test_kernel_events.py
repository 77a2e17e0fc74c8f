# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Broken GPUs are named by their cause, each with what cures it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.kernel_events import parse_kernel_log
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_host import kernel_faults
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Fault, Gpu
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.xids import (
    CURES,
    UNIFIED_CURES,
    XIDS,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import codes
from ansible_collections.baremetal.sglang.tests.unit.fixtures.memory_host import MemoryHost

ROOT = Path(__file__).resolve().parents[5]
LISTED = (Gpu(0, "h200", "NVIDIA H200", 143771, pci_address="0000:3b:00.0"),)
SPARK = (Gpu(0, "gb10", "NVIDIA GB10", unified_memory=True, pci_address="000f:01:00.0"),)

FALLEN = """[ 1843.308145] NVRM: The NVIDIA GPU 0000:b3:00.0
               NVRM: (PCI ID: 10de:26b5) installed in this system has
               NVRM: fallen off the bus and is not responding to commands.
[ 1843.439662] NVRM: The NVIDIA probe routine failed for 1 device(s).
"""
FALLEN_JOURNAL = """Feb 14 05:03:42 host kernel: NVRM: The NVIDIA GPU 0000:b3:00.0
Feb 14 05:03:42 host kernel: (PCI ID: 10de:2330) installed in this system has
Feb 14 05:03:42 host kernel: fallen off the bus and is not responding to commands.
"""
GSP = """[101.365561] NVRM: GPU6 _kgspBootGspRm: unexpected WPR2 already up, cannot proceed with booting GSP
[101.365600] NVRM: GPU6 RmInitAdapter: Cannot initialize GSP firmware RM
[101.366268] NVRM: GPU 0000:a1:00.0: RmInitAdapter failed! (0x62:0x40:2168)
"""
RPC = "[9.0] NVRM: Xid (PCI:0000:3b:00): 119, pid=1482, name=nvidia-smi, Timeout after 6s of waiting for RPC response from GPU0 GSP!\n"
SEC2 = """[5.0] NVRM: GPU at PCI:000f:01:00: GPU-0f059bf0
[5.1] NVRM: Xid (PCI:000f:01:00): 169, fd8cd000 94000000
[5.2] NVRM: ksec2WaitForIdle: SEC2 timed out
[5.3] NVRM: GPU 000f:01:00.0: RmInitAdapter failed! (0x62:0x1a:2631)
"""
NEEDS_OPEN = """[3.0] NVRM: The NVIDIA GPU 000f:01:00.0 (PCI ID: 10de:2e12)
[3.0] NVRM: installed in this system requires use of the NVIDIA open kernel modules.
"""


def found(log: str, gpus: tuple[Gpu, ...] = ()) -> list[tuple[str, str]]:
    return [(fault.code, fault.subject) for fault in kernel_faults(log, gpus)]


@pytest.mark.parametrize(
    ("log", "gpus", "faults"),
    [
        (FALLEN, (), [("gpu-needs-reboot", "GPU 0000:b3:00.0")]),
        (FALLEN_JOURNAL, (), [("gpu-needs-reboot", "GPU 0000:b3:00.0")]),
        ("[1.0] NVRM: GPU 0000:b3:00.0: GPU has fallen off the bus.\n", (), [("gpu-needs-reboot", "GPU 0000:b3:00.0")]),
        ("[1.0] NVRM: GPU has fallen off the bus.\n", (), [("gpu-needs-reboot", "GPU")]),
        ("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.\n" * 3, LISTED, [("gpu-needs-reboot", "GPU 0")]),
        (GSP, (), [("gpu-gsp-timeout", "GPU"), ("gpu-init-failed", "GPU 0000:a1:00.0")]),
        (RPC, LISTED, [("gpu-xid", "GPU 0")]),
        (SEC2, (), [("gpu-xid", "GPU 000f:01:00.0"), ("gpu-sec2-timeout", "GPU 000f:01:00.0"),
                    ("gpu-init-failed", "GPU 000f:01:00.0")]),
        (NEEDS_OPEN, (), [("gpu-needs-open-module", "GPU 000f:01:00.0")]),
        ("NVRM: Xid (0000:3b:00): 48, DBE\n", LISTED, [("gpu-xid", "GPU 0")]),
        ("NVRM: Xid (PCI:0000:3B:00): 31, pid=9, name=python, MMU Fault\n", LISTED, []),
        ("NVRM: Xid (PCI:0000:3b:00): 999, something new\n", LISTED, [("gpu-xid", "GPU 0")]),
        ("NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)\n",
            LISTED, [("gpu-needs-reboot", "GPU 0")]),
        ("NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)\n",
            LISTED, []),
        ("NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x62:0x40:2168)\n", LISTED, [("gpu-trouble-before", "GPU 0")]),
        ("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Non-fatal, Link 32 egress\n", LISTED,
            [("nvswitch-sxid", "NVSwitch 0000:c1:00.0")]),
        ("NVRM: API mismatch: the client has the version 580.95.05, but\nNVRM: this kernel module has 580.82.07.\n", (),
            [("module-version-mismatch", "driver")]),
        ("Loading of module with unavailable key is rejected\nnvidia: Key was rejected by service\n", (),
            [("module-rejected", "driver")]),
        ("NVRM: GPU6 _kgspBootGspRm: unexpected WPR2 already up\n", LISTED, [("gpu-trouble-before", "GPU")]),
        ("NVRM: GPU 0000:3b:00.0: GSP firmware runtime started\n", LISTED, []),
        ("nvidia: module verification failed: signature and/or required key missing - tainting kernel\n", (), []),
        ("usb 1-1: new device\nGPU fan is fine\n", LISTED, []),
    ],
)  # fmt: skip
def test_causes(log: str, gpus: tuple[Gpu, ...], faults: list[tuple[str, str]]) -> None:
    assert found(log, gpus) == faults


def test_the_count_and_the_last_words_are_kept() -> None:
    (event,) = parse_kernel_log(
        "NVRM: Xid (PCI:0000:3b:00): 79, one\n" * 2 + "NVRM: Xid (PCI:0000:3b:00): 79, two\n"
    )
    assert (event.count, event.words, event.address) == (3, "two", "0000:3b:00.0")


def test_nobody_is_told_to_reseat_what_is_soldered() -> None:
    log = "NVRM: Xid (PCI:000f:01:00): 79, GPU has fallen off the bus.\n" + SEC2
    faults = kernel_faults(log, SPARK)
    assert faults
    assert not [fault for fault in faults if "reseat" in fault.fix]
    assert any("power" in fault.fix and "update" in fault.fix for fault in faults)


@pytest.mark.parametrize(
    ("flavour", "device", "code"),
    [
        ("proprietary", "0x2e12", "gpu-needs-open-module"),
        ("proprietary", "0x2901", "gpu-needs-open-module"),
        ("open", "0x2e12", ""),
        ("proprietary", "0x2335", ""),
        ("open", "0x1db6", "gpu-needs-proprietary-module"),
        ("proprietary", "0x1db6", ""),
        ("open", "0x1eb8", ""),
    ],
)
def test_a_module_that_cannot_drive_the_gpu(flavour: str, device: str, code: str) -> None:
    host = MemoryHost()
    host.driver("580.173.02", flavour)
    host.gpu_on_bus("000f:01:00.0")
    host.files["/sys/bus/pci/devices/000f:01:00.0/device"] = device + "\n"
    host.nvidia_smi({}, otherwise=9)
    assert {code} - {""} == {name for name in codes(host.gather()) if name.endswith("-module")}


def table_writer() -> Any:
    loader = importlib.machinery.SourceFileLoader("xids", str(ROOT / "tools/xids.py"))
    spec = importlib.util.spec_from_loader("xids", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_table_for_hosts_is_the_one_in_files() -> None:
    """`tools/xids.py` writes it."""
    document = yaml.safe_load((ROOT / "files/xids.yml").read_text(encoding="utf-8"))
    writer = table_writer()
    assert writer.TARGET.read_text(encoding="utf-8") == writer.table(document)
    assert {action for _name, action in XIDS.values()} <= set(CURES)
    assert set(UNIFIED_CURES) <= set(CURES)
    codes_of = [code for row in document["xids"] for code in writer.expanded(row["codes"])]
    assert len(codes_of) == len(set(codes_of)) > 100


def test_journal_where_dmesg_is_closed() -> None:
    host = MemoryHost()
    host.driver("580.95.05")
    host.gpu_on_bus("0000:b3:00.0")
    host.nvidia_smi({}, otherwise=9)
    from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import Ran

    host.programs["dmesg"] = lambda _arguments: Ran(
        1, "", "dmesg: read kernel buffer failed: Operation not permitted\n"
    )
    host.programs["journalctl"] = lambda _arguments: Ran(0, FALLEN_JOURNAL)
    assert "gpu-needs-reboot" in codes(host.gather())


def test_every_fault_of_the_log_says_what_to_do() -> None:
    everything = FALLEN + GSP + RPC + SEC2 + NEEDS_OPEN
    assert all(
        isinstance(fault, Fault) and fault.fix and "{" not in fault.fix
        for fault in kernel_faults(everything, LISTED)
    )


def test_what_follows_from_a_cause_is_cured_with_it() -> None:
    host = MemoryHost()
    host.driver("580.173.02", "proprietary")
    host.gpu_on_bus("000f:01:00.0")
    host.files["/sys/bus/pci/devices/000f:01:00.0/device"] = "0x2e12\n"
    from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import Ran

    host.programs["nvidia-smi"] = lambda _arguments: Ran(6, "No devices were found\n")
    host.programs["dmesg"] = lambda _arguments: Ran(0, SEC2)
    facts = host.gather()
    assert {"nvidia-smi-no-devices", "gpu-needs-open-module", "gpu-sec2-timeout"} <= codes(facts)
    assert not [fault for fault in facts.faults if "reseat" in fault.fix]
    (none,) = [fault for fault in facts.faults if fault.code == "nvidia-smi-no-devices"]
    assert "open kernel modules" in none.fix
