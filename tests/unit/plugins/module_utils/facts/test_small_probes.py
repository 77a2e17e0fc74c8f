# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network, system, disks, compilers, links between GPUs, and what of ours is installed."""

from __future__ import annotations

import json
import os
import socket

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts import (
    disks,
    network,
    nvidia_driver,
    system,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import HostIo
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_topology import (
    parse_nvlink,
    parse_topology,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Python
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.toolkit import parse_cxx
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.values import (
    number,
    pci_address,
    same_version,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import (
    FakeHost,
    capture,
    codes,
    run_command,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("10000:01:00.0", "10000:01:00.0"),
        ("3b:00.0", "0000:3b:00.0"),
        ("N/A", ""),
        (None, ""),
    ],
)
def test_pci_address(value: str | None, address: str) -> None:
    assert pci_address(value) == address


@pytest.mark.parametrize(
    ("value", "expected"), [("81920 MiB", 81920), ("16x", 16), ("[N/A]", None), ("-8 C", None)]
)
def test_number(value: str, expected: int | None) -> None:
    assert number(value) == expected


def test_nvml_shortens_versions() -> None:
    assert same_version("590.48.01", "590.48")
    assert not same_version("535.104.05", "535.171.04")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gb10/proc-driver-nvidia-version-580.142.txt", ("580.142", "open")),
        ("gb10/proc-driver-nvidia-version-580.126.09.txt", ("580.126.09", "open")),
        ("nvidia_smi/proc-driver-nvidia-version-580.159.04.txt", ("580.159.04", "open")),
        ("gb10/os-release.txt", ("", "")),
    ],
)
def test_driver_version(name: str, expected: tuple[str, str]) -> None:
    assert nvidia_driver.parse_proc_version(capture(name)) == expected


def test_proprietary_driver() -> None:
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    assert nvidia_driver.parse_proc_version(line) == ("550.54.15", "proprietary")


def test_modinfo() -> None:
    assert nvidia_driver.parse_modinfo(capture("gb10/modinfo-nvidia.txt")) == ("580.142", "open")


def test_topology_of_eight_a800() -> None:
    topology = parse_topology(capture("a800/nvidia-smi-topo-8xA800-580.95.05.txt"))
    assert (len(topology.devices), topology.gpu_links()) == (16, 8)
    assert topology.matrix[0][:3] == ("X", "NV8", "NV8")
    assert topology.matrix[15][8] == "SYS"
    assert dict(topology.nic_names)["NIC7"] == "mlx5_bond_7"
    assert (topology.cpu_affinity[7], topology.numa[0], topology.numa[7]) == ("62-123", "0", "1")


@pytest.mark.parametrize(
    ("name", "devices", "links"),
    [
        ("nvidia_smi/nvidia-smi-topo-4xH200.txt", 4, 18),
        ("nvidia_smi/h200-590.48.01-topo.txt", 1, None),
        ("nvidia_smi/topo-a100-1gpu-5nic.txt", 6, None),
    ],
)
def test_topology(name: str, devices: int, links: int | None) -> None:
    topology = parse_topology(capture(name))
    assert (len(topology.devices), topology.gpu_links()) == (devices, links)


@given(st.integers(0, 2100), st.text(max_size=20))
def test_topology_that_is_cut_off(cut: int, noise: str) -> None:
    topology = parse_topology(capture("a800/nvidia-smi-topo-8xA800-580.95.05.txt")[:cut] + noise)
    assert all(len(row) == len(topology.devices) for row in topology.matrix)


def test_nvlink() -> None:
    links = parse_nvlink(capture("nvidia_smi/h100-sxm-590.48.01-nvlink-s.txt"))
    assert [(link.index, link.active, link.inactive, link.gb_per_second) for link in links] == [
        (0, 18, 0, 26.562)
    ]
    assert parse_nvlink(capture("nvidia_smi/l40s-595.80-nvlink-s.txt"))[0].active == 0


def test_interfaces(host: FakeHost) -> None:
    answer = [
        {
            "ifname": "ens3",
            "mtu": 9000,
            "operstate": "UP",
            "addr_info": [{"local": "10.0.0.5", "prefixlen": 24}],
        }
    ]
    host.printer("/usr/sbin/ip", {"'-j addr'": json.dumps(answer)})
    host.write("/sys/class/net/ens3/speed", "200000\n")
    entry = host.gather().interfaces[0]
    assert entry == {
        "name": "ens3",
        "mtu": 9000,
        "state": "up",
        "addresses": ["10.0.0.5/24"],
        "speed_mbps": 200000,
        "pci_address": "",
    }


@pytest.mark.parametrize("answer", ["", "not json", "{}", "[1]", "[{}]"])
def test_interfaces_from_sysfs(host: FakeHost, answer: str) -> None:
    host.printer("/usr/sbin/ip", {"'-j addr'": answer})
    host.write("/sys/class/net/ens3/mtu", "1500\n")
    host.write("/sys/class/net/ens3/operstate", "up\n")
    assert [(e["name"], e["mtu"], e["state"]) for e in host.gather().interfaces] == [("ens3", 1500, "up")]


