# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Debian 12 hosts, booted once: what they are, and what each command does to them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import CONNECTION, REPOSITORY, lab_name, tool, write_inventory

ANSIBLE = str(Path(sys.executable).parent / "ansible")
ELSEWHERE = "192.0.2.1"


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bound")
    (directory / "here").write_text("bound\n")
    (directory / "opt/tool").mkdir(parents=True)
    (directory / "opt/tool/file").write_text("layer\n")
    return directory


@pytest.fixture(scope="module")
def inventory(images: None, bound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    described = {
        "binds": [{"source": str(bound), "target": "/mnt/bundle", "read_only": True}],
        "layers": [str(bound)], "memory": "1G", "cpus": 1.5, "mtu": 9000, "nics": 2,
    }  # fmt: skip
    hosts = {
        "h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn"}},
        "h2": {"ansible_host": "10.77.0.12", "lab": {"kind": "nspawn"} | described},
    }
    return write_inventory(tmp_path_factory.mktemp("inventory"), lab_name("pair"), hosts)


@pytest.fixture(scope="module")
def pair(inventory: Path) -> Iterator[Any]:
    from lab import Lab

    lab = Lab.from_inventory(inventory)
    started = time.monotonic()
    lab.up()
    lab.booted_in = time.monotonic() - started
    yield lab
    lab.down()


def python(lab: Any, host: str, code: str) -> subprocess.CompletedProcess[str]:
    return lab.host(host).ssh("python3 -", text_input=code, check=False)


