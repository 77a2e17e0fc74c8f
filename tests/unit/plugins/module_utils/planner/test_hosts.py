# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's facts rule out, what they only remark, and that every remark is on the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.compare import compare, with_declared
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import (
    Driver,
    Fault,
    HostFacts,
    Python,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.drivers import driver_advice
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.render import render
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    make_inputs,
    with_refusals,
    without_harmless,
)

FLASH = {"model": "glm-4.7-flash"}


@pytest.mark.parametrize(
    ("switches", "manager", "state", "refused"),
    [
        (0, "absent", "", False),
        (0, "stopped", "N/A", False),
        (4, "stopped", "", True),
        (4, "running", "", False),
        (None, "absent", "", True),
        (None, "absent", "Completed", False),
        (None, "", "", False),
    ],
)
def test_the_machine_says_whether_a_fabric_manager_is_needed(
    world: Any, switches: int | None, manager: str, state: str, refused: bool
) -> None:
    (host,) = world.hosts("h200").values()
    gpus = tuple(replace(gpu, fabric_state=state) for gpu in host.gpus)
    host = replace(host, nvswitches=switches, fabric_manager=manager, gpus=gpus)
    codes = [
        item.code for item in world.plan({host.host: host}, {"it": {**FLASH, "hosts": [host.host]}}).refusals
    ]
    assert ("fabric-manager" in codes) is refused


def test_declared_memory_is_the_users_word(world: Any) -> None:
    gpus = {"model": "h200", "count": 8, "memory_mib": 100_000}
    assert "gpu-memory-small" not in world.codes("h200", host={"gpus": gpus}, **FLASH)


