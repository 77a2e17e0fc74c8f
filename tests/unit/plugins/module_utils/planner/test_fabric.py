# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network between hosts: devices, addresses, files, variables, gates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts, RdmaDevice
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.files import network_files
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.ports import (
    order,
    twins_of,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.spec import FabricSpec
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.fabric_rows import (
    FIRST,
    SECOND,
    device,
    interface,
    planned,
)

PORTS = [
    {"netdev": "eth1", "address": "10.79.0.11/24", "mtu": 9000},
    {"netdev": "eth2", "address": "10.80.0.11/24", "mtu": None},
]


def bare(host: HostFacts) -> HostFacts:
    """As it comes out of the box: no address, MTU 1500, interfaces down."""
    for name in (FIRST, SECOND):
        host = interface(name, addresses=["fe80::1/64"], mtu=1500, state="down")(host)
    return replace(host, rdma=tuple(replace(item, mtu=1500) for item in host.rdma))


def addresses(number: int) -> list[str]:
    return [f"192.168.{subnet}.{10 + number}/24" for subnet in (101, 102)]


def configured(world: Any, **said: Any) -> Any:
    """Two bare Sparks whose inventory gives addresses."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.spec import (
        parse_fabric_spec,
    )
    from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.fabric_rows import spark

    hosts = {f"spark-{number}": bare(spark(world, f"spark-{number}", number)) for number in (1, 2)}
    specs = {}
    for number, name in enumerate(hosts, 1):
        specs[name], problems = parse_fabric_spec({"fabric_addresses": addresses(number), **said}, name)
        assert problems == []
    serve = {"it": {"hosts": list(hosts), "model": "glm-4.7-flash-fp8"}}
    result = world.plan(hosts, serve, fabric=specs)
    assert not result.refusals, [item.lines() for item in result.refusals]
    return result.plans


def variables(plan: Any) -> dict[str, Any]:
    return {item.name: item for item in plan.instances["it"].environment_variables}


def test_a_healthy_pair_is_planned_without_configuration(world: Any) -> None:
    result = planned(world)
    assert not result.refusals
    fabric = result.plans["spark-1"].fabric
    assert (fabric["ports"], fabric["network"]["files"], fabric["roce"]) == ([], [], {})
    assert [(item["name"], item["address"], item["network"]) for item in fabric["devices"]] == [
        ("rocep1s0f1", "192.168.101.11", "192.168.101.0/24"),
        ("roceP2p1s0f1", "192.168.102.11", "192.168.102.0/24"),
    ]
    assert fabric["devices"][0]["twins"] == ["rocep1s0f1", "roceP2p1s0f1"]
    assert fabric["rendezvous"] == {"netdev": FIRST, "address": "192.168.101.11"}
    assert fabric["members"] == ["spark-1", "spark-2"]


def test_hosts_out_of_the_box_get_addresses_and_the_plan_is_made_on_them(world: Any) -> None:
    plans = configured(world)
    fabric = plans["spark-2"].fabric
    assert [(port["netdev"], port["address"], port["mtu"]) for port in fabric["ports"]] == [
        (FIRST, "192.168.101.12/24", 9000),
        (SECOND, "192.168.102.12/24", 9000),
    ]
    (file,) = fabric["network"]["files"]
    assert (file["path"], file["mode"]) == ("/etc/netplan/60-sglang-fabric.yaml", "0600")
    ethernets = yaml.safe_load(file["content"])["network"]["ethernets"]
    assert ethernets[SECOND]["addresses"] == ["192.168.102.12/24"]
    assert (ethernets[SECOND]["mtu"], ethernets[SECOND]["link-local"]) == (9000, [])
    assert set(ethernets) == {FIRST, SECOND}
    checks = plans["spark-2"].instances["it"].service["checks"]["fabric"]
    assert checks["devices"][0] == {
        "name": "rocep1s0f1",
        "port": 1,
        "netdev": FIRST,
        "address": "192.168.101.12",
        "gid_types": ["RoCE v2"],
        "mtu": 9000,
        "rate_gbps": 200.0,
        "pcie_width": 4,
    }
    assert checks["sockets"] is False


def test_every_variable_of_nccl_has_a_reason_and_no_index_is_pinned(world: Any) -> None:
    found = variables(configured(world, fabric_lossless=True)["spark-1"])
    assert found["NCCL_IB_HCA"].value == "=roceP2p1s0f1,rocep1s0f1"
    values = {name: item.value for name, item in found.items() if name.startswith(("NCCL_", "GLOO_"))}
    assert values == {
        "GLOO_SOCKET_IFNAME": FIRST,
        "NCCL_SOCKET_IFNAME": f"={FIRST}",
        "NCCL_IB_HCA": "=roceP2p1s0f1,rocep1s0f1",
        "NCCL_IB_DISABLE": "0",
        "NCCL_IB_MERGE_NICS": "1",
        "NCCL_IB_SUBNET_AWARE_ROUTING": "1",
        "NCCL_IB_TC": "106",
        "NCCL_NET": "IB",
        "NCCL_NET_GDR_LEVEL": "LOC",
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_SUBSYS": "INIT,NET",
    }
    assert all(len(found[name].why) > 8 for name in values)


def test_a_ring_has_other_settings_and_another_gate(world: Any) -> None:
    plan = configured(world, fabric_ring=True)["spark-1"]
    found = variables(plan)
    assert (found["NCCL_IB_MERGE_NICS"].value, found["NCCL_NET_PLUGIN"].value) == ("0", "none")
    assert "NCCL_IB_SUBNET_AWARE_ROUTING" not in found
    assert plan.fabric["gates"]["collective_gbyte"] == 10


def test_gates_of_a_spark_come_from_the_entry_of_its_card(world: Any) -> None:
    gates = configured(world)["spark-1"].fabric["gates"]
    assert (gates["bandwidth_gbps"], gates["collective_gbyte"]) == (185, 21.875)
    assert [item["moves_gbps"] for item in gates["defects"]] == [[8, 25]]
    assert gates["ports"] == {"meet": 18515, "rdma": 18516, "tcp": 18615, "collective": 18715}
    assert configured(world, fabric_gate_gbps=0.1)["spark-1"].fabric["gates"]["bandwidth_gbps"] == 0.1


def test_the_inventory_may_say_how_long_each_measurement_takes(world: Any) -> None:
    seconds = configured(world, fabric_gate_seconds=2)["spark-1"].fabric["gates"]["seconds"]
    assert (seconds["least"], seconds["most"]) == (2, 2)


def test_slow_hosts_get_more_time_before_a_change_goes_back(world: Any) -> None:
    assert configured(world, fabric_guard_seconds=300)["spark-1"].fabric["guard_seconds"] == 300


def test_other_hardware_is_judged_by_the_rate_of_its_ports(world: Any) -> None:
    rdma = (RdmaDevice("mlx5_0", netdev="eth0", state="active", rate_gbps=100.0, link_layer="Ethernet"),)
    result = world.one("h200", 2, {"rdma": rdma}, model="glm-4.7-fp8")
    assert not result.refusals
    gates = result.plans["h200-1"].fabric["gates"]
    assert (gates["bandwidth_gbps"], gates["defects"], gates["latency_us"]) == (90.0, [], None)


def test_infiniband_needs_no_address(world: Any) -> None:
    """Rails without IPoIB; the ranks meet on the Ethernet that all share."""
    rdma = tuple(
        RdmaDevice(f"mlx5_{number}", state="active", rate_gbps=400.0, link_layer="InfiniBand")
        for number in (0, 1)
    )
    result = world.one("h200", 2, {"rdma": rdma}, model="glm-4.7-fp8")
    assert not result.refusals, [item.lines() for item in result.refusals]
    plan = result.plans["h200-1"]
    assert [item["name"] for item in plan.fabric["devices"]] == ["mlx5_0", "mlx5_1"]
    assert plan.fabric["rendezvous"]["netdev"] == "eth0"
    assert variables(plan)["NCCL_IB_HCA"].value == "=mlx5_0,mlx5_1"
    assert plan.fabric["gates"]["bandwidth_gbps"] == 720.0


def test_lossless_settings_only_where_the_inventory_says_that_the_switch_has_them(world: Any) -> None:
    assert configured(world)["spark-1"].fabric["roce"] == {}
    roce = configured(world, fabric_lossless=True)["spark-1"].fabric["roce"]
    assert (roce["priority"], roce["dscp"], roce["tos"]) == (3, 26, 106)
    assert roce["tos"] == roce["dscp"] * 4 + 2
    port = roce["ports"][0]
    assert (port["name"], port["port"], port["netdev"]) == ("rocep1s0f1", 1, FIRST)
    assert [tool["name"] for tool in port["tools"]] == ["mlnx_qos", "dcb"]
    assert port["files"][-1]["path"] == "/sys/kernel/config/rdma_cm/rocep1s0f1/ports/1/default_roce_tos"


def test_one_host_alone_has_no_fabric(world: Any) -> None:
    plan = world.one("h200", model="glm-4.7-fp8").plans["h200-1"]
    assert plan.fabric == {}
    assert plan.instances["it"].service["checks"]["fabric"] == {}


def test_a_port_that_is_not_connected_is_left_out(world: Any) -> None:
    def with_second_port(host: HostFacts) -> HostFacts:
        idle = replace(
            host.rdma[0],
            name="rocep1s0f0",
            netdev="enp1s0f0np0",
            state="down",
            port_name="p0",
            rate_gbps=40.0,
        )
        return replace(host, rdma=(*host.rdma, idle))

    result = planned(world, with_second_port, of=0)
    assert not result.refusals
    assert len(result.plans["spark-1"].fabric["devices"]) == 2


def test_packages_of_the_gates_are_asked_for(world: Any) -> None:
    assert "perftest" in planned(world).plans["spark-1"].host_settings["packages"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (device("rocep1s0f1", rate_gbps=100.0), "100 Gb/s"),
        (device("roceP2p1s0f1", pcie_width=2), "PCIe x2"),
    ],
)
def test_a_refusal_names_the_device_and_the_figure(world: Any, change: Any, words: str) -> None:
    (refusal,) = planned(world, change, fabric_rate_gbps=200).refusals
    assert refusal.host == "spark-2"
    assert words in refusal.where


def test_both_of_two_problems_are_named(world: Any) -> None:
    def change(host: HostFacts) -> HostFacts:
        return interface(FIRST, mtu=1500)(device("roceP2p1s0f1", pcie_width=2)(host))

    assert {item.code for item in planned(world, change).refusals} == {
        "fabric-pcie-narrow",
        "fabric-mtu-differs",
    }


# --- which share a cable ---


def test_twins_by_what_sysfs_says_by_name_and_by_word(world: Any) -> None:
    plain = (RdmaDevice("rocep1s0f1"), RdmaDevice("roceP2p1s0f1"), RdmaDevice("rocep1s0f0"))
    host = replace(world.host("spark", "a"), rdma=plain)

    def twins(host: HostFacts, **said: Any) -> list[tuple[str, ...]]:
        return twins_of(world.inputs({"a": host}, fabric={"a": FabricSpec(**said)}), host)

    assert twins(host) == [("rocep1s0f1", "roceP2p1s0f1")]
    assert twins(replace(world.host("h200", "a"), rdma=plain)) == []
    assert twins(host, twins=(("a", "b"),)) == [("a", "b")]
    dual = tuple(
        RdmaDevice(
            f"mlx5_{number}", switch_id="99", port_name=f"p{number}", pci_address=f"0000:18:00.{number}"
        )
        for number in (0, 1)
    )
    assert twins(replace(host, rdma=dual)) == []
    assert [item.name for item in sorted(plain, key=order)] == ["rocep1s0f0", "rocep1s0f1", "roceP2p1s0f1"]


# --- as each manager wants it ---


@pytest.mark.parametrize(
    "manager", ["netplan", "netplan-networkmanager", "networkd", "ifupdown", "networkmanager"]
)
def test_every_manager_gets_each_port_once(manager: str) -> None:
    made = network_files(manager, PORTS)
    text = "".join(file["content"] for file in made["files"])
    assert all(text.count(port["address"]) == 1 for port in PORTS)
    assert text.count("9000") == 1
    assert made["apply"]
    assert all(isinstance(word, str) for command in made["apply"] for word in command)
    secret = manager.startswith(("netplan", "networkmanager"))
    assert {file["mode"] for file in made["files"]} == {"0600" if secret else "0644"}


def test_our_file_comes_before_others_where_the_first_one_counts() -> None:
    names = [file["path"].rpartition("/")[2] for file in network_files("networkd", PORTS)["files"]]
    assert names == ["05-sglang-fabric-eth1.network", "05-sglang-fabric-eth2.network"]


def test_an_unknown_manager_writes_nothing() -> None:
    assert network_files("", PORTS)["files"] == []
