#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_network
short_description: Configure the ports of the fabric, with automatic revert
description:
  - Writes the files that the plan made for the host's own network manager and lets the manager take them over.
  - A timer is armed before the change. It brings everything back unless the module is called again with
    O(state=confirmed) over a new connection within O(seconds). A host that reboots in between goes back too.
  - Refuses the interface by which the host is reached, one that is not there, and an address that somebody else on the
    link answers for (ARP).
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description: V(confirmed) keeps what V(present) changed. V(absent) brings back what was before the first change.
    type: str
    choices: [present, confirmed, absent]
    default: present
  ports:
    description: Each with C(netdev), C(address) with its prefix length, and C(mtu).
    type: list
    elements: dict
    default: []
  network:
    description: Files and commands, C(fabric.network) of the plan.
    type: dict
    default: {}
  folder:
    description: Where C(guard.py) lies and what was before is kept.
    type: path
    default: /etc/sglang/fabric
  seconds:
    description: Until the change goes back.
    type: int
    default: 60
attributes:
  check_mode:
    description: Says what would change, after the same refusals.
    support: full
  diff_mode:
    description: Shows files, addresses and MTU.
    support: full
"""

EXAMPLES = r"""
- name: Apply the addresses and MTU of the fabric
  baremetal.sglang.fabric_network:
    ports: "{{ plan_of_host.fabric.ports }}"
    network: "{{ plan_of_host.fabric.network }}"
"""

RETURN = r"""
differs:
  description: Where the host was not as wanted.
  returned: always
  type: list
  elements: str
