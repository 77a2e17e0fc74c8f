# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bus bandwidth of all_gather and all_reduce over the members of an instance, small buffers first.

    <environment>/bin/python collective.py <specification.json >report.json

One process a GPU, with the very torch and NCCL that serve. NCCL's lines about its transport come along.
"""

from __future__ import annotations

import glob
import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

MIB = 1 << 20
WARM_UPS, REPEATS = 2, 5
# Beside two buffers: on a host whose GPU shares its memory, the last byte belongs to others.
SPARE_BYTES = 2 << 30
WAIT = timedelta(seconds=120)


def member(local: int, spec: dict[str, Any], folder: str) -> None:
    import torch
    import torch.distributed as group

    cuda = spec["backend"] == "nccl"
    rank = spec["first_rank"] + local
    if cuda:
        torch.cuda.set_device(local)
    group.init_process_group(
        spec["backend"], init_method=f"tcp://{spec['head']}:{spec['port']}", rank=rank,
        world_size=spec["world"], timeout=WAIT,
    )  # fmt: skip
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    rows = []
    for mib in spec["mib"]:
        if not fits(torch, group, device, mib * MIB):
            rows.append({"mib": mib, "left_out": "some member has too little free memory"})
            continue
        for kind in ("all_gather", "all_reduce"):
            rows.append(
                {
                    "mib": mib,
                    "kind": kind,
                    "gbyte": measure(torch, group, device, kind, mib * MIB, spec["world"]),
                }
            )
    if rank == 0:
        with open(os.path.join(folder, "rows.json"), "w", encoding="utf-8") as stream:
            json.dump(rows, stream)
    group.destroy_process_group()


def fits(torch: Any, group: Any, device: Any, size: int) -> bool:
    """Everybody must say the same, or some would wait for ever."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else SPARE_BYTES + 2 * size
    said = torch.tensor([int(free >= SPARE_BYTES + 2 * size)], device=device)
    group.all_reduce(said, op=group.ReduceOp.MIN)
    return bool(said.item())


def measure(torch: Any, group: Any, device: Any, kind: str, size: int, world: int) -> float:
    """GB/s as nccl-tests count it: what each link carried, whatever the number of members."""
    count = size // 2 // world * world
    whole = torch.zeros(count, dtype=torch.bfloat16, device=device)
    part = torch.zeros(count // world, dtype=torch.bfloat16, device=device)

    def once() -> None:
        if kind == "all_gather":
            group.all_gather_into_tensor(whole, part)
        else:
            group.all_reduce(whole)

    for _time in range(WARM_UPS):
        once()
    settle(torch, group, device)
    begun = time.monotonic()
    for _time in range(REPEATS):
        once()
    settle(torch, group, device)
    seconds = (time.monotonic() - begun) / REPEATS
    share = (world - 1) / world * (1 if kind == "all_gather" else 2)
    return round(count * 2 / seconds / 1e9 * share, 4)


def settle(torch: Any, group: Any, device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    group.barrier()


def main(spec: dict[str, Any]) -> dict[str, Any]:
    import torch.multiprocessing as processes

    os.environ.update(spec["environment"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NCCL_DEBUG_FILE"] = os.path.join(folder, "nccl.%p.log")
        processes.spawn(member, args=(spec, folder), nprocs=spec["processes"])
        log = []
        for path in glob.glob(os.path.join(folder, "nccl.*.log")):
            with open(path, encoding="utf-8", errors="replace") as stream:
                log += [line.rstrip() for line in stream if "NET/" in line or "Using network" in line]
        rows_path = os.path.join(folder, "rows.json")
        rows = []
        if os.path.exists(rows_path):
            with open(rows_path, encoding="utf-8") as stream:
                rows = json.load(stream)
    return {"rows": rows, "log": list(dict.fromkeys(log))[:200]}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
