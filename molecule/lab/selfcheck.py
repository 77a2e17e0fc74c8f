# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves that the lab leads nowhere, and that the counts would show it if somebody tried."""

from __future__ import annotations

import socket
from typing import Any

from . import egress, network
from .lab import Lab
from .problems import LabError, say
from .processes import read_json, run, write_json

# Reserved for documentation (RFC 5737, RFC 3849): on no network is anybody there.
ELSEWHERE = ("192.0.2.1", "2001:db8::1")
ATTEMPT = (
    "import socket\n"
    "for address in {addresses}:\n"
    "    try: socket.create_connection((address, 443), timeout=2); print('REACHED', address)\n"
    "    except OSError: pass\n"
)


def check(lab: Lab) -> None:
    """Tries to leave from the controller and from each running host; the counts stay as they were."""
    marked = read_json(lab.paths.egress)
    before = lab.counts()
    reached = _from_controller(lab)
    running = [host for host in lab.hosts.values() if host.running and not host.paths.cut.exists()]
    for host in running:
        script = ATTEMPT.format(addresses=ELSEWHERE)
        reached += [
            f"{host.name}: {line}" for line in host.ssh("python3 -", text_input=script).stdout.splitlines()
        ]
    if reached:
        raise LabError("the lab is NOT closed:\n  " + "\n  ".join(reached))
    say(lab.spec.name, f"no way out, from the controller and {len(running)} hosts")
    rose = egress.difference(lab.counts(), before)
    silent = [
        name for name in (egress.CONTROLLER, *(h.name for h in running)) if not rose["attempts"].get(name)
    ]
    if lab.spec.route == "dead-end":
        silent = [name for name in silent if name == egress.CONTROLLER]
    if silent:
        raise LabError(
            f"the attempts of {', '.join(silent)} were not counted, so a count of 0 would prove nothing here"
        )
    if rose["frames"] == 0:
        raise LabError("the bridge did not count a frame that was addressed elsewhere")
    say(
        lab.spec.name,
        "every attempt was counted" + ("" if rose["frames"] else "; frames are not counted here"),
    )
    _restore(lab, before, marked)


def _from_controller(lab: Lab) -> list[str]:
    """Without a route, and once with one that a program might have made up."""

    def attempt() -> list[str]:
        reached = []
        for address in ELSEWHERE:
            try:
                socket.create_connection((address, 443), timeout=1).close()
                reached.append(f"controller: REACHED {address}")
            except OSError:
                continue
        return reached

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"lab", (ELSEWHERE[0], 443))

    namespace, device = lab.paths.namespace, network.bridge(0)
    reached = network.inside(namespace, attempt)
    # A neighbour that needs no answer, so that exactly one frame goes out and none later.
    run(["ip", "-n", namespace, "route", "replace", f"{ELSEWHERE[0]}/32", "dev", device])
    run(
        [
            "ip",
            "-n",
            namespace,
            "neighbour",
            "replace",
            ELSEWHERE[0],
            "lladdr",
            "02:00:00:00:00:01",
            "dev",
            device,
        ]
    )
    try:
        network.inside(namespace, send)
    finally:
        run(["ip", "-n", namespace, "neighbour", "delete", ELSEWHERE[0], "dev", device])
        run(["ip", "-n", namespace, "route", "delete", f"{ELSEWHERE[0]}/32"])
    return reached


def _restore(lab: Lab, before: dict[str, Any], marked: dict[str, Any] | None) -> None:
    """Moves the mark by what this check itself added."""
    now = lab.counts()
    mark = marked or {"frames": 0, "tried": {}, "attempts": {}}
    added = egress.difference(now, before)

    def moved(key: str) -> dict[str, int]:
        names = {*mark[key], *added[key]}
        return {name: mark[key].get(name, 0) + added[key].get(name, 0) for name in names}

    frames = (mark["frames"] or 0) + (added["frames"] or 0)
    write_json(lab.paths.egress, {"frames": frames, "tried": moved("tried"), "attempts": moved("attempts")})
