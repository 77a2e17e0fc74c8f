# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sources are asked, and what a gap between them is called."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FakeHost, capture, codes

H200 = capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")
ADDRESSES = [f"0000:00:{slot:02x}.0" for slot in range(6, 10)]


def four_h200(host: FakeHost) -> None:
    host.driver("580.159.04")
    for address in ADDRESSES:
        host.gpu_on_bus(address)
    host.nvidia_smi(
        H200,
        topo=capture("nvidia_smi/nvidia-smi-topo-4xH200.txt"),
        query=capture("nvidia_smi/nvidia-smi-query-4xH200.csv"),
    )


def test_healthy_host(host: FakeHost) -> None:
    four_h200(host)
    facts = host.gather(products={"NVIDIA H200": "h200"})
    assert facts.faults == ()
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.cuda) == ("580.159.04", "13.0")
    assert (facts.driver.library_version, facts.driver.flavour) == ("580.159.04", "proprietary")
    assert [(gpu.model, gpu.compute_capability) for gpu in facts.gpus] == [("h200", "9.0")] * 4
    assert facts.nvlink["links_per_gpu"] == 18
    assert facts.nvlink["topology"][0] == ["X", "NV18", "NV18", "NV18"]
    assert facts.nvlink["cpu_affinity"] == ["0-63"] * 4


def test_no_nvidia_at_all(host: FakeHost) -> None:
    facts = host.gather()
    assert (facts.driver, facts.gpus, facts.nvlink, facts.rdma, facts.faults) == (None, (), {}, (), ())


def test_unknown_product_has_no_model(host: FakeHost) -> None:
    four_h200(host)
    assert {gpu.model for gpu in host.gather(products={"NVIDIA H200 NVL": "h200-nvl"}).gpus} == {""}


def test_hanging_nvidia_smi_is_given_up(host: FakeHost) -> None:
    host.driver("580.159.04")
    host.program("/usr/bin/nvidia-smi", "exec sleep 3600")
    facts = host.gather(timeout=3)
    assert codes(facts) == {"nvidia-smi-hangs"}
    assert facts.driver is not None
    assert facts.driver.version == "580.159.04"


def test_nvidia_smi_that_hangs_only_for_links(host: FakeHost) -> None:
    four_h200(host)
    text = (host.root / "usr/bin/nvidia-smi").read_text(encoding="utf-8")
    host.program(
        "/usr/bin/nvidia-smi", text.replace("case", 'case "$*" in topo*) exec sleep 60;; esac\ncase', 1)
    )
    facts = host.gather(timeout=3)
    assert len(facts.gpus) == 4
    assert codes(facts) == {"nvidia-smi-hangs"}


def test_a_stranger_on_a_gpu_is_named_and_a_server_of_ours_is_not(host: FakeHost) -> None:
    four_h200(host)
    first, second = [gpu.uuid for gpu in host.gather().gpus[:2]]
    host.write("/proc/101/cgroup", "0::/system.slice/sglang-glm.service\n")
    host.write("/proc/202/cgroup", "0::/user.slice/user-1000.slice\n")
    host.write("/proc/202/comm", "python3\n")
    text = (host.root / "usr/bin/nvidia-smi").read_text(encoding="utf-8")
    apps = f'case "$*" in *compute-apps*) printf "{first}, 101\\n{second}, 202\\n"; exit 0;; esac\ncase'
    host.program("/usr/bin/nvidia-smi", text.replace("case", apps, 1))
    (found,) = host.gather().faults
    assert (found.code, found.subject) == ("gpu-in-use", "GPU 1")
    assert found.what.startswith("process 202 (python3) computes on it")


def test_seven_of_eight(host: FakeHost) -> None:
    four_h200(host)
    host.gpu_on_bus("0000:00:0a.0")
    facts = host.gather()
    assert [(fault.code, fault.subject) for fault in facts.faults] == [("gpu-missing", "GPU 0000:00:0a.0")]