def test_ip_addr_text() -> None:
    assert network.parse_ip_text(capture("gb10/ip-addr-link-local.txt")) == [
        {
            "name": "enp1s0f1np1",
            "mtu": 1500,
            "state": "up",
            "addresses": ["169.254.35.62/16", "fe80::200:5eff:fe00:5303/64"],
        }
    ]


def test_taken_ports(host: FakeHost) -> None:
    head = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    )
    host.write(
        "/proc/net/tcp",
        head
        + "   0: 0100007F:7530 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0\n"
        + "   1: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n",
    )
    host.write(
        "/proc/net/tcp6",
        head
        + "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 "
        "00:00000000 00000000     0        0 4713 1 0 100 0\n",
    )
    host.link("/proc/99/fd/3", "socket:[4711]")
    host.write("/proc/99/comm", "python\n")
    assert host.gather().listening == (
        {"port": 22, "address": "::", "process": "", "pid": None},
        {"port": 30000, "address": "127.0.0.1", "process": "python", "pid": 99},
    )


def test_taken_ports_of_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = [entry for entry in network.listening(HostIo(run_command)) if entry["port"] == port]
    assert [(entry["address"], entry["pid"]) for entry in found] == [("127.0.0.1", os.getpid())]


def test_dgx_release_last_update_wins() -> None:
    text = capture("gb10/dgx-release-gx10-after-4-otas.txt")
    assert system.dgx_version(text) == "7.6.0"
    assert system.dgx_version(text.split("DGX_OTA")[0]) == "7.2.3"
    assert system.dgx_version("") == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gb10/lscpu-summary.txt", ("Cortex-X925 + Cortex-A725", 20)),
        ("a800/lscpu-8374C.txt", ("Intel(R) Xeon(R) Platinum 8374C CPU @ 2.70GHz", 124)),
        ("a800/lscpu-8358P.txt", ("Intel(R) Xeon(R) Platinum 8358P CPU @ 2.60GHz", 128)),
    ],
)
def test_lscpu(name: str, expected: tuple[str, int]) -> None:
    assert system.parse_lscpu(capture(name)) == expected


def test_limits_of_a_service_and_of_process_1(host: FakeHost) -> None:
    host.write(
        "/proc/1/limits",
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1073741816           1073741816           files     \n"
        "Max locked memory         8388608              8388608              bytes     \n",
    )
    host.printer(
        "/usr/bin/systemctl",
        {
            "'show --property=Default'*": "DefaultLimitNOFILE=524288\nDefaultLimitNOFILESoft=1024\nDefaultLimitMEMLOCK=infinity\n"
        },
    )
    assert host.gather().limits == {
        "nofile": "524288",
        "nofile_soft": "1024",
        "memlock": "unlimited",
        "memlock_soft": "8388608",
        "pid1_nofile": "1073741816",
        "pid1_nofile_soft": "1073741816",
        "pid1_memlock": "8388608",
        "pid1_memlock_soft": "8388608",
    }


def test_systemd_version(host: FakeHost) -> None:
    host.printer("/usr/bin/systemctl", {"--version": "systemd 252 (252.39-1~deb12u1)\n+PAM\n"})
    assert host.gather().systemd == 252


def test_pythons(host: FakeHost) -> None:
    host.program("/usr/bin/python3.11", "echo Python 3.11.2")
    host.link("/usr/bin/python3", "python3.11")
    host.program("/usr/bin/python3.11-config", "echo never run >&2; exit 1")
    host.program("/usr/local/bin/python3.13", "exit 1")
    host.program("/srv/tools/python3.12", "echo Python 3.12.4")
    host.program("/srv/other/python", "echo Python 3.10.1 >&2")
    facts = host.gather(python_paths=("/srv/tools", "/srv/other/python", "/nowhere"))
    assert facts.python == (
        Python("/usr/bin/python3.11", "3.11.2"),
        Python("/srv/tools/python3.12", "3.12.4"),
        Python("/srv/other/python", "3.10.1"),
    )


def test_glibc_of_this_machine_and_of_a_tree(host: FakeHost) -> None:
    assert HostIo(run_command).libc() == os.confstr("CS_GNU_LIBC_VERSION").split()[1]  # type: ignore[union-attr]
    host.write(
        "/lib/x86_64-linux-gnu/libc.so.6",
        "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n",
    )
    assert host.gather().glibc == "2.36"


MOUNTS = (
    "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
    "40 22 8:2 / /opt rw,noexec - xfs /dev/sdb1 rw\n"
    "41 22 0:3 / /var/lib/with\\040space ro - btrfs /dev/sdc1 rw\n"
    "broken line\n"
)


