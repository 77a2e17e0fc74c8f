# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which machine gets which way of starting hosts; only one of them can be the machine under test."""

from __future__ import annotations

import pytest
from lab.machine import CgroupMount, Machine, cgroup_mounts, decide, is_debian_family

V2 = CgroupMount("/sys/fs/cgroup", 2, ("cpu", "memory", "pids"))
V2_EMPTY = CgroupMount("/sys/fs/cgroup/unified", 2, ())
V1 = tuple(CgroupMount(f"/sys/fs/cgroup/{name}", 1, (name,)) for name in ("cpu", "memory", "pids"))
NAMED = CgroupMount("/sys/fs/cgroup/systemd", 1, ("name=systemd",))


@pytest.mark.parametrize(
    ("machine", "starter", "groups", "memory", "cpu"),
    [
        pytest.param(Machine("systemd", (V2,), True), "systemd-run", 0, "unit", "unit", id="Debian 12 as installed"),
        pytest.param(Machine("systemd", (*V1, NAMED), True), "systemd-run", 0, "unit", "unit", id="systemd on v1"),
        pytest.param(Machine("systemd", (V2,), False), "direct", 1, "memory.max", "cpu.max", id="no systemd-run"),
        pytest.param(Machine("init", (V2,), False), "direct", 1, "memory.max", "cpu.max", id="v2 without systemd"),
        pytest.param(
            Machine("init", (*V1, NAMED, V2_EMPTY), False), "direct", 5, "memory.limit_in_bytes", "cpu.cfs_quota_us",
            id="v1 controllers beside an empty v2",
        ),
        pytest.param(
            Machine("docker-init", (V2_EMPTY,), True), "direct", 1, None, None,
            id="systemd-run is there but not in charge; nothing can be limited",
        ),
        pytest.param(Machine("init", (), False), "direct", 0, None, None, id="no control groups"),
    ],
)  # fmt: skip
def test_decide(machine: Machine, starter: str, groups: int, memory: str | None, cpu: str | None) -> None:
    hosting = decide(machine)
    assert (hosting.starter, len(hosting.groups), hosting.memory_limit, hosting.cpu_limit) == (
        starter, groups, memory, cpu,
    )  # fmt: skip


MOUNTINFO = """\
24 30 0:22 / /proc rw,nosuid shared:5 - proc proc rw
33 32 0:29 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
36 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
37 32 0:33 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
"""


def test_mounts_are_read_from_the_kernels_own_table() -> None:
    assert cgroup_mounts(MOUNTINFO, {"/sys/fs/cgroup/unified": "cpu memory\n"}) == (
        CgroupMount("/sys/fs/cgroup/systemd", 1, ("name=systemd",)),
        CgroupMount("/sys/fs/cgroup/cpu,cpuacct", 1, ("cpu",)),
        CgroupMount("/sys/fs/cgroup/unified", 2, ("cpu", "memory")),
    )


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["ID=debian"], True),
        (["NAME=Ubuntu", "ID=ubuntu", "ID_LIKE=debian"], True),
        (['ID="linuxmint"', 'ID_LIKE="ubuntu debian"'], True),
        (["ID=fedora"], False),
        (['ID="rocky"', 'ID_LIKE="rhel centos fedora"'], False),
        ([], False),
    ],
)
def test_debian_family(lines: list[str], answer: bool) -> None:
    assert is_debian_family(lines) is answer
