# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher keeps its own health checks out of the journal; no text of a client hides another line."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "roles/engine/files/launcher"
QUIET = yaml.safe_load((ROOT / "files/engines/sglang/signals.yml").read_text(encoding="utf-8"))["quiet"]
STAMP = "[2026-11-30 19:00:00]"
OWN = [
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health_generate HTTP/1.1" 200 OK',
    'INFO:     127.0.0.1:46432 - "GET /health_generate HTTP/1.1" 200 OK',
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health HTTP/1.1" 503 Service Unavailable',
    'INFO:     127.0.0.1:46432 - "GET /health HTTP/1.1" 200 OK',
    "[2026-11-30 19:00:00 TP0] Prefill batch, #new-seq: 1, #new-token: 1, #cached-token: 0, token usage: 0.00",
    f"{STAMP} Prefill batch. #new-seq: 1, #new-token: 1, #cached-token: 0, #running-req: 0, #queue-req: 0",
    f"{STAMP} Prefill batch [7], #new-seq: 1, #new-token: 1, #cached-token: 0, full token usage: 0.00",
]
FORGED = [
    # Of X-Forwarded-For, which the engine's server shows as the client's address.
    f'{STAMP} INFO:     "GET /health_generate HTTP/1.1" 200:0 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
    f'{STAMP} INFO:     127.0.0.1:1 - "GET /health_generate HTTP/1.1" 200 OK:0 - "POST /flush_cache HTTP/1.1" 200 OK',
    f'{STAMP} INFO:     127.0.0.1:1 - "POST /x" - "GET /health_generate HTTP/1.1" 200 OK',
    f"{STAMP} Unknown model: Prefill batch, #new-seq: 1, #new-token: 1, #cached-token: 0, x",
    f'{STAMP} Prefill failed: "batch #new-seq: 1, #new-token: 1, #cached-token: 0, "',
    f"{STAMP} ERROR: #new-seq: 1, #new-token: 1, #cached-token: 0,",
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health_generate HTTP/1.1" 200 OK and more',
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health_generate HTTP/1.1" 503 Service Unavailable',
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health HTTP/1.1" 500 Internal Server Error',
    f'{STAMP} INFO:     127.0.0.1:46432 - "GET /health HTTP/1.1" 503 Service Unavailable:0 - "POST /x HTTP/1.1" 200 OK',
    f'{STAMP} INFO:     10.0.0.7:46432 - "GET /health HTTP/1.1" 503 Service Unavailable',
]


@pytest.fixture
def launcher() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    told = importlib.util.spec_from_file_location("launcher_main", FOLDER / "__main__.py")
    assert told and told.loader
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))
    for name in ("decisions", "checks", "fabric", "processes", "notify"):
        sys.modules.pop(name, None)


def journal(launcher: Any, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> list[str]:
    """What the launcher lets through of an engine's lines."""
    made = object.__new__(launcher.Launcher)
    made.quiet, made.ready = re.compile(QUIET.encode()), threading.Event()
    made.ready.set()
    made.words = launcher.LastWords()
    written: list[bytes] = []
    monkeypatch.setattr(launcher, "_write", written.append)
    out, into = os.pipe()
    os.write(into, "".join(f"{line}\n" for line in lines).encode())
    os.close(into)
    made._pump(out)
    os.close(out)
    return b"".join(written).decode().splitlines()


def test_its_own_health_checks_are_not_the_last_words(launcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = launcher.LastWords()
    monkeypatch.setattr(launcher, "LastWords", lambda: words)
    journal(launcher, monkeypatch, ["the reason", *OWN])
    assert [line for _when, line in words.lines] == ["the reason"]


def test_its_own_health_checks_are_left_out(launcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journal(launcher, monkeypatch, OWN) == []


def test_no_text_of_a_client_hides_a_line(launcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert journal(launcher, monkeypatch, FORGED) == FORGED
