# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NCCL says of its transport."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.nccl_log import problems, read
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import capture

TWINS = ["rocep1s0f1", "roceP2p1s0f1"]
IB = "spark-1:41:41 [0] NCCL INFO NET/IB : Using [0]rocep1s0f1:1/RoCE [1]roceP2p1s0f1:1/RoCE [RO]; OOB enp1s0f1np1:10.0.1.1<0>"
MERGED = "spark-1:41:41 [0] NCCL INFO NET/IB : Using [0]rocep1s0f1+roceP2p1s0f1:1/RoCE [RO]; OOB enp1s0f1np1:10.0.1.1<0>"
SOCKET = "spark-1:41:41 [0] NCCL INFO NET/Socket : Using [0]enP7s7:192.168.100.11<0>"
USING_IB = "spark-1:41:41 [0] NCCL INFO Using network IB"
USING_SOCKET = "spark-1:41:41 [0] NCCL INFO Using network Socket"
VIA_SOCKET = "spark-1:41:99 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/Socket/0"
VIA_IB = "spark-1:41:99 [0] NCCL INFO Channel 00/0 : 1[0] -> 0[0] [receive] via NET/IB/0"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([IB, USING_IB, VIA_IB], ""),
        ([MERGED, USING_IB], ""),
        ([IB, USING_SOCKET], "NET/Socket"),
        ([SOCKET, USING_SOCKET], "NET/Socket"),
        ([IB, USING_IB, VIA_SOCKET], "NET/Socket"),
        (["Load weight begin."], "NCCL says nothing of its transport"),
        ([IB.replace(" [1]roceP2p1s0f1:1/RoCE", ""), USING_IB], "not roceP2p1s0f1"),
    ],
)
def test_the_log_proves_or_it_does_not(lines: list[str], words: str) -> None:
    found = problems(read(lines), TWINS, sockets=False)
    assert bool(found) == bool(words)
    assert words in "".join(found)


def test_a_real_log_of_two_gpus_that_had_sockets_only() -> None:
    found = read(capture("logs/nccl-2.28.9-2xh200-sockets.txt").splitlines())
    assert (found.networks, found.devices) == (("Socket",), ())
    assert "NET/Socket" in problems(found, TWINS, sockets=False)[0]


def test_sockets_that_the_inventory_allows() -> None:
    assert problems(read([USING_SOCKET]), TWINS, sockets=True) == []
    assert problems(read([]), TWINS, sockets=True) != []


def test_nothing_is_asked_where_no_rdma_is_planned() -> None:
    assert problems(read([]), [], sockets=False) == []
