# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Portable facts: the long form, the short form that people write, and what each refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.compare import Difference, compare
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import (
    Disk,
    Driver,
    Fault,
    Gpu,
    HostFacts,
    OperatingSystem,
    Python,
    RdmaDevice,
    Toolkit,
)
from hypothesis import given
from hypothesis import strategies as st

TABLE = yaml.safe_load(
    (Path(__file__).parents[5] / "files/operating_systems.yml").read_text(encoding="utf-8")
)
HARDWARE = {
    "a800-sxm4-80gb": Hardware("a800-sxm4-80gb", ("NVIDIA A800-SXM4-80GB",), "cuda", "8.0", 81920),
    "gb10": Hardware("gb10", ("NVIDIA GB10",), "cuda", "12.1", 124546, unified_memory=True),
    "cpu": Hardware("cpu", (), "cpu", "", 0),
}
ROOM: dict[str, Any] = {
    "gpus": {"model": "a800-sxm4-80gb", "count": 8},
    "driver": "550.54.15",
    "arch": "x86_64",
    "os": "ubuntu-22.04",
    "memory_gib": 1007,
    "rdma": [{"name": "mlx5_0", "netdev": "ens1", "rate_gbps": 200, "mtu": 9000}],
    "disks": [{"path": "/opt/sglang", "free_gib": 1500}],
    "toolkit": {"cuda_home": "/usr/local/cuda", "nvcc": "12.4.131"},
}


def declared(data: Any) -> HostFacts:
    return HostFacts.from_dict(
        data,
        "gpu-01",
        hardware=HARDWARE,
        systems=TABLE["operating_systems"],
        driver_cuda=TABLE["driver_cuda"],
    )


