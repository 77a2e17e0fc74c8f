# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request over a socket: bytes out, timed pieces in. Nothing is read while it runs."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import http_response as wire

CHAT = "/v1/chat/completions"


@dataclass
class Server:
    """Where requests go, and what goes with each of them."""

    base_url: str
    key: str = ""
    ca_file: str = ""
    silence: float = 120.0
    """Seconds without a byte that end a request as stalled."""
    limit: float = 600.0
    """Seconds for one whole request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    most: int = 256 << 20
    """Bytes of one answer; a longer one is broken off."""

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{self.base_url}: an address begins with http:// or https://")
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self.tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self.tls = ssl.create_default_context(cafile=self.ca_file or None)

    def request(self, path: str, body: Any = None, method: str = "", key: str | None = None) -> bytes:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        verb = method or ("GET" if body is None else "POST")
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"{verb} {self.prefix}{path} HTTP/1.1",
            f"Host: {host}:{self.port}",
            "Accept: */*",
            # One connection for each request: its end is the answer's end, and no pool can queue.
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        secret = self.key if key is None else key
        if secret:
            lines.append(f"Authorization: Bearer {secret}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


class Exchange(asyncio.Protocol):
    def __init__(self, request: bytes, over: asyncio.Future[None], most: int) -> None:
        self.request, self.over, self.left = request, over, most
        self.pieces: list[wire.Piece] = []
        self.begun = time.monotonic()
        self.broken = ""
        self.last = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0 and self.transport:
            self.broken = "too_long"
            self.transport.abort()
            return
        self.pieces.append((time.monotonic(), data))
        # The last chunk may come alone, and a header may end in the same digit.
        self.last = (self.last + data)[-len(wire.END_OF_CHUNKS) :]
        if self.last == wire.END_OF_CHUNKS and self.transport:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc:
            self.broken = "reset"
        if not self.over.done():
            self.over.set_result(None)


@dataclass
class Raw:
    """What is kept of a request until the load is over."""

    begun: float
    ended: float
    pieces: list[wire.Piece]
    trouble: str = ""
    said: str = ""

    def read(self, stall: float = 0.0) -> wire.Reply:
        reply = wire.read(self.pieces, self.begun, self.ended, self.trouble, stall)
        if self.said and not reply.said:
            reply.said = self.said
        return reply


async def send(server: Server, request: bytes) -> Raw:
    """Never raises for what a server or a network may do."""
    loop = asyncio.get_running_loop()
    begun = time.monotonic()
    over: asyncio.Future[None] = loop.create_future()
    try:
        _transport, exchange = await asyncio.wait_for(
            loop.create_connection(
                lambda: Exchange(request, over, server.most), server.host, server.port, ssl=server.tls
            ),
            min(server.silence, 30.0),
        )
    except (OSError, ssl.SSLError, asyncio.TimeoutError) as error:
        return Raw(begun, time.monotonic(), [], "connect", str(error) or type(error).__name__)
    trouble = ""
    while not over.done():
        now = time.monotonic()
        heard = exchange.pieces[-1][0] if exchange.pieces else begun
        left = min(heard + server.silence, begun + server.limit) - now
        if left <= 0:
            trouble = "stall" if now < begun + server.limit else "timeout"
            if exchange.transport:
                exchange.transport.abort()
            break
        await asyncio.wait({over}, timeout=left)
    return Raw(begun, time.monotonic(), exchange.pieces, trouble or exchange.broken)


def ask(server: Server, path: str, body: Any = None, **how: Any) -> wire.Reply:
    """One request by itself, read at once."""
    return asyncio.run(send(server, server.request(path, body, **how))).read()


def ask_all(server: Server, path: str, bodies: list[Any]) -> list[wire.Reply]:
    """All at the same time."""

    async def together() -> list[Raw]:
        return list(await asyncio.gather(*(send(server, server.request(path, body)) for body in bodies)))

    return [raw.read() for raw in asyncio.run(together())]


def chat(
    model: str, messages: list[dict[str, Any]], tokens: int, stream: bool, **more: Any
) -> dict[str, Any]:
    body = {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0, **more}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body
