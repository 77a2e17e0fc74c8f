# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says about the lab: parsed, checked, and all that is wrong said at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import pretend
from .problems import LabError, did_you_mean

KINDS = ("nspawn", "qemu")
IMAGES = ("debian-12", "debian-13", "debian-12-rdma", "debian-12-build", "debian-12-network")
ROUTES = ("none", "dead-end")
DEFAULT_NAME = "demo"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
HOST_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)


@dataclass(frozen=True)
class Bind:
    """A directory of this machine that a host sees."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class HostSpec:
    """One host as its inventory describes it."""

    name: str
    address: str
    kind: str = "nspawn"
    image: str = "debian-12"
    memory: int | None = None
    cpus: float | None = None
    mtu: int = 1500
    nics: int = 1
    binds: tuple[Bind, ...] = ()
    layers: tuple[str, ...] = ()
    pretend: str = ""
    """A file of molecule/lab/pretend: the GPU host that it looks like."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HostSpec:
        fields = dict(value)
        fields["binds"] = tuple(Bind(**bind) for bind in fields["binds"])
        fields["layers"] = tuple(fields["layers"])
        return cls(**fields)


@dataclass(frozen=True)
class LabSpec:
    """All hosts of a lab and the network that they share."""

    name: str
    subnet: str
    route: str = "none"
    hosts: tuple[HostSpec, ...] = field(default=())

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def gateway(self) -> str:
        """The controller's address, and the gateway to nowhere: the first that no host has."""
        taken = {host.address for host in self.hosts}
        return next(str(address) for address in self.network.hosts() if str(address) not in taken)

    def nic_network(self, index: int) -> ipaddress.IPv4Network:
        """Each further NIC is in the next network of the same size, as rails of a real host are."""
        size = self.network.num_addresses
        start = int(self.network.network_address) + index * size
        return ipaddress.IPv4Network((start, self.network.prefixlen))

    def nic_address(self, host: HostSpec, index: int) -> str:
        offset = int(ipaddress.IPv4Address(host.address)) - int(self.network.network_address)
        return f"{self.nic_network(index).network_address + offset}/{self.network.prefixlen}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subnet": self.subnet,
            "route": self.route,
            "hosts": [h.to_dict() for h in self.hosts],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> LabSpec:
        hosts = tuple(HostSpec.from_dict(host) for host in value["hosts"])
        return cls(value["name"], value["subnet"], value["route"], hosts)


def bytes_of(text: Any) -> int | None:
    """`12G` and `12GiB` and a plain number of bytes, in bytes; None when it is no size."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text if text > 0 else None
    match = SIZE.fullmatch(str(text).strip())
    return int(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else None


class _Reader:
    """Collects what is wrong, so that one run names every mistake."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def host(self, name: str, variables: Mapping[str, Any]) -> HostSpec:
        if not HOST_NAME.fullmatch(name):
            self.wrong.append(
                f"{name}: a lab host's name is letters, digits and '-', because it becomes the host name"
            )
        lab = variables["lab"]
        if not isinstance(lab, Mapping):
            self.wrong.append(
                f"{name}: `lab` must be a mapping such as {{kind: nspawn, image: debian-12}}, not {lab!r}"
            )
            lab = {}
        known = set(HostSpec.__dataclass_fields__) - {"name", "address"}
        for key in lab:
            if key not in known:
                self.wrong.append(f"{name}: lab.{key} is unknown; {did_you_mean(str(key), known)}")
        kind = self.choice(name, "kind", lab.get("kind", "nspawn"), KINDS)
        return HostSpec(
            name=name,
            address=self.address(name, variables.get("ansible_host")),
            kind=kind,
            image=self.choice(name, "image", lab.get("image", "debian-12"), IMAGES),
            memory=self.memory(name, lab.get("memory")),
            cpus=self.number(name, "cpus", lab.get("cpus"), 0.1, 1024),
            mtu=int(self.number(name, "mtu", lab.get("mtu"), 576, 65535) or 1500),
            nics=int(self.number(name, "nics", lab.get("nics"), 1, 8) or 1),
            binds=self.binds(name, kind, lab.get("binds") or []),
            layers=self.layers(name, kind, lab.get("layers") or []),
            pretend=self.pretend(name, kind, lab.get("pretend")),
        )

    def choice(self, host: str, key: str, value: Any, known: tuple[str, ...]) -> str:
        if value not in known:
            self.wrong.append(f"{host}: lab.{key} = {value} is unknown; {did_you_mean(str(value), known)}")
            return known[0]
        return str(value)

    def address(self, host: str, value: Any) -> str:
        try:
            address = ipaddress.IPv4Address(str(value))
        except ValueError:
            said = "has no `ansible_host`" if value is None else f"ansible_host = {value} is no IPv4 address"
            self.wrong.append(f"{host}: {said}; give it a private address such as 10.77.0.11")
            return "0.0.0.0"
        if not address.is_private:
            self.wrong.append(
                f"{host}: ansible_host = {value} is a public address; a lab host takes a private one"
            )
        return str(address)

    def memory(self, host: str, value: Any) -> int | None:
        size = bytes_of(value) if value is not None else None
        if value is not None and size is None:
            self.wrong.append(f"{host}: lab.memory = {value} is no size; write it as 12G or 512M")
        elif size is not None and size < 128 * 1024**2:
            self.wrong.append(f"{host}: lab.memory = {value} is less than the 128M that a host needs to boot")
        return size

    def number(self, host: str, key: str, value: Any, low: float, high: float) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not low <= number <= high:
            self.wrong.append(f"{host}: lab.{key} = {value} must be a number from {low:g} to {high:g}")
            return None
        return number

    def binds(self, host: str, kind: str, value: Any) -> tuple[Bind, ...]:
        binds = []
        for item in value if isinstance(value, list) else [value]:
            keys = set(item) if isinstance(item, Mapping) else set()
            if not {"source", "target"} <= keys or keys - {"source", "target", "read_only"}:
                self.wrong.append(
                    f"{host}: each of lab.binds is {{source: /here, target: /there, read_only: true}}, not {item}"
                )
                continue
            if not Path(str(item["source"])).is_dir() or not str(item["source"]).startswith("/"):
                self.wrong.append(
                    f"{host}: lab.binds source {item['source']} is no directory of this machine"
                )
            if not str(item["target"]).startswith("/"):
                self.wrong.append(f"{host}: lab.binds target {item['target']} must begin with /")
            binds.append(Bind(str(item["source"]), str(item["target"]), bool(item.get("read_only", False))))
        if binds and kind == "qemu":
            self.wrong.append(
                f"{host}: lab.binds need kind nspawn; a qemu guest shares no directory with this machine"
            )
        return tuple(binds)

    def layers(self, host: str, kind: str, value: Any) -> tuple[str, ...]:
        layers = [str(layer) for layer in (value if isinstance(value, list) else [value])]
        for layer in layers:
            if not layer.startswith("/") or not Path(layer).is_dir():
                self.wrong.append(
                    f"{host}: lab.layers {layer} is no directory of this machine (write its full path)"
                )
        if layers and kind == "qemu":
            self.wrong.append(f"{host}: lab.layers need kind nspawn; a qemu guest has a disk of its own")
        return tuple(layers)

    def pretend(self, host: str, kind: str, value: Any) -> str:
        if value is None:
            return ""
        if kind == "qemu":
            self.wrong.append(f"{host}: lab.pretend needs kind nspawn; a qemu guest has a disk of its own")
        return self.choice(host, "pretend", value, pretend.names())


