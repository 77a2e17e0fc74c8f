# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher spawns. Each stage says through a pipe that it is ready, or why it is not."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import setproctitle

from lightllm.utils.log import line, progress


def name(role: str) -> str:
    return f"lightllm::{os.environ['LIGHTLLM_UNIQUE_SERVICE_NAME_ID']}::{role}"


def behaviour() -> dict[str, Any]:
    path = Path("behave.json")
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def metrics(pipe: Any) -> None:
    from rpyc.utils.server import ThreadedServer

    setproctitle.setproctitle(name("metric_manager"))
    server = ThreadedServer(object())
    pipe.send("init ok")
    server.start()


def rank(pipe: Any) -> None:
    setproctitle.setproctitle(name("model_infer:RANK0"))
    # As tuned kernels: the engine makes its folder inside its own package.
    import lightllm.common.triton_utils.autotuner as tuner

    progress(f"pid {os.getpid()} Loading model weights with {os.environ['LOADWORKER']} workers", 50)
    line("1.0 GB space is available after load the model weight", place="mem_manager.py:75")
    os.makedirs(tuner.Autotuner("rotary").cache_dir, exist_ok=True)
    progress("warming up", 100)
    line("Begin capture cudagraph, use the --disable_cudagraph to disable it.", place="cuda_graph.py:209")
    line("Capture cudagraph success", place="cuda_graph.py:260")
    pipe.send("init ok")
    # An orphan goes by itself, after a while.
    above = os.getppid()
    while os.getppid() == above:
        time.sleep(0.2)


def router(pipe: Any) -> None:
    setproctitle.setproctitle(name("router_server"))
    if behaviour().get("load") == "fails":
        pipe.send("Traceback (most recent call last):\nRuntimeError: CUDA out of memory")
        time.sleep(1e9)
    mine, theirs = multiprocessing.Pipe(duplex=False)
    multiprocessing.Process(target=rank, args=(theirs,)).start()
    pipe.send(mine.recv())
    time.sleep(1e9)


def detokenization(pipe: Any) -> None:
    setproctitle.setproctitle(name("detokenization_server"))
    pipe.send("init ok")
    time.sleep(1e9)
