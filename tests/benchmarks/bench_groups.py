# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a group of lab hosts that serve one model with the real engine: noticed when, whole again when, at what cost.

A cold start of the same group is 1.0. Each fault is made several times, then some at random, while a client talks to the
group. SGLANG_ENVIRONMENT may name an environment of the whole lock; else one is made from cached wheels.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "molecule"), str(REPOSITORY / "collections"), str(REPOSITORY)]

from tests.lab.conftest import tool
from tests.lab.group_hosts import Group

NOTICED, WEDGE_NOTICED, WHOLE, HANG = 15.0, 60.0, 1.5, 30.0
PATIENCE = 420.0
AWAY_SECONDS = 20.0
Made = Callable[[Group, str], None]


def signal_to(words: str, number: str) -> Made:
    return lambda group, host: group.ssh(host, f"kill -{number} {group.process(host, words)}") and None


def main_process(number: str) -> Made:
    return lambda group, host: (
        group.ssh(host, f"systemctl kill -s {number} --kill-who=main sglang-it") and None
    )


def fabric(*directions: str) -> Made:
    """The members' addresses are shut out; ssh, which comes from elsewhere, goes on."""

    def made(group: Group, host: str) -> None:
        others = ", ".join(address for name, address in group.addresses.items() if name != host)
        rules = [
            f"add chain inet cut {way} {{ type filter hook {way} priority -300; }}; "
            f"add rule inet cut {way} ip {'saddr' if way == 'input' else 'daddr'} {{ {others} }} drop"
            for way in directions
        ]
        group.ssh(host, f"nft 'add table inet cut; {'; '.join(rules)}'", check=True)

    return made


def mended(group: Group, host: str) -> None:
    group.ssh(host, "nft delete table inet cut", check=True)


def powered(group: Group, host: str) -> None:
    group.lab.power_on(host)


@dataclass(frozen=True)
class Fault:
    make: Made
    where: str
    """first or last: which member."""
    mend: Made | None = None
    limit: float = NOTICED


FAULTS = {
    **{
        f"kill -9 {what}, {where} host": Fault(make, where)
        for where in ("first", "last")
        for what, make in {
            "scheduler": signal_to("sglang::scheduler", "KILL"),
            "server": signal_to("sglang.launch_server", "KILL"),
            "launcher": signal_to("launcher /opt", "KILL"),
            "agent": main_process("KILL"),
        }.items()
    },
    "kill -9 detokenizer, first host": Fault(signal_to("sglang::detokenizer", "KILL"), "first"),
    "SIGSTOP scheduler, first host": Fault(
        signal_to("sglang::scheduler", "STOP"), "first", limit=WEDGE_NOTICED
    ),
    "SIGSTOP scheduler, last host": Fault(
        signal_to("sglang::scheduler", "STOP"), "last", limit=WEDGE_NOTICED
    ),
    "SIGSTOP agent, last host": Fault(main_process("STOP"), "last", limit=WEDGE_NOTICED),
    "power cut and back, last host": Fault(
        lambda group, host: group.lab.host(host).power_off(), "last", powered
    ),
    "power cut and back, first host": Fault(
        lambda group, host: group.lab.host(host).power_off(), "first", powered
    ),
    "reboot, last host": Fault(lambda group, host: group.lab.host(host).reboot() and None, "last"),
    "link down and up, last host": Fault(
        lambda group, host: group.lab.host(host).cut(),
        "last",
        lambda group, host: group.lab.host(host).join(),
    ),
    "fabric gone, ssh alive, last host": Fault(fabric("input", "output"), "last", mended),
    "fabric deaf, last host": Fault(fabric("input"), "last", mended),
    "fabric dumb, last host": Fault(fabric("output"), "last", mended),
}