def parse(inventory: Mapping[str, Any], source: str, name: str | None = None) -> LabSpec:
    """The lab in the output of `ansible-inventory --list`; raises LabError with every mistake."""
    described = _lab_hosts(inventory, source)
    reader = _Reader()
    hosts = tuple(reader.host(host, described[host]) for host in described)
    shared = {
        key: _one(reader, key, {str(variables[key]) for variables in described.values() if key in variables})
        for key in ("lab_name", "lab_subnet", "lab_route")
    }
    lab_name = name or shared["lab_name"] or DEFAULT_NAME
    if not NAME.fullmatch(lab_name):
        reader.wrong.append(f"lab_name = {lab_name} must be lower-case letters, digits and '-', at most 20")
    route = reader.choice("all", "route", shared["lab_route"] or "none", ROUTES)
    subnet = _subnet(reader, hosts, shared["lab_subnet"])
    if reader.wrong:
        raise LabError(f"{source} describes a lab that cannot be booted:\n  " + "\n  ".join(reader.wrong))
    return LabSpec(lab_name, subnet, route, hosts)


def name_in(inventory: Mapping[str, Any], source: str) -> str:
    """Only the lab's name: to end a lab it does not matter what a host would need to boot."""
    names = {
        str(variables["lab_name"])
        for variables in _lab_hosts(inventory, source).values()
        if "lab_name" in variables
    }
    if len(names) > 1:
        raise LabError(
            f"{source}: lab_name differs between hosts ({', '.join(sorted(names))}); set it once for all"
        )
    return min(names, default=DEFAULT_NAME)


def _lab_hosts(inventory: Mapping[str, Any], source: str) -> dict[str, Mapping[str, Any]]:
    hostvars: Mapping[str, Mapping[str, Any]] = inventory.get("_meta", {}).get("hostvars", {})
    described = {host: variables for host, variables in hostvars.items() if "lab" in variables}
    if not described:
        raise LabError(
            f"{source} has no lab hosts. A lab host carries two variables:\n"
            "  ansible_host: 10.77.0.11\n  lab: {kind: nspawn, image: debian-12}"
        )
    return described


def _one(reader: _Reader, key: str, values: set[str]) -> str | None:
    if len(values) > 1:
        reader.wrong.append(f"{key} differs between hosts ({', '.join(sorted(values))}); set it once for all")
    return min(values) if values else None


def _subnet(reader: _Reader, hosts: tuple[HostSpec, ...], said: str | None) -> str:
    addresses = [host.address for host in hosts]
    for address in sorted({a for a in addresses if addresses.count(a) > 1}):
        names = [host.name for host in hosts if host.address == address]
        reader.wrong.append(f"{', '.join(names)}: all have ansible_host = {address}")
    try:
        network = ipaddress.IPv4Network(said if said else f"{addresses[0]}/24", strict=said is not None)
    except ValueError as error:
        reader.wrong.append(f"lab_subnet = {said} is no network: {error}")
        return "10.77.0.0/24"
    if not 16 <= network.prefixlen <= 28:
        reader.wrong.append(f"lab_subnet = {network} must be from /16 to /28")
    for host in hosts:
        if host.address != "0.0.0.0" and ipaddress.IPv4Address(host.address) not in network:
            reader.wrong.append(
                f"{host.name}: ansible_host = {host.address} is outside {network}; set lab_subnet to what holds all"
            )
    return str(network)
