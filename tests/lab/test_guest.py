# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A QEMU guest: a kernel of its own, so RDMA over Ethernet and modules are real."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import lab_name, tool, write_inventory
from .engine_host import FAKE, EngineHost, fake_environment, make_plan, publish_weights

pytestmark = pytest.mark.long

WEIGHTS = "opt/sglang/weights/glm-4.7-tiny/local"


@pytest.fixture(scope="module")
def lab(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from lab import Lab

    tool("images", "debian-12-rdma", "--kind", "qemu")
    hosts = {
        "e1": {"ansible_host": "10.78.0.11", "lab": {"kind": "qemu", "image": "debian-12-rdma", "mtu": 9000}}
    }
    made = Lab.from_inventory(write_inventory(tmp_path_factory.mktemp("guest"), lab_name("guest"), hosts))
    made.up()
    yield made
    made.down()


class GuestEngine(EngineHost):
    """The stand-in in a guest, whose files can be reached over ssh alone."""

    staged: Path

    def root(self) -> Path:
        return self.staged

    def amend(self, **sections: Any) -> None:
        super().amend(**sections)
        words = ["tar", "--create", "--gzip", "--format=posix", "--owner=root", "--group=root", "."]
        packed = subprocess.run(words, cwd=self.staged, check=True, capture_output=True).stdout
        self.lab.host("e1").ssh(
            "base64 -d | tar -xz -C / --no-overwrite-dir", text_input=base64.b64encode(packed).decode()
        )


@pytest.fixture(scope="module")
def toy(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestEngine]:
    folder = tmp_path_factory.mktemp("toy")
    found = GuestEngine(lab, folder, make_plan("e1"))
    found.staged = folder / "root"
    (found.staged / "etc/systemd/system").mkdir(parents=True)
    fake_environment(folder)
    (found.staged / FAKE.lstrip("/")).parent.mkdir(parents=True)
    (folder / "fake").rename(found.staged / FAKE.lstrip("/"))
    publish_weights(found.staged / WEIGHTS)
    found.ssh("useradd --system sglang; install -d /opt/sglang; "
              "install -d -o sglang -g sglang /var/lib/sglang/toy /var/cache/sglang/toy")  # fmt: skip
    found.install_stand_in()
    found.amend()
    found.ssh("systemctl daemon-reload; systemctl start sglang-toy")
    yield found


def test_a_clock_that_jumps_changes_nothing(toy: GuestEngine) -> None:
    main = toy.show("toy", "MainPID")["MainPID"]
    for jump in ("-3 hours", "+2 days"):
        toy.ssh(f"date -s '{jump}'")
        # Several looks of the launcher and of systemd's watchdog.
        time.sleep(15)
        assert toy.show("toy", "ActiveState", "MainPID") == {"ActiveState": "active", "MainPID": main}, jump
    toy.ssh("date -s '-1 day'")
    toy.ssh(f"kill -KILL {toy.process('toy', 'sglang::scheduler')}")
    toy.until("toy", "active", main_not=main)


def test_memory_that_runs_out_while_it_loads_is_said(toy: GuestEngine) -> None:
    toy.ssh("systemctl stop sglang-toy")
    toy.amend(restart={"delays": [0, 0.5]})
    toy.behave(eat_mib=400)
    # The kernel of the guest keeps to it; hosts that share a kernel need not have that control.
    toy.ssh("systemctl set-property --runtime sglang-toy MemoryMax=150M MemorySwapMax=0")
    toy.ssh("systemctl start --no-block sglang-toy")
    toy.until("toy", "failed")
    said = toy.status("toy")
    print(said)
    assert "gave up after 2 failed starts" in said
    toy.ssh("systemctl reset-failed sglang-toy")
    assert "was killed by signal 9: out of memory, says the kernel (loading" in said
    assert toy.ssh("ps -u sglang -o pid=", check=False) == ""


def test_a_guest_has_real_rdma_and_no_way_out(lab: Any) -> None:
    host = lab.host("e1")
    assert (
        host.ssh("systemctl is-system-running; hostname; cat /sys/class/net/eth0/mtu").stdout
        == "running\ne1\n9000\n"
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
    lab.reset("e1")
    assert host.ssh("ls /etc/mine", check=False).returncode != 0
