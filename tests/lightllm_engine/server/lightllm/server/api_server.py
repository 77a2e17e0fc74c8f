# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m lightllm.server.api_server: the main process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from multiprocessing import shared_memory
from typing import Any

from lightllm.server import processes
from lightllm.server.arguments import parser
from lightllm.utils import net_utils
from lightllm.utils.log import line


def stages(*roles: Any) -> list[Any]:
    """Starts them together and waits for each; one that fails ends the interpreter, which then waits for the others."""
    begun = []
    for role in roles:
        mine, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=role, args=(theirs,))
        process.start()
        begun.append((role, process, mine))
    for role, _process, pipe in begun:
        said = pipe.recv()
        words = {
            "metrics": "metric_manager",
            "router": "router_process",
            "detokenization": "detokenization_process",
        }
        line(f"init func start_{words[role.__name__]} : {said}", "INFO" if said == "init ok" else "ERROR")
        if said != "init ok":
            for _role, process, _pipe in begun:
                process.kill()
            sys.exit(1)
    return [process for _role, process, _pipe in begun]


def main() -> None:
    multiprocessing.set_start_method("spawn")
    given = parser().parse_args()
    os.environ["LIGHTLLM_UNIQUE_SERVICE_NAME_ID"] = uuid.uuid4().hex[:16]
    net_utils.validate_ports([given.port])
    line(f"all start args:{given}", place="api_start.py:328")
    # Names that nobody takes away; the private /dev/shm of the unit does.
    left = shared_memory.SharedMemory(
        f"{os.environ['LIGHTLLM_UNIQUE_SERVICE_NAME_ID']}_reqs", create=True, size=4096
    )
    multiprocessing.resource_tracker.unregister(left._name, "shared_memory")
    alive = stages(processes.metrics)
    line("ShmPortArgs alloc detokenization_port=1", place="shm_port_args.py:248")
    alive += stages(processes.router, processes.detokenization)
    http = subprocess.Popen(
        ["hypercorn", "--keep-alive", "10", "--workers", "1", "--bind", f"{given.host}:{given.port}",
         "--access-logfile", "-", "lightllm.server.api_http:app"],
        env={**os.environ, "STAND_IN_MODEL": given.model_name},
    )  # fmt: skip

    def end(_number: int, _frame: Any) -> None:
        line("Received SIGTERM, shutting down gracefully...")
        http.send_signal(signal.SIGTERM)
        http.wait(60)
        for process in alive:
            process.kill()
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    line(f"start process pid {os.getpid()}")
    line(f"http server pid {http.pid}")
    while True:
        if http.poll() is not None:
            raise RuntimeError(f"HTTP server exited unexpectedly with return code {http.returncode}")
        if dead := [process for process in alive if not process.is_alive()]:
            line(f"Critical LightLLM submodule exited unexpectedly: name={dead[0].name}", "ERROR")
            for process in alive:
                process.kill()
            http.kill()
            raise RuntimeError("Critical LightLLM submodule exited unexpectedly")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
