# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams tokens as the engine does, at a pace that the request names; stands in where only the way there is looked at.

    streaming_engine.py PORT [NAME] [BEHAVIOUR]

BEHAVIOUR is a file that says how it goes: nothing or `serving`; `starting` and `draining` answer 503 as the real one
does; `wedged` answers no health request, and a completion with 200 and no token. Each token carries the clock of its
making, so that a client on the same machine knows how long it was on its way.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

METRICS = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{model_name="{name}"}} {running}
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{model_name="{name}"}} 0
# TYPE sglang:token_usage gauge
sglang:token_usage{{model_name="{name}"}} 0.25
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{{model_name="{name}"}} 12.5
# TYPE sglang:spec_accept_length gauge
sglang:spec_accept_length{{model_name="{name}"}} 2.5
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{model_name="{name}"}} {tokens}
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{model_name="{name}"}} {requests}
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{{model_name="{name}"}} {requests}
# TYPE sglang:time_to_first_token_seconds histogram
sglang:time_to_first_token_seconds_bucket{{model_name="{name}",le="0.1"}} {requests}
sglang:time_to_first_token_seconds_bucket{{model_name="{name}",le="+Inf"}} {requests}
sglang:time_to_first_token_seconds_sum{{model_name="{name}"}} 0
sglang:time_to_first_token_seconds_count{{model_name="{name}"}} {requests}
# TYPE sglang:e2e_request_latency_seconds histogram
sglang:e2e_request_latency_seconds_bucket{{model_name="{name}",le="+Inf"}} {requests}
sglang:e2e_request_latency_seconds_sum{{model_name="{name}"}} 0
sglang:e2e_request_latency_seconds_count{{model_name="{name}"}} {requests}
"""


class Engine:
    def __init__(self, name: str, behaviour: str) -> None:
        self.name, self.behaviour_file = name, behaviour
        self.seen: list[dict[str, Any]] = []
        self.running = self.tokens = self.requests = 0

    def behaviour(self) -> str:
        if not self.behaviour_file:
            return "serving"
        try:
            with open(self.behaviour_file, encoding="utf-8") as stream:
                return stream.read().strip() or "serving"
        except OSError:
            return "serving"

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _version = head[0].split(" ")
        headers = {
            name.lower(): value.strip()
            for name, _colon, value in (line.partition(":") for line in head[1:] if line)
        }
        data = await body_of(reader, headers)
        if path not in ("/health_generate", "/seen", "/metrics"):
            self.seen.append({"method": method, "path": path, "headers": headers, "size": len(data)})
        how = self.behaviour()
        if path == "/health_generate":
            if how == "wedged":
                await asyncio.sleep(3600)
            plain(writer, 200 if how == "serving" else 503, b"")
        elif path == "/seen":
            plain(writer, 200, json.dumps(self.seen).encode())
        elif path == "/metrics":
            text = METRICS.format(
                name=self.name, running=self.running, tokens=self.tokens, requests=self.requests
            )
            plain(writer, 200, text.encode())
        elif method == "POST":
            await self.complete(json.loads(data or b"{}"), writer, how)
        else:
            plain(writer, 200, json.dumps({"engine": self.name, "path": path}).encode())
        await writer.drain()
        return True

    async def complete(self, asked: dict[str, Any], writer: asyncio.StreamWriter, how: str) -> None:
        count, pause = int(asked.get("max_tokens", 4)), float(asked.get("pause", 0.0))
        self.requests += 1
        if not asked.get("stream"):
            await asyncio.sleep(pause * count)
            plain(
                writer,
                200,
                json.dumps({"engine": self.name, "tokens": count, "model": asked.get("model")}).encode(),
            )
            return
        self.running += 1
        try:
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            if how == "wedged":
                await asyncio.sleep(3600)
            await asyncio.sleep(float(asked.get("before", 0.0)))
            for number in range(count):
                while number == count - 1 and asked.get("held") and not os.path.exists("/srv/enough"):
                    await asyncio.sleep(0.1)
                event = {"engine": self.name, "n": number, "at": time.monotonic()}
                chunk(writer, b"data: " + json.dumps(event).encode() + b"\n\n")
                self.tokens += 1
                await writer.drain()
                if pause:
                    await asyncio.sleep(pause)
            chunk(writer, b"data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
        finally:
            self.running -= 1


async def body_of(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        data = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            data += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return data
    return await reader.readexactly(int(headers.get("content-length", 0)))


def plain(writer: asyncio.StreamWriter, status: int, data: bytes) -> None:
    words = {200: "OK", 503: "Service Unavailable"}[status]
    writer.write(
        f"HTTP/1.1 {status} {words}\r\nServer: uvicorn\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
    )


def chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def main() -> None:
    port = int(sys.argv[1])
    engine = Engine(sys.argv[2] if len(sys.argv) > 2 else "tiny", sys.argv[3] if len(sys.argv) > 3 else "")
    server = await asyncio.start_server(engine.connection, "127.0.0.1", port, limit=2**26, backlog=4096)
    print(f"ready on {port}", flush=True)
    if os.environ.get("NOTIFY_SOCKET"):
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
            notify.sendall(b"READY=1")
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
