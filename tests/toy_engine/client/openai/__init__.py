# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of the client library as the probe uses: a streamed chat completion."""

from __future__ import annotations

import contextlib
import json
import types
import urllib.request
from collections.abc import Iterator
from typing import Any


class APIError(Exception):
    pass


class APIStatusError(APIError):
    pass


class APITimeoutError(APIError):
    pass


class Chunk:
    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def model_dump(self) -> dict[str, Any]:
        return self.said


class OpenAI:
    def __init__(self, base_url: str, **_options: Any) -> None:
        self.base_url = base_url
        self.chat = types.SimpleNamespace(completions=types.SimpleNamespace(create=self.create))

    @contextlib.contextmanager
    def create(self, **asked: Any) -> Iterator[Iterator[Chunk]]:
        request = urllib.request.Request(f"{self.base_url}/chat/completions", json.dumps(asked).encode())
        with urllib.request.urlopen(request, timeout=300) as answer:
            lines = (line.decode().strip().partition("data: ")[2] for line in answer)
            yield (Chunk(json.loads(line)) for line in lines if line.startswith("{"))
