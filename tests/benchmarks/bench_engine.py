# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real engine on a lab host, through its unit and started by hand: speed, the launcher's own cost, and a kill.

SGLANG_ENVIRONMENT may name an environment of the whole lock; else one is made from cached wheels.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "molecule"), str(REPOSITORY / "collections"), str(REPOSITORY)]

from tests.lab.conftest import tool, write_inventory
from tests.lab.engine_host import EngineHost, make_plan, publish_weights, real_environment

ROUNDS = 3
# At least; at most for those that follow.
FLOORS = {"tokens/s, unit / by hand": 0.98, "time to first token, by hand / unit": 0.98}
CEILINGS = {"kill -9 to token / cold start": 1.2, "resident MB": 40, "CPU %": 1}
WEIGHTS = "opt/sglang/weights/glm-4.7-tiny/local"
# On the host: eight requests, two at a time, of 96 tokens each.
ASK = r"""
import http.client, json, statistics, threading, time
first, tokens = [], []
def ask():
    for number in range(4):
        begun = time.monotonic()
        link = http.client.HTTPConnection("127.0.0.1", 30000, timeout=120)
        body = {"text": "Tell me about racks.", "stream": True,
                "sampling_params": {"max_new_tokens": 96, "ignore_eos": True, "temperature": 0}}
        link.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        answer, seen, count = link.getresponse(), None, 0
        for line in answer:
            if line.startswith(b"data: {"):
                seen = seen or time.monotonic()
                count = json.loads(line[6:])["meta_info"]["completion_tokens"]
        first.append(seen - begun)
        tokens.append(count)
begun = time.monotonic()
crowd = [threading.Thread(target=ask) for _ in range(2)]
[one.start() for one in crowd]
[one.join() for one in crowd]
spent = time.monotonic() - begun
print(json.dumps({"rate": sum(tokens) / spent, "ttft": statistics.median(first) * 1000}))
"""
READY = (
    "python3 -c \"import urllib.request as u;u.urlopen(u.Request('http://127.0.0.1:30000/generate',"
    'b\'{\\"text\\":\\"a\\",\\"sampling_params\\":{\\"max_new_tokens\\":1}}\','
    "{'Content-Type':'application/json'}),timeout=60)\""
)


def until_token(host: EngineHost) -> float:
    begun = time.monotonic()
    while host.lab.host("e1").ssh(READY, check=False).returncode != 0:
        if time.monotonic() - begun > 400:
            raise SystemExit(host.ssh("journalctl -u sglang-tiny -n 40", check=False))
        time.sleep(0.3)
    return time.monotonic() - begun


def measure(host: EngineHost) -> dict[str, float]:
    def ask() -> dict[str, float]:
        return dict(json.loads(host.lab.host("e1").ssh("python3 -", text_input=ASK).stdout))

    ask()  # warm
    found = [ask() for _number in range(3)]
    return {key: statistics.median(item[key] for item in found) for key in found[0]}


def by_hand(host: EngineHost) -> dict[str, float]:
    launch = json.loads(host.ssh("cat /opt/sglang/current/tiny/launch.json"))
    variables = [f"{name}={value}" for name, value in launch["environment"].items()]
    words = ["env", "-i", *variables, "setpriv", "--reuid", "sglang", "--regid", "sglang", "--clear-groups",
             *launch["argv"]]  # fmt: skip
    host.ssh(f"cd /var/lib/sglang/tiny; setsid {shlex.join(words)} >/tmp/by-hand.log 2>&1 </dev/null &")
    until_token(host)
    found = measure(host)
    host.ssh("pkill -KILL -u sglang; sleep 1; rm -f /dev/shm/*", check=False)
    return found


def launcher_cost(host: EngineHost) -> dict[str, float]:
    pid = host.show("tiny", "MainPID")["MainPID"]

    def ticks() -> int:
        return sum(map(int, host.ssh(f"cut -d' ' -f14,15 /proc/{pid}/stat").split()))

    before, begun = ticks(), time.monotonic()
    measure(host)
    busy = (ticks() - before) / (time.monotonic() - begun)
    resident = int(host.ssh(f"awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status")) / 1024
    return {"resident MB": resident, "CPU %": busy}


def run(host: EngineHost, rounds: int) -> dict[str, Any]:
    done = host.play("host engine")
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    until_token(host)
    cost = launcher_cost(host)
    host.ssh("systemctl stop sglang-tiny")
    unit, hand, cold, killed = [], [], [], []
    for number in range(rounds):
        begun = time.monotonic()
        host.ssh("systemctl start --no-block sglang-tiny")
        until_token(host)
        cold.append(time.monotonic() - begun)
        unit.append(measure(host))
        begun = time.monotonic()
        host.ssh(f"kill -KILL {host.process('tiny', 'sglang::scheduler')}")
        time.sleep(1.5)
        until_token(host)
        killed.append(time.monotonic() - begun)
        host.ssh("systemctl stop sglang-tiny")
        hand.append(by_hand(host))
        print(f"round {number + 1}: unit {unit[-1]}, by hand {hand[-1]}, cold {cold[-1]:.1f} s, "
              f"after kill -9 {killed[-1]:.1f} s", flush=True)  # fmt: skip
    middle = statistics.median
    return {
        "tokens/s, unit / by hand": middle(one["rate"] for one in unit) / middle(one["rate"] for one in hand),
        "time to first token, by hand / unit": middle(one["ttft"] for one in hand)
        / middle(one["ttft"] for one in unit),
        "kill -9 to token / cold start": middle(killed) / middle(cold),
        **cost,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["BAREMETAL_LAB_DIR"] = str(folder / "lab")
        driver = folder / "driver/usr/lib/x86_64-linux-gnu"
        subprocess.run(
            ["/usr/bin/python3", REPOSITORY / "molecule/lab/stub_driver/build.py", driver], check=True
        )
        inventory = write_inventory(
            folder,
            f"bench-{os.getpid()}",
            {"e1": {"ansible_host": "10.90.3.11",
                    "lab": {"kind": "nspawn", "image": "debian-12", "layers": [str(folder / "driver")],
                            "binds": real_environment(folder)}}},
        )  # fmt: skip
        tool("images", "debian-12")
        from lab import Lab

        lab = Lab.from_inventory(inventory)
        lab.up()
        try:
            plan = make_plan("e1")
            del plan["instances"]["toy"]
            host = EngineHost(lab, inventory, plan)
            publish_weights(host.root() / WEIGHTS)
            found = run(host, options.rounds)
        finally:
            lab.down()
    for name, value in found.items():
        bound = f">= {FLOORS[name]}" if name in FLOORS else f"<= {CEILINGS[name]}"
        print(f"{name:40} {value:6.2f}  {bound}")
    missed = [
        name
        for name, value in found.items()
        if value < FLOORS.get(name, 0) or value > CEILINGS.get(name, 1e9)
    ]
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
