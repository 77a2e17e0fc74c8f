# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs as a whole: side by side, interrupted at any moment, taken away without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import TOOL, lab_name, tool, write_inventory

ONE = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn"}}}


def traces(name: str) -> list[str]:
    """Whatever on this machine carries a lab's name; read from the kernel, not from the lab."""
    found = [
        f"mount {line.split()[4]}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if name in line
    ]
    for directory in (
        "/run/netns",
        "/run/systemd/nspawn/propagate",
        "/run/systemd/nspawn/unix-export",
        "/run/baremetal-sglang-lab",
        os.environ["BAREMETAL_LAB_DIR"],
    ):
        found += [str(path) for path in Path(directory).glob(f"*{name}*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/*{name}*")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if name in command and int(path.parent.name) != os.getpid():
            found.append(f"process {path.parent.name} {command}")
    return found


@pytest.mark.long
def test_down_needs_nothing_but_the_name(images: None, tmp_path: Path) -> None:
    """What a host was booted with may be gone by then."""
    layer = tmp_path / "layer"
    layer.mkdir()
    name = lab_name("gone")
    hosts = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn", "layers": [str(layer)]}}}
    inventory = write_inventory(tmp_path, name, hosts)
    tool("-i", inventory, "up")
    layer.rmdir()
    tool("-i", inventory, "down")
    assert traces(name) == []


def test_down_leaves_nothing(make_lab: Callable[..., Any]) -> None:
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    lab = make_lab("trace", ONE)
    lab.up()
    assert len(traces(lab.spec.name)) > 5
    lab.down()
    assert traces(lab.spec.name) == []
    assert {path.name for path in Path("/sys/class/net").iterdir()} == links


@pytest.mark.long
def test_two_labs_have_the_same_address_and_do_not_meet(make_lab: Callable[..., Any]) -> None:
    first, second = make_lab("left", ONE), make_lab("right", ONE)
    for lab in (first, second):
        lab.up()
        lab.host("h1").ssh(f"echo {lab.spec.name} > /etc/whose")
    assert [lab.host("h1").ssh("cat /etc/whose").stdout.strip() for lab in (first, second)] == [
        first.spec.name,
        second.spec.name,
    ]
    first.down()
    assert second.host("h1").ssh("systemctl is-system-running").stdout == "running\n"


@pytest.mark.long
@pytest.mark.parametrize("tenths", [8, 11, 13, 15, 18, 22])
def test_an_interrupted_up_is_completed_by_the_next(images: None, tmp_path: Path, tenths: int) -> None:
    name = lab_name(f"cut{tenths}")
    inventory = write_inventory(tmp_path, name, ONE)
    command = subprocess.Popen(
        [TOOL, "-i", inventory, "up"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(tenths / 10)
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    try:
        tool("-i", inventory, "up")
        assert tool("--name", name, "ssh", "h1", "systemctl is-system-running").stdout == "running\n"
    finally:
        tool("--name", name, "down")
    assert traces(name) == []


@pytest.mark.long
@pytest.mark.parametrize("tenths", [9, 14, 19])
def test_an_interrupted_up_is_taken_away_by_down(images: None, tmp_path: Path, tenths: int) -> None:
    name = lab_name(f"end{tenths}")
    command = subprocess.Popen(
        [TOOL, "-i", write_inventory(tmp_path, name, ONE), "up"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(tenths / 10)
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    tool("--name", name, "down")
    assert traces(name) == []


@pytest.mark.long
def test_a_lab_whose_files_were_deleted_is_still_taken_away(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("lost", ONE)
    lab.up()
    supervisor = json.loads(lab.paths.host("h1").supervisor.read_text())["pid"]
    subprocess.run(["umount", "--lazy", lab.paths.host("h1").root], check=True)
    shutil.rmtree(lab.paths.state)
    tool("--name", lab.spec.name, "down")
    assert traces(lab.spec.name) == []
    assert not Path(f"/proc/{supervisor}/exe").exists()


def test_removal_stops_at_what_is_mounted(tmp_path: Path) -> None:
    """A killed build may leave this machine's own directories mounted in what is then removed."""
    from lab.processes import mounts_below, remove_tree

    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/file").write_text("not yours")
    (tmp_path / "tree/a mount").mkdir(parents=True)
    subprocess.run(["mount", "--bind", tmp_path / "machine", tmp_path / "tree/a mount"], check=True)
    assert mounts_below(tmp_path) == [str(tmp_path / "tree/a mount")]
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (tmp_path / "machine/file").read_text() == "not yours"


@pytest.mark.long
def test_a_killed_build_leaves_no_mount_and_no_process(tmp_path: Path) -> None:
    from lab.processes import mounts_below

    environment = os.environ | {"BAREMETAL_CACHE": str(tmp_path)}
    build = subprocess.Popen([TOOL, "images", "debian-12"], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while not list(tmp_path.glob("images/.*.building/root/usr/bin/dpkg")):
        assert build.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    build.kill()
    build.wait()
    deadline = time.monotonic() + 300
    while any(trace.startswith("process") for trace in traces(str(tmp_path))):
        assert time.monotonic() < deadline, traces(str(tmp_path))
        time.sleep(0.1)
    assert mounts_below(tmp_path) == []


def test_down_spares_what_is_no_lab(labs_directory: Path) -> None:
    other = labs_directory / "parts"
    other.mkdir()
    (other / "file").write_text("not yours")
    tool("--name", "parts", "down")
    assert (other / "file").exists()
    assert "parts" not in tool("list").stdout


@pytest.mark.long
def test_what_changed_in_the_inventory(make_lab: Callable[..., Any]) -> None:
    two = ONE | {"h2": {"ansible_host": "10.77.0.12", "lab": {"kind": "nspawn"}}}
    lab = make_lab("change", two)
    lab.up()
    lab.host("h1").ssh("echo kept > /var/kept")
    faster = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn", "mtu": 9000}}}
    lab = make_lab("change", faster)
    lab.up()
    assert lab.host("h1").ssh("cat /var/kept /sys/class/net/eth0/mtu").stdout == "kept\n9000\n"
    listed = {known["name"]: known for known in json.loads(tool("list", "--json").stdout)}[lab.spec.name]
    assert [host["name"] for host in listed["hosts"]] == ["h1"]
    other = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn", "image": "debian-13"}}}
    from lab import LabError

    with pytest.raises(LabError, match=r"lab\.image changed since it was first booted"):
        make_lab("change", other).up()


@pytest.mark.long
def test_debian_13_and_a_gateway_to_nowhere(make_lab: Callable[..., Any]) -> None:
    hosts = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn", "image": "debian-13"}}}
    lab = make_lab("trixie", hosts, lab_route="dead-end")
    lab.up()
    host = lab.host("h1")
    assert (
        host.ssh(". /etc/os-release; echo $VERSION_CODENAME; systemctl is-system-running").stdout
        == "trixie\nrunning\n"
    )
    assert host.ssh("ip route show default").stdout.startswith("default via 10.77.0.1 dev eth0")
    done = host.ssh(
        "python3 -", text_input="import socket; socket.create_connection(('192.0.2.1', 443), 3)", check=False
    )
    assert "Network is unreachable" in done.stderr
    assert lab.egress()["tried"] == {"10.77.0.11 -> 192.0.2.1 tcp port 443": 1}
    tool("--name", lab.spec.name, "egress", "--self-check")
    host.reboot()
    assert host.ssh("systemctl is-system-running").stdout == "running\n"


@pytest.mark.long
def test_one_host_of_a_lab_is_ended_alone(make_lab: Callable[..., Any]) -> None:
    lab = make_lab("single", ONE | {"h2": {"ansible_host": "10.77.0.12", "lab": {"kind": "nspawn"}}})
    lab.up()
    tool("--name", lab.spec.name, "down", "h2")
    assert (lab.host("h1").running, lab.host("h2").running) == (True, False)
    assert not lab.paths.host("h2").directory.exists()
