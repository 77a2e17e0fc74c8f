# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: a namespace with bridges, no way out, and a count of whatever tries to leave."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .paths import HostPaths, LabPaths
from .problems import LabError
from .processes import run, write_atomically
from .spec import HostSpec, LabSpec

NAMESPACES = Path("/run/netns")
T = TypeVar("T")

# Every frame that enters the bridge, and every one that the controller sends through it, is looked
# at. What is addressed to the lab, to the link or to a group on the link stays; the rest tried to leave.
RULES = """
add table bridge lab
delete table bridge lab
table bridge lab {{
  set ours {{ type ipv4_addr; flags interval; elements = {{ {ours} }} }}
  set ports4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; size 4096; flags dynamic; }}
  set other4 {{ type ipv4_addr . ipv4_addr . inet_proto; size 4096; flags dynamic; }}
  set ports6 {{ type ipv6_addr . ipv6_addr . inet_proto . inet_service; size 4096; flags dynamic; }}
  set other6 {{ type ipv6_addr . ipv6_addr . inet_proto; size 4096; flags dynamic; }}
  set asked {{ type ipv4_addr . ipv4_addr; size 4096; flags dynamic; }}
  set names {{ type ipv4_addr . ipv4_addr; size 4096; flags dynamic; }}
  counter left {{ }}
  chain sight {{
    ip daddr {gateway} udp dport 53 update @names {{ ip saddr . ip daddr counter }} return
    arp operation request arp daddr ip != @ours counter name left \
      update @asked {{ arp saddr ip . arp daddr ip counter }} return
    ip daddr != @ours meta l4proto {{ tcp, udp }} counter name left \
      update @ports4 {{ ip saddr . ip daddr . meta l4proto . th dport counter }} return
    ip daddr != @ours counter name left \
      update @other4 {{ ip saddr . ip daddr . meta l4proto counter }} return
    ip6 daddr {{ fe80::/10, ff00::/8 }} return
    meta protocol ip6 meta l4proto {{ tcp, udp }} counter name left \
      update @ports6 {{ ip6 saddr . ip6 daddr . meta l4proto . th dport counter }} return
    meta protocol ip6 counter name left \
      update @other6 {{ ip6 saddr . ip6 daddr . meta l4proto counter }} return
  }}
  chain entering {{ type filter hook prerouting priority -300; policy accept; jump sight; }}
  chain sending {{ type filter hook output priority -300; policy accept; jump sight; }}
}}
"""


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Does something in a network namespace: in a thread of its own, since only that thread moves."""
    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY)
            try:
                os.setns(descriptor, os.CLONE_NEWNET)
            finally:
                os.close(descriptor)
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def exists(namespace: str) -> bool:
    return (NAMESPACES / namespace).exists()


def remove(namespace: str) -> None:
    if exists(namespace):
        run(["ip", "netns", "delete", namespace])


def bridge(index: int) -> str:
    return f"lab{index}"


def port(host: HostSpec, index: int) -> str:
    """A NIC's end at the bridge: from the address, which is unique in a lab while names may be long."""
    third, fourth = host.address.split(".")[2:]
    return f"h{third}-{fourth}.{index}"


def mac(lab: str, host: HostSpec, index: int) -> str:
    """The same at every boot, as a real card's is; locally administered."""
    digest = hashlib.sha256(f"{lab}/{host.name}/{index}".encode()).hexdigest()
    return "02:" + ":".join(digest[i : i + 2] for i in range(0, 10, 2))


