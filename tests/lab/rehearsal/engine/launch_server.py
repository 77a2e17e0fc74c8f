# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the engine on a host without GPUs: its command line, log lines, process names and API.

The command line is checked against the flags of the planned release (flags.json beside this file), the weights are
read whole, and the kernel file is looked for where the engine looks. Answers come from the tests' server of known truth.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path("/usr/lib/lab-gpu/engine")
sys.path.insert(0, str(HERE))

from truth_server import TruthServer

PR_SET_NAME = 15
FLAG_TYPES = {"int": int, "float": float}
KERNELS = "configs/*/E=*,device_name=*.json"
CHILD = "import os, sys\nwhile data := os.read(int(sys.argv[1]), 1): os.write(int(sys.argv[2]), data)"
PARIS = {"name": "get_weather", "arguments": json.dumps({"city": "Paris"})}
TOKYO = {"name": "get_weather", "arguments": json.dumps({"city": "Tokyo"})}


def arguments() -> argparse.Namespace:
    """An option that the release does not have ends the program, as it ends the engine."""
    parser = argparse.ArgumentParser(prog="launch_server.py", allow_abbrev=False)
    for name, flag in json.loads((HERE / "flags.json").read_text())["flags"].items():
        names = [f"--{name}", *(f"--{alias}" for alias in flag.get("aliases", []))]
        if flag["kind"] == "switch":
            parser.add_argument(*names, dest=flag["dest"], action="store_true")
        else:
            parser.add_argument(*names, dest=flag["dest"], type=FLAG_TYPES.get(flag.get("type", ""), str))
    return parser.parse_args()


def say(line: str, rank: str = "") -> None:
    print(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}{rank}] {line}", flush=True)


class Process:
    """A process of the engine by its name; a token passes through it."""

    def __init__(self, name: str) -> None:
        read, self.ask = os.pipe()
        self.answer, write = os.pipe()
        for end in (read, write):
            os.set_inheritable(end, True)
        self.pid = os.fork()
        if self.pid == 0:
            os.execv(sys.executable, [name, "-S", "-c", CHILD, str(read), str(write)])

    def pass_on(self) -> None:
        os.write(self.ask, b".")
        os.read(self.answer, 1)


class Engine(TruthServer):
    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(ttft=0.01, each=0.002, early_role=True)
        self.options = options
        self.lock = threading.Lock()
        ranks = options.tp_size or 1
        self.processes = [
            *(Process(f"sglang::scheduler_TP{rank}") for rank in range(ranks)),
            Process("sglang::detokenizer"),
        ]
        self.answer = self.reply
        self.routes.update(
            {
                "/health_generate": (200, lambda _asked, _headers: (200, self.token() or {})),
                "/generate": (200, self.generate),
                "/v1/models": (200, {"data": [{"id": options.served_model_name}]}),
                "/server_info": (
                    200,
                    {"api_key": None, "internal_states": [{"avg_spec_accept_length": 2.5}]},
                ),
            }
        )

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        address, self.port = self.options.host, self.options.port
        self._server = await asyncio.start_server(self._connection, address, self.port, limit=2**26)
        self._ready.set()
        await self._stop.wait()
        self._server.close()

    def token(self) -> None:
        with self.lock:
            for process in (self.processes[0], self.processes[-1]):
                process.pass_on()

    def generate(self, asked: dict[str, Any], _headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.token()
        count = (asked.get("sampling_params") or {}).get("max_new_tokens", 1)
        return 200, {"text": "word " * count, "meta_info": {"completion_tokens": count, "prompt_tokens": 1}}

    def reply(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.token()
        text = str(asked["messages"][-1]["content"])
        if len(text.split()) > int(self.options.context_length or 1 << 60):
            return {"fault": "http_400", "fail_every": 0}
        if "31" in text:
            return {"text": "It is 31 degrees.", "tokens": 6}
        if asked.get("tools") and "Tokyo" in text:
            return {"calls": [PARIS, TOKYO], "tokens": 12}
        if asked.get("tools") and "Paris" in text:
            return {"calls": [PARIS], "tokens": 12}
        if "prime" in text:
            thinking = (asked.get("chat_template_kwargs") or {}).get("enable_thinking", True)
            return {"text": "No, it is 7 times 13.", "tokens": 12, "reasoning": 4 if thinking else 0}
        return {"text": "There was a rack, and it hummed.", "tokens": 8}

    def metrics(self) -> str:
        verified = self.counted["generation_tokens_total"] / 2.5
        return super().metrics() + f"sglang:spec_verify_calls_total {verified}\n"


def load(folder: Path) -> None:
    say("Load weight begin. avail mem=78.60 GB", " TP0")
    names = sorted(folder.glob("*.safetensors"))
    for number, path in enumerate(names, 1):
        path.read_bytes()
        done = f"{100 * number // len(names)}% Completed | {number}/{len(names)}"
        print(f"\rLoading safetensors checkpoint shards: {done}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr, flush=True)
    say("Load weight end. elapsed=1.20 s, dtype=torch.bfloat16, avail mem=33.11 GB", " TP0")
    say("KV Cache is allocated. #tokens: 400000, K size: 10.0 GB, V size: 10.0 GB", " TP0")


def kernels(ranks: int) -> None:
    found = sorted(Path(os.environ.get("SGLANG_MOE_CONFIG_DIR") or "/nonexistent").glob(KERNELS))
    for rank in range(ranks):
        if found:
            say(f"Using MoE kernel config from {found[0]}.", f" TP{rank}")
        else:
            say("Using default MoE kernel config. Performance might be sub-optimal!", f" TP{rank}")


def main() -> None:
    options = arguments()
    say(f"server_args={vars(options)}")
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"sglang", 0, 0, 0)
    say("Init torch distributed begin.", " TP0")
    engine = Engine(options)
    load(Path(options.model_path))
    kernels(options.tp_size or 1)
    say("Capture cuda graph begin. This can take up to several minutes. avail mem=11.00 GB", " TP0")
    say(f"Uvicorn running on http://{options.host}:{options.port}")
    engine.__enter__()
    say("The server is fired up and ready to roll!")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: ended.set())
    while not ended.wait(0.2):
        pass
    say("SIGTERM received. Draining requests and shutting down...")
    for process in engine.processes:
        os.kill(process.pid, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