def test_disks(host: FakeHost) -> None:
    host.write("/proc/self/mountinfo", MOUNTS)
    for path in ("/opt", "/var/lib/with space"):
        (host.root / path.lstrip("/")).mkdir(parents=True)
    host.printer("/usr/sbin/xfs_info", {"/opt": "meta-data=/dev/sdb1 crc=1 reflink=1 bigtime=1\n"})
    facts = host.gather(paths=("/opt/sglang/weights", "/srv/x", "/var/lib/with space/a"))
    assert [(disk.mount, disk.file_system, disk.reflink) for disk in facts.disks] == [
        ("/opt", "xfs", True),
        ("/", "ext4", False),
        ("/var/lib/with space", "btrfs", True),
    ]
    assert all(disk.total_gib >= disk.free_gib > 0 and disk.hard_links for disk in facts.disks)
    assert codes(facts) == {"mount-noexec", "mount-read-only"}


def test_xfs_without_proof_has_no_reflinks(host: FakeHost) -> None:
    host.write("/proc/self/mountinfo", "22 1 8:1 / / rw - xfs /dev/sda1 rw\n")
    assert not host.gather().disks[0].reflink


def test_later_mount_hides_the_earlier() -> None:
    mounts = disks.parse_mounts(MOUNTS + "50 22 0:9 / /opt rw - tmpfs none rw\n")
    assert disks.mount_of("/opt/sglang", mounts).file_system == "tmpfs"
    assert disks.mount_of("/optional", mounts).file_system == "ext4"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright\n", "12.2.0"),
        ("g++ (GCC) 10.3.1\n", "10.3.1"),
        ("clang version 17.0.6 (https://example.com/x 1.2.3)\n", "17.0.6"),
        ("", ""),
    ],
)
def test_cxx(output: str, version: str) -> None:
    assert parse_cxx(output) == version


def test_newest_cuda_home_with_nvcc(host: FakeHost) -> None:
    for name in ("cuda-12.4", "cuda-12.10"):
        host.printer(f"/usr/local/{name}/bin/nvcc", {"--version": capture("gb10/nvcc-version.txt")})
    (host.root / "usr/local/cuda-13.0").mkdir()
    found = host.gather().toolkit
    assert found.cuda_home == "/usr/local/cuda-12.10"
    assert found.cuda_homes == ("/usr/local/cuda-13.0", "/usr/local/cuda-12.10", "/usr/local/cuda-12.4")


def test_installed(host: FakeHost) -> None:
    for path in ("envs/abc", "envs/.part", "weights/glm/main", "releases/r1", "releases/r2"):
        (host.root / "opt/sglang" / path).mkdir(parents=True)
    host.link("/opt/sglang/current", "releases/r2")
    host.write(
        "/etc/systemd/system/sglang-glm-4.7.service", "[Service]\nExecStart=/opt/sglang/releases/r2/launch\n"
    )
    host.write("/etc/systemd/system/other.service", "")
    host.printer(
        "/usr/bin/systemctl",
        {"'show sglang-glm-4.7.service'*": "ActiveState=active\nSubState=running\nResult=success\n"},
    )
    host.write("/proc/net/tcp", "h\n 0: 00000000:7530 0:0 0A 0 0 0 0 0 7 1\n")
    host.link("/proc/50/fd/4", "socket:[7]")
    host.write("/proc/50/cgroup", "0::/system.slice/sglang-glm-4.7.service\n")
    assert host.gather().installed == {
        "environments": ["abc"],
        "weights": ["glm/main"],
        "releases": ["r1", "r2"],
        "current": "r2",
        "instances": [
            {
                "name": "glm-4.7",
                "unit": "sglang-glm-4.7.service",
                "state": "active",
                "sub_state": "running",
                "result": "success",
                "port": 30000,
                "ports": [30000],
                "release": "r2",
            }
        ],
    }


def test_read_of_the_real_proc_and_of_nothing() -> None:
    io = HostIo(run_command)
    assert io.line("/proc/sys/kernel/osrelease") == os.uname().release
    assert io.read("/proc/self/mem") == ""
    assert (io.read("/no/such"), io.names("/no/such"), io.link("/proc"), io.space("/no/such")) == (
        "",
        [],
        "",
        None,
    )
    assert io.run(["no-such-program-at-all"]).missing


@pytest.mark.parametrize(
    ("total", "free", "command_line", "found"),
    [
        (0, 9_800_000, "quiet", True),
        (32_768, 9_750_000, "quiet splash", True),
        (0, 9_800_000, "quiet kho=off", False),
        (0, 9_800_000, "akho=off", True),
        (0, 0, "quiet", False),
        (131_072, 100_000, "quiet", False),
    ],
)
def test_memory_that_kexec_handover_reserved(
    host: FakeHost, total: int, free: int, command_line: str, found: bool
) -> None:
    host.write("/proc/meminfo", f"MemTotal: 127535084 kB\nCmaTotal: {total} kB\nCmaFree: {free} kB\n")
    host.write("/proc/cmdline", f"BOOT_IMAGE=/vmlinuz {command_line}\n")
    faults = host.gather().faults
    assert [fault.code for fault in faults] == (["kho-reservation"] if found else [])
    assert all("kho=off" in fault.fix and "6.1.0-18" in fault.what for fault in faults)
