# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures every GPU of a host with the torch of an environment, and the links between them; judges nothing.

    /opt/sglang/envs/ID/bin/python acceptance.py [--device cpu --count 2] [--output FILE]

One process per GPU, so that a GPU that fails or hangs is named and spoils no other. Prints one JSON document.
Operands are small integers: every sum is exact in float32, so results are compared bit by bit whatever the
order in which a kernel adds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from typing import Any

SCHEMA = 1
GIB = 1 << 30
MIB = 1 << 20
SAMPLE_ROWS = 64
PATTERNS = (0x5555555555555555, -0x5555555555555556, 0)
"""Alternating bits, their complement, and 0: there each word holds its own address."""
SENSORS = (
    "temperature.gpu", "temperature.memory", "power.draw", "clocks.current.sm", "clocks_throttle_reasons.active",
    "ecc.errors.uncorrected.volatile.total", "ecc.errors.corrected.volatile.total",
)  # fmt: skip
UNKNOWN_FIELD = re.compile(r'"([\w.]+)" is not a valid field', re.IGNORECASE)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure every GPU of this host and the links between them.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--count", type=int, default=1, help="with --device cpu: how many to pretend")
    parser.add_argument("--gpus", default="", help="indexes, comma-separated; all when empty")
    parser.add_argument("--seconds", type=float, default=20.0, help="of matrix products")
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the matrices")
    parser.add_argument("--memory-share", type=float, default=0.8, help="of the free memory to fill")
    parser.add_argument("--chunk-mib", type=int, default=1024, help="of memory filled at once")
    parser.add_argument("--copy-mib", type=int, default=2048)
    parser.add_argument("--link-mib", type=int, default=256)
    parser.add_argument(
        "--limit-seconds", type=float, default=600.0, help="for each phase; what hangs is killed"
    )
    parser.add_argument("--nvidia-smi", default="nvidia-smi")
    parser.add_argument("--output", default="", help="file for the JSON document; standard output when empty")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args(words)


# --- what torch does; each function runs in a worker ---


def integers(torch: Any, rows: int, columns: int, salt: int, device: str) -> Any:
    """A matrix of -2 .. 2 that every device computes alike."""
    row = torch.arange(rows, dtype=torch.int32, device=device).unsqueeze(1)
    column = torch.arange(columns, dtype=torch.int32, device=device).unsqueeze(0)
    return (row * 7 + column * 13 + (row * column + salt) % 11 + salt) % 5 - 2


def product(torch: Any, left: Any, right: Any, out: Any) -> None:
    torch.mm(left, right, out=out)


def differing(torch: Any, one: Any, other: Any) -> int:
    return int((one != other).sum().item())


def exact_settings(torch: Any) -> None:
    """Sums in float32 throughout: a reduction in 16 bits would round."""
    settings = torch.backends.cuda.matmul
    settings.allow_tf32 = True
    for name in ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction"):
        if hasattr(settings, name):
            setattr(settings, name, False)


def check_products(torch: Any, device: str, size: int) -> tuple[list[dict[str, Any]], Any]:
    """Right results: some rows against the CPU, all of them against row sums, other types against float32."""
    left, right = (integers(torch, size, size, salt, device).to(torch.float32) for salt in (1, 4))
    whole = torch.empty(size, size, dtype=torch.float32, device=device)
    product(torch, left, right, whole)
    rows = min(SAMPLE_ROWS, size)
    expected = torch.mm(
        integers(torch, rows, size, 1, "cpu").to(torch.float32), integers(torch, size, size, 4, "cpu").to(torch.float32)
    )  # fmt: skip
    checks = [
        {"name": "float32 rows", "wrong": differing(torch, whole[:rows].cpu(), expected), "of": rows * size}
    ]
    # C x = A (B x) for x = 1; sums of integers stay exact in float64.
    sums = left.double() @ right.sum(dim=1, dtype=torch.float64)
    checks.append(
        {
            "name": "float32 row sums",
            "wrong": differing(torch, whole.sum(dim=1, dtype=torch.float64), sums),
            "of": size,
        }
    )
    first = None
    for kind in (torch.bfloat16, torch.float16):
        out = torch.empty(size, size, dtype=kind, device=device)
        product(torch, left.to(kind), right.to(kind), out)
        wrong = differing(torch, out, whole.to(kind))
        checks.append({"name": str(kind).replace("torch.", ""), "wrong": wrong, "of": size * size})
        first = out if first is None else first
    return checks, first


