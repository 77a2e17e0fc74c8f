# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server's side: routes, counters, and a stop that cuts what runs after three seconds."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import setproctitle

from lightllm.server.processes import name
from lightllm.utils.log import line

MODEL = os.environ.get("STAND_IN_MODEL", "")
CUT_SECONDS = 3.0
GAUGES = ("lightllm_num_running_reqs", "lightllm_queue_size")
COUNTERS = (
    "lightllm_generation_tokens_total",
    "lightllm_prompt_tokens_total",
    "lightllm_request_count_total",
)
numbers = dict.fromkeys((*GAUGES, *COUNTERS), 0)
lock = threading.Lock()


def count(**changes: int) -> None:
    with lock:
        for key, change in changes.items():
            numbers[f"lightllm_{key}"] += change
    for _each in range(20):
        line("monitor task queue is full, error ", "WARNING", "manager.py:132")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, *_unused: Any) -> None:
        pass

    def said(self, status: int) -> None:
        line(f"\x1b[32m{self.command} {self.path} {status}\x1b[0m", place="api_http.py:130")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S +0000")
        begun = time.strftime("%d/%b/%Y:%H:%M:%S +0000")
        peer = f"{self.client_address[0]}:{self.client_address[1]}"
        words = f'{peer} - - [{begun}] "{self.command} {self.path} 1.1" {status} 2 "-" "-"'
        os.write(1, f"[{stamp}] [{os.getpid()}] [INFO] {words}\n".encode())

    def whole(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.said(status)

    def do_GET(self) -> None:
        text = "".join(f'{key}{{model_name="{MODEL}"}} {value}\n' for key, value in numbers.items())
        answers: dict[str, Any] = {
            "/health": {"message": "Ok"},
            "/readiness": {"status": "ok"},
            "/v1/models": {"data": [{"id": MODEL, "max_model_len": 202752}]},
            "/metrics": text.encode(),
        }
        self.whole(200 if self.path in answers else 404, answers.get(self.path, {"detail": "Not Found"}))

    def do_POST(self) -> None:
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except ValueError:
            self.whole(422, {"detail": "no JSON"})
            return
        count(num_running_reqs=1)
        try:
            if self.path == "/generate":
                tokens = int(asked["parameters"]["max_new_tokens"])
                count(generation_tokens_total=tokens, prompt_tokens_total=1, request_count_total=1)
                self.whole(200, {"generated_text": ["a"], "count_output_tokens": tokens, "prompt_tokens": 1})
            elif self.path == "/v1/chat/completions":
                self.chat(asked)
            else:
                self.whole(404, {"detail": "Not Found"})
        finally:
            count(num_running_reqs=-1)

    def chat(self, asked: dict[str, Any]) -> None:
        most = int(asked.get("max_tokens") or 8)
        usage = {"prompt_tokens": 3, "completion_tokens": most, "prompt_tokens_details": {"cached_tokens": 0}}
        count(generation_tokens_total=most, prompt_tokens_total=3, request_count_total=1)
        if not asked.get("stream"):
            message = {"role": "assistant", "content": " ".join(map(str, range(most)))}
            self.whole(200, {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for number in range(most):
            self.piece({"choices": [{"index": 0, "delta": {"content": f"{number} "}}]})
            time.sleep(0.2)
        self.piece({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        self.piece({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")
        self.said(200)

    def piece(self, said: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())
        self.wfile.flush()


def cut(_number: int, _frame: Any) -> None:
    line("Received signal to shutdown. Performing graceful shutdown...", place="api_http.py:600")
    threading.Timer(CUT_SECONDS, os._exit, (0,)).start()


def serve(host: str, port: int) -> None:
    setproctitle.setproctitle(name("api_server"))
    signal.signal(signal.SIGTERM, cut)
    server = ThreadingHTTPServer((host, port), Handler)
    line("server start up ok, loop use is uvloop", place="api_http.py:620")
    server.serve_forever()
