# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent's conversation: real replies stay in it, and tools answer what a script says. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import prompts
from .client_host import chat
from .http_response import Reply
from .judge import call_problem, leaked

# A model that calls for ever is sent on to the next turn.
CALLS_A_TURN = 3


@dataclass
class Conversation:
    model: str
    seed: str
    turns: Sequence[str]
    tools: Sequence[dict[str, Any]]
    results: Sequence[str]
    tokens: int
    words: int
    more: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    turn: int = 0
    calls_in_turn: int = 0
    ended: str = ""

    def opening(self) -> bytes:
        background = prompts.text(self.words, self.seed)
        self.messages = [{"role": "system", "content": f"You help with a project. Notes: {background}"}]
        return self._ask_next()

    def say(self, reply: Reply) -> bytes | None:
        problems = [
            problem for problem in (call_problem(call, self.tools) for call in reply.calls) if problem
        ]
        if not reply.calls and leaked(reply.text):
            problems.append(f"{leaked(reply.text)} in the answer: a call that the parser did not take")
        self.steps.append(
            {
                "turn": self.turn, "failure": reply.failure, "calls": len(reply.calls), "problems": problems,
                "prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens,
                "seconds": round(reply.ended - reply.begun, 4),
            }
        )  # fmt: skip
        if not reply.good:
            self.ended = f"turn {self.turn}: {reply.failure}"
            return None
        self.messages.append(_said(reply))
        self.calls_in_turn += 1
        if reply.calls:
            for number, call in enumerate(reply.calls):
                result = self.results[(self.turn + number) % len(self.results)]
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
            if self.calls_in_turn < CALLS_A_TURN and not problems:
                return self._body()
        if self.turn >= len(self.turns):
            return None
        return self._ask_next()

    def _ask_next(self) -> bytes:
        self.messages.append({"role": "user", "content": self.turns[self.turn]})
        self.turn, self.calls_in_turn = self.turn + 1, 0
        return self._body()

    def _body(self) -> bytes:
        return json.dumps(
            chat(self.model, self.messages, self.tokens, True, tools=list(self.tools), **self.more)
        ).encode()


def _said(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function",
             "function": {"name": call["name"], "arguments": _whole(call["arguments"])}}
            for call in reply.calls
        ]  # fmt: skip
    return message


def _whole(arguments: str) -> str:
    """Templates refuse a history with broken JSON in it; the damage was counted already."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except ValueError:
        return "{}"
