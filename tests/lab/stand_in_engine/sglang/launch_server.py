# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as the server does, after a while, and ends as it does when an argument is not to its liking.

--max-total-tokens: 1 is rejected; 2 never gets healthy; 3 is healthy and gives no token.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SAID = dict(zip(sys.argv[1::1], sys.argv[2::1]))
TOKENS, NAME = int(SAID["--max-total-tokens"]), SAID["--served-model-name"]
BEHAVIOUR = os.path.join(os.path.dirname(os.path.dirname(__file__)), "behaviour.json")


def behaviour(key: str) -> float:
    try:
        with open(BEHAVIOUR, encoding="utf-8") as stream:
            return float(json.load(stream).get(key, 0))
    except OSError:
        return 0.0


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.answer({"data": [{"id": NAME}]})
        elif self.path == "/health_generate" and TOKENS == 3:
            self.answer({}, 503)
        else:
            self.answer({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        tokens = 0 if TOKENS == 3 else 4
        self.answer(
            {"text": f"hello with {TOKENS}", "tokens": tokens, "meta_info": {"completion_tokens": tokens}}
        )

    def answer(self, said: dict, status: int = 200) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass


def end(_number: int, _frame: object) -> None:
    time.sleep(behaviour("stop"))
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    print(f"server_args: {sys.argv[1:]}", flush=True)
    signal.signal(signal.SIGTERM, end)
    for number in range(40):
        print(f"a line of many: {number}", flush=True)
    if TOKENS == 1:
        raise ValueError(f"max_total_tokens={TOKENS} is not enough for one request of {NAME}")
    time.sleep(1e6 if TOKENS == 2 else behaviour("start"))
    print("The server is fired up and ready to roll!", flush=True)
    ThreadingHTTPServer((SAID["--host"], int(SAID["--port"])), Server).serve_forever()


if __name__ == "__main__":
    main()
