# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with an API, counters and log lines of its own: python -m toyengine.server --weights W --name N --port P."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ASKED = argparse.ArgumentParser()
for option in ("--weights", "--name", "--port"):
    ASKED.add_argument(option, required=True)
ASKED.add_argument("--words-per-second", type=int, default=0)


COUNTERS = ("toy_active", "toy_waiting", "toy_words_total", "toy_read_total", "toy_requests_total")


class Server(ThreadingHTTPServer):
    daemon_threads = False
    name = ""
    lock = threading.Lock()

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.numbers = dict.fromkeys(COUNTERS, 0)

    def count(self, **changes: int) -> None:
        with self.lock:
            for key, change in changes.items():
                self.numbers[f"toy_{key}"] += change


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_unused: Any) -> None:
        pass

    def whole(self, status: int, body: Any, kind: str = "application/json") -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        numbers = "".join(f'{key}{{who="toy"}} {value}\n' for key, value in self.server.numbers.items())
        answers = {
            "/live": "yes",
            "/word": "word",
            "/about": {"password": None},
            "/v1/models": {"data": [{"id": self.server.name}]},
        }
        if self.path == "/numbers":
            self.whole(200, numbers, "text/plain")
        else:
            self.whole(200 if self.path in answers else 404, answers.get(self.path, {}))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            asked = json.loads(raw)
            if self.path == "/first":
                self.whole(200, {"said": {"words": int(asked["who"] == self.server.name)}})
                return
            said = " ".join(str(item["content"]) for item in asked["messages"])
        except (ValueError, KeyError, TypeError):
            self.whole(400, {"error": {"message": "no chat"}})
            return
        words, read = int(asked.get("max_tokens") or 8), len(said.split()) + 2
        self.server.count(active=1)
        try:
            self.chat(
                asked,
                ["toy", *map(str, range(1, words))],
                {"prompt_tokens": read, "completion_tokens": words},
            )
        finally:
            self.server.count(active=-1, words_total=words, read_total=read, requests_total=1)

    def chat(self, asked: dict[str, Any], words: list[str], usage: dict[str, int]) -> None:
        if not asked.get("stream"):
            choice = {"message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": "length"}
            self.whole(200, {"choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        pieces: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": f"{word} "}}]} for word in words
        ]
        pieces.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        for piece in [*pieces, {"choices": [], "usage": usage}]:
            self.wfile.write(f"data: {json.dumps(piece)}\n\n".encode())
            self.wfile.flush()
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


def main() -> int:
    given = ASKED.parse_args()
    server = Server(("127.0.0.1", int(given.port)), Handler)
    server.name = given.name
    print("toy: reading 50%", flush=True)
    signal.signal(signal.SIGTERM, lambda *_unused: threading.Thread(target=server.shutdown).start())
    print("toy: open", flush=True)
    server.serve_forever(poll_interval=0.05)
    # What still runs is answered first.
    server.server_close()
    print("toy: closed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