def refusals(data: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(RefusedError) as caught:
        declared(data)
    assert {refusal.host for refusal in caught.value.refusals} == {"gpu-01"}
    return [(refusal.where, refusal.what, refusal.fix) for refusal in caught.value.refusals]


def test_short_form() -> None:
    before = copy.deepcopy(ROOM)
    facts = declared(ROOM)
    assert before == ROOM
    assert facts == HostFacts(
        host="gpu-01",
        source="declared",
        arch="x86_64",
        os=OperatingSystem("ubuntu", "22.04", "Ubuntu 22.04"),
        glibc="2.35",
        systemd=249,
        python=(Python("/usr/bin/python3", "3.10"),),
        memory_gib=1007.0,
        driver=Driver("550.54.15", cuda="12.4"),
        gpus=tuple(
            Gpu(n, "a800-sxm4-80gb", "NVIDIA A800-SXM4-80GB", 81920, compute_capability="8.0")
            for n in range(8)
        ),
        rdma=(RdmaDevice("mlx5_0", netdev="ens1", state="active", rate_gbps=200.0, mtu=9000),),
        disks=(Disk("/opt/sglang", "/opt/sglang", "", 1500.0, 1500.0),),
        toolkit=Toolkit("/usr/local/cuda", "12.4.131"),
    )


def test_two_kinds_of_gpu_count_on() -> None:
    data = {**ROOM, "gpus": [{"model": "a800-sxm4-80gb", "count": 2}, {"model": "gb10"}]}
    gpus = declared(data).gpus
    assert [(gpu.index, gpu.model) for gpu in gpus] == [
        (0, "a800-sxm4-80gb"),
        (1, "a800-sxm4-80gb"),
        (2, "gb10"),
    ]
    assert (gpus[2].memory_mib, gpus[2].unified_memory) == (None, True)


@pytest.mark.parametrize(
    ("system", "glibc", "python", "dgx"),
    [
        ("debian-12", "2.36", "3.11", ""),
        ("dgx-os-7", "2.39", "3.12", "7"),
        ({"id": "ubuntu", "version_id": "24.04"}, "2.39", "3.12", ""),
        ({"id": "ubuntu", "version_id": "24.04", "dgx": "7.5.0"}, "2.39", "3.12", "7.5.0"),
        ({"id": "rhel", "version_id": "9.4"}, "2.34", "3.9", ""),
        ({"id": "kylin", "version_id": "V10"}, "2.28", "3.7", ""),
    ],
)
def test_the_table_fills_what_was_left_away(system: Any, glibc: str, python: str, dgx: str) -> None:
    facts = declared({"arch": "x86_64", "os": system})
    assert (facts.glibc, facts.python[0].version, facts.os.dgx) == (glibc, python, dgx)


@pytest.mark.parametrize("system", ["arch-rolling", {"id": "gentoo", "version_id": "2.17"}])
def test_no_distribution_is_refused_by_name(system: Any) -> None:
    facts = declared({"arch": "aarch64", "os": system, "glibc": "2.40", "python": ["3.12"]})
    assert (facts.glibc, facts.python, facts.systemd) == ("2.40", (Python("", "3.12"),), None)


def test_what_is_said_wins_over_the_table() -> None:
    facts = declared({"arch": "x86_64", "os": "ubuntu-22.04", "python": ["3.11", "3.12.4"], "glibc": "2.36"})
    assert [python.version for python in facts.python] == ["3.11", "3.12.4"]
    assert facts.glibc == "2.36"


BAD = [
    ({"drivers": "550.54.15"}, "declared_hardware.drivers = 550.54.15", "unknown key", "did you mean driver?"),
    ({"arch": "amd64"}, "declared_hardware.arch = amd64", "unknown architecture", "write x86_64 or aarch64"),
    ({"driver": 550.54}, "declared_hardware.driver = 550.54", "is a number, a version is text",
        'write "550.54" in quotes'),
    ({"driver": "latest"}, "declared_hardware.driver = latest", "invalid driver version",
        'write it as nvidia-smi does: "550.54.15"'),
    ({"gpus": {"model": "a800-sxm4-80gb", "count": 0}}, "declared_hardware.gpus.count = 0", "invalid count of GPUs",
        "write a number from 1 to 64"),
    ({"gpus": {"model": "a800-sxm4-80gb", "number": 8}}, "declared_hardware.gpus.number = 8", "unknown key", None),
    ({"gpus": 8}, "declared_hardware.gpus = 8", "is no GPU group", "write {model: a800-sxm4-80gb, count: 8}"),
    ({"gpus": {"model": "cpu"}}, "declared_hardware.gpus.model = cpu", "is no GPU",
        "leave gpus away on a host without GPUs"),
    ({"os": "ubuntu"}, "declared_hardware.os = ubuntu", "names no release", None),
    ({"os": 22.04}, "declared_hardware.os = 22.04", "unknown operating system", None),
    ({"python": [3.10]}, "declared_hardware.python[0] = 3.1", "is no Python version", 'write it in quotes: "3.10"'),
    ({"memory_gib": "1 TB"}, "declared_hardware.memory_gib = 1 TB", "wants a number, has text", "write a number"),
    ({"memory_gib": True}, "declared_hardware.memory_gib = true", "wants a number, has bool", "write a number"),
    ({"rdma": [{"netdev": "ens1"}]}, "declared_hardware.rdma[0].name", "is missing", "say it"),
    ({"rdma": [{"name": "a", "mtu": "big"}]}, "declared_hardware.rdma[0].mtu = big",
        "wants a whole number, has text", "write a whole number"),
    ({"rdma": [{"name": "a", "rate": 200}]}, "declared_hardware.rdma[0].rate = 200", "unknown key", None),
    ({"rdma": "mlx5_0"}, "declared_hardware.rdma = mlx5_0", "wants a list, has text", "write a list"),
    ({"memory_gib": float("nan")}, "declared_hardware.memory_gib = NaN", "wants a number, has float", "write a number"),
    ({"interfaces": [{"addresses": ["10.0.0.1/24"]}]}, "declared_hardware.interfaces[0].name", "names no interface",
        "write name: eth0"),
    ({"interfaces": [{"name": "eth0", "addresses": "10.0.0.1/24"}]},
        "declared_hardware.interfaces[0].addresses = 10.0.0.1/24", "must be a list",
        "write a list such as [192.168.101.11/24]"),
    ({"interfaces": [{"name": "eth0", "addresses": ["10.0.0.1/24", "10.0.1.1/240"]}]},
        "declared_hardware.interfaces[0].addresses[1] = 10.0.1.1/240", "invalid address",
        "write one such as 192.168.101.11/24"),
    ({"disks": [{"path": "/opt/sglang", "free": 3}]}, "declared_hardware.disks[0].free = 3", "unknown key", None),
    ({"glibc": 2.35}, "declared_hardware.glibc = 2.35", "wants text in quotes, has float", "write text in quotes"),
    ({"limits": {"memlock": 1}}, "declared_hardware.limits.memlock = 1", "wants text in quotes, has int",
        "write text in quotes"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "where", "what", "fix"), BAD)
def test_refused(change: dict[str, Any], where: str, what: str, fix: str | None) -> None:
    found = refusals({**ROOM, **change})
    matching = [entry for entry in found if entry[0] == where]
    assert matching, found
    assert matching[0][1] == what
    if fix is not None:
        assert matching[0][2] == fix


def test_unknown_gpu_prints_the_entry_to_add() -> None:
    where, what, fix = refusals({**ROOM, "gpus": {"model": "a900-80gb", "count": 8}})[0]
    assert (where, what) == ("declared_hardware.gpus.model = a900-80gb", "is in no hardware catalogue")
    assert "did you mean a800-sxm4-80gb?" in fix
    entry = yaml.safe_load(fix.partition("yml: ")[2])
    assert (entry["key"], entry["device"]) == ("a900-80gb", "cuda")
    assert set(entry) <= set(Hardware.__dataclass_fields__)


def test_all_problems_at_once() -> None:
    found = refusals(
        {"archh": "x86_64", "gpus": {"model": "no", "count": -1}, "memory_gib": "big", "driver": 1}
    )
    assert [where.split(" = ")[0].removeprefix("declared_hardware.") for where, _what, _fix in found] == [
        "archh",
        "arch",
        "os",
        "gpus.count",
        "gpus.model",
        "driver",
        "memory_gib",
    ]


@pytest.mark.parametrize("data", [None, [], "a800", 8])
def test_not_even_a_mapping(data: Any) -> None:
    assert refusals(data)[0][1] == "must be a mapping"


def test_facts_file_of_another_schema() -> None:
    data = {**declared(ROOM).to_dict(), "schema": 2}
    assert refusals(data) == [
        ("declared_hardware.schema = 2", "is another schema", "gather again: this reads 1")
    ]


def test_facts_file_says_where() -> None:
    data = {**declared(ROOM).to_dict(), "kernal": "6.1"}
    with pytest.raises(RefusedError) as caught:
        HostFacts.from_dict(data, "gpu-01", where="facts/gpu-01.json")
    assert caught.value.refusals[0].where == "facts/gpu-01.json.kernal = 6.1"
    assert caught.value.refusals[0].fix == "did you mean kernel?"


def test_round_trip_of_everything() -> None:
    facts = HostFacts(
        host="a",
        arch="x86_64",
        os=OperatingSystem("debian", "12"),
        systemd=252,
        driver=Driver("580.1"),
        gpus=(Gpu(0, "h200", "NVIDIA H200", 1, processes=(1, 2)),),
        nvlink={"links_per_gpu": 18, "topology": [["X"]]},
        rdma=(RdmaDevice("m", gids=({"index": 3, "gid": "fe80::", "type": "RoCE v2", "address": ""},)),),
        limits={"nofile": "1024"},
        toolkit=Toolkit(cuda_homes=("/usr/local/cuda",)),
        faults=(Fault("gpu-lost", "GPU 3", "what", "fix"),),
    )
    data = facts.to_dict()
    assert data["schema"] == 1
    assert HostFacts.from_dict(json.loads(json.dumps(data))) == facts


def test_models_are_looked_up_later() -> None:
    facts = HostFacts(
        "a", "x86_64", OperatingSystem("debian"), gpus=(Gpu(0, "", "NVIDIA A800-SXM4-80GB", 81920),)
    )
    assert facts.with_models(HARDWARE).gpus[0].model == "a800-sxm4-80gb"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*sorted(ROOM), "python", "glibc", "schema", "limits", "nvlink"]), value=JSON)
