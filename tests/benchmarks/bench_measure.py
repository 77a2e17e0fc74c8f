# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our load client beside a second one and the server's own counters, on a real engine; verify's time; what sampling costs.

SGLANG_ENVIRONMENT may name an environment of the whole lock; else one is made from cached wheels.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "molecule"), str(REPOSITORY / "collections"), str(REPOSITORY)]

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server

from tests.lab.conftest import tool, write_inventory
from tests.lab.engine_host import EngineHost, make_plan, publish_weights, real_environment

DATA = yaml.safe_load((REPOSITORY / "files/bench.yml").read_text(encoding="utf-8"))
WEIGHTS = "opt/sglang/weights/glm-4.7-tiny/local"
# A prompt that takes a while: what lies between the client's clock and the server's is the same few milliseconds for any.
INPUT, TOKENS, REQUESTS = 3072, 96, 8
MOST = {
    "tokens/s, against a second client %": 3.0,
    "first token, against a second client %": 3.0,
    "tokens, against the server's counter %": 0.0,
    "time per token, against the server's histogram %": 3.0,
    "first token, against the server's histogram %": 3.0,
    "quick verify s": 30.0,
    "sampling %": 1.0,
}
# http.client and usage: nothing in common with ours but the bodies. It asks until it is told to end.
SECOND = r"""
import http.client, json, os, sys, time
for body in json.load(sys.stdin):
    if os.path.exists("/tmp/enough"):
        break
    begun = time.time()
    link = http.client.HTTPConnection("127.0.0.1", 30000, timeout=120)
    link.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    first, tokens = None, 0
    for line in link.getresponse():
        if line.startswith(b"data: {"):
            chunk = json.loads(line[6:])
            for choice in chunk["choices"]:
                delta = choice["delta"]
                if delta.get("content") or delta.get("reasoning_content"):
                    first = first or time.time()
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    print(json.dumps({"begun": begun, "first": first, "ended": time.time(), "tokens": tokens}), flush=True)
"""


def load(seed: int) -> dict[str, Any]:
    return {
        "kind": "load", "label": "bench", "seed": seed, "input": INPUT, "output": TOKENS, "concurrency": 1,
        "requests": REQUESTS, "warm_up": 0, "body": {"ignore_eos": True},
    }  # fmt: skip


def ours(
    host: EngineHost, seed: int, scale: dict[str, float], sample_seconds: float = 0, alone: bool = True
) -> dict[str, Any]:
    arguments = {
        "url": "http://127.0.0.1:30000", "model": "tiny", "point": load(seed), "thresholds": DATA["thresholds"],
        "scale": scale, "sample_seconds": sample_seconds,
    }  # fmt: skip
    kept = host.inventory.with_name("record.json")
    output = host.tasks(
        [
            {"name": "Load", "baremetal.sglang.load_test": arguments, "register": "made"},
            {"name": "Keep", "ansible.builtin.copy": {"content": "{{ made.record | to_json }}", "dest": str(kept), "mode": "0600"},
             "delegate_to": "localhost", "vars": {"ansible_connection": "local"}},
        ]
    )  # fmt: skip
    if "failed=0" not in output:
        raise SystemExit(output[-3000:])
    record: dict[str, Any] = json.loads(kept.read_text())
    # The server counts what it gave to everybody.
    if (alone and not record["valid"]) or record["requests"]["good"] != REQUESTS:
        raise SystemExit(record["why"])
    return record


@contextlib.contextmanager
def second(host: EngineHost, seed: int, scale: dict[str, float]) -> Iterator[list[dict[str, float]]]:
    """The second client asks as long as the block runs; afterwards the list has what it saw."""
    context = point.CheckContext(
        Server("http://127.0.0.1:30000"), "tiny", DATA["thresholds"], "", scale=prompts.Scale(**scale)
    )
    bodies = [body.decode() for body in point.bodies(context, load(seed), 1000, "bench")]
    host.ssh(f"rm -f /tmp/enough; cat >/tmp/second.py <<'END'\n{SECOND}\nEND")
    asked, heard = host.inventory.with_name("asked.json"), host.inventory.with_name("heard.json")
    asked.write_text(json.dumps(bodies))
    words = ["ssh", "-F", host.lab.paths.ssh_config, "e1", "python3 /tmp/second.py"]
    found: list[dict[str, float]] = []
    with asked.open() as body, heard.open("w") as out:
        process = subprocess.Popen(words, stdin=body, stdout=out)
        try:
            yield found
        finally:
            host.ssh("touch /tmp/enough")
            process.wait(120)
    found += [json.loads(line) for line in heard.read_text().splitlines()]


