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
from lab import pretend

HERE = Path(pretend.__file__).parent


@pytest.fixture(params=pretend.names())
def edge(request: pytest.FixtureRequest) -> pretend.Edge:
    return pretend.read(request.param)


@pytest.fixture
def smi(edge: pretend.Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("lab_nvidia_smi", HERE / "host/nvidia_smi.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
