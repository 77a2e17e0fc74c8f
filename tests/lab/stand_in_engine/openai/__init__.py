# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of the real client as the probe uses."""

import contextlib
import json
import types
import urllib.request


class APIError(Exception):
    pass


class APIStatusError(APIError):
    pass


class APITimeoutError(APIError):
    pass


class Chunk:
    def __init__(self, **said):
        self.said = said

    def model_dump(self):
        return self.said


class OpenAI:
    def __init__(self, base_url, **_options):
        self.base_url = base_url
        self.chat = types.SimpleNamespace(completions=types.SimpleNamespace(create=self.create))

    def create(self, **asked):
        request = urllib.request.Request(f"{self.base_url}/chat/completions", json.dumps(asked).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = json.load(answer)
        first = Chunk(choices=[{"delta": {"content": said["text"]}, "finish_reason": "stop"}])
        usage = {"prompt_tokens": 3, "completion_tokens": said["tokens"]}
        return contextlib.nullcontext([first, Chunk(choices=[], usage=usage)])
