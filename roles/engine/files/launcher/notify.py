# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher says and asks: systemd over its socket, the engine over HTTP.

Written out, because `http.client` brings OpenSSL along and with it half of the memory that the launcher may take.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from typing import Any

from decisions import one_line


def log(text: str) -> None:
    """One line of the journal, whatever is in it: what cannot be printed must not end the launcher."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.buffer.write(f"launcher: {one_line(text)}\n".encode("utf-8", "replace"))
        sys.stdout.flush()


class Systemd:
    """sd_notify(3); silent where no systemd listens."""

    def __init__(self, address: str) -> None:
        self.status_said = ""
        self.socket: socket.socket | None = None
        if address:
            self.address = "\0" + address[1:] if address.startswith("@") else address
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def say(self, *lines: str) -> None:
        if self.socket is not None:
            try:
                self.socket.sendto("\n".join(lines).encode("utf-8", "replace"), self.address)
            except OSError as error:
                log(f"systemd does not listen: {error}")

    def status(self, text: str, *more: str) -> None:
        """Every new status is in the journal too."""
        flat = one_line(text)
        if flat != self.status_said:
            self.status_said = flat
            log(flat)
            self.say(f"STATUS={flat}", *more)
        elif more:
            self.say(*more)

    def extend(self, seconds: float) -> None:
        self.say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


class NoAnswerError(Exception):
    """In words: what came instead of an answer."""


def ask(
    address: tuple[str, int],
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    seconds: float = 5.0,
) -> tuple[int, bytes]:
    """One HTTP request on a connection of its own; `seconds` is for all of it."""
    end = time.monotonic() + seconds
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    try:
        with socket.create_connection(address, timeout=seconds) as peer:
            peer.sendall(head.encode() + content)
            received = b""
            while True:
                peer.settimeout(max(end - time.monotonic(), 0.001))
                block = peer.recv(65536)
                if not block:
                    break
                received += block
                if len(received) > 1 << 20:
                    raise NoAnswerError(f"{path}: the answer does not end")
    except (TimeoutError, socket.timeout):
        raise NoAnswerError(f"{path} did not answer within {seconds:.0f} s") from None
    except ConnectionRefusedError:
        raise NoAnswerError("nothing listens on the port") from None
    except OSError as error:
        raise NoAnswerError(f"{path}: {error}") from None
    return parse(received, path)


def parse(received: bytes, path: str) -> tuple[int, bytes]:
    first, _unused, rest = received.partition(b"\r\n")
    words = first.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise NoAnswerError(f"{path}: the answer is no HTTP")
    return int(words[1]), rest.partition(b"\r\n\r\n")[2]


def tokens_of(body: bytes, keys: list[str]) -> int:
    """How many tokens an answer holds, by the server's own count under these keys."""
    try:
        start, end = body.index(b"{"), body.rindex(b"}") + 1
        found = json.loads(body[start:end])
        for key in keys:
            found = found[key]
        return int(found)
    except (ValueError, KeyError, TypeError):
        return 0


def notify_address() -> str:
    return os.environ.get("NOTIFY_SOCKET", "")
