# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pretended host tells the product of the GPUs that its data names, in every form, and of those that were lost."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts import nvidia_smi
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import HostIo
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_host import (
    NvidiaFacts,
    nvidia_facts,
)
from lab import pretend

HERE = Path(pretend.__file__).parent


@pytest.fixture(params=pretend.names())
def edge(request: pytest.FixtureRequest) -> pretend.Edge:
    return pretend.read(request.param)


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"lab_{name}", HERE / f"host/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def smi(edge: pretend.Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("nvidia_smi")
    (tmp_path / "facts.json").write_text(json.dumps(edge.facts()))
    (tmp_path / "gpus.xml").write_text(pretend.listing(edge))
    (tmp_path / "topology.txt").write_text((pretend.REPOSITORY / edge.topology).read_text())
    (tmp_path / "version").write_text(f"NVRM version: NVIDIA UNIX Kernel Module  {edge.driver}  Release\n")
    for name, place in (
        ("DATA", "."),
        ("STATE", "state.json"),
        ("DRIVER", "version"),
        ("CONTROL", "version"),
    ):
        monkeypatch.setattr(module, name, tmp_path / place)
    return module


def put(smi: ModuleType, **state: Any) -> None:
    smi.STATE.write_text(json.dumps(state))


@pytest.mark.parametrize(
    "words", [["-q", "-x"], ["--query-gpu=index,name,uuid,pci.bus_id,memory.total,memory.used"]]
)
def test_each_form_lists_the_gpus_of_the_data(
    smi: ModuleType, edge: pretend.Edge, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert smi.main(words) == 0
    listing = nvidia_smi.parse(capsys.readouterr().out)
    assert not listing.faults
    assert len(listing.records) == len(edge.addresses)
    assert {record.values["product"] for record in listing.records} == {edge.product}
    assert [record.values["uuid"] for record in listing.records] == [gpu["uuid"] for gpu in edge.gpus()]


def test_a_lost_gpu_is_named_by_its_address_and_the_others_are_listed(
    smi: ModuleType, edge: pretend.Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    put(smi, lost=[3])
    status = smi.main(["-q", "-x"])
    said = capsys.readouterr().out
    assert status == smi.LOST
    assert len(nvidia_smi.parse(said).records) == len(edge.addresses) - 1
    (fault,) = nvidia_smi.explain(status, said, "", edge.driver)
    assert fault.subject == f"GPU {edge.gpus()[3]['address']}"


def test_a_process_on_a_gpu_takes_memory_and_has_a_number(
    smi: ModuleType, edge: pretend.Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    put(smi, processes=[{"gpu": 1, "pid": 4711, "mib": 72750}])
    smi.main(["--query-gpu=index,memory.used", "--format=csv,noheader,nounits"])
    assert capsys.readouterr().out.splitlines()[:2] == ["0, 0", "1, 72750"]
    smi.main(["--query-compute-apps=gpu_uuid,pid", "--format=csv,noheader,nounits"])
    assert capsys.readouterr().out == f"{edge.gpus()[1]['uuid']}, 4711\n"


def test_a_field_that_the_driver_does_not_know_is_refused_by_name(
    smi: ModuleType, edge: pretend.Edge, capsys: pytest.CaptureFixture[str]
) -> None:
    status = smi.main(["--query-gpu=index,gpu_recovery_action", "--format=csv"])
    said = capsys.readouterr().out
    assert (status, 'Field "gpu_recovery_action" is not a valid field' in said) == (
        (smi.BAD_QUERY, True) if edge.driver.startswith("550") else (0, False)
    )


def test_without_the_control_node_there_is_no_driver(
    smi: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(smi, "CONTROL", Path("/nonexistent"))
    status = smi.main(["-q", "-x"])
    (fault,) = nvidia_smi.explain(status, capsys.readouterr().out, "", "")
    assert fault.code == "driver-not-loaded"


def test_the_layer_has_libraries_units_and_programs(edge: pretend.Edge, tmp_path: Path) -> None:
    name = next(name for name in pretend.names() if pretend.read(name) == edge)
    layer = pretend.build(name, tmp_path)
    libraries = layer / pretend.LIBRARIES
    assert (libraries / "libcuda.so.1").resolve().name == f"libcuda.so.{edge.driver}"
    assert (libraries / "libnvidia-ml.so.1").resolve().name == f"libnvidia-ml.so.{edge.driver}"
    assert (layer / "usr/lib/systemd/system/sysinit.target.wants/lab-gpu.service").resolve().is_file()
    assert (layer / "usr/bin/nvidia-smi").stat().st_mode & 0o111
    assert pretend.build(name, tmp_path) == layer


def facts_of(
    edge: pretend.Edge,
    smi: ModuleType,
    layer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    log: str = "",
) -> NvidiaFacts:
    """What the product finds on a host of this layer, with what the boot program of the layer makes."""
    driver, facts = program("driver"), json.loads((layer / pretend.DATA / "facts.json").read_text())
    monkeypatch.setattr(driver, "BUS", layer / "sys/bus/pci/devices")
    monkeypatch.setattr(driver, "PROC", layer / "proc/driver/nvidia")
    monkeypatch.setattr(driver, "mount", lambda _place: None)
    monkeypatch.setattr(driver.shutil, "copytree", lambda *_words, **_how: None)
    for place in (driver.BUS, driver.PROC):
        place.mkdir(parents=True)
    driver.proc(facts, edge.driver)
    for gpu in facts["gpus"]:
        driver.device(gpu["address"], facts["pci_device"], "0x030200", "nvidia")
    for address in facts["switches"]:
        driver.device(address, "0x1af1", "0x068000", "nvidia-nvswitch")

    def run(words: list[str], **_options: Any) -> tuple[int, str, str]:
        name = Path(words[0]).name
        if name == "nvidia-smi":
            status = smi.main(words[1:])
            return status, capsys.readouterr().out, ""
        said = {"dmesg": log, "systemctl": "LoadState=loaded\nActiveState=active\n"}
        return 0, said[name], ""

    pretend.write(layer, "usr/bin/systemctl", "", 0o755)
    return nvidia_facts(HostIo(run, str(layer)), {edge.product: "a800-sxm4-80gb"})


def test_the_product_finds_the_gpus_and_no_fault(
    smi: ModuleType,
    edge: pretend.Edge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = next(name for name in pretend.names() if pretend.read(name) == edge)
    found = facts_of(edge, smi, pretend.build(name, tmp_path), monkeypatch, capsys)
    assert found.faults == []
    assert [gpu.model for gpu in found.gpus] == ["a800-sxm4-80gb"] * len(edge.addresses)
    assert found.driver is not None
    assert (found.driver.version, found.driver.flavour) == (edge.driver, edge.flavour)
    assert found.driver.library_version == edge.driver
    assert (found.switches, found.fabric_manager) == (len(edge.switches), "running")
    assert found.nvlink["full"] is True


def test_the_product_names_a_gpu_that_fell_off_the_bus(
    smi: ModuleType,
    edge: pretend.Edge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = next(name for name in pretend.names() if pretend.read(name) == edge)
    put(smi, lost=[3])
    log = "[ 77.1] NVRM: Xid (PCI:0000:44:00): 79, pid=1, GPU has fallen off the bus.\n"
    found = facts_of(edge, smi, pretend.build(name, tmp_path), monkeypatch, capsys, log)
    assert len(found.gpus) == len(edge.addresses) - 1
    codes = {fault.code for fault in found.faults if "0000:44:00.0" in fault.subject}
    assert {"gpu-missing", "gpu-needs-reboot"} <= codes
