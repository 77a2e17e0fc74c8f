# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the gateway, well behaved and not; runs on the host itself with nothing but the standard library.

gateway_client.py ask|stream|around|paths|smuggle|slow|large|load|inner|admin  < JSON
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from typing import Any

HOST, PORT = "127.0.0.1", 443
CHAT = "/v1/chat/completions"


def context(*protocols: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile="/etc/sglang/gateway/tls/ca.crt")
    if protocols:
        made.set_alpn_protocols(list(protocols))
    return made


def connect(*protocols: str, timeout: float = 20) -> ssl.SSLSocket:
    raw = socket.create_connection((HOST, PORT), timeout=timeout)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context(*protocols).wrap_socket(raw, server_hostname="llm.example")


def connection() -> http.client.HTTPConnection:
    made = http.client.HTTPConnection(HOST, PORT, timeout=60)
    made.sock = connect("http/1.1", timeout=60)
    return made


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def request(path: str, key: str, body: Any = None, headers: Any = None) -> tuple[int, dict[str, str], bytes]:
    link = connection()
    data = None if body is None else json.dumps(body).encode()
    link.request("GET" if body is None else "POST", path, data, {**bearer(key), **(headers or {})})
    answer = link.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    link.close()
    return found


def second_version(path: str, key: str) -> int:
    """2 where a request over HTTP/2 gets 200; written out by hand, as no library for it is here."""

    def literal(name: str, value: str) -> bytes:
        return (
            b"\x00"
            + bytes([len(name)])
            + name.encode()
            + b"\x7f"
            + bytes([len(value) - 127])
            + value.encode()
            if len(value) >= 127
            else b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        )

    link = connect("h2", timeout=5)
    if link.selected_alpn_protocol() != "h2":
        return 1
    block = b"\x82\x87" + literal(":path", path) + literal(":authority", "llm.example")
    block += literal("authorization", f"Bearer {key}")
    frame = struct.pack(">I", len(block))[1:] + b"\x01\x05" + struct.pack(">I", 1) + block
    link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + frame)
    data = b""
    with contextlib.suppress(OSError):
        while piece := link.recv(65536):
            data += piece
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                size, kind = int.from_bytes(data[:3], "big"), data[3]
                if kind == 1:
                    return 2 if data[9] == 0x88 else 0
                data = data[9 + size :]
    return 0


def ask(path: str, key: str = "", body: Any = None, headers: Any = None) -> dict[str, Any]:
    status, said, data = request(path, key, body, headers)
    found: dict[str, Any] = {"status": status, "headers": said}
    with contextlib.suppress(ValueError):
        found["json"] = json.loads(data)
    if body is None and status == 200 and key:
        found["version"] = second_version(path, key)
    return found


def stream(
    key: str,
    tokens: int,
    pause: float = 0.0,
    before: float = 0.0,
    model: str = "tiny",
    padding: int = 0,
    held: bool = False,
    begun: threading.Event | None = None,
) -> dict[str, Any]:
    """One that is held gets its last token when /srv/enough is there."""
    body = {"messages": ["x" * padding], "model": model, "stream": True}
    body.update(max_tokens=tokens, pause=pause, before=before, held=held)
    link = connection()
    link.request("POST", CHAT, json.dumps(body).encode(), bearer(key))
    answer = link.getresponse()
    late, engine, count = [], "", 0
    if answer.status == 200:
        for line in answer:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                late.append(round((time.monotonic() - event["at"]) * 1000, 2))
                engine, count = event["engine"], count + 1
                if begun:
                    begun.set()
    link.close()
    return {"status": answer.status, "tokens": count, "engine": engine, "late_ms": late}


def around(key: str, tokens: int, pause: float) -> dict[str, Any]:
    """One stream, and another request of the same key while it runs."""
    found: dict[str, Any] = {}
    begun = threading.Event()
    thread = threading.Thread(target=lambda: found.update(stream(key, tokens, pause, begun=begun)))
    thread.start()
    begun.wait(300)
    second = request(CHAT, key, {"model": "tiny", "max_tokens": 1})[0]
    thread.join()
    return {**found, "second": second}


def raw(data: bytes, wait: float = 1.5) -> bytes:
    link = connect("http/1.1")
    link.settimeout(wait)
    said = b""
    # Who is refused in the middle of a body still hears why.
    with contextlib.suppress(OSError):
        link.sendall(data)
    with contextlib.suppress(OSError):
        while piece := link.recv(65536):
            said += piece
    link.close()
    return said


def statuses(said: bytes) -> list[int]:
    return [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]


def paths(key: str, paths: list[str]) -> dict[str, int]:
    found = {}
    for path in paths:
        for method in ("GET", "POST"):
            head = (
                f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n"
            )
            said = statuses(raw(head.encode() + b"Connection: close\r\n\r\n"))
            found[f"{method} {path}"] = said[0] if said else 0
    return found


