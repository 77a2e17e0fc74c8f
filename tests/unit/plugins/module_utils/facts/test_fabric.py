# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks after the network, and what is left for NCCL to read."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.fabric import (
    default_interfaces,
    parse_nccl_conf,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FakeHost

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
enP7s7	00000000	0100A8C0	0003	0	0	100	00000000	0	0	0
enp1s0f1np1	0065A8C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""


@pytest.mark.parametrize(
    ("states", "netplan", "manager"),
    [
        ("inactive active inactive", "", "networkd"),
        ("active active active", "", "networkmanager"),
        ("inactive inactive active", "", "ifupdown"),
        ("inactive inactive inactive", "", ""),
        ("inactive active inactive", "network: {version: 2}", "netplan"),
        ("active active inactive", "network:\n  renderer: NetworkManager\n", "netplan-networkmanager"),
    ],
)
def test_network_manager(host: FakeHost, states: str, netplan: str, manager: str) -> None:
    asked = "'is-active NetworkManager.service systemd-networkd.service networking.service'"
    host.printer("/usr/bin/systemctl", {asked: "\n".join(states.split()) + "\n"})
    if netplan:
        host.program("/usr/sbin/netplan", "true")
        host.write("/etc/netplan/01-network.yaml", netplan)
    assert host.gather().fabric["manager"] == manager


def test_interfaces_of_the_default_routes() -> None:
    assert default_interfaces(ROUTES) == ["enP7s7"]
    assert default_interfaces("") == []


def test_leftovers_of_an_image() -> None:
    text = "# made by an image\nNCCL_IB_USE_INLINE=1\n NCCL_IB_GID_INDEX = 3 \nnonsense\n"
    assert parse_nccl_conf(text) == {"NCCL_IB_USE_INLINE": "1", "NCCL_IB_GID_INDEX": "3"}