def test_virtual_functions_are_no_missing_gpus(host: FakeHost) -> None:
    four_h200(host)
    host.gpu_on_bus("0000:00:0a.4")
    host.link("/sys/bus/pci/devices/0000:00:0a.4/physfn", "../0000:00:06.0")
    assert host.gather().faults == ()


def test_library_mismatch_from_files_and_words_is_one_fault(host: FakeHost) -> None:
    host.driver("535.104.05", library="535.171.04")
    host.gpu_on_bus("0000:00:06.0")
    host.program(
        "/usr/bin/nvidia-smi",
        "echo 'Failed to initialize NVML: Driver/library version mismatch'\n"
        "echo 'NVML library version: 535.171'\nexit 18",
    )
    facts = host.gather()
    assert [fault.code for fault in facts.faults] == ["library-mismatch"]
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.library_version) == ("535.104.05", "535.171.04")
    assert "535.104.05" in facts.faults[0].what
    assert "535.171" in facts.faults[0].what


def test_driver_missing(host: FakeHost) -> None:
    for address in ADDRESSES:
        host.gpu_on_bus(address, driver="")
    facts = host.gather()
    assert [(fault.code, fault.what.split(" GPU")[0]) for fault in facts.faults] == [
        ("driver-missing", "the PCI bus shows 4 NVIDIA")
    ]


@pytest.mark.parametrize("holder", ["nouveau", "vfio-pci"])
def test_gpu_held_by_another_driver(host: FakeHost, holder: str) -> None:
    host.gpu_on_bus("0000:3b:00.0", driver=holder)
    facts = host.gather()
    assert [(fault.code, fault.subject) for fault in facts.faults] == [
        ("gpu-other-driver", "GPU 0000:3b:00.0")
    ]
    assert holder in facts.faults[0].what


def test_driver_not_loaded(host: FakeHost) -> None:
    host.driver("550.54.15")
    (host.root / "proc/driver/nvidia/version").unlink()
    host.gpu_on_bus("0000:3b:00.0", driver="")
    host.program(
        "/usr/bin/nvidia-smi",
        "echo 'NVIDIA-SMI has failed because it couldn'\"'\"'t communicate with the NVIDIA driver.'; exit 9",
    )
    facts = host.gather()
    assert codes(facts) == {"driver-not-loaded"}
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.library_version) == ("", "550.54.15")


def test_nvidia_smi_is_not_installed(host: FakeHost) -> None:
    host.driver("550.54.15")
    host.gpu_on_bus("0000:3b:00.0")
    assert codes(host.gather()) == {"nvidia-smi-missing"}


def test_libcuda_missing(host: FakeHost) -> None:
    four_h200(host)
    host.write("/usr/bin/nvidia-smi.answer0", H200.replace("<cuda_version>13.0<", "<cuda_version>N/A<"))
    facts = host.gather()
    assert codes(facts) == {"libcuda-missing"}
    assert facts.driver is not None
    assert facts.driver.cuda == ""


@pytest.mark.parametrize(
    ("answer", "state", "faults"),
    [
        ("LoadState=loaded\nActiveState=active\n", "running", set()),
        ("LoadState=loaded\nActiveState=failed\n", "stopped", {"fabric-manager-down"}),
        ("LoadState=not-found\nActiveState=inactive\n", "absent", {"fabric-manager-down"}),
    ],
)
def test_fabric_manager(host: FakeHost, answer: str, state: str, faults: set[str]) -> None:
    four_h200(host)
    host.gpu_on_bus("0000:05:00.0", driver="", kind="0x068000")
    host.printer("/usr/bin/systemctl", {"'show nvidia-fabricmanager.service'*": answer})
    facts = host.gather()
    assert (facts.fabric_manager, codes(facts)) == (state, faults)