class Bench:
    def __init__(self, group: Group) -> None:
        self.group = group
        self.names = list(group.addresses)
        self.cold = 0.0
        self.right = ""

    def token(self) -> bool:
        """The one right answer, as the client's library gets it."""
        code = (
            "import json,urllib.request as r;q=r.Request('http://127.0.0.1:30000/v1/chat/completions',"
            "json.dumps({'model':'it','messages':[{'role':'user','content':'Tell me about racks.'}],"
            "'temperature':0,'max_tokens':12,'chat_template_kwargs':{'enable_thinking':False}}).encode(),"
            "{'Content-Type':'application/json'});m=json.load(r.urlopen(q,timeout=30))['choices'][0]['message'];"
            "print((m['content'] or '')+(m.get('reasoning_content') or ''))"
        )
        text = self.group.ssh(self.group.first, f'python3 -c "{code}" 2>/dev/null')
        self.right = self.right or text
        return bool(text) and text == self.right

    def whole(self, generation: int) -> None:
        self.group.serving(generation, PATIENCE)
        end = time.monotonic() + 30
        while not self.token():
            assert time.monotonic() < end, "all members serve, and the answer is not the right one"

    def cold_start(self) -> float:
        self.group.stop()
        generation = self.group.generation() + 1
        begun = time.monotonic()
        for host in self.names:
            self.group.ssh(host, "systemctl start --no-block sglang-it")
        self.whole(generation)
        return time.monotonic() - begun

    def notice(self, host: str, generation: int, limit: float) -> float:
        """Until a member that can be asked says that the generation is over."""
        begun = time.monotonic()
        asked = [name for name in self.names if name != host] or self.names
        while time.monotonic() - begun < limit + 20:
            for name in asked:
                state, said = self.group.status(name)
                if state != "active" or f"generation {generation} ended" in said:
                    return time.monotonic() - begun
            time.sleep(0.2)
        raise AssertionError(f"not noticed within {limit + 20:.0f} s\n{self.group.story()}")

    def run(self, name: str) -> dict[str, float]:
        fault = FAULTS[name]
        host = self.names[0 if fault.where == "first" else -1]
        generation = self.group.generation()
        begun = time.monotonic()
        fault.make(self.group, host)
        noticed = self.notice(host, generation, fault.limit)
        if fault.mend is not None:
            time.sleep(AWAY_SECONDS)
            begun = time.monotonic()
            fault.mend(self.group, host)
        self.whole(generation + 1)
        seconds = time.monotonic() - begun
        return {"noticed": noticed, "limit": fault.limit, "whole": seconds, "share": seconds / self.cold}


def shown(name: str, found: list[dict[str, float]]) -> tuple[str, bool]:
    noticed, share = max(item["noticed"] for item in found), max(item["share"] for item in found)
    good = noticed <= found[0]["limit"] and share <= WHOLE
    whole = statistics.median(item["whole"] for item in found)
    return f"{name:40} {noticed:8.1f} s {whole:8.0f} s {share:8.2f}  {'' if good else 'MISSED'}", good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--random", type=int, default=20, help="so many more, of any kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), help="part of a name is enough")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chosen = [name for name in FAULTS if any(part in name for part in given.faults)]
    folder = Path(tempfile.mkdtemp(prefix="bench-groups-"))
    os.environ["BAREMETAL_LAB_DIR"] = str(folder / "labs")
    tool("images", "debian-12")
    addresses = {f"s{number}": f"10.97.0.{10 + number}" for number in range(1, given.members + 1)}
    # What one fault costs is measured: the pauses after several in an hour are another matter.
    group = Group(folder, f"bench-{os.getpid()}", addresses, {"restart": {"good_service_seconds": 1}})
    bench, result, good = Bench(group), dict[str, Any](), True
    try:
        group.up()
        group.apply()
        bench.whole(1)
        bench.cold = statistics.median(bench.cold_start() for _number in range(min(given.rounds, 3)))
        print(f"cold start of {given.members} hosts: {bench.cold:.0f} s = 1.0", flush=True)
        print(f"{'fault':40} {'noticed':>10} {'whole':>10} {'of cold':>8}", flush=True)
        group.talk()
        for name in chosen:
            found = [bench.run(name) for _number in range(given.rounds)]
            line, fine = shown(name, found)
            good = good and fine
            result[name] = found
            print(line, flush=True)
        dice = random.Random(given.seed)
        for _number in range(given.random):
            name = dice.choice(list(FAULTS))
            line, fine = shown(f"random: {name}", [bench.run(name)])
            good = good and fine
            print(line, flush=True)
        answers = group.heard()
        group.stop()
        left = group.left_over()
        good = told(answers, left, bench.right) and good
    finally:
        group.down()
    if given.json:
        given.json.write_text(
            json.dumps({"cold": bench.cold, "faults": result, "answers": len(answers)}, indent=2)
        )
    return 0 if good else 1


def told(answers: list[dict[str, Any]], left: dict[str, str], right: str) -> bool:
    """What the client saw over all faults, and what is left when all is stopped."""
    errors = [item for item in answers if "error" in item]
    unclean = [item for item in answers if "unclean" in item]
    wrong = {item["text"] for item in answers if "text" in item} - {right}
    longest = max((item["seconds"] for item in answers), default=0.0)
    kinds = sorted({item["error"] for item in errors})
    print(
        f"client: {len(answers)} questions, {len(errors)} errors ({', '.join(kinds)}), {len(unclean)} unclean, "
        f"{len(wrong)} wrong texts, longest {longest:.1f} s"
    )
    print(f"left over: {left or 'nothing'}")
    return not unclean and not wrong and longest <= HANG and not left


if __name__ == "__main__":
    sys.exit(main())
