# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: `tools/lab --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import egress, images, inventory, preflight, selfcheck
from .disk import FRESH
from .lab import Lab, all_labs, sweep
from .network import NAMESPACES
from .paths import LabPaths, labs_directory
from .problems import LabError, say
from .processes import read_json
from .spec import DEFAULT_NAME, IMAGES, KINDS

DESCRIPTION = """\
Boots the hosts of an Ansible inventory as real systemd machines on this one (systemd-nspawn, or QEMU
guests), in a network that leads nowhere. A host is two variables:

  ansible_host: 10.77.0.11
  lab: {kind: nspawn, image: debian-12}      # further: memory, cpus, mtu, nics, binds, layers, pretend

For all hosts: lab_name (default: demo), lab_subnet (default: the /24 of the first host), lab_route
(none, or dead-end: a default route to a gateway that passes nothing on). Needs root, and Debian or Ubuntu.
"""
EPILOG = """\
examples:
  tools/lab -i inventories/lab up
  tools/lab ssh a1 systemctl --failed
  tools/lab exec -- ansible-playbook -i inventories/lab site.yml
  tools/lab snapshot a1 converged; tools/lab reset a1 converged
  tools/lab egress --expect-none
  tools/lab down

BAREMETAL_CACHE holds the images (default: ~/.cache/baremetal-sglang), BAREMETAL_LAB_DIR the labs
(default: .lab in the collection). Apt sources are this machine's own; BAREMETAL_DEBIAN_MIRROR names another.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/lab",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "-i", "--inventory", type=Path, help="the inventory that describes the hosts (up needs it)"
    )
    top.add_argument(
        "-n",
        "--name",
        default=os.environ.get("BAREMETAL_LAB"),
        help="the lab's name, over lab_name and $BAREMETAL_LAB",
    )
    top.add_argument("-q", "--quiet", action="store_true", help="no progress lines")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, *hosts: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=summary)
        for argument in hosts:
            made.add_argument(argument)
        return made

    add("up", "boot the hosts that are not running; all, or those named").add_argument(
        "hosts", nargs="*", metavar="HOST"
    )
    down = add("down", "end the lab and leave nothing of it; or end only the hosts named")
    down.add_argument("hosts", nargs="*", metavar="HOST")
    down.add_argument("--all", action="store_true", help="every lab on this machine")
    add("list", "labs and hosts").add_argument("--json", action="store_true")
    ssh = add("ssh", "a shell, or a command, on a host", "host")
    ssh.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    run = add("exec", "run a command of this machine inside the lab's network, which has no way out")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    add("proxy", "for ssh's ProxyCommand with ProxyUseFdpass=yes: a connection into the lab", "host", "port")
    add("snapshot", "freeze a host's disk under a name (it is rebooted)", "host", "snapshot")
    reset = add("reset", "put a host back to a snapshot, or to how it was first booted", "host")
    reset.add_argument("snapshot", nargs="?", default=FRESH)
    add("reboot", "reboot a host through its systemd", "host")
    add("power-off", "pull a host's plug: SIGKILL to all of it; its disk stays", "host")
    add("power-on", "start a host that is off", "host")
    add("cut", "unplug a host's network cable", "host")
    add("join", "plug it in again", "host")
    add("root", "print where a host's root directory is on this machine (nspawn)", "host")
    left = add("egress", "what tried to leave the lab")
    left.add_argument("--json", action="store_true")
    left.add_argument("--expect-none", action="store_true", help="exit with 1 if anything did")
    left.add_argument("--mark", action="store_true", help="count from now on")
    left.add_argument(
        "--self-check", action="store_true", help="try to leave, and check that it fails and is counted"
    )
    made = add("images", "list the images in the cache, or build one")
    made.add_argument("build", nargs="*", metavar="IMAGE", help=f"build these now: {', '.join(IMAGES)}")
    made.add_argument("--kind", choices=KINDS, default="nspawn")
    made.add_argument("--json", action="store_true")
    add("ssh-config", "print the file to use with `ssh -F`, which works from any directory")
    return top


def lab_name(args: argparse.Namespace) -> str:
    if args.name:
        return str(args.name)
    return inventory.read_name(args.inventory) if args.inventory else DEFAULT_NAME


def opened(args: argparse.Namespace) -> Lab:
    return Lab.open(lab_name(args))


def up(args: argparse.Namespace) -> int:
    preflight.require_root()
    preflight.require_debian()
    preflight.require_tools(())
    if not args.inventory:
        raise LabError("Which hosts? Name an inventory: tools/lab -i inventories/lab up")
    lab = Lab.from_inventory(args.inventory, args.name)
    lab.up(args.hosts)
    say(lab.spec.name, "the lab is up")
    return 0


def down(args: argparse.Namespace) -> int:
    preflight.require_root()
    names = [paths.name for paths in all_labs()] if args.all else [lab_name(args)]
    for name in names:
        try:
            lab = Lab.open(name)
        except LabError:
            # Interrupted before it wrote down what it is; its name is enough to find all of it.
            sweep(LabPaths(labs_directory() / name))
            say(name, "nothing is left of it")
            continue
        lab.down(args.hosts)
        if not args.hosts:
            say(name, "the lab is down")
    return 0


def listing(args: argparse.Namespace) -> int:
    labs: list[dict[str, Any]] = []
    for paths in all_labs():
        known = Lab.open(paths.name).hosts.values() if read_json(paths.spec) else ()
        labs.append({
            "name": paths.name, "state": str(paths.state), "namespace": paths.namespace,
            "network": (NAMESPACES / paths.namespace).exists(),
            "hosts": [host.status() for host in known if host.paths.directory.exists()],
        })  # fmt: skip
    if args.json:
        print(json.dumps(labs, indent=1))
        return 0
    for lab in labs:
        half = "" if lab["network"] else "  half torn down: `up` repairs it, `down` removes it"
        print(f"{lab['name']}  ({lab['state']}){half}")
        for host in lab["hosts"]:
            extra = "  cable out" if host["cut"] else ""
            what = f"{host['kind']:7} {host['image']:15} {host['state']:8} {host['snapshot']}{extra}"
            print(f"  {host['name']:20} {host['address']:15} {what}")
    return 0


def ssh(args: argparse.Namespace) -> int:
    lab = opened(args)
    host = lab.host(args.host)
    words = ["ssh", "-F", str(lab.paths.ssh_config), *([] if args.words else ["-t"]), host.name, *args.words]
    os.execvp(words[0], words)


def execute(args: argparse.Namespace) -> int:
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise LabError(
            "Which command? Write it after `--`: tools/lab exec -- ansible-playbook -i inventories/lab site.yml"
        )
    preflight.require_root()
    lab = opened(args)
    try:
        namespace = os.open(NAMESPACES / lab.paths.namespace, os.O_RDONLY)
    except FileNotFoundError as error:
        raise LabError(
            f"The lab '{lab.spec.name}' is half torn down. Repair it: tools/lab -i INVENTORY up"
        ) from error
    os.setns(namespace, os.CLONE_NEWNET)
    os.close(namespace)
    try:
        os.execvp(words[0], words)
    except FileNotFoundError as error:
        raise LabError(f"there is no command {words[0]}") from error


def on_host(work: Callable[[Lab, str], object], done: str) -> Callable[[argparse.Namespace], int]:
    def command(args: argparse.Namespace) -> int:
        preflight.require_root()
        lab = opened(args)
        lab.host(args.host)
        work(lab, args.host)
        say(args.host, done)
        return 0

    return command


def snapshot(args: argparse.Namespace) -> int:
    return on_host(lambda lab, host: lab.snapshot(host, args.snapshot), f"kept as {args.snapshot}")(args)


def reset(args: argparse.Namespace) -> int:
    return on_host(lambda lab, host: lab.reset(host, args.snapshot), f"is {args.snapshot} again")(args)


def root(args: argparse.Namespace) -> int:
    print(opened(args).host(args.host).mounted_root())
    return 0


def left(args: argparse.Namespace) -> int:
    preflight.require_root()
    lab = opened(args)
    if args.self_check:
        with lab.locked():
            selfcheck.check(lab)
        return 0
    if args.mark:
        lab.mark_egress()
        return 0
    counts = lab.egress()
    print(json.dumps(counts, indent=1, sort_keys=True) if args.json else "\n".join(egress.lines(counts)))
    return int(args.expect_none and not egress.nothing_left(counts))


def show_images(args: argparse.Namespace) -> int:
    if args.build:
        preflight.require_root()
        preflight.require_debian()
        preflight.require_tools([args.kind])
        for name in args.build:
            if name not in IMAGES:
                raise LabError(f"There is no image {name}; known: {', '.join(IMAGES)}")
            images.get(name, args.kind)
    found = images.listing()
    if args.json:
        print(json.dumps(found, indent=1))
    for image in [] if args.json else found:
        print(f"{image['key']:40} {int(str(image['bytes'])) // preflight.MEGABYTE:6} MB")
    return 0


def ssh_config(args: argparse.Namespace) -> int:
    print(opened(args).paths.ssh_config)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": up, "down": down, "list": listing, "ssh": ssh, "exec": execute, "snapshot": snapshot, "reset": reset,
    "reboot": on_host(lambda lab, host: lab.host(host).reboot(), "rebooted"),
    "power-off": on_host(lambda lab, host: lab.host(host).power_off(), "is off"),
    "power-on": on_host(lambda lab, host: lab.power_on(host), "is on"),
    "cut": on_host(lambda lab, host: lab.host(host).cut(), "its cable is out"),
    "join": on_host(lambda lab, host: lab.host(host).join(), "its cable is in"),
    "root": root, "egress": left, "images": show_images, "ssh-config": ssh_config,
}  # fmt: skip


def main(words: list[str] | None = None) -> int:
    args = parser().parse_args(words)
    say.quiet = args.quiet
    try:
        return COMMANDS[args.command](args)
    except LabError as error:
        sys.stderr.write(f"REFUSED  {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the next `up` or `down` continues from here\n")
        return 130