def test_error_correction_takes_no_gpu_away(world: Any) -> None:
    """A GPU with GDDR memory reports a sixteenth less with it."""
    (host,) = world.hosts("h200").values()
    entry = world.catalogues.hardware["h200"].memory_mib
    host = replace(
        host, source="gathered", gpus=tuple(replace(g, memory_mib=entry * 15 // 16) for g in host.gpus)
    )
    assert not world.plan({host.host: host}, {"it": {**FLASH, "hosts": [host.host]}}).refusals


def fault(code: str, *subjects: str) -> tuple[Fault, ...]:
    return tuple(
        Fault(code, subject, "it is slow", f"see `nvidia-smi -q -i {subject[-1]}`") for subject in subjects
    )


def test_eight_gpus_that_say_the_same_are_one_remark(world: Any) -> None:
    faults = fault("gpu-persistence-off", *(f"GPU {number}" for number in range(8)))
    result = world.one("h200", host={"faults": faults}, **FLASH)
    (advice,) = [item for item in result.advice if item.code == "fault-gpu-persistence-off"]
    assert advice.where == "GPU 0, 1, 2, 3, 4, 5, 6, 7"
    assert "-i N" in advice.what


@pytest.mark.parametrize(
    "code",
    [
        "gpu-xid",
        "gpu-slowdown",
        "gpu-persistence-off",
        "gpu-clocks-stuck",
        "gpu-pcie-narrow",
        "nvlink-partial",
    ],
)
def test_every_remark_about_a_host_is_on_the_screen(world: Any, code: str) -> None:
    result = world.one("h200", host={"faults": fault(code, "GPU 3")}, **FLASH)
    (plan,) = result.plans.values()
    assert f"fault-{code}" in [item.code for item in plan.warnings]
    assert "GPU 3: it is slow" in " ".join(render(result).split())


def test_hosts_with_different_remarks_are_not_one_paragraph(world: Any) -> None:
    facts = world.hosts("h200", 3)
    facts["h200-2"] = replace(facts["h200-2"], faults=fault("gpu-xid", "GPU 3"))
    result = world.plan(
        facts, {f"it-{name[-1]}": {**FLASH, "hosts": [name], "port": 30000} for name in facts}
    )
    text = render(result)
    assert text.count("GPU 3: it is slow") == 1
    assert "h200-2  8x" in text


def test_a_lost_network_device_stops_groups_alone(world: Any) -> None:
    lost = {"faults": (Fault("rdma-device-dangling", "mlx5_3", "it has no port", "restart the host"),)}
    assert world.codes("h200", host=lost, **FLASH) == []
    assert "host-fault" in world.codes("h200", 2, host=lost, model="glm-4.7-fp8")


@pytest.mark.parametrize(
    ("version", "today", "said"),
    [
        ("535.183.06", "2026-11-30", True),
        ("570.211.01", "2026-11-30", True),
        ("570.211.01", "2026-02-10", False),
        ("575.57.08", "", True),
        ("580.95.05", "2026-11-30", False),
        ("580.95.05", "2028-07-01", True),
        ("595.84", "2026-11-30", False),
        ("610.47", "2026-11-30", True),
        ("620.12", "2026-11-30", False),
        ("999.1", "2026-11-30", False),
    ],
)
def test_branches_that_get_no_more_fixes(world: Any, version: str, today: str, said: bool) -> None:
    (host,) = world.hosts("h200").values()
    host = replace(host, driver=Driver(version))
    found = driver_advice(world.inputs({}, today=today), host)
    assert bool(found) is said
    assert all("580" in item.what or today > "2028-06" for item in found)
    assert all("620" in item.what for item in found)
    assert driver_advice(world.inputs({}, today=today), replace(host, gpus=())) == []


DECLARED: dict[str, dict[str, Any]] = {
    "a800": {
        "os": "ubuntu-22.04",
        "arch": "x86_64",
        "driver": "550.54.15",
        "gpus": {"model": "a800-sxm4-80gb", "count": 8},
        "fabric_manager": "running",
        "toolkit": {
            "cuda_home": "/usr/local/cuda",
            "nvcc": "12.8",
            "ptxas": "12.8",
            "cxx": "11",
            "ninja": "",
        },
    },
    "h200": {
        "os": "ubuntu-24.04",
        "arch": "x86_64",
        "driver": "580.95.05",
        "gpus": {"model": "h200", "count": 8},
    },
}
TOOLKIT = {"nvcc": "12.8.93", "ptxas": "12.8.93", "cxx": "11.4.0"}


def found_as(facts: HostFacts, **changes: Any) -> HostFacts:
    return replace(facts, source="gathered", **changes)


def refused(world: Any, kind: str, **changes: Any) -> list[str]:
    """Codes for a host that was declared like that and found with the changes."""
    (host,) = world.hosts(kind).values()
    given = {
        "plan_host_facts": found_as(host, **changes).to_dict(),
        "declared_hardware": {
            **DECLARED[kind],
            "interfaces": [{"name": "eth0", "addresses": ["10.0.0.11/24"]}],
        },
    }
    serve = {"it": {"hosts": [host.host], "model": "glm-4.7-int8"}}
    asked = {
        "serve": serve,
        "catalogue_dirs": [],
        "facts_dir": "",
        "runtime_backend": "uv",
        "python_kits": [],
    }
    inputs, refusals = make_inputs(asked, (host.host,), lambda _host, name: given.get(name))
    made = plan_inventory(inputs, serve)
    return [
        item.code for item in with_refusals(made, without_harmless(inputs, serve, made, refusals)).refusals
    ]


@pytest.mark.parametrize(
    ("kind", "changes", "codes"),
    [
        ("h200", {}, []),
        # Only the CUDA level differs: a compatibility package, the driver is the declared one.
        ("a800", {"driver": Driver("550.54.15", cuda="13.0")}, []),
        ("a800", {"driver": Driver("550.163.01", cuda="12.4")}, []),
        ("h200", {"driver": Driver("580.126.09", cuda="13.0", flavour="open")}, []),
        # The same Python at another place, and another patch of it.
        ("h200", {"python": (Python("/opt/python/bin/python3.12", "3.12.11"),)}, []),
        ("h200", {"python": (Python("/usr/bin/python3.12", "3.12.3"), Python("/usr/local/bin/python3.13", "3.13.1"))}, []),
        ("h200", {"kernel": "6.8.0-60-generic", "cpu_threads": 224, "memory_gib": 2015.6}, []),
        ("h200", {"driver": Driver("550.54.15", cuda="12.4")}, ["declared-differs"]),
        ("h200", {"gpus": ()}, None),
    ],
    ids=str,
)  # fmt: skip
def test_what_differs_without_effect_ends_no_run(
    world: Any, kind: str, changes: dict[str, Any], codes: list[str] | None
) -> None:
    found = refused(world, kind, **changes)
    if codes is None:
        assert found
    elif codes:
        assert set(codes) <= set(found)
    else:
        assert found == []


def test_another_place_of_the_toolkit_is_forgiven(world: Any) -> None:
    (host,) = world.hosts("a800").values()
    toolkit = replace(host.toolkit, cuda_home="/usr/local/cuda-12.8", **TOOLKIT)
    assert refused(world, "a800", toolkit=toolkit) == []


def test_what_was_declared_takes_the_place_of_what_differs_alone(world: Any) -> None:
    (declared,) = world.hosts("h200").values()
    gathered = found_as(declared, driver=Driver("550.54.15", cuda="12.4"), kernel="6.8.0", disks=())
    differing = [item.field for item in compare(declared, gathered)]
    merged = with_declared(gathered, declared, differing)
    assert (merged.driver, merged.kernel, merged.source) == (declared.driver, "6.8.0", "gathered")
