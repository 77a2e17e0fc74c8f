# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for `sglang.launch_server` where a fault would take the real one minutes.

Its processes, log lines and answers are those of the real one; `behave.json` in its folder says what goes wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BEHAVE = json.loads(Path("behave.json").read_text()) if Path("behave.json").exists() else {}
STATE: dict[str, Any] = {"up": False, "draining": False, "running": 0}


def say(line: str) -> None:
    print(f"[2026-11-21 11:35:41] {line}", flush=True)


def child(title: str) -> tuple[int, int, int]:
    """A process that answers each byte with a byte."""
    ask_r, ask_w = os.pipe()
    say_r, say_w = os.pipe()
    for descriptor in (ask_r, say_w):
        os.set_inheritable(descriptor, True)
    code = "import os,sys\nwhile b := os.read(int(sys.argv[1]), 1): os.write(int(sys.argv[2]), b)"
    pid = os.fork()
    if pid == 0:
        # As setproctitle does it: the title is the first word.
        os.execv(sys.executable, [title, "-S", "-c", code, str(ask_r), str(say_w)])
    return pid, ask_w, say_r


class Engine:
    def __init__(self) -> None:
        self.scheduler = child("sglang::scheduler_TP0")
        self.detokenizer = child("sglang::detokenizer")
        self.lock = threading.Lock()

    def token(self) -> None:
        """Through both processes: hangs when one of them does."""
        with self.lock:
            for _pid, ask, answer in (self.scheduler, self.detokenizer):
                os.write(ask, b".")
                os.read(answer, 1)


class Handler(BaseHTTPRequestHandler):
    engine: Engine

    def log_message(self, *_unused: Any) -> None:
        pass

    def answer(self, status: int, body: Any = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if not STATE["up"] or STATE["draining"] or BEHAVE.get("never_ready"):
            return self.answer(503)
        self.engine.token()
        return self.answer(200)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        STATE["running"] += 1
        tokens = body.get("sampling_params", {}).get("max_new_tokens", 1)
        for _number in range(tokens):
            self.engine.token()
            time.sleep(0.02)
        STATE["running"] -= 1
        self.answer(200, {"text": "hello" * tokens, "meta_info": {"completion_tokens": tokens}})


def main() -> None:
    parser = argparse.ArgumentParser(prog="launch_server.py")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host")
    options, _rest = parser.parse_known_args()
    if BEHAVE.get("reject"):
        parser.error(BEHAVE["reject"])
    ctypes.CDLL(None).prctl(15, b"sglang", 0, 0, 0)
    say("Load weight begin. avail mem=20.61 GB")
    for percent in (37, 100):
        print(
            f"\rMulti-thread loading shards: {percent}% Completed | 2/2", end="", file=sys.stderr, flush=True
        )
        time.sleep(BEHAVE.get("load_seconds", 0.4) / 2)
    if BEHAVE.get("eat_mib"):
        eaten = [b"x" * 2**20 for _number in range(BEHAVE["eat_mib"])]
        say(f"{len(eaten)} MiB")
    if BEHAVE.get("raise"):
        raise RuntimeError(BEHAVE["raise"])
    print(file=sys.stderr)
    segment = Path(f"/dev/shm/fake-{os.getpid()}")
    segment.write_bytes(b"x")
    Handler.engine = Engine()
    server = ThreadingHTTPServer((options.host, options.port), Handler)

    def stop(_number: int, _frame: Any) -> None:
        say("SIGTERM received. Draining requests and shutting down...")
        STATE["draining"] = True
        threading.Thread(target=drained).start()

    def drained() -> None:
        while STATE["running"]:
            time.sleep(0.1)
        for pid in (Handler.engine.scheduler[0], Handler.engine.detokenizer[0]):
            os.kill(pid, signal.SIGKILL)
        server.shutdown()

    signal.signal(signal.SIGTERM, stop)
    say(f"Uvicorn running on http://{options.host}:{options.port}")
    STATE["up"] = True
    if not BEHAVE.get("never_ready"):
        say("The server is fired up and ready to roll!")
    server.serve_forever()


if __name__ == "__main__":
    main()
