# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU guest: a kernel of its own, so RDMA over Ethernet and modules are real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conftest import tool


def test_a_guest_has_real_rdma_and_no_way_out(make_lab: Callable[..., Any]) -> None:
    tool("images", "debian-12-rdma", "--kind", "qemu")
    hosts = {
        "q1": {"ansible_host": "10.78.0.11", "lab": {"kind": "qemu", "image": "debian-12-rdma", "mtu": 9000}}
    }
    lab = make_lab("guest", hosts)
    lab.up()
    host = lab.host("q1")
    assert (
        host.ssh("systemctl is-system-running; hostname; cat /sys/class/net/eth0/mtu").stdout
        == "running\nq1\n9000\n"
    )
    host.ssh("rdma link add rxe0 type rxe netdev eth0")
    assert "link rxe0/1 state ACTIVE physical_state LINK_UP netdev eth0" in host.ssh("rdma link").stdout
    assert "PORT_ACTIVE" in host.ssh("ibv_devinfo -d rxe0").stdout
    gids = host.ssh(
        "cat /sys/class/infiniband/rxe0/ports/1/gid_attrs/types/1 /sys/class/infiniband/rxe0/ports/1/gids/1"
    ).stdout
    assert gids == "RoCE v2\n0000:0000:0000:0000:0000:ffff:0a4e:000b\n"
    assert not any(lab.egress()["attempts"].values())
    tool("--name", lab.spec.name, "egress", "--self-check")
    host.ssh("echo mine > /etc/mine; sync")
    lab.reset("q1")
    assert host.ssh("ls /etc/mine", check=False).returncode != 0
