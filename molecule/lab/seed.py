# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a host this host: its name, keys, addresses. A layer under its own disk, so it survives a reset."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from .network import mac
from .paths import HostPaths, LabPaths
from .processes import remove_tree, run, write_atomically
from .spec import HostSpec, LabSpec

# nspawn withholds all of /proc/sys, since most of it is this machine's own; the network's part is the host's.
SYSCTL_UNIT = """\
[Unit]
Description=Network settings under /proc/sys can be written
ConditionVirtualization=systemd-nspawn
DefaultDependencies=no
Before=systemd-sysctl.service sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mount --bind /proc/sys/net /proc/sys/net
ExecStart=mount -o remount,bind,rw /proc/sys/net

[Install]
WantedBy=sysinit.target
"""


def lab_key(paths: LabPaths) -> None:
    """One key pair for the lab; it opens every host as root."""
    if not paths.key.with_suffix(".pub").exists():
        paths.key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {paths.name}", "-f", paths.key])


def plant(lab: LabSpec, host: HostSpec, paths: HostPaths) -> None:
    """Writes the layer anew, keeping what identifies the host: ssh host key and machine id."""
    seed = paths.seed
    beside = seed.with_name(".seed")
    remove_tree(beside)
    etc = beside / "etc"
    units = etc / "systemd/system/sysinit.target.wants"
    for directory in (etc / "ssh", etc / "systemd/network", units, beside / "root/.ssh", beside / "var/lib"):
        directory.mkdir(parents=True)
    (beside / "root").chmod(0o700)
    (beside / "root/.ssh").chmod(0o700)
    for name in ("ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "../machine-id"):
        if (seed / "etc/ssh" / name).exists():
            shutil.copy2(seed / "etc/ssh" / name, etc / "ssh" / name)
    if not (etc / "ssh/ssh_host_ed25519_key.pub").exists():
        run(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                host.name,
                "-f",
                etc / "ssh/ssh_host_ed25519_key",
            ]
        )
    if not (etc / "machine-id").exists():
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    for path, text in _files(lab, host).items():
        (etc / path).write_text(text)
    if host.kind == "nspawn":
        (units.parent / "lab-sysctl.service").write_text(SYSCTL_UNIT)
        (units / "lab-sysctl.service").symlink_to("/etc/systemd/system/lab-sysctl.service")
    authorized = beside / "root/.ssh/authorized_keys"
    authorized.write_text(paths.lab.key.with_suffix(".pub").read_text())
    authorized.chmod(0o600)
    remove_tree(seed)
    beside.rename(seed)


def _files(lab: LabSpec, host: HostSpec) -> dict[str, str]:
    names = "".join(f"{other.address}\t{other.name}\n" for other in lab.hosts)
    files = {
        "hostname": f"{host.name}\n",
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{names}",
        # Nobody answers there, but the question is seen and counted.
        "resolv.conf": f"nameserver {lab.gateway}\noptions timeout:1 attempts:1\n",
    }
    for index in range(host.nics):
        gateway = f"Gateway={lab.gateway}\n" if index == 0 and lab.route == "dead-end" else ""
        files[f"systemd/network/10-eth{index}.network"] = (
            f"[Match]\nMACAddress={mac(lab.name, host, index)}\n\n[Link]\nMTUBytes={host.mtu}\n\n"
            f"[Network]\nAddress={lab.nic_address(host, index)}\n{gateway}IPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n"
        )
    return files


def write_known_hosts(lab: LabSpec, paths: LabPaths) -> None:
    lines = []
    for host in lab.hosts:
        public = paths.host(host.name).seed / "etc/ssh/ssh_host_ed25519_key.pub"
        if public.exists():
            lines.append(f"{host.name},{host.address} {' '.join(public.read_text().split()[:2])}\n")
    write_atomically(paths.known_hosts, "".join(lines))


def quoted(path: Path | str) -> str:
    return f'"{path}"'


def write_ssh_config(lab: LabSpec, paths: LabPaths, tool: Path) -> None:
    """For `ssh -F`, from any directory and outside the lab's network too."""
    lines = [f"Host {host.name}\n  HostName {host.address}\n" for host in lab.hosts]
    lines.append(
        "Host *\n  User root\n  IdentitiesOnly yes\n  BatchMode yes\n"
        f"  IdentityFile {quoted(paths.key)}\n  UserKnownHostsFile {quoted(paths.known_hosts)}\n"
        "  StrictHostKeyChecking yes\n  GlobalKnownHostsFile /dev/null\n  LogLevel ERROR\n"
        f"  ProxyCommand {quoted(tool)} --name {lab.name} proxy %h %p\n  ProxyUseFdpass yes\n"
        f"  ServerAliveInterval 15\n  ConnectTimeout 30\n"
    )
    write_atomically(paths.ssh_config, "".join(lines))