def test_fabric_manager_outside_systemd(host: FakeHost) -> None:
    four_h200(host)
    host.gpu_on_bus("0000:05:00.0", driver="", kind="0x068000")
    host.write("/proc/812/comm", "nv-fabricmanage\n")
    facts = host.gather()
    assert (facts.fabric_manager, facts.faults) == ("running", ())


def test_uneven_links(host: FakeHost) -> None:
    one = capture("nvidia_smi/h200-590.48.01-nvlink-s.txt")
    second = one.replace("GPU 0:", "GPU 1:").replace("Link 17: 26.562 GB/s", "Link 17: <inactive>")
    four_h200(host)
    host.nvidia_smi(H200, nvlink=one + second)
    facts = host.gather()
    assert [(fault.code, fault.subject) for fault in facts.faults] == [("nvlink-uneven", "GPU 1")]
    assert (facts.nvlink["links_per_gpu"], facts.nvlink["gb_per_second_per_link"]) == (17, 26.562)


def test_xids_of_the_hardware_are_named(host: FakeHost) -> None:
    four_h200(host)
    log = (
        "[1.0] NVRM: Xid (PCI:0000:00:07): 79, pid=1, GPU has fallen off the bus.\n"
        "[2.0] NVRM: Xid (PCI:0000:00:07): 79, pid=1, GPU has fallen off the bus.\n"
        "[3.0] NVRM: Xid (PCI:0000:00:06): 31, pid=9, name=python, MMU Fault\n"
    )
    host.printer("/usr/bin/dmesg", {"''": log})
    facts = host.gather()
    assert [(fault.code, fault.subject) for fault in facts.faults] == [("gpu-needs-reboot", "GPU 1")]
    assert "Xid 79" in facts.faults[0].what
    assert "2 time(s)" in facts.faults[0].what


@pytest.mark.parametrize(
    "form", ["h100-8x-535.161.08-q.txt", "table-550.90.07.txt", "nvidia-smi-query-4xH200.csv", "a10g-q-x.xml"]
)
def test_any_form_will_do(host: FakeHost, form: str) -> None:
    """A stand-in that prints one capture whatever it is asked."""
    host.write("/capture", capture(f"nvidia_smi/{form}"))
    host.program("/usr/bin/nvidia-smi", f"cat '{host.root}/capture'")
    facts = host.gather()
    assert len(facts.gpus) == {"h100": 8, "table": 8, "nvidia": 4, "a10g": 1}[form.split("-", maxsplit=1)[0]]
    seen = {"gpu-slowdown", "gpu-persistence-off", "gpu-pcie-narrow"}
    untold = {"table": {"gpu-health-unknown"}, "nvidia": {"gpu-health-unknown", "gpu-mig-unknown"}}
    assert codes(facts) - seen == untold.get(form.split("-", maxsplit=1)[0], set())


def test_damaged_xml_falls_back_to_text(host: FakeHost) -> None:
    text = capture("nvidia_smi/h100-8x-535.161.08-q.txt")
    host.printer("/usr/bin/nvidia-smi", {"'-q -x'": H200[:30000], "-q": text})
    facts = host.gather()
    assert (len(facts.gpus), codes(facts)) == (8, {"gpu-slowdown"})


def test_damage_without_a_way_round_is_named(host: FakeHost) -> None:
    host.printer("/usr/bin/nvidia-smi", {"'-q -x'": H200[:30000]})
    facts = host.gather()
    assert len(facts.gpus) == 1
    assert codes(facts) == {"nvidia-smi-unreadable", "gpu-list-incomplete"}


@pytest.mark.parametrize("script", ["exit 0", "echo hello", "exit 1", "kill -9 $$"])
def test_nvidia_smi_that_says_nothing_useful(host: FakeHost, script: str) -> None:
    host.program("/usr/bin/nvidia-smi", script)
    assert codes(host.gather()) & {"nvidia-smi-unreadable", "nvidia-smi-failed"}
