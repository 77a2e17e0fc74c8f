# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the checks on a host share: the server, what the plan expects, and how a check fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..measure.client_host import CHAT, Server, ask, ask_all, chat
from ..measure.http_response import FINISHED, Reply
from ..measure.judge import leaked

READ_THE_LOG = "journalctl -u {unit} -n 100"
RunCommand = Callable[..., Any]


class CheckError(Exception):
    """What is wrong, and what to do."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


class NotHereError(Exception):
    """The check cannot be made on this host or release; said, not failed."""


@dataclass
class CheckContext:
    server: Server
    model: str
    unit: str
    expected: Mapping[str, Any]
    run_command: RunCommand
    invocation_log: Callable[[], list[str]]
    """The unit's own lines since its present start."""
    processes: Callable[[], list[int]]
    identity: dict[str, Any] = field(default_factory=dict)

    def chat(self, messages: Any, tokens: int = 0, stream: bool = False, **more: Any) -> Reply:
        """A good answer, or a CheckError that names the failure."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        body = chat(self.model, messages, tokens or self.expected["tokens"], stream, **more)
        return self.good(ask(self.server, CHAT, body))

    def chats(self, bodies: list[Any]) -> list[Reply]:
        return ask_all(self.server, CHAT, bodies)

    def body(self, content: str, tokens: int, stream: bool, **more: Any) -> dict[str, Any]:
        return chat(self.model, [{"role": "user", "content": content}], tokens, stream, **more)

    def good(self, reply: Reply) -> Reply:
        if not reply.good:
            said = f": {reply.said}" if reply.said else ""
            raise CheckError(
                f"the request failed: {reply.failure}{said}", READ_THE_LOG.format(unit=self.unit)
            )
        if reply.finish not in FINISHED:
            raise CheckError(f"the answer was not finished: finish_reason is {reply.finish!r}")
        return reply

    def spoken(self, reply: Reply) -> Reply:
        """Has text, and no mark of the model's own language in it."""
        if not (reply.text.strip() or reply.reasoning.strip() or reply.calls):
            raise CheckError(
                f"{reply.completion_tokens} tokens came back, but no text: only special tokens",
                "check that tokenizer and weights belong together, and the chat template",
            )
        mark = leaked(reply.text) or leaked(reply.reasoning)
        if mark:
            raise CheckError(
                f"{mark} is left in the answer",
                "check the reasoning parser and the tool-call parser of the plan",
            )
        return reply

    def get(self, path: str, **how: Any) -> Reply:
        return ask(self.server, path, **how)
