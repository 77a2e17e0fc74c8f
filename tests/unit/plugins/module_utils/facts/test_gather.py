# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All of it together, on trees that look like hosts."""

from __future__ import annotations

import json
import sys

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts import gather as gather_module
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import HostIo
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts, OperatingSystem
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_hardware
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FakeHost, capture, codes, spark
from ansible_collections.baremetal.sglang.tests.unit.fixtures.recorded_host import play, record


def test_dgx_spark(host: FakeHost) -> None:
    spark(host)
    facts = host.gather(products={"NVIDIA GB10": "gb10"})
    assert facts.faults == ()
    assert (facts.host, facts.arch, facts.kernel) == ("spark-1", "aarch64", "6.17.0-1014-nvidia")
    assert facts.os == OperatingSystem("ubuntu", "24.04", "Ubuntu 24.04.4 LTS", "7.6.0")
    assert (facts.cpu_model, facts.cpu_threads) == ("Cortex-X925 + Cortex-A725", 20)
    assert (facts.memory_gib, facts.swap_gib) == (121.6, 32.0)
    gpu = facts.gpus[0]
    assert (gpu.model, gpu.product, gpu.compute_capability) == ("gb10", "NVIDIA GB10", "12.1")
    assert (gpu.memory_mib, gpu.unified_memory, gpu.pci_address) == (None, True, "000f:01:00.0")
    assert facts.memory_of(gpu) == 124518
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.flavour) == ("580.142", "open")
    assert (facts.toolkit.cuda_home, facts.toolkit.nvcc) == ("/usr/local/cuda", "13.0.88")


def test_twins_of_a_spark_port(host: FakeHost) -> None:
    spark(host)
    devices = {device.name: device for device in host.gather().rdma}
    assert sorted(devices) == ["roceP2p1s0f0", "roceP2p1s0f1", "rocep1s0f0", "rocep1s0f1"]
    up, twin, down = devices["rocep1s0f1"], devices["roceP2p1s0f1"], devices["rocep1s0f0"]
    assert (up.netdev, twin.netdev) == ("enp1s0f1np1", "enP2p1s0f1np1")
    assert (up.switch_id, up.port_name) == (twin.switch_id, twin.port_name) == ("0000000000000001", "p1")
    assert (up.state, up.rate_gbps, up.link_layer, up.mtu) == ("active", 200.0, "Ethernet", 9000)
    assert (up.pcie_width, up.pcie_speed, up.pci_address) == (4, "32.0 GT/s PCIe", "0000:01:00.1")
    assert (down.state, down.rate_gbps, down.port_name, up.numa_node) == ("down", 40.0, "p0", None)
    assert [(gid["index"], gid["type"], gid["address"]) for gid in up.gids] == [
        (0, "IB/RoCE v1", ""),
        (1, "RoCE v2", ""),
        (2, "IB/RoCE v1", "10.100.184.1"),
        (3, "RoCE v2", "10.100.184.1"),
    ]


def test_facts_survive_json(host: FakeHost) -> None:
    spark(host)
    facts = host.gather()
    assert HostFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts


def test_broken_part_is_a_fault_and_the_rest_is_there(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_io: HostIo) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(gather_module, "rdma_devices", broken)
    facts = host.gather()
    assert [(fault.code, fault.subject) for fault in facts.faults] == [("probe-failed", "RDMA")]
    assert "RuntimeError: no such luck" in facts.faults[0].what
    assert facts.memory_gib == 1008.0


def test_other_commands_that_hang_are_named(host: FakeHost) -> None:
    host.program("/usr/bin/ip", "exec sleep 3600")
    facts = host.gather(timeout=3)
    assert [(fault.code, fault.subject) for fault in facts.faults] == [("command-hangs", "ip")]


def test_without_systemd(host: FakeHost) -> None:
    (host.root / "run/systemd/system").rmdir()
    assert codes(host.gather()) == {"systemd-not-running"}


@pytest.mark.parametrize("name", ["table-550.90.07.txt", "h200-590.48.01-q.txt"])
def test_an_empty_tree_but_for_nvidia_smi(host: FakeHost, name: str) -> None:
    host.write("/capture", capture(f"nvidia_smi/{name}"))
    host.program("/usr/bin/nvidia-smi", f"cat '{host.root}/capture'")
    (host.root / "etc/os-release").unlink()
    facts = host.gather()
    assert facts.os.id == ""
    assert facts.driver is not None
    assert facts.gpus


def test_recording_of_this_machine_plays_the_same() -> None:
    recording = json.loads(json.dumps(record()))
    assert play(recording).to_dict() == recording["facts"]
    assert recording["facts"]["memory_gib"]
    assert "probe-failed" not in {fault["code"] for fault in recording["facts"]["faults"]}


def test_a_real_h200_that_was_recorded() -> None:
    """One GPU passed through to a virtual machine: its fabric is the owner's affair, not a fault."""
    recording = json.loads(capture("nvidia_smi/recorded-h200-580.159.04.json"))
    recording["facts"]["fabric"]["python"] = sys.executable  # of who plays it
    facts = play(recording)
    assert facts.to_dict() == recording["facts"]
    gpu = facts.with_models(shipped_hardware()).gpus[0]
    assert (gpu.model, gpu.memory_mib, gpu.compute_capability, gpu.fabric_state) == (
        "h200",
        143771,
        "9.0",
        "N/A",
    )
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.flavour, facts.driver.cuda) == ("580.159.04", "open", "13.0")
    assert (facts.toolkit.nvcc, facts.python[0].version, facts.memory_gib) == ("13.0.88", "3.12.3", 125.9)
    # It ran in a container; nothing else is wrong with it.
    assert [fault.code for fault in facts.faults] == ["systemd-not-running"]
    assert (facts.nvswitches, facts.fabric_manager) == (0, "")


@pytest.mark.parametrize("form", ["text", "csv", "table"])
def test_a_real_h200_whose_listing_comes_damaged(form: str) -> None:
    """The other forms are of the same host."""
    recording = json.loads(capture("nvidia_smi/recorded-h200-580.159.04.json"))
    whole, answers = play(recording), recording["answers"]
    forms = {"text": '["run", ["nvidia-smi", "-q"]]', "table": '["run", ["nvidia-smi"]]'}
    forms["csv"] = next(key for key in answers if "--query-gpu=index,name," in key)
    for name, key in {**forms, "xml": '["run", ["nvidia-smi", "-q", "-x"]]'}.items():
        if name != form:
            answers[key]["Ran"]["out"] = answers[key]["Ran"]["out"][:1500] if name == "xml" else ""
    facts = play(recording)
    assert len(facts.gpus) == 1
    kept = ("product", "memory_mib", "pci_address", "compute_capability")
    assert [getattr(facts.gpus[0], name) for name in kept] == [getattr(whole.gpus[0], name) for name in kept]
    assert facts.driver == whole.driver if form != "csv" else facts.driver is not None
