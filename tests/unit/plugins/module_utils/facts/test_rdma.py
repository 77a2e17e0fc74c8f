# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA devices: sysfs, then what other tools say."""

from __future__ import annotations

import json

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.rdma import mapped_ipv4, rate_gbps
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.rdma_text import (
    parse_ibdev2netdev,
    parse_rdma_link,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FakeHost, capture
from hypothesis import given
from hypothesis import strategies as st


def test_nine_devices_of_an_h100_host(host: FakeHost) -> None:
    for line in capture("nvidia_smi/sysfs-infiniband-h100-9hca-of-12.txt").splitlines():
        path, _unused, value = line.partition(": ")
        host.write(path, value + "\n")
    devices = {device.name: device for device in host.gather().rdma}
    assert len(devices) == 9
    assert (devices["mlx5_0"].link_layer, devices["mlx5_0"].rate_gbps) == ("InfiniBand", 400.0)
    assert (devices["mlx5_bond_0"].link_layer, devices["mlx5_bond_0"].firmware) == ("Ethernet", "32.38.3056")


@pytest.mark.parametrize("form", ["json", "text", "ibdev2netdev"])
def test_netdev_of_soft_roce_comes_from_a_second_source(host: FakeHost, form: str) -> None:
    host.write("/sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n")
    host.write("/sys/class/net/ens3/mtu", "9000\n")
    text = "link rxe0/1 state ACTIVE physical_state LINK_UP netdev ens3\n"
    if form == "ibdev2netdev":
        host.printer("/usr/bin/ibdev2netdev", {"''": "rxe0 port 1 ==> ens3 (Up)\n"})
    else:
        answer = json.dumps([{"ifname": "rxe0", "port": 1, "netdev": "ens3"}]) if form == "json" else text
        host.printer("/usr/bin/rdma", {"'-j link'": answer})
    device = host.gather().rdma[0]
    assert (device.name, device.netdev, device.mtu, device.state) == ("rxe0", "ens3", 9000, "active")


def test_empty_gids_are_left_out(host: FakeHost) -> None:
    port = "/sys/class/infiniband/mlx5_0/ports/1"
    for index, gid in enumerate(["0000:0000:0000:0000:0000:0000:0000:0000", "fe80:0000:0000:0000:0000:0000:0000:0000",
                                 "0000:0000:0000:0000:0000:ffff:c0a8:640d"]):  # fmt: skip
        host.write(f"{port}/gids/{index}", gid + "\n")
        host.write(f"{port}/gid_attrs/types/{index}", "RoCE v2\n")
        host.write(f"{port}/gid_attrs/ndevs/{index}", "bond0\n")
    device = host.gather().rdma[0]
    assert [(gid["index"], gid["address"], gid["netdev"]) for gid in device.gids] == [
        (2, "192.168.100.13", "bond0")
    ]
    assert device.netdev == "bond0"


@pytest.mark.parametrize(
    ("gid", "address"),
    [
        ("0000:0000:0000:0000:0000:ffff:0a64:b801", "10.100.184.1"),
        ("fe80:0000:0000:0000:0200:5eff:fe00:5303", ""),
        ("nonsense", ""),
    ],
)
def test_mapped_ipv4(gid: str, address: str) -> None:
    assert mapped_ipv4(gid) == address


@pytest.mark.parametrize(
    ("text", "rate"), [("200 Gb/sec (2X NDR)", 200.0), ("2.5 Gb/sec (1X SDR)", 2.5), ("", None)]
)
def test_rate(text: str, rate: float | None) -> None:
    assert rate_gbps(text) == rate


def test_ibdev2netdev() -> None:
    rows = parse_ibdev2netdev(capture("gb10/ibdev2netdev-one-cable-port1.txt"))
    assert rows[1] == {"device": "roceP2p1s0f1", "port": "1", "netdev": "enP2p1s0f1np1", "state": "Up"}
    assert [row["state"] for row in rows] == ["Down", "Up", "Down", "Up"]


def test_rdma_link_text() -> None:
    rows = parse_rdma_link(capture("gb10/rdma-link-all-active.txt"))
    assert len(rows) == 4
    assert rows[0] == {
        "ifname": "rocep1s0f0",
        "port": 1,
        "state": "ACTIVE",
        "physical_state": "LINK_UP",
        "netdev": "enp1s0f0np0",
    }


@given(st.text(max_size=200), st.integers(0, 1500))
def test_no_text_is_too_odd(text: str, cut: int) -> None:
    for parse in (parse_ibdev2netdev, parse_rdma_link):
        assert isinstance(parse(text), list)
        for name in ("ibdev2netdev-one-cable-port1", "rdma-link-all-active"):
            assert isinstance(parse(capture(f"gb10/{name}.txt")[:cut] + text), list)


def port(host: FakeHost, device: str, state: str, physical: str, layer: str = "InfiniBand") -> None:
    place = f"/sys/class/infiniband/{device}/ports/1"
    for name, text in (("state", state), ("phys_state", physical), ("link_layer", layer)):
        host.write(f"{place}/{name}", text + "\n")


@pytest.mark.parametrize(
    ("physical", "layer", "other", "code"),
    [
        ("2: Polling", "InfiniBand", "5: LinkUp", "rdma-port-polling"),
        ("3: Disabled", "InfiniBand", "5: LinkUp", "rdma-port-disabled"),
        ("2: Polling", "Ethernet", "5: LinkUp", "rdma-port-polling"),
        ("3: Disabled", "Ethernet", "5: LinkUp", ""),
        ("3: Disabled", "Ethernet", "3: Disabled", "rdma-port-disabled"),
        ("5: LinkUp", "InfiniBand", "5: LinkUp", ""),
    ],
)
def test_ports_without_a_link_say_why(
    host: FakeHost, physical: str, layer: str, other: str, code: str
) -> None:
    port(host, "mlx5_0", "4: ACTIVE" if physical == "5: LinkUp" else "1: DOWN", physical, layer)
    port(host, "mlx5_1", "4: ACTIVE" if other == "5: LinkUp" else "1: DOWN", other, layer)
    facts = host.gather()
    assert {fault.code for fault in facts.faults} == {code} - {""}
    assert facts.rdma[0].phys_state == physical.partition(": ")[2].lower()
    assert all(fault.fix for fault in facts.faults)


def test_dangling_devices(host: FakeHost) -> None:
    host.link("/sys/class/infiniband/mlx5_0", "../../devices/gone")
    port(host, "mlx5_1", "4: ACTIVE", "5: LinkUp")
    host.link("/sys/class/infiniband/mlx5_1/device", "../../../bus/pci/devices/0000:9a:00.0")
    faults = host.gather().faults
    assert [(fault.code, fault.subject) for fault in faults] == [
        ("rdma-device-dangling", "mlx5_0"),
        ("rdma-device-dangling", "mlx5_1"),
    ]


def test_text_does_not_run_over_the_end_of_its_line() -> None:
    assert parse_ibdev2netdev("mlx5_0 port 1 ==>\neth0 (Up)\n") == []
