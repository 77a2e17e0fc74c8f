# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan says against what the engine's log and the machine say. Reads text, touches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

GIB = 1 << 30
LIMIT = 3.0
"""Per cent that a planned size may be off."""
ROUNDING = 0.006 * GIB
"""The log rounds to hundredths of a GiB; a difference of two of them may be off by so much."""

NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
TOKENS = re.compile(
    rf"KV Cache is allocated.*?#tokens: (\d+)(?:, K size: {NUMBER} GB, V size: {NUMBER} GB|.*?KV size: {NUMBER} GB)"
)
SCHEDULER = re.compile(r"max_total_num_tokens=(\d+).*?max_running_requests=(\d+), context_len=(\d+)")
FREE_AT_END = re.compile(rf"available_gpu_mem={NUMBER}")
MEMORY = {
    "context_bytes": re.compile(rf"Init torch distributed ends.*?mem usage={NUMBER} GB"),
    "pool_end": re.compile(rf"Memory pool end.*?avail mem={NUMBER} GB"),
    "free_loaded": re.compile(rf"Load weight end.*?avail mem={NUMBER} GB"),
}
WEIGHTS = re.compile(rf"Load weight end.*?mem usage={NUMBER} GB")
GRAPHS = re.compile(
    rf"Capture (target|draft) ([a-z ]+?) CUDA graph end.*?mem usage={NUMBER} GB", re.IGNORECASE
)
TILES = re.compile(r"Using MoE kernel config from (\S+?)\.?$", re.MULTILINE)
DEFAULT_TILES = ("Using default MoE kernel config", "Fallback to triton version")
LOADING = re.compile(rf"Load weight end\. elapsed={NUMBER} s")
CAPTURE = re.compile(
    rf"Capture (?:target|draft) ([a-z ]+?) CUDA graph end\. elapsed={NUMBER} s", re.IGNORECASE
)
ATTENTION = re.compile(r"attention_backend='([a-z0-9_]+)'")


def read_log(lines: Iterable[str]) -> dict[str, Any]:
    """The numbers of one start, in bytes and seconds; a number that was not said is absent."""
    text = "\n".join(lines)
    found: dict[str, Any] = {}
    pools = list(TOKENS.finditer(text))
    if pools:
        found["tokens"] = int(pools[0][1])
        sizes = [sum(float(size) for size in pool.groups()[1:] if size) for pool in pools]
        # The second pool is the draft's.
        found["kv_bytes"] = sizes[0] * GIB
        found["draft_kv_bytes"] = sum(sizes[1:]) * GIB
    scheduler = SCHEDULER.search(text)
    if scheduler:
        found["scheduler_tokens"], found["requests"], found["context"] = map(int, scheduler.groups())
    for key, pattern in MEMORY.items():
        match = list(pattern.finditer(text))
        if match:
            found[key] = float(match[-1 if key == "pool_end" else 0][1]) * GIB
    loaded = [float(match[1]) * GIB for match in WEIGHTS.finditer(text)]
    if loaded:
        found["weights_bytes"], found["draft_bytes"] = loaded[0], sum(loaded[1:])
    if FREE_AT_END.search(text):
        found["free_at_end"] = float(FREE_AT_END.findall(text)[-1]) * GIB
    for _role, name, size in GRAPHS.findall(text):
        key = "prefill_graph_bytes" if "prefill" in name or "extend" in name else "decode_graph_bytes"
        found[key] = found.get(key, 0.0) + float(size) * GIB
    found["seconds"] = {
        "weights": sum(float(part) for part in LOADING.findall(text)),
        **{f"{name} graphs": float(size) for name, size in CAPTURE.findall(text)},
    }
    found["tiles"] = sorted(set(TILES.findall(text)))
    found["default_tiles"] = sorted(words for words in DEFAULT_TILES if words in text)
    backend = ATTENTION.search(text)
    found["attention"] = backend[1] if backend else ""
    if {"free_loaded", "pool_end", "kv_bytes"} <= set(found) and not found["draft_bytes"]:
        found["table_bytes"] = found["free_loaded"] - found["kv_bytes"] - found["pool_end"]
    return found


def row(
    what: str, planned: Any, real: Any, limit: float | None = LIMIT, slack: float = 0.0
) -> dict[str, Any]:
    """One line of the comparison; `off` is in per cent, `ok` None where one side is not known."""
    made: dict[str, Any] = {"what": what, "planned": planned, "real": real, "off": None, "ok": None}
    if planned is None or real is None:
        return made
    if limit is None or isinstance(planned, (str, bool, list)):
        made["ok"] = planned == real
        return made
    difference = planned - real
    made["off"] = round(100 * difference / real, 2) if real else None
    made["ok"] = abs(difference) <= max(abs(real) * limit / 100, slack)
    made["limit"] = limit
    return made


def sizes(instance: Mapping[str, Any], real: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every number of the plan's memory against the log."""
    memory, context = instance["memory"], instance["context"]
    arguments = {item["flag"]: item["value"] for item in instance["arguments"]}

    def get(key: str) -> Any:
        return real.get(key)

    return [
        row("KV tokens", context["tokens"], get("tokens")),
        row("KV bytes", memory["kv_bytes"], _plus(get("kv_bytes"), get("draft_kv_bytes")), slack=ROUNDING),
        row("KV bytes a token", memory["kv_bytes_per_token"], _ratio(get("kv_bytes"), get("tokens")), 0.1),
        row("weights", memory["weights_bytes"], get("weights_bytes"), slack=ROUNDING),
        row("draft weights", memory["draft_bytes"], get("draft_bytes"), slack=ROUNDING),
        row("request table", memory.get("table_bytes"), get("table_bytes"), slack=4 * ROUNDING),
        row("decode graphs", memory.get("decode_graph_bytes"), get("decode_graph_bytes"), slack=ROUNDING),
        row(
            "prefill graphs",
            memory.get("prefill_graph_bytes"),
            real.get("prefill_graph_bytes", 0.0),
            slack=ROUNDING,
        ),
        row("left for activations", memory.get("left_bytes"), get("free_at_end")),
        row("running requests", arguments.get("max-running-requests"), get("requests"), None),
        row("context", context["length"], get("context"), None),
        row("attention backend", arguments.get("attention-backend"), get("attention") or None, None),
    ]


def kernels(instance: Mapping[str, Any], real: Mapping[str, Any]) -> list[dict[str, Any]]:
    files = sorted(instance["service"]["checks"].get("kernel_files", []))
    rows = [row("no default tiles", [], real["default_tiles"], None)]
    used = [path for path in real["tiles"] if path in files]
    rows.append(
        row(
            "kernel file",
            [path for path in files if path in real["tiles"]] or files,
            used or real["tiles"],
            None,
        )
    )
    return rows


def ports(instance: Mapping[str, Any], listening: Iterable[str]) -> list[dict[str, Any]]:
    """`listening`: address:port of the unit's processes."""
    planned = {f"{port['address']}:{port['port']}" for port in instance["ports"]}
    real = set(listening)
    outside = sorted(
        place for place in real - planned if not place.startswith(("127.", "[::1]", "[::ffff:127."))
    )
    return [
        row("planned ports are open", sorted(planned), sorted(planned & real), None),
        row("ports on other addresses", [], outside, None),
    ]


def _plus(first: Any, second: Any) -> Any:
    return None if first is None else first + (second or 0)


def _ratio(above: Any, below: Any) -> Any:
    return None if not above or not below else round(above / below, 1)