def rules(spec: LabSpec) -> str:
    nics = max((host.nics for host in spec.hosts), default=1)
    ours = [str(spec.nic_network(index)) for index in range(nics)]
    ours += ["0.0.0.0", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255"]
    return RULES.format(ours=", ".join(ours), gateway=spec.gateway)


def ensure(spec: LabSpec, paths: LabPaths) -> None:
    """The namespace with its bridges; what an interrupted run left half made is completed."""
    namespace = paths.namespace
    complete = (
        exists(namespace) and run(["ip", "-n", namespace, "link", "show", "lo"], check=False).returncode == 0
    )
    if not complete:
        (NAMESPACES / namespace).unlink(missing_ok=True)
        run(["ip", "netns", "add", namespace])
    commands = ["link set lo up"]
    nics = max((host.nics for host in spec.hosts), default=1)
    present = run(["ip", "-n", namespace, "-o", "link", "show", "type", "bridge"]).stdout
    for index in range(nics):
        name, network = bridge(index), spec.nic_network(index)
        if f": {name}:" not in present:
            commands.append(f"link add {name} type bridge forward_delay 0 mcast_snooping 0")
        offset = int(spec.network.network_address)
        gateway = network.network_address + (
            int.from_bytes(bytes(map(int, spec.gateway.split("."))), "big") - offset
        )
        mtu = max(host.mtu for host in spec.hosts)
        commands += [
            f"link set {name} mtu {mtu} up",
            f"address replace {gateway}/{network.prefixlen} dev {name}",
        ]
    run(["ip", "-n", namespace, "-batch", "-"], text_input="\n".join(commands) + "\n")
    inside(namespace, lambda: _settings(spec.route))
    _watch(spec, paths)


def _watch(spec: LabSpec, paths: LabPaths) -> None:
    """Loads the rules that count, unless they are there: loading them again would forget the counts."""
    nft = ["ip", "netns", "exec", paths.namespace, "nft"]
    text, loaded = rules(spec), paths.state / "rules.nft"
    present = run([*nft, "list", "table", "bridge", "lab"], check=False).returncode == 0
    if present and loaded.exists() and loaded.read_text() == text:
        return
    done = run([*nft, "-f", "-"], text_input=text, check=False)
    if done.returncode != 0 and spec.route == "dead-end":
        raise LabError(
            "lab_route = dead-end needs nftables for bridges in this machine's kernel; use lab_route = none\n  "
            + done.stderr.strip()
        )
    write_atomically(loaded, text)


def _settings(route: str) -> None:
    """A dead end answers `network unreachable` as routers do; otherwise nothing is passed on at all."""
    wanted = {"ipv4/ip_forward": str(int(route == "dead-end")), "bridge/bridge-nf-call-iptables": "0",
              "bridge/bridge-nf-call-ip6tables": "0", "bridge/bridge-nf-call-arptables": "0"}  # fmt: skip
    for name, value in wanted.items():
        path = Path("/proc/sys/net", name)
        if path.exists():
            path.write_text(value)


def attach(spec: LabSpec, host: HostSpec, paths: HostPaths) -> None:
    """A new network namespace for one boot of a host, with its NICs plugged into the bridges."""
    remove(paths.namespace)
    run(["ip", "netns", "add", paths.namespace])
    lab = paths.lab.namespace
    for index in range(host.nics):
        unplug(host, index, paths)
        run([
            "ip", "-n", lab, "link", "add", port(host, index), "mtu", str(host.mtu), "type", "veth", "peer",
            "name", f"eth{index}", "netns", paths.namespace, "mtu", str(host.mtu), "address", mac(spec.name, host, index),
        ])  # fmt: skip
        run(["ip", "-n", lab, "link", "set", port(host, index), "master", bridge(index)])
        if not paths.cut.exists():
            run(["ip", "-n", lab, "link", "set", port(host, index), "up"])


def attach_tap(host: HostSpec, paths: HostPaths) -> None:
    """The same for a guest: a tap device in the lab's namespace for each NIC."""
    lab = paths.lab.namespace
    for index in range(host.nics):
        unplug(host, index, paths)
        run(["ip", "-n", lab, "tuntap", "add", "dev", port(host, index), "mode", "tap"])
        run(
            ["ip", "-n", lab, "link", "set", port(host, index), "mtu", str(host.mtu), "master", bridge(index)]
        )
        if not paths.cut.exists():
            run(["ip", "-n", lab, "link", "set", port(host, index), "up"])


def unplug(host: HostSpec, index: int, paths: HostPaths) -> None:
    run(["ip", "-n", paths.lab.namespace, "link", "delete", port(host, index)], check=False)


def detach(host: HostSpec, paths: HostPaths) -> None:
    if exists(paths.lab.namespace):
        for index in range(host.nics):
            unplug(host, index, paths)
    remove(paths.namespace)


def set_link(host: HostSpec, paths: HostPaths, up: bool) -> None:
    for index in range(host.nics):
        run(["ip", "-n", paths.lab.namespace, "link", "set", port(host, index), "up" if up else "down"])
