# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links between GPUs and to NICs: full, in pairs, unknown; old and new forms, with tabs and as they are pasted."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_topology import (
    nvlink_facts,
    parse_nvlink,
    parse_topology,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import capture

A800 = capture("a800/nvidia-smi-topo-8xA800-580.95.05.txt")
PAIRS = """\tGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\t X \tNV12\tSYS\tSYS\t0-31\t0\t\tN/A
GPU1\tNV12\t X \tSYS\tSYS\t0-31\t0\t\tN/A
GPU2\tSYS\tSYS\t X \tNV12\t32-63\t1\t\tN/A
GPU3\tSYS\tSYS\tNV12\t X \t32-63\t1\t\tN/A
"""
OLD = """        GPU0    GPU1    mlx5_0  mlx5_1  mlx5_bond_2     CPU Affinity
GPU0     X      NV6     PIX     SYS     NODE    0-23,48-71
GPU1    NV6      X      SYS     PXB     NODE    24-47
mlx5_0  PIX     SYS      X      SYS     SYS
mlx5_1  SYS     PXB     SYS      X      SYS
mlx5_bond_2     NODE    NODE    SYS     SYS      X
"""


def facts(text: str, gpus: int) -> dict[str, object]:
    return nvlink_facts(parse_topology(text), [], gpus)


def test_full() -> None:
    found = facts(A800, 8)
    assert (found["links_per_gpu"], found["full"], "islands" in found) == (8, True, False)


def test_pairs_are_not_full() -> None:
    found = facts(PAIRS, 4)
    assert (found["links_per_gpu"], found["full"], found["islands"]) == (12, False, [[0, 1], [2, 3]])


def test_no_link_at_all_is_known_from_a_whole_matrix() -> None:
    found = facts(PAIRS.replace("NV12", "NODE"), 4)
    assert (found["links_per_gpu"], found["full"]) == (0, False)


@pytest.mark.parametrize("lines", range(6))
def test_links_of_a_cut_matrix_are_unknown(lines: int) -> None:
    text = "\n".join(PAIRS.replace("NV12", "SYS").splitlines()[:lines]) + "\n"
    found = facts(text, 4)
    assert ("links_per_gpu" in found) == (lines == 5)


def test_fewer_gpus_than_are_listed_is_cut() -> None:
    assert "links_per_gpu" not in facts(PAIRS.replace("NV12", "SYS"), 8)


@pytest.mark.parametrize("text", [OLD, A800.replace("\t", "    ")], ids=["old", "pasted"])
def test_forms_without_tabs(text: str) -> None:
    topology = parse_topology(text)
    assert topology.whole
    assert topology.full()


def test_gpu_and_nic_in_the_old_form() -> None:
    found = facts(OLD, 2)
    assert found["nics"] == {name: name for name in ("mlx5_0", "mlx5_1", "mlx5_bond_2")}


def test_a_matrix_that_is_not_its_own_mirror_is_damaged() -> None:
    assert not parse_topology(PAIRS.replace("NV12\tSYS\tSYS\t0-31", "SYS\tSYS\tSYS\t0-31", 1)).whole


def test_a_gpu_whose_links_are_cut_off_is_not_counted() -> None:
    one = capture("nvidia_smi/h200-590.48.01-nvlink-s.txt")
    cut = one + "\n".join(one.replace("GPU 0:", "GPU 1:").splitlines()[:8])
    assert [(link.index, link.active) for link in parse_nvlink(cut)] == [(0, 18)]
