# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our load client against a server of known truth in a process of its own: what it reports, up to how many streams it can
be believed, and what sampling costs. Needs two idle cores; no engine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "collections"), str(REPOSITORY)]

from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts, samples
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS

from tests.unit.fixtures.truth_server import TruthServer

THRESHOLDS = {
    "disagreement": 0.01, "ramp_seconds": 0.02, "stall_seconds": 3, "silence_seconds": 60, "request_seconds": 120,
    "point_seconds": 300, "client_cpu_share": 0.7, "client_lag_ms": 5,
}  # fmt: skip
TTFT, EACH, TOKENS = 0.05, 0.01, 256
MOST = 3.0
MOST_SAMPLING = 1.0


def serve(pipe: Any, per_chunk: tuple[int, ...]) -> None:
    with TruthServer(ttft=TTFT, each=EACH, per_chunk=per_chunk) as server:
        pipe.send(server.port)
        while pipe.recv() == "seen":
            pipe.send(list(server.seen))
            server.seen.clear()


def look_at_gpus() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    return subprocess.run(samples.GPU_QUERY, capture_output=True, text=True, check=True).stdout


def measured(port: int, streams: int, rounds: int, sample_seconds: float = 0) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        context = point.CheckContext(
            Server(f"http://127.0.0.1:{port}"), "truth", THRESHOLDS, folder, sample_seconds, look_at_gpus,
            prompts.Scale(4, 2), metric_names=METRICS,
        )  # fmt: skip
        load = {
            "kind": "load", "label": str(streams), "seed": time.monotonic_ns(), "input": 64, "output": TOKENS,
            "concurrency": streams, "requests": streams * rounds, "warm_up": 1,
        }  # fmt: skip
        return point.run(context, load)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    missed = []
    for per_chunk in ((1,), (3, 4)):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, per_chunk))
        process.start()
        port = ours.recv()
        for streams in options.streams:
            record = measured(port, streams, options.rounds)
            ours.send("seen")
            # What the scale and the warm-up asked for came before.
            seen = ours.recv()[-streams * options.rounds :]
            span = max(one.last for one in seen) - min(one.connected for one in seen)
            truth = {
                "tokens/s": streams * options.rounds * TOKENS / span,
                "first token": 1000 * statistics.median(one.first - one.connected for one in seen),
                "time per token": 1000
                * statistics.median(one.last - one.first for one in seen)
                / (TOKENS - 1),
            }
            said = {
                "tokens/s": record["output_tokens_per_second"],
                "first token": record["ttft_ms"]["median"],
                "time per token": record["tpot_ms"]["median"],
            }
            off = {name: 100 * (said[name] / truth[name] - 1) for name in truth}
            exact = record["tokens"]["completion_tokens"] == streams * options.rounds * TOKENS
            shown = ", ".join(f"{name} {value:+.1f} %" for name, value in off.items())
            print(f"{streams:4} streams, pieces of {per_chunk}: tokens {'exact' if exact else 'WRONG'}, {shown}; "
                  f"{record['client']['cpu_share']:.0%} of a core, {record['client']['lag_p99_ms']} ms late", flush=True)  # fmt: skip
            if not exact or max(abs(value) for value in off.values()) > MOST:
                missed.append(f"{streams} streams, {per_chunk}")
        if per_chunk == (1,):
            changes = []
            for number in range(6):
                order = (1.0, 0.0) if number % 2 == 0 else (0.0, 1.0)
                found = {seconds: measured(port, 16, 2, seconds) for seconds in order}
                rates = {seconds: one["output_tokens_per_second"] for seconds, one in found.items()}
                changes.append(100 * (rates[1.0] / rates[0.0] - 1))
            cost = max(0.0, -statistics.median(changes))
            print(
                f"sampling costs {cost:.2f} % of tokens/s; samples: {json.dumps(found[1.0]['samples']['summary'])}"
            )
            if cost > MOST_SAMPLING:
                missed.append("sampling")
        ours.send("end")
        process.join()
    if missed:
        raise SystemExit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
