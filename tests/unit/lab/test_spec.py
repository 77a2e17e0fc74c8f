# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory may say about the lab, and what it is told when it may not."""

from __future__ import annotations

from typing import Any

import pytest
from lab.problems import LabError
from lab.spec import Bind, HostSpec, LabSpec, bytes_of, name_in, parse


def inventory(**hosts: dict[str, Any]) -> dict[str, Any]:
    return {"_meta": {"hostvars": hosts}}


def host(address: str = "10.77.0.11", **lab: Any) -> dict[str, Any]:
    return {"ansible_host": address, "lab": {"kind": "nspawn"} | lab}


def test_defaults() -> None:
    spec = parse(inventory(a1=host(), other={"ansible_host": "192.0.2.7"}), "inv")
    assert spec == LabSpec("demo", "10.77.0.0/24", "none", (HostSpec("a1", "10.77.0.11"),))
    assert spec.gateway == "10.77.0.1"


def test_everything_said(tmp_path: Any) -> None:
    bind = {"source": str(tmp_path), "target": "/mnt/bundle", "read_only": True}
    lab = {
        "image": "debian-13",
        "memory": "12G",
        "cpus": 2,
        "mtu": 9000,
        "nics": 2,
        "binds": [bind],
        "layers": [str(tmp_path)],
    }
    spec = parse(inventory(a1=host(**lab) | {"lab_name": "site", "lab_subnet": "10.77.0.0/20"}), "inv")
    assert spec.hosts[0] == HostSpec(
        "a1", "10.77.0.11", "nspawn", "debian-13", 12 * 1024**3, 2.0, 9000, 2,
        (Bind(str(tmp_path), "/mnt/bundle", True),), (str(tmp_path),),
    )  # fmt: skip
    assert (spec.name, spec.nic_address(spec.hosts[0], 1)) == ("site", "10.77.16.11/20")
    assert LabSpec.from_dict(spec.to_dict()) == spec


def test_the_gateway_is_no_hosts_address() -> None:
    assert parse(inventory(a1=host("10.77.0.1"), a2=host("10.77.0.2")), "inv").gateway == "10.77.0.3"


@pytest.mark.parametrize(
    ("hosts", "complaint"),
    [
        ({"a1": {"ansible_host": "10.77.0.11"}}, "inv has no lab hosts"),
        ({"a1": {"lab": {}}}, "a1: has no `ansible_host`"),
        ({"a1": host("1.2.3.4")}, "a1: ansible_host = 1.2.3.4 is a public address"),
        ({"a1": host("{{ x }}")}, "is no IPv4 address"),
        ({"a1": host(imgae="debian-12")}, "a1: lab.imgae is unknown; did you mean image?"),
        (
            {"a1": host(pretend="a800x8-581")},
            "a1: lab.pretend = a800x8-581 is unknown; did you mean a800x8-580?",
        ),
        ({"a1": host(kind="qemu", pretend="a800x8-580")}, "a1: lab.pretend needs kind nspawn"),
        ({"a1": host(image="debian-1")}, "a1: lab.image = debian-1 is unknown; did you mean debian-13?"),
        ({"a1": host(kind="docker")}, "a1: lab.kind = docker is unknown; known: nspawn, qemu"),
        ({"a1": host(memory="lots")}, "a1: lab.memory = lots is no size"),
        ({"a1": host(memory="1M")}, "less than the 128M"),
        ({"a1": host(cpus="two")}, "a1: lab.cpus = two must be a number"),
        ({"a1": host(nics=0)}, "a1: lab.nics = 0 must be a number from 1 to 8"),
        ({"a1": host(binds=[{"source": "/", "target": "/mnt", "ro": True}])}, "each of lab.binds is"),
        ({"a1": host(binds=[{"source": "/not/here", "target": "/mnt"}])}, "/not/here is no directory"),
        ({"a1": host(layers=["/not/here"])}, "lab.layers /not/here is no directory"),
        ({"a1": host(kind="qemu", layers=["/usr"])}, "lab.layers need kind nspawn"),
        ({"a1": host(), "a2": host()}, "a1, a2: all have ansible_host = 10.77.0.11"),
        ({"a1": host(), "a2": host("10.78.0.11")}, "a2: ansible_host = 10.78.0.11 is outside 10.77.0.0/24"),
        ({"a1": host() | {"lab_subnet": "10.77.0.5/24"}}, "lab_subnet = 10.77.0.5/24 is no network"),
        ({"a1": host() | {"lab_name": "My Lab"}}, "lab_name = My Lab"),
        ({"a1": host() | {"lab_route": "internet"}}, "lab.route = internet is unknown"),
        (
            {"a1": host() | {"lab_name": "x"}, "a2": host("10.77.0.12") | {"lab_name": "y"}},
            "lab_name differs",
        ),
        ({"a_1": host()}, "a_1: a lab host's name is"),
        ({"a1": {"ansible_host": "10.77.0.11", "lab": "nspawn"}}, "a1: `lab` must be a mapping"),
    ],
)
def test_refusals(hosts: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LabError) as refused:
        parse(inventory(**hosts), "inv")
    assert complaint in str(refused.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(LabError) as refused:
        parse(inventory(a1=host(kind="docker", memory="x"), a2=host("10.77.0.12", cpus=-1)), "inv")
    assert [word in str(refused.value) for word in ("lab.kind", "lab.memory", "lab.cpus")] == [True] * 3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12G", 12 * 1024**3),
        ("512m", 512 * 1024**2),
        ("1GiB", 1024**3),
        (4096, 4096),
        ("64", 64),
        ("x", None),
        ("", None),
        (True, None),
    ],
)
def test_sizes(text: Any, size: int | None) -> None:
    assert bytes_of(text) == size


def test_a_name_is_read_though_the_host_could_not_boot() -> None:
    gone = host(layers=["/no/such/folder"]) | {"lab_name": "site"}
    assert name_in(inventory(a1=gone), "inv") == "site"
    assert name_in(inventory(a1=host()), "inv") == "demo"
    with pytest.raises(LabError, match="lab_name differs between hosts"):
        name_in(inventory(a1=gone, a2=gone | {"lab_name": "other"}), "inv")