def test_any_value_gives_facts_or_refusals(key: str, value: Any) -> None:
    try:
        facts = declared({**ROOM, key: value})
    except RefusedError as refused:
        assert refused.refusals
        assert all(refusal.what and refusal.fix for refusal in refused.refusals)
    else:
        assert facts.host == "gpu-01"


def gathered(**changes: Any) -> HostFacts:
    return HostFacts.from_dict({**declared(ROOM).to_dict(), "source": "gathered", **changes})


def test_same_host_has_no_difference() -> None:
    assert compare(declared(ROOM), gathered(kernel="5.15", cpu_model="Xeon", memory_gib=1006.6)) == []


DIFFERENCES = [
    ({"arch": "aarch64"}, [Difference("arch", "x86_64", "aarch64", True)]),
    ({"driver": {"version": "535.54.03", "cuda": "12.2"}},
        [Difference("driver.version", "550.54.15", "535.54.03", True), Difference("driver.cuda", "12.4", "12.2", True)]),
    ({"driver": None},
        [Difference("driver.version", "550.54.15", "", True), Difference("driver.cuda", "12.4", "", True)]),
    ({"gpus": []}, [Difference("gpus", 8, 0, True)]),
    ({"python": [{"path": "/usr/bin/python3.12", "version": "3.12.3"}]},
        [Difference("python", "3.10", ["3.12"], True)]),
    ({"memory_gib": 503.0}, [Difference("memory_gib", 1007.0, 503.0, True)]),
    ({"rdma": []}, [Difference("rdma.mlx5_0", "mlx5_0", "", True)]),
    ({"disks": []}, [Difference("disks./opt/sglang.free_gib", 1500.0, None, True)]),
    ({"os": {"id": "ubuntu", "version_id": "24.04"}}, [Difference("os.version_id", "22.04", "24.04", False)]),
    ({"systemd": 255}, [Difference("systemd", 249, 255, False)]),
    ({"toolkit": {}}, [
        Difference("toolkit.nvcc", "12.4.131", "", True), Difference("toolkit.cuda_home", "/usr/local/cuda", "", True)]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "differences"), DIFFERENCES)
