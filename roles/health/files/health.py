# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at the GPUs of a host that serves and writes a verdict; run by a timer, as a user of its own.

    health.py SETTINGS

It only reads, and writes two files of its own: its state, and the verdict that launchers, status, doctor and metrics
read. Decisions are in sglang_health/health/decide.py.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import time
from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from sglang_health.facts.kernel_events import parse_kernel_log
from sglang_health.facts.values import pci_address
from sglang_health.health import decide

sys.path.remove(HERE)

STATE, VERDICT = "state.json", "verdict.json"
# Field of nvidia-smi -> name of ours; one that the driver does not know is left out.
FIELDS = {
    "gpu_recovery_action": "recovery",
    "remapped_rows.pending": "remap_pending",
    "remapped_rows.failure": "remap_failure",
    "ecc.errors.uncorrected.volatile.total": "ecc_uncorrected",
    "clocks_throttle_reasons.active": "clock_reasons",
}
UNKNOWN_FIELD = re.compile(r'"([\w.]+)" is not a valid field', re.IGNORECASE)
CURSOR = re.compile(r"^-- cursor: (\S+)$", re.MULTILINE)
CURSOR_VALUE = re.compile(r"[A-Za-z0-9;=_-]{1,400}\Z")
MOST_BYTES = 4 << 20
SYS = "/sys"