def together(host: EngineHost, seed: int, scale: dict[str, float]) -> tuple[tuple[float, float], ...]:
    """(tokens/s, first token in ms) of both clients, at the same time: what the machine does, it does to both."""
    with second(host, 1000 + seed, scale) as all_of_it:
        record = ours(host, seed, scale, alone=False)
    ended = record["started"] + record["seconds"]
    seen = [one for one in all_of_it if one["begun"] >= record["started"] and one["ended"] <= ended]
    rate = sum(one["tokens"] for one in seen) / sum(one["ended"] - one["begun"] for one in seen)
    first = 1000 * statistics.median(one["first"] - one["begun"] for one in seen)
    return (record["output_tokens_per_second"], record["ttft_ms"]["median"]), (rate, first)


def off(mine: float, theirs: float) -> float:
    return 100 * (mine - theirs) / theirs


# Processor seconds that the server spends for one look at its metrics, while nobody asks it anything else.
SCRAPES = r"""
import os, sys, time, urllib.request
pids, ticks = sys.argv[1:], os.sysconf("SC_CLK_TCK")
def used():
    cells = [open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(cell[11]) + int(cell[12]) for cell in cells) / ticks
begun, before = time.monotonic(), used()
for _number in range(300):
    urllib.request.urlopen("http://127.0.0.1:30000/metrics").read()
seconds, asked = time.monotonic() - begun, used() - before
before = used()
time.sleep(seconds)
print(max(0.0, asked - (used() - before)) / 300)
"""


def sampling_cost(host: EngineHost, record: dict[str, Any]) -> float:
    """Per cent of the host's processors for one look a second: ours, and the server's part of it."""
    pids = " ".join(map(str, host.processes("tiny")))
    host.ssh(f"cat >/tmp/scrapes.py <<'END'\n{SCRAPES}\nEND")
    theirs = float(host.ssh(f"python3 /tmp/scrapes.py {pids}"))
    own = record["samples"]["cpu_seconds"] / record["seconds"]
    print(f"a look at server and host: {1000 * own:.1f} ms of ours, {1000 * theirs:.1f} ms of the server's")
    return 100 * (own + theirs) / (os.cpu_count() or 1)


def run(host: EngineHost, rounds: int) -> dict[str, float]:
    done = host.play("host engine")
    if done.returncode:
        raise SystemExit(done.stdout[-4000:])
    begun = time.monotonic()
    verified = host.play("verify")
    quick = time.monotonic() - begun
    if verified.returncode:
        raise SystemExit(verified.stdout[-4000:])
    print("\n".join(line for line in verified.stdout.splitlines() if "passed," in line or "FAILED" in line))
    scale = dict(ours(host, 1, None)["scale"])  # type: ignore[arg-type]
    records, rates, firsts = [], [], []
    for number in range(rounds):
        records.append(ours(host, 100 + number, scale))
        mine, theirs = together(host, 200 + number, scale)
        rates.append(off(mine[0], theirs[0]))
        firsts.append(off(mine[1], theirs[1]))
        words = [f"{rate:.1f} tokens/s, {first:.1f} ms" for rate, first in (mine, theirs)]
        counted = records[-1]["server"]
        print(
            f"round {number + 1}: ours {words[0]}; second, at the same time, {words[1]}; alone, first token "
            f"{records[-1]['ttft_ms']['mean']:.1f} ms, by the server's histogram {counted['ttft_ms']:.1f}", flush=True,
        )  # fmt: skip
    middle = statistics.median
    return {
        "tokens/s, against a second client %": abs(middle(rates)),
        "first token, against a second client %": abs(middle(firsts)),
        "tokens, against the server's counter %": max(
            abs(100 * record["server"]["off"]) for record in records
        ),
        "time per token, against the server's histogram %": abs(
            middle(
                off(record["tpot_ms"]["mean"], record["server"]["between_tokens_ms"]) for record in records
            )
        ),
        "first token, against the server's histogram %": abs(
            middle(off(record["ttft_ms"]["mean"], record["server"]["ttft_ms"]) for record in records)
        ),
        "quick verify s": quick,
        "sampling %": sampling_cost(host, ours(host, 500, scale, 1.0)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    # One that is told to end takes its host away too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
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
            {"e1": {"ansible_host": "10.90.4.11",
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
        print(f"{name:52} {value:6.2f}  <= {MOST[name]}")
    missed = [name for name, value in found.items() if value > MOST[name]]
    if missed:
        raise SystemExit(f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