def test_differences(change: dict[str, Any], differences: list[Difference]) -> None:
    assert compare(declared(ROOM), gathered(**change)) == differences


def test_a_slow_port_and_another_gpu_change_the_plan() -> None:
    data = declared(ROOM).to_dict()
    data["rdma"][0].update(rate_gbps=100.0, mtu=1500)
    data["gpus"][3].update(model="", product="NVIDIA A100-SXM4-80GB")
    found = {
        difference.field: difference for difference in compare(declared(ROOM), HostFacts.from_dict(data))
    }
    assert sorted(found) == ["gpus[3].model", "rdma.mlx5_0.mtu", "rdma.mlx5_0.rate_gbps"]
    assert found["gpus[3].model"].gathered == "NVIDIA A100-SXM4-80GB"
    assert all(difference.changes_plan for difference in found.values())


@pytest.mark.parametrize("key", sorted(TABLE["operating_systems"]))
def test_table_of_operating_systems(key: str) -> None:
    entry = TABLE["operating_systems"][key]
    family = TABLE["families"][entry["family"]]
    assert set(family["packages"]) >= set(family["services"])
    assert {"ssh", "nftables", "chrony", "rdma-core", "haproxy", "prometheus"} <= set(family["packages"])
    assert isinstance(entry["first_class"], bool)
    assert declared({"arch": "x86_64", "os": key}).os.id == entry["id"]