def ansible(
    inventory: Path, *words: str, prefix: tuple[str | Path, ...] = (), cwd: str = "/"
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    command = [*prefix, ANSIBLE, "-i", inventory, *words]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def test_both_run_systemd_without_a_failed_unit(pair: Any) -> None:
    assert pair.booted_in < 60
    for host in pair.hosts.values():
        assert host.ssh("systemctl is-system-running").stdout == "running\n"
        assert host.ssh("hostname").stdout == f"{host.name}\n"
        assert host.ssh("cat /proc/1/comm").stdout == "systemd\n"


@pytest.mark.long
def test_up_again_does_nothing(pair: Any) -> None:
    before = [(host.boots, host.leader) for host in pair.hosts.values()]
    pair.up()
    assert [(host.boots, host.leader) for host in pair.hosts.values()] == before


def test_hosts_are_as_described(pair: Any) -> None:
    host = pair.host("h2")
    assert host.ssh("cat /mnt/bundle/here /opt/tool/file").stdout == "bound\nlayer\n"
    assert host.ssh("touch /mnt/bundle/new", check=False).returncode != 0
    assert host.ssh("touch /opt/tool/new && ls /opt/tool").stdout == "file\nnew\n"
    assert host.ssh("cat /sys/class/net/eth0/mtu; ls /sys/class/net").stdout.split() == [
        "9000",
        "eth0",
        "eth1",
        "lo",
    ]
    assert "10.77.1.12/24" in host.ssh("ip -4 -o addr show eth1").stdout


def test_memory_is_bounded(pair: Any) -> None:
    """Each page is written to, so a bound that is not in force lets this end well."""
    greedy = (
        "data = bytearray(1600 * 1024**2)\nfor at in range(0, len(data), 4096): data[at] = 1\nprint('got it')"
    )
    assert "got it" in python(pair, "h1", greedy.replace("1600", "16")).stdout
    assert "got it" not in python(pair, "h2", greedy).stdout
    assert pair.host("h2").ssh("true").returncode == 0


def test_a_hardened_service_a_firewall_and_sysctl_work_as_on_a_real_host(pair: Any) -> None:
    host = pair.host("h1")
    sandbox = "ProtectSystem=strict PrivateTmp=yes ProtectHome=yes NoNewPrivileges=yes DynamicUser=yes PrivateDevices=yes"
    options = " ".join(f"-p {setting}" for setting in sandbox.split())
    done = host.ssh(
        f"systemd-run --wait --pipe --quiet {options} sh -c 'touch /tmp/mine; touch /usr/no || echo protected'"
    )
    assert done.stdout == "protected\n"
    assert host.ssh("test -e /tmp/mine", check=False).returncode != 0
    host.ssh(
        "nft add table inet probe && nft add chain inet probe in '{ type filter hook input priority 0; }' && nft delete table inet probe"
    )
    assert host.ssh("sysctl -n -w net.ipv4.tcp_mtu_probing=1").stdout == "1\n"


def test_they_reach_each_other_by_name(pair: Any) -> None:
    assert (
        python(pair, "h1", "import socket; print(socket.create_connection(('h2', 22), 3).recv(4))").stdout
        == "b'SSH-'\n"
    )
    assert pair.host("h2").ssh("ping -c 1 -W 2 h1").returncode == 0


def test_ansible_reaches_them_from_outside_and_inside(pair: Any, inventory: Path) -> None:
    outside = ansible(inventory, "all", "-m", "ansible.builtin.ping")
    assert outside.stdout.count('"pong"') == 2, outside.stdout
    prefix = (REPOSITORY / "tools/lab", "--name", pair.spec.name, "exec", "--")
    inside = ansible(inventory, "all", "-m", "ansible.builtin.ping", prefix=prefix)
    assert inside.stdout.count('"pong"') == 2, inside.stdout


@pytest.mark.long
def test_a_changed_host_key_is_refused(pair: Any, inventory: Path, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    lines = pair.paths.known_hosts.read_text().splitlines()
    known.write_text(lines[0].split()[0] + " " + lines[1].split(" ", 1)[1] + "\n")
    arguments = CONNECTION["ansible_ssh_common_args"].replace("{{ lab_state }}/state/known_hosts", str(known))
    done = ansible(
        inventory,
        "h1",
        "-m",
        "ansible.builtin.ping",
        "-e",
        f'{{"ansible_ssh_common_args": "{arguments.replace(chr(34), chr(92) + chr(34))}", "ansible_control_path": "{tmp_path}/c"}}',
    )
    assert "Host key verification failed" in done.stdout


def test_nothing_left_while_ansible_worked(pair: Any, inventory: Path) -> None:
    pair.mark_egress()
    assert ansible(inventory, "all", "-m", "ansible.builtin.setup").returncode == 0
    left = tool("--name", pair.spec.name, "egress", "--expect-none", check=False)
    assert left.returncode == 0, left.stdout
    assert left.stdout.endswith("Nothing tried to leave.\n")


@pytest.mark.parametrize(
    ("attempt", "seen"),
    [
        (f"socket.create_connection(('{ELSEWHERE}', 443), 1)", ""),
        (f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{ELSEWHERE}', 53))", ""),
        ("socket.create_connection(('2001:db8::1', 443), 1)", ""),
        ("socket.getaddrinfo('example.com', 443)", "10.77.0.11 asked for a name (DNS)"),
    ],
)
def test_an_attempt_fails_and_is_counted(pair: Any, attempt: str, seen: str) -> None:
    pair.mark_egress()
    assert python(pair, "h1", f"import socket; {attempt}").returncode != 0
    left = pair.egress()
    assert seen in left["tried"] if seen else left["attempts"]["h1"] >= 1
    assert left["attempts"]["h2"] == 0
    assert tool("--name", pair.spec.name, "egress", "--expect-none", check=False).returncode == 1


@pytest.mark.long
def test_a_route_that_a_host_made_up_leads_nowhere_and_is_seen(pair: Any) -> None:
    host = pair.host("h1")
    pair.mark_egress()
    host.ssh("ip route add default via 10.77.0.1")
    try:
        assert (
            python(pair, "h1", f"import socket; socket.create_connection(('{ELSEWHERE}', 443), 2)").returncode
            != 0
        )
    finally:
        host.ssh("ip route delete default")
    left = pair.egress()
    assert left["frames"] >= 1
    assert left["tried"][f"10.77.0.11 -> {ELSEWHERE} tcp port 443"] >= 1


@pytest.mark.long
def test_the_controller_inside_the_lab_cannot_leave_either(pair: Any) -> None:
    pair.mark_egress()
    code = f"import socket; socket.create_connection(('{ELSEWHERE}', 443), 2)"
    done = tool("--name", pair.spec.name, "exec", "--", sys.executable, "-c", code, check=False)
    assert "Network is unreachable" in done.stderr
    assert pair.egress()["attempts"]["controller"] >= 1


@pytest.mark.long
def test_the_self_check_leaves_the_counts_as_they_were(pair: Any) -> None:
    before = pair.egress()
    tool("--name", pair.spec.name, "egress", "--self-check")
    after = pair.egress()
    assert (after["frames"], after["attempts"]) == (before["frames"], before["attempts"])


def test_reset_to_fresh(pair: Any) -> None:
    host = pair.host("h1")
    host.ssh("echo mine > /etc/mine; rm /etc/debian_version; apt-mark hold python3")
    key = host.ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout
    pair.reset("h1")
    assert host.ssh("test -e /etc/mine", check=False).returncode != 0
    assert host.ssh("test -s /etc/debian_version && apt-mark showhold").stdout == ""
    assert host.ssh("cat /etc/ssh/ssh_host_ed25519_key.pub").stdout == key


@pytest.mark.long
def test_snapshots_stack_and_are_returned_to(pair: Any) -> None:
    host = pair.host("h1")
    host.ssh("mkdir -p /srv/a && echo one > /srv/a/file")
    pair.snapshot("h1", "one")
    # A directory of a frozen layer is renamed, as releases are on hosts.
    host.ssh("mv /srv/a /srv/b && echo two > /srv/b/file")
    pair.snapshot("h1", "two")
    host.ssh("rm -r /srv/b")
    pair.reset("h1", "two")
    assert host.ssh("ls /srv; cat /srv/b/file").stdout == "b\ntwo\n"
    pair.reset("h1", "one")
    assert host.ssh("ls /srv; cat /srv/a/file").stdout == "a\none\n"
    assert host.status()["snapshots"] == ["one", "two"]
    pair.reset("h1")
    assert host.ssh("ls /srv").stdout == ""
    refused = tool("--name", pair.spec.name, "reset", "h1", "three", check=False)
    assert "h1 has no snapshot 'three'; there are: fresh, one, two" in refused.stderr


@pytest.mark.long
def test_cut_and_join(pair: Any) -> None:
    ping = "ping -c 1 -W 1 h1"
    pair.host("h1").cut()
    assert pair.host("h2").ssh(ping, check=False).returncode != 0
    pair.host("h1").join()
    deadline = time.monotonic() + 300
    while pair.host("h2").ssh(ping, check=False).returncode != 0:
        assert time.monotonic() < deadline, "h2 does not reach h1 again"
    assert pair.host("h1").ssh("true").returncode == 0


@pytest.mark.long
def test_pulling_the_plug_keeps_the_disk(pair: Any) -> None:
    host = pair.host("h1")
    host.ssh("echo kept > /var/kept; touch /run/gone; systemd-run --unit=sleeper sleep 1000")
    leader = host.leader
    host.power_off()
    assert not host.running
    assert not Path(f"/proc/{leader}/exe").exists()
    assert (pair.paths.host("h1").root / "var/kept").read_text() == "kept\n"
    pair.power_on("h1")
    assert host.ssh("cat /var/kept; ls /run/gone", check=False).stdout == "kept\n"
    assert host.ssh("systemctl is-active sleeper", check=False).stdout == "inactive\n"


def test_reboot_goes_through_systemd(pair: Any) -> None:
    host = pair.host("h2")
    service = "Type=oneshot\\nRemainAfterExit=yes\\nExecStart=true\\nExecStop=touch /var/stopped"
    unit = f"[Service]\\n{service}\\n[Install]\\nWantedBy=multi-user.target"
    host.ssh(
        f"printf '{unit}' > /etc/systemd/system/w.service; systemctl enable --now w; ip link set eth0 mtu 1400"
    )
    boots, leader = host.boots, host.leader
    host.reboot()
    assert (host.boots, host.leader == leader) == (boots + 1, False)
    assert host.ssh("ls /var/stopped; cat /sys/class/net/eth0/mtu").stdout == "/var/stopped\n9000\n"


@pytest.mark.long
def test_a_reboot_asked_for_by_the_host_itself_keeps_its_count_of_attempts(pair: Any) -> None:
    pair.mark_egress()
    python(pair, "h1", f"import socket; socket.create_connection(('{ELSEWHERE}', 443), 1)")
    pair.host("h1").reboot()
    assert pair.egress()["attempts"]["h1"] >= 1
