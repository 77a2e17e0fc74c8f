# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second load client that shares no code with the collection's: streams of /generate over asyncio, token numbers given.

Prints one JSON object: tokens a second, time to the first token and between tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from typing import Any


async def one(port: int, prompt: list[int], output: int, strict: bool = True) -> dict[str, Any]:
    body = json.dumps(
        {
            "input_ids": prompt,
            "stream": True,
            "sampling_params": {"max_new_tokens": output, "ignore_eos": True, "temperature": 1.0},
        }
    ).encode()
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(
        b"POST /generate HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    first, last, tokens, whole = 0.0, began, 0, False
    while line := await reader.readline():
        if not line.startswith(b"data:"):
            continue
        if b"[DONE]" in line:
            whole = True
            break
        now = time.perf_counter()
        first = first or now
        last = now
        tokens = json.loads(line[5:]).get("meta_info", {}).get("completion_tokens", tokens)
    writer.close()
    if strict and not (whole and tokens):
        raise SystemExit(f"a stream ended after {tokens} tokens, and {'was' if whole else 'was not'} whole")
    between = (last - first) / (tokens - 1) if tokens > 1 else 0.0
    return {"tokens": tokens, "first": (first or began) - began, "between": between, "whole": whole}


async def load(
    port: int, streams: int, requests: int, prompt: int, output: int, seed: int, strict: bool = True
) -> dict[str, Any]:
    draw = random.Random(seed)
    waiting = [[draw.randrange(1000, 150000) for _number in range(prompt)] for _turn in range(requests)]
    done: list[dict[str, Any]] = []

    async def stream() -> None:
        while waiting:
            done.append(await one(port, waiting.pop(), output, strict))

    began = time.perf_counter()
    await asyncio.gather(*(stream() for _number in range(streams)))
    seconds = time.perf_counter() - began
    tokens = sum(item["tokens"] for item in done)
    return {
        "streams": streams,
        "requests": len(done),
        "whole": sum(item["whole"] for item in done),
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / seconds, 1),
        "first_ms": round(1000 * statistics.median(item["first"] for item in done), 1),
        "between_ms": round(1000 * statistics.median(item["between"] for item in done), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=1024)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--cut", action="store_true", help="a stream that is cut off is counted, not an error"
    )
    given = parser.parse_args()
    print(
        json.dumps(
            asyncio.run(
                load(
                    given.port,
                    given.streams,
                    given.requests,
                    given.prompt,
                    given.output,
                    given.seed,
                    not given.cut,
                )
            )
        )
    )


if __name__ == "__main__":
    main()