def run(words: list[str], seconds: float) -> tuple[int, str]:
    """(exit status, output); the status is -1 where it could not run or did not end."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return -1, ""
    return done.returncode, done.stdout[-MOST_BYTES:].decode("utf-8", "replace")


def kernel_log(cursor: str) -> tuple[str, str]:
    """The lines after the cursor, of this boot, and the cursor to go on from."""
    words = [
        "journalctl",
        "--dmesg",
        "--boot",
        "--no-pager",
        "--quiet",
        "--output=short-monotonic",
        "--show-cursor",
    ]
    status, out = run([*words, *([f"--after-cursor={cursor}"] if cursor else [])], 60)
    if status != 0 and cursor:
        # What it stood on was rotated away.
        status, out = run(words, 60)
    found = CURSOR.findall(out)
    return (CURSOR.sub("", out) if status == 0 else ""), (found[-1] if found else cursor)


def gpus(program: str, seconds: float) -> tuple[bool, list[decide.Gpu]]:
    """Whether nvidia-smi answered, and the GPUs that it lists."""
    fields = list(FIELDS)
    for _unused in range(len(FIELDS) + 1):
        query = ",".join(["index", "pci.bus_id", *fields])
        status, out = run([program, f"--query-gpu={query}", "--format=csv,noheader,nounits"], seconds)
        unknown = UNKNOWN_FIELD.search(out)
        if status > 0 and unknown and unknown[1] in fields:
            fields.remove(unknown[1])
            continue
        # It may list the GPUs that are left and still fail over one that is lost.
        found = [gpu for line in out.splitlines() if (gpu := gpu_of(line, fields)) is not None]
        return (status == 0 or bool(found)), found
    return False, []


def gpu_of(line: str, fields: list[str]) -> decide.Gpu | None:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(fields) + 2 or not cells[0].isdigit() or not pci_address(cells[1]):
        return None
    said: dict[str, Any] = {}
    for field, cell in zip(fields, cells[2:]):
        name, low = FIELDS[field], cell.lower()
        if name == "recovery":
            said[name] = None if low in ("n/a", "[n/a]", "[not supported]") else cell[:80]
        elif name in ("remap_pending", "remap_failure"):
            said[name] = {"yes": True, "1": True, "no": False, "0": False}.get(low)
        elif name == "clock_reasons":
            said[name] = int(cell, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", cell) else None
        else:
            said[name] = int(cell) if re.fullmatch(r"\d{1,18}", cell) else None
    return decide.Gpu(int(cells[0]), pci_address(cells[1]), **said)


def nvlink_errors(program: str, seconds: float) -> dict[int, int]:
    """GPU -> sum of all its counters; empty where it has no NVLink."""
    status, out = run([program, "nvlink", "-e"], seconds)
    found: dict[int, int] = {}
    index = -1
    for line in out.splitlines() if status == 0 else ():
        head = re.match(r"GPU (\d{1,4}):", line)
        count = re.match(r"\s*Link \d{1,4}: .{0,60}Errors?: (\d{1,18})\s*\Z", line)
        if head:
            index = int(head[1])
        elif count and index >= 0:
            found[index] = found.get(index, 0) + int(count[1])
    return found


def rdma(names: list[str], sys_folder: str = SYS) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for port in sorted(glob.glob(f"{sys_folder}/class/infiniband/*/ports/*")):
        counters = {}
        for name in names:
            for folder in ("counters", "hw_counters"):
                value = text(f"{port}/{folder}/{name}", 64).strip()
                if re.fullmatch(r"\d{1,20}", value):
                    counters[name] = int(value)
        parts = port.split("/")
        if counters:
            found[f"{parts[-3]}/{parts[-1]}"] = counters
    return found


def text(path: str, most: int = MOST_BYTES) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(most)
    except OSError:
        return ""


def boot() -> str:
    """As the launchers say it: what no two boots share, in containers too."""
    try:
        return f"{text('/proc/sys/kernel/random/boot_id', 64).strip()} {os.stat('/run/systemd/notify').st_ctime_ns}"
    except OSError:
        return ""


def document(path: str) -> dict[str, Any]:
    try:
        found = json.loads(text(path))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: str, content: dict[str, Any], mode: int) -> None:
    """Whole or not at all."""
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        json.dump(content, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def look(given: dict[str, Any], kept: dict[str, Any], now: float) -> tuple[decide.Reading, str]:
    rules, program = given["rules"], given["nvidia_smi"]
    seconds = float(rules["nvidia_smi_seconds"])
    cursor = str(kept.get("cursor") or "")
    lines, cursor = kernel_log(cursor if CURSOR_VALUE.match(cursor) else "")
    answered, listed = gpus(program, seconds)
    cleared = document(given["cleared"]).get("at")
    reading = decide.Reading(
        now=now,
        boot=boot(),
        gpus=tuple(listed),
        answered=answered,
        events=tuple(parse_kernel_log(lines)),
        first_look=not kept,
        nvlink=nvlink_errors(program, seconds) if answered else {},
        rdma=rdma(list(rules["rdma_counters"])),
        cleared_at=float(cleared) if isinstance(cleared, (int, float)) else 0.0,
    )
    return reading, cursor


def main(arguments: list[str]) -> int:
    with open(arguments[0], encoding="utf-8") as stream:
        given = json.load(stream)
    folder = given["folder"]
    settings = decide.Settings.from_dict(given)
    kept = document(os.path.join(folder, STATE))
    reading, cursor = look(given, kept, time.time())
    before = document(os.path.join(folder, VERDICT))
    state, verdict = decide.decide(decide.State.from_dict(kept), reading, settings)
    # The verdict first: a state without it would hide an event.
    write(os.path.join(folder, VERDICT), verdict, 0o644)
    write(os.path.join(folder, STATE), {**state.to_dict(), "cursor": cursor}, 0o600)
    say(before, verdict)
    return 0


def say(before: dict[str, Any], verdict: dict[str, Any]) -> None:
    """What is new, for the journal."""
    known = {
        (item.get("code"), item.get("gpu")) for item in before.get("findings") or () if isinstance(item, dict)
    }
    for item in verdict["findings"]:
        if (item["code"], item["gpu"]) not in known:
            print(f"{item['decision']}: {item['subject']}: {item['what']} -> {item['cure']}", flush=True)
    for key, words in (("instances", ""), ("would", " (observe: nothing is done)")):
        for name, order in verdict[key].items():
            if name not in (before.get(key) or {}):
                print(f"{order['decision']} instance {name}{words}: {order['why']}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