"""

import glob
import json
import os
import socket
import stat
import struct
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric.network import (
    OURS,
    differences,
    refusals,
    restorable,
    wanted_words,
    words,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.fabric import default_interfaces
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.network import parse_ip_json

APPLY = "sglang-fabric-apply"
UNDO = "sglang-fabric-undo"
SETTLE_SECONDS = 30
ARP = 0x0806


def read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return {"text": stream.read(), "mode": stat.S_IMODE(os.fstat(stream.fileno()).st_mode)}
    except FileNotFoundError:
        return None


def owner_of(netdev: str, address: str, seconds: float = 1.0) -> str:
    """The hardware address that answers for an address on this link, by an ARP probe; "" when nobody does."""
    with open(f"/sys/class/net/{netdev}/address", encoding="ascii") as stream:
        mine = bytes.fromhex(stream.read().strip().replace(":", ""))
    if len(mine) != 6:
        return ""
    asked = socket.inet_aton(address)
    frame = b"\xff" * 6 + mine + struct.pack("!HHHBBH", ARP, 1, 0x0800, 6, 4, 1)
    frame += mine + bytes(4) + bytes(6) + asked
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP)) as link:
        link.bind((netdev, ARP))
        for _try in range(2):
            link.send(frame)
            end = time.monotonic() + seconds / 2
            while time.monotonic() < end:
                link.settimeout(max(end - time.monotonic(), 0.01))
                try:
                    answer = link.recv(2048)
                except (socket.timeout, OSError):
                    break
                if answer[28:32] == asked and answer[22:28] != mine:
                    return answer[22:28].hex(":")
    return ""


class Change:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.folder = module.params["folder"]
        self.ports = module.params["ports"]
        self.network = {"files": [], "apply": [], "before_undo": [], "undo": [], **module.params["network"]}
        self.pending = os.path.join(self.folder, "pending.json")
        self.first = os.path.join(self.folder, "before.json")
        self.guard = os.path.join(self.folder, "guard.py")

    def run(self, command: list[str], check: bool = True) -> str:
        rc, out, err = self.module.run_command(command)
        if rc and check:
            self.module.fail_json(msg=f"{' '.join(command)} failed: {err.strip() or out.strip()}")
        return out

    def live(self) -> dict[str, Any]:
        found = {entry["name"]: entry for entry in parse_ip_json(self.run(["ip", "-j", "address"]))}
        for row in json.loads(self.run(["ip", "-j", "link"]) or "[]"):
            found.setdefault(row["ifname"], {})["up"] = "UP" in row.get("flags", ())
        return found

    def files(self) -> dict[str, Any]:
        """Path -> what is there and what should be; None is nothing."""
        wanted = {item["path"]: item for item in self.network["files"]}
        there = {path for pattern in OURS for path in glob.glob(pattern)}
        found = {}
        for path in sorted(there | set(wanted)):
            item = wanted.get(path)
            after = {"text": item["content"], "mode": int(item["mode"], 8)} if item else None
            found[path] = (read(path), after)
        return found

    def write(self, path: str, document: Any) -> None:
        handle = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(document, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(f"{path}.part", path)

    def refuse(self, live: dict[str, Any]) -> None:
        route = read("/proc/net/route")
        ours = (os.environ.get("SSH_CONNECTION") or "").split()
        found = refusals(
            self.ports,
            live,
            default_interfaces(route["text"] if route else ""),
            ours[2] if len(ours) == 4 else "",
        )
        for port in self.ports:
            entry = live.get(port["netdev"])
            if found or entry is None or port["address"] in entry.get("addresses", ()):
                continue
            if not entry.get("up") and not self.module.check_mode:
                self.run(["ip", "link", "set", "dev", port["netdev"], "up"])
                time.sleep(1)
            address = port["address"].partition("/")[0]
            other = owner_of(port["netdev"], address) if entry.get("up") or not self.module.check_mode else ""
            if other:
                found.append(
                    f"{address} on {port['netdev']} is already used by another host of this link ({other}): "
                    "give this one another address in fabric_addresses"
                )
        if found:
            self.module.fail_json(msg="REFUSED  nothing was changed. " + "; ".join(found))

    def arm(self, files: dict[str, Any], live: dict[str, Any]) -> None:
        apply = [self.network["apply"], self.network["before_undo"], self.network["undo"]]
        pending = {
            "files": {path: before for path, (before, _after) in files.items()},
            "live": restorable(self.ports, live),
            "mtu": {port["netdev"]: port["mtu"] for port in self.ports if port["mtu"]},
            **dict(zip(("apply", "before_undo", "undo"), apply)),
        }
        self.remember(pending)
        self.write(self.pending, pending)
        for unit in (f"{UNDO}.timer", f"{UNDO}.service", f"{APPLY}.service"):
            self.run(["systemctl", "stop", unit], check=False)
            self.run(["systemctl", "reset-failed", unit], check=False)
        words = ["systemd-run", "--quiet", "--collect"]
        self.run(
            [
                *(*words, f"--unit={UNDO}", f"--on-active={self.module.params['seconds']}"),
                *("--timer-property=AccuracySec=1s", sys.executable, self.guard, "undo", self.folder),
            ]
        )

    def remember(self, pending: dict[str, Any]) -> None:
        """What absent brings back, however many changes there were: the first state of each port."""
        known = read(self.first)
        first = json.loads(known["text"]) if known else {"live": {}}
        live = {**pending["live"], **first["live"]}
        self.write(self.first, {**pending, "files": {}, "live": live})

    def undo(self) -> None:
        self.run([sys.executable, self.guard, "undo", self.folder], check=False)
        self.run(["systemctl", "stop", f"{UNDO}.timer"], check=False)

    def start(self, files: dict[str, Any]) -> None:
        for path, (_before, after) in files.items():
            if after is None:
                os.unlink(path)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(after["text"])
                os.fchmod(stream.fileno(), after["mode"])
            os.replace(f"{path}.part", path)
        # Detached: a connection that breaks must not stop the change halfway.
        self.run(
            [
                *(
                    "systemd-run",
                    "--quiet",
                    "--no-block",
                    f"--unit={APPLY}",
                    "--property=RemainAfterExit=yes",
                ),
                *(sys.executable, self.guard, "apply", self.folder),
            ]
        )

    def refuse_undone(self) -> None:
        """Fails where the change went back by itself."""
        if os.path.exists(self.pending):
            return
        undone = os.path.join(self.folder, "undone.json")
        why = f" (what it was: {undone})" if os.path.exists(undone) else ""
        self.module.fail_json(
            msg="the new network of this host went back by itself: it was not reached again within "
            f"{self.module.params['seconds']} s{why}. The old one is in place; look at the addresses that "
            "fabric_addresses gives, and at netmasks and routes that overlap with the way to this host. Where hosts "
            "are many or slow, give them more time: fabric_guard_seconds"
        )

    def applied(self) -> bool:
        shown = self.run(
            ["systemctl", "show", f"{APPLY}.service", "--property=SubState", "--value"], check=False
        )
        return shown.strip() in ("exited", "dead", "failed")


def present(module: AnsibleModule) -> None:
    change = Change(module)
    stale = os.path.exists(change.pending)
    if stale and not module.check_mode:
        # A run was cut off before it confirmed: what was before it is what this one may go back to.
        change.undo()
    live = change.live()
    files = {path: pair for path, pair in change.files().items() if pair[0] != pair[1]}
    differs = differences(change.ports, live)
    changed = bool(files or differs or stale)
    diff = [
        {
            "before": before["text"] if before else "",
            "after": after["text"] if after else "",
            "before_header": path,
            "after_header": path,
        }
        for path, (before, after) in files.items()
    ]
    if differs:
        diff.append(
            {
                "before": words(change.ports, live),
                "after": wanted_words(change.ports, live),
                "before_header": "live",
                "after_header": "live",
            }
        )
    if changed:
        change.refuse(live)
    if changed and not module.check_mode:
        change.arm(files, live)
        change.start(files)
    module.exit_json(changed=changed, differs=differs, diff=diff)


def confirmed(module: AnsibleModule) -> None:
    change = Change(module)
    change.refuse_undone()
    end = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < end and (not change.applied() or differences(change.ports, change.live())):
        time.sleep(0.3)
    differs = differences(change.ports, change.live())
    # The time may have run out while this waited.
    change.refuse_undone()
    if differs:
        log = change.run(
            ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={APPLY}", "--lines=10"],
            check=False,
        )
        change.undo()
        module.fail_json(
            msg=f"the network manager did not bring what was asked: {'; '.join(differs)}. "
            f"The old network is in place again. {log.strip()}",
            differs=differs,
        )
    os.unlink(change.pending)
    for unit in (f"{UNDO}.timer", f"{APPLY}.service"):
        change.run(["systemctl", "stop", unit], check=False)
    module.exit_json(changed=False, differs=[])


def absent(module: AnsibleModule) -> None:
    change = Change(module)
    first = read(change.first)
    files = {path: before for path, (before, _after) in change.files().items() if before}
    changed = bool(first or files)
    diff = [
        {"before": before["text"], "after": "", "before_header": path, "after_header": path}
        for path, before in files.items()
    ]
    if changed and not module.check_mode:
        before = json.loads(first["text"]) if first else {"live": {}, "mtu": {}, "apply": []}
        document = {"before_undo": [], "undo": [], **before, "files": dict.fromkeys(files)}
        change.write(change.pending, document)
        change.run([sys.executable, change.guard, "undo", change.folder])
        if first:
            os.unlink(change.first)
    module.exit_json(changed=changed, differs=[], diff=diff)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "confirmed", "absent"], "default": "present"},
            "ports": {"type": "list", "elements": "dict", "default": []},
            "network": {"type": "dict", "default": {}},
            "folder": {"type": "path", "default": "/etc/sglang/fabric"},
            "seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    {"present": present, "confirmed": confirmed, "absent": absent}[module.params["state"]](module)


if __name__ == "__main__":
    main()