def rate_products(
    torch: Any, device: str, size: int, seconds: float, reference: Any
) -> tuple[dict[str, Any], int, int]:
    """(rate in TFLOP/s, wrong elements, elements looked at): the same product again and again, compared each time."""
    left, right = (integers(torch, size, size, salt, device).to(torch.bfloat16) for salt in (1, 4))
    out = torch.empty_like(reference)
    work = 2.0 * size**3
    spent = timed(torch, device, lambda: product(torch, left, right, out), 3)
    each = max(1, min(1000, int(0.5 / max(spent / 3, 1e-6))))
    rates: list[float] = []
    wrong = looked = 0
    end = time.monotonic() + seconds
    while not rates or time.monotonic() < end:
        taken = timed(torch, device, lambda: product(torch, left, right, out), each)
        rates.append(work * each / taken / 1e12)
        wrong += differing(torch, out, reference)
        looked += out.numel()
    return figures(rates), wrong, looked


def timed(torch: Any, device: str, call: Any, count: int) -> float:
    synchronise(torch, device)
    begun = time.perf_counter()
    for _unused in range(count):
        call()
    synchronise(torch, device)
    return max(time.perf_counter() - begun, 1e-9)


def synchronise(torch: Any, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def figures(values: list[float]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "median": float(f"{statistics.median(ordered):.5g}"),
        "low": float(f"{ordered[len(ordered) // 10]:.5g}"),
        "high": float(f"{ordered[-1]:.5g}"),
        "count": len(ordered),
    }


def rate_memory(torch: Any, device: str, size: int) -> dict[str, Any]:
    """GB/s: copies inside the GPU (reads and writes counted), a matrix-vector product, copies from and to the host."""
    one = torch.ones(size // 4, dtype=torch.float32, device=device)
    other = torch.empty_like(one)
    found = {"copy_gb_per_second": repeated(torch, device, partial(other.copy_, one), 2 * size)}
    del other
    columns = 8192 if size >= 64 * MIB else 256
    rows = size // 2 // columns
    matrix = torch.ones(rows, columns, dtype=torch.bfloat16, device=device)
    vector = torch.ones(columns, dtype=torch.bfloat16, device=device)
    found["read_gb_per_second"] = repeated(
        torch, device, partial(torch.mv, matrix, vector), rows * columns * 2
    )
    del matrix
    if device != "cpu":
        part = min(size, 512 * MIB)
        host = torch.ones(part // 4, dtype=torch.float32).pin_memory()
        there = one[: part // 4]
        found["from_host_gb_per_second"] = repeated(
            torch, device, lambda: there.copy_(host, non_blocking=True), part, 4
        )
        found["to_host_gb_per_second"] = repeated(
            torch, device, lambda: host.copy_(there, non_blocking=True), part, 4
        )
    return found


def repeated(
    torch: Any, device: str, call: Any, moved: int, each: int = 20, rounds: int = 7
) -> dict[str, Any]:
    timed(torch, device, call, 2)
    return figures([moved * each / timed(torch, device, call, each) / 1e9 for _unused in range(rounds)])


def check_memory(torch: Any, device: str, chunks: list[Any]) -> tuple[int, list[str]]:
    """Writes each pattern to all chunks before any of them is read back: (wrong words, where the first ones are)."""
    wrong, places = 0, []
    for pattern in PATTERNS:
        for number, chunk in enumerate(chunks):
            write_pattern(torch, chunk, pattern, number)
        for number, chunk in enumerate(chunks):
            expected = torch.empty_like(chunk)
            write_pattern(torch, expected, pattern, number)
            bad = differing(torch, chunk, expected)
            if bad:
                wrong += bad
                at = int((chunk != expected).nonzero()[0].item())
                flipped = (int(chunk[at].item()) ^ int(expected[at].item())) & 0xFFFFFFFFFFFFFFFF
                if len(places) < 8:
                    places.append(f"chunk {number}, byte {at * 8}, {bad} words, bits {flipped:#018x}")
            del expected
    synchronise(torch, device)
    return wrong, places


def write_pattern(torch: Any, chunk: Any, pattern: int, number: int) -> None:
    if pattern:
        chunk.fill_(pattern)
    else:
        first = number * chunk.numel()
        torch.arange(first, first + chunk.numel(), dtype=torch.int64, device=chunk.device, out=chunk)


def fill_memory(torch: Any, device: str, share: float, chunk: int) -> dict[str, Any]:
    if device == "cpu":
        total, free = 8 * chunk, 8 * chunk
    else:
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        free = min(free, available(total))
    # One chunk to compare with, its comparison, and something for the libraries.
    count = int(min(free * share, free - 2 * chunk - GIB // 2 if device != "cpu" else free) // chunk)
    chunks: list[Any] = []
    begun = time.monotonic()
    for _unused in range(max(1, count)):
        chunks.append(torch.empty(chunk // 8, dtype=torch.int64, device=device))
    wrong, places = check_memory(torch, device, chunks)
    return {
        "total_mib": total // MIB,
        "tested_mib": len(chunks) * chunk // MIB,
        "wrong_words": wrong,
        "places": places,
        "seconds": round(time.monotonic() - begun, 1),
    }


def available(total: int) -> int:
    """Where GPU and host share one memory, no more than leaves the host alive."""
    sizes = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                name, _colon, rest = line.partition(":")
                sizes[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return total
    host = sizes.get("MemTotal", 0)
    shared = host and abs(total - host) < host // 50
    return max(sizes.get("MemAvailable", 0) - 8 * GIB, GIB) if shared else total


def measure_gpu(task: dict[str, Any]) -> dict[str, Any]:
    import torch

    device = task["device"]
    if device == "cpu":
        torch.set_num_threads(1)
        found: dict[str, Any] = {"name": "CPU", "capability": ""}
    else:
        torch.cuda.init()
        major, minor = torch.cuda.get_device_capability(0)
        found = {"name": torch.cuda.get_device_name(0), "capability": f"{major}.{minor}"}
    exact_settings(torch)
    found.update(torch=torch.__version__, cuda=torch.version.cuda or "")
    say(stage="products")
    found["checks"], reference = check_products(torch, device, task["size"])
    say(stage="product rate")
    rate, wrong, looked = rate_products(torch, device, task["size"], task["seconds"], reference)
    found["checks"].append({"name": "repeated bfloat16", "wrong": wrong, "of": looked})
    del reference
    say(stage="memory rate")
    found["rates"] = {
        "matmul_bf16_tflops": rate,
        **rate_memory(torch, device, task["copy_mib"] * MIB),
    }
    say(stage="memory patterns")
    found["memory"] = fill_memory(torch, device, task["memory_share"], task["chunk_mib"] * MIB)
    return found


def measure_pairs(task: dict[str, Any]) -> dict[str, Any]:
    """Copies between every two GPUs; each is compared on the other side."""
    import torch

    pairs, names = [], task["gpus"]
    words = task["link_mib"] * MIB // 8
    for source in range(len(names)):
        with torch.cuda.device(source):
            sent = torch.arange(words, dtype=torch.int64, device=f"cuda:{source}")
        for target in range(len(names)):
            if source == target:
                continue
            peer = torch.cuda.can_device_access_peer(source, target)
            arrived = torch.zeros(words, dtype=torch.int64, device=f"cuda:{target}")

            def both(wait: tuple[int, int] = (source, target)) -> None:
                for one in wait:
                    torch.cuda.synchronize(one)

            rates = []
            for _unused in range(4):
                both()
                begun = time.perf_counter()
                for _again in range(5):
                    arrived.copy_(sent, non_blocking=True)
                both()
                rates.append(5 * words * 8 / max(time.perf_counter() - begun, 1e-9) / 1e9)
            expected = torch.arange(words, dtype=torch.int64, device=f"cuda:{target}")
            pairs.append(
                {
                    "from": names[source], "to": names[target], "peer": bool(peer),
                    "gb_per_second": round(statistics.median(rates[1:]), 2),
                    "wrong": differing(torch, arrived, expected),
                }
            )  # fmt: skip
    return {"pairs": pairs}


def measure_reduce(task: dict[str, Any]) -> dict[str, Any]:
    """One rank of an all-reduce; every rank adds its number, so the sum is known."""
    import datetime

    import torch
    import torch.distributed as dist

    device, rank, ranks = task["device"], task["rank"], task["ranks"]
    if device == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "gloo" if device == "cpu" else "nccl",
        store=dist.FileStore(task["store"], ranks),
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=task["limit_seconds"]),
    )
    where = "cpu" if device == "cpu" else f"cuda:{rank}"
    count = task["link_mib"] * MIB * (4 if device != "cpu" else 1) // 4
    given = torch.full((count,), float(rank + 1), dtype=torch.float32, device=where)
    rates, wrong = [], 0
    for turn in range(12 if device != "cpu" else 3):
        block = given.clone()
        synchronise(torch, device)
        dist.barrier()
        begun = time.perf_counter()
        dist.all_reduce(block)
        synchronise(torch, device)
        taken = max(time.perf_counter() - begun, 1e-9)
        wrong += int((block != ranks * (ranks + 1) / 2).sum().item())
        if turn >= 2 or device == "cpu":
            rates.append(2 * (ranks - 1) / ranks * count * 4 / taken / 1e9)
    dist.destroy_process_group()
    return {"rank": rank, "wrong": wrong, "bus_gb_per_second": figures(rates)}


WORK = {"gpu": measure_gpu, "pairs": measure_pairs, "reduce": measure_reduce}


def say(**words: Any) -> None:
    """One JSON line to the main process."""
    print(json.dumps(words), flush=True)


def work(task: dict[str, Any]) -> int:
    try:
        say(result=WORK[task["kind"]](task))
    except Exception as error:  # whatever torch raises is the result of this GPU
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")
        return 1
    return 0


# --- the main process: no torch in it ---


class Worker:
    """One process, its answer, and how far it came."""

    def __init__(self, task: dict[str, Any], variables: dict[str, str]) -> None:
        self.task = task
        self.stage = "start"
        self.result: dict[str, Any] = {}
        self.error = ""
        flags = ["-I", "-B"] if sys.flags.isolated else ["-B"]
        # A file, not a pipe: nobody reads it while the process runs.
        self.said = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *flags, os.path.abspath(__file__), "--worker", json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        stream = self.process.stdout
        for line in iter(stream.readline, b"") if stream else ():
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if not isinstance(message, dict):
                continue
            self.stage = str(message.get("stage", self.stage))
            self.result = message.get("result", self.result)
            self.error = str(message.get("error", self.error))

    def end(self, limit: float) -> None:
        try:
            status = self.process.wait(max(0.1, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.error = self.error or f"no answer during: {self.stage}"
            return
        self.reader.join(10)
        if not self.result and not self.error:
            self.said.seek(0)
            lines = self.said.read()[-4000:].decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            self.error = f"ended with status {status} during: {self.stage}" + (f": {last}" if last else "")
        elif self.error and "during" not in self.error:
            self.error = f"{self.error} (during: {self.stage})"


class Sensors(threading.Thread):
    """Temperatures, clocks and counters of all GPUs, while they work."""

    def __init__(self, program: str) -> None:
        super().__init__(daemon=True)
        self.program, self.fields = program, list(SENSORS)
        self.samples: dict[str, list[dict[str, str]]] = {}
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            self.sample()
            self.done.wait(2.0)

    def sample(self) -> None:
        for _unused in range(len(SENSORS)):
            if not self.fields:
                return
            status, out = ask(self.program, "--query-gpu=index," + ",".join(self.fields))
            unknown = UNKNOWN_FIELD.search(out)
            if status and unknown and unknown[1] in self.fields:
                self.fields.remove(unknown[1])
                continue
            for line in out.splitlines() if not status else ():
                cells = [cell.strip() for cell in line.split(",")]
                if len(cells) == len(self.fields) + 1:
                    self.samples.setdefault(cells[0], []).append(dict(zip(self.fields, cells[1:])))
            return

    def told(self, index: str) -> dict[str, Any]:
        samples = self.samples.get(index, [])
        if not samples:
            return {}
        found: dict[str, Any] = {"samples": len(samples)}
        for name, field, choose in (
            ("temperature_max", "temperature.gpu", max),
            ("memory_temperature_max", "temperature.memory", max),
            ("power_max", "power.draw", max),
            ("sm_clock_max", "clocks.current.sm", max),
            ("sm_clock_median", "clocks.current.sm", statistics.median),
        ):
            values = [
                value for value in (number(sample.get(field, "")) for sample in samples) if value is not None
            ]
            if values:
                found[name] = choose(values)
        reasons = 0
        for sample in samples:
            text = sample.get("clocks_throttle_reasons.active", "")
            reasons |= int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", text) else 0
        found["clock_reasons"] = reasons
        for name, kind in (("ecc_uncorrected", "uncorrected"), ("ecc_corrected", "corrected")):
            values = [
                value
                for value in (
                    number(sample.get(f"ecc.errors.{kind}.volatile.total", "")) for sample in samples
                )
                if value is not None
            ]
            if values:
                found[name] = values[-1] - values[0]
        return found


def number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def ask(program: str, *words: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            [program, *words, "--format=csv,noheader,nounits"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return 1, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def listed(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.device == "cpu":
        return [{"index": index, "uuid": ""} for index in range(options.count)]
    status, out = ask(options.nvidia_smi, "--query-gpu=index,uuid,name,driver_version")
    if status:
        raise SystemExit(f"{options.nvidia_smi}: {' '.join(out.split())[:500]}")
    wanted = {int(word) for word in options.gpus.split(",") if word.strip()}
    rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines()]
    return [
        {"index": int(row[0]), "uuid": row[1], "product": row[2], "driver": row[3]}
        for row in rows
        if len(row) == 4 and row[0].isdigit() and (not wanted or int(row[0]) in wanted)
    ]


def phase(workers: list[Worker], seconds: float) -> None:
    limit = time.monotonic() + seconds
    for worker in workers:
        worker.end(limit)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    begun = time.time()
    gpus = listed(options)
    sensors = Sensors(options.nvidia_smi)
    if options.device == "cuda":
        sensors.start()
    common = {
        name: getattr(options, name)
        for name in (
            "device",
            "seconds",
            "size",
            "memory_share",
            "chunk_mib",
            "copy_mib",
            "link_mib",
            "limit_seconds",
        )
    }
    workers = [
        Worker({"kind": "gpu", **common}, {"CUDA_VISIBLE_DEVICES": gpu["uuid"]} if gpu["uuid"] else {})
        for gpu in gpus
    ]
    phase(workers, options.limit_seconds)
    for gpu, worker in zip(gpus, workers):
        gpu.update(worker.result, error=worker.error)
    sensors.done.set()
    if options.device == "cuda":
        sensors.join(70)
        sensors.sample()
    for gpu in gpus:
        gpu["sensors"] = sensors.told(str(gpu["index"]))
    found = {
        "schema": SCHEMA,
        "device": options.device,
        "size": options.size,
        "gpus": gpus,
        "pairs": [],
        "all_reduce": {},
        "error": "",
    }
    whole = [gpu for gpu in gpus if not gpu["error"]]
    if len(whole) > 1:
        links(options, common, whole, found)
    found["seconds"] = round(time.time() - begun, 1)
    found["began"] = int(begun)
    return found


def links(
    options: argparse.Namespace, common: dict[str, Any], gpus: list[dict[str, Any]], found: dict[str, Any]
) -> None:
    """The links between those GPUs that passed alone."""
    names = [gpu["index"] for gpu in gpus]
    variables = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
    if options.device == "cuda":
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpu["uuid"] for gpu in gpus)
        pairs = Worker({"kind": "pairs", "gpus": names, **common}, variables)
        phase([pairs], options.limit_seconds)
        found["pairs"] = pairs.result.get("pairs", [])
        found["error"] = pairs.error and f"copies between GPUs: {pairs.error}"
    with tempfile.TemporaryDirectory() as folder:
        ranks = [
            Worker(
                {
                    "kind": "reduce", "rank": rank, "ranks": len(names), "store": os.path.join(folder, "store"),
                    **common,
                },
                variables,
            )
            for rank in range(len(names))
        ]  # fmt: skip
        phase(ranks, options.limit_seconds)
    errors = {str(names[rank]): worker.error for rank, worker in enumerate(ranks) if worker.error}
    results = {str(names[rank]): worker.result for rank, worker in enumerate(ranks) if worker.result}
    found["all_reduce"] = {
        "gpus": names,
        "errors": errors,
        "wrong": {index: result["wrong"] for index, result in results.items()},
        "bus_gb_per_second": min(
            (result["bus_gb_per_second"]["median"] for result in results.values()), default=None
        ),
    }


def main(words: list[str]) -> int:
    options = arguments(words)
    if options.worker:
        return work(json.loads(options.worker))
    text = json.dumps(measure(options), indent=1, sort_keys=True)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as stream:
            stream.write(text + "\n")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