def smuggle(key: str) -> dict[str, list[int]]:
    """Two meanings of where a request ends; what hides in the body must never become a request."""
    hidden = b"GET /server_info HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n".encode()
    body = b'{"model": "tiny", "max_tokens": 1}'
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    tries = {
        "length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(body)
        + chunks
        + hidden,
        "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunks + hidden,
        "two lengths": b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n" % len(body) + body + hidden,
        "blank before colon": b"Transfer-Encoding : chunked\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
        + hidden,
        "other word": b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
        + hidden,
        "folded": b"Transfer-Encoding:\r\n chunked\r\nContent-Length: %d\r\n\r\n" % len(body) + body + hidden,
        "bare newline": b"Content-Length: %d\nTransfer-Encoding: chunked\n\n" % len(body) + chunks + hidden,
        "length with a sign": b"Content-Length: +%d\r\n\r\n" % len(body) + body + hidden,
        "chunk with a tail": b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + hidden + b"\r\n",
        "nul in a header": b"X-A: \x00\r\nContent-Length: %d\r\n\r\n" % len(body) + body + hidden,
    }
    return {name: statuses(raw(head + data)) for name, data in tries.items()}


def drip(first: bytes, piece: bytes) -> float:
    """How long somebody may send a byte at a time."""
    link, began = connect("http/1.1"), time.monotonic()
    link.settimeout(0.5)
    link.sendall(first)
    while time.monotonic() - began < 15:
        try:
            link.sendall(piece)
            if not link.recv(4096):
                break
            break
        except (TimeoutError, ssl.SSLWantReadError):
            continue
        except OSError:
            break
    link.close()
    return round(time.monotonic() - began, 1)


def slow(key: str) -> dict[str, Any]:
    """Two hundred that never finish their headers, while somebody else asks."""
    idle = []
    for _number in range(200):
        link = connect("http/1.1")
        link.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n")
        idle.append(link)
    meanwhile = request("/v1/models", key)[0]
    for link in idle:
        link.close()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 1000\r\n\r\n"
    return {
        "headers": drip(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
        "body": drip(head.encode(), b"x"),
        "served_meanwhile": meanwhile,
    }


def large(key: str, mib: int, chunked: bool = False) -> dict[str, Any]:
    data = b'{"model": "tiny", "messages": ["' + b"x" * (mib * 2**20) + b'"]}'
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n".encode()
    if chunked:
        said = raw(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(data), data), 5)
    else:
        said = raw(head + b"Content-Length: %d\r\n\r\n" % len(data), 5)
    return {"status": (statuses(said) or [0])[0]}


def load(key: str, workers: int) -> dict[str, Any]:
    """Streams and plain requests, as fast as they are answered, until /srv/enough is there."""
    failed: list[str] = []
    engines: dict[str, int] = {}
    lock = threading.Lock()

    def work(number: int) -> None:
        while not os.path.exists("/srv/enough"):
            try:
                if number % 2:
                    said = stream(key, 10, 0.02)
                    right = said["tokens"] == 10
                else:
                    status, _headers, data = request(
                        CHAT, key, {"model": "tiny", "max_tokens": 1, "pause": 0.05}
                    )
                    said, right = {"status": status, "engine": json.loads(data).get("engine")}, status == 200
                with lock:
                    if right:
                        engines[said["engine"]] = engines.get(said["engine"], 0) + 1
                    else:
                        failed.append(str(said))
            except (OSError, ValueError, http.client.HTTPException) as error:
                with lock:
                    failed.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"done": sum(engines.values()), "engines": engines, "failed": failed[:10]}


def inner(address: str) -> dict[str, Any]:
    """The other host's internal listener, with no certificate and with that of a gateway."""
    host, port = address.split(":")
    found: dict[str, Any] = {}
    folder = "/etc/sglang/gateway/tls"
    for name, path, own in (
        ("without", "/health_generate", False),
        ("gateway_metrics", "/metrics/gateway", True),
        ("closed", "/server_info", True),
        ("health", "/health_generate", True),
    ):
        made = ssl.create_default_context(cafile=f"{folder}/ca.crt")
        if own:
            made.load_cert_chain(f"{folder}/gateway.crt", f"{folder}/gateway.key")
        try:
            with made.wrap_socket(
                socket.create_connection((host, int(port)), timeout=5), server_hostname="g2"
            ) as link:
                link.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Sglang-Instance: b\r\nConnection: close\r\n\r\n".encode()
                )
                found[name] = (statuses(link.recv(4096)) or ["refused"])[0]
        except OSError:
            found[name] = "refused"
    return found


def admin() -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect("/run/sglang-gateway/admin.sock")
        link.sendall(sys.stdin.read().strip().encode() + b"\n")
        print(link.recv(65536).decode())


def main() -> None:
    if sys.argv[1] == "admin":
        admin()
        return
    print(json.dumps(globals()[sys.argv[1]](**json.load(sys.stdin))))


if __name__ == "__main__":
    main()
