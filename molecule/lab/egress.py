# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tried to leave the lab. Two counts that do not depend on each other:

`attempts`: each host's own kernel, and the controller's, counts every packet for which it had no
route (IpOutNoRoutes). It needs no route to be there, so it is the count for a lab without one.
`frames`: the bridge counts every frame that is not addressed to the lab, and remembers from whom it
came and where it wanted to go. It sees whatever a host sends, by whichever route the host made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import network
from .paths import HostPaths, LabPaths
from .processes import read_json, run, write_json

CONTROLLER = "controller"


def no_routes(snmp: str, snmp6: str) -> int:
    """Packets without a route, from a kernel's /proc/net/snmp and snmp6."""
    rows = [line.split() for line in snmp.splitlines() if line.startswith("Ip:")]
    four = int(dict(zip(rows[0], rows[1], strict=True)).get("OutNoRoutes", "0")) if len(rows) == 2 else 0
    six = [line.split()[1] for line in snmp6.splitlines() if line.startswith("Ip6OutNoRoutes")]
    return four + sum(map(int, six))


def count_in(namespace: str) -> int:
    if not network.exists(namespace):
        return 0

    def read() -> int:
        own = Path("/proc/thread-self/net")
        six = own / "snmp6"
        return no_routes((own / "snmp").read_text(), six.read_text() if six.exists() else "")

    try:
        return network.inside(namespace, read)
    except OSError:
        return 0  # ended between the two looks


def keep_attempts(paths: HostPaths) -> None:
    """Adds the counts of a boot that is over, before its network namespace goes."""
    now = count_in(paths.namespace)
    if now:
        write_json(paths.attempts, (read_json(paths.attempts) or 0) + now)
        network.remove(paths.namespace)


def attempts(paths: HostPaths, guest_counts: str | None = None) -> int:
    before = read_json(paths.attempts) or 0
    if guest_counts is not None:
        snmp, _unused, snmp6 = guest_counts.partition("---\n")
        return int(before) + no_routes(snmp, snmp6)
    return int(before) + count_in(paths.namespace)


def frames(paths: LabPaths) -> tuple[int | None, dict[str, int]]:
    """The bridge's count, and packets by `sender -> destination`; None where the kernel cannot count."""
    done = run(
        ["ip", "netns", "exec", paths.namespace, "nft", "-j", "list", "table", "bridge", "lab"], check=False
    )
    if done.returncode != 0:
        return None, {}
    return parse_table(json.loads(done.stdout))


def parse_table(table: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """The same from nft's JSON."""
    total, tried = 0, {}
    for item in table["nftables"]:
        if item.get("counter", {}).get("name") == "left":
            total = int(item["counter"]["packets"])
        name = item.get("set", {}).get("name")
        for element in item.get("set", {}).get("elem", []):
            if "elem" not in element:
                continue
            words = [str(word) for word in element["elem"]["val"]["concat"]]
            tried[_sentence(name, words)] = int(element["elem"].get("counter", {}).get("packets", 0))
    return total, tried


def _sentence(kind: str, words: list[str]) -> str:
    start = f"{words[0]} -> {words[1]}"
    if kind == "names":
        return f"{words[0]} asked for a name (DNS)"
    if kind == "asked":
        return f"{start} (ARP)"
    return f"{start} {words[2]}" + (f" port {words[3]}" if len(words) > 3 else "")


def difference(now: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """What came since a marked moment."""
    before = before or {"frames": 0, "attempts": {}, "tried": {}}

    def since(key: str) -> dict[str, int]:
        counts = {name: count - before[key].get(name, 0) for name, count in now[key].items()}
        return {name: count for name, count in counts.items() if key == "attempts" or count > 0}

    frames_now = now["frames"]
    return {
        "frames": None if frames_now is None else frames_now - (before["frames"] or 0),
        "attempts": since("attempts"),
        "tried": since("tried"),
    }


def nothing_left(counts: dict[str, Any]) -> bool:
    return not counts["frames"] and not any(counts["attempts"].values()) and not counts["tried"]


def lines(counts: dict[str, Any]) -> list[str]:
    """For people."""
    seen = "not counted here (no nftables for bridges)" if counts["frames"] is None else str(counts["frames"])
    text = [f"frames that tried to leave the lab's network: {seen}", "packets for which there was no route:"]
    text += [f"  {name}: {count}" for name, count in sorted(counts["attempts"].items())]
    if counts["tried"]:
        text.append("who tried what:")
        text += [f"  {what}: {count}" for what, count in sorted(counts["tried"].items())]
    text.append("Nothing tried to leave." if nothing_left(counts) else "Something TRIED TO LEAVE.")
    return text
