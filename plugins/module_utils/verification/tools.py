# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tool calls and thinking: what the model does, and what the release's parsers make of texts that are known to hurt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..measure.client_host import CHAT, ask
from ..measure.http_response import Reply
from ..measure.judge import arguments_of, call_problem, leaked
from .check_context import CheckContext, CheckError, NotHereError

WEATHER = "What is the weather in Paris? Use the tool."
PARALLEL = (
    "What is the weather in Paris, and what is it in Tokyo? Call the tool once for each city, both at once."
)
UNHEARD_OF = 404
# 0.5.23 breaks on any list of tools there, not on the text.
BROKEN_ROUTE = 500
FIX = "--tool-call-parser must be the model's: plan.yml shows the planned one and why"


def parser_cases(context: CheckContext) -> str:
    """The server's own parser, fed with texts instead of a model's answer."""
    cases = context.expected["parser_cases"]
    for case in cases:
        body = {
            "text": case["text"],
            "tools": context.expected["tools"],
            "tool_call_parser": context.expected["parser"],
        }
        reply = ask(context.server, context.expected["api"]["parse"], body)
        if reply.status in (UNHEARD_OF, BROKEN_ROUTE):
            raise NotHereError(
                f"this release cannot be asked for its parser alone ({reply.status}); the full form runs it itself"
            )
        if not isinstance(reply.body, dict) or "calls" not in reply.body:
            raise CheckError(f"{case['name']}: the parser fails: {reply.failure} {reply.said}", FIX)
        calls = [
            {"name": str(call.get("name") or ""), "arguments": call.get("parameters") or ""}
            for call in reply.body["calls"]
        ]
        problem = case_problem(case, calls, str(reply.body.get("normal_text") or ""))
        if problem:
            raise CheckError(
                f"{context.expected['parser']}, {case['name']}: {problem}", "known parser bug: docs/verify.md"
            )
    return f"{context.expected['parser']}: {len(cases)} texts parsed right"


def case_problem(case: Mapping[str, Any], calls: Sequence[Mapping[str, str]], text: str) -> str:
    wanted = case["calls"]
    if len(calls) != len(wanted):
        return f"{len(calls)} calls instead of {len(wanted)}"
    for call, one in zip(calls, wanted):
        arguments = arguments_of(call)
        if arguments is None:
            return f"arguments are no JSON object: {call['arguments'][:80]}"
        if call["name"] != one["name"] or arguments != one["arguments"]:
            return f"{call['name']}({call['arguments'][:120]}) instead of {one['name']}({json.dumps(one['arguments'])})"
    if leaked(text):
        return f"{leaked(text)} is left in the text"
    if text.strip() != case.get("said", "").strip():
        return f"the text beside it is {text.strip()[:60]!r} instead of {case.get('said', '')!r}"
    return ""


def parser_cases_streamed(context: CheckContext) -> str:
    """The same texts in pieces of every small size, by the environment's own Python: bugs show between pieces."""
    python = f"{context.expected['environment']}/bin/python"
    given = json.dumps(
        {"parser": context.expected["parser"], "tools": context.expected["tools"],
         "texts": [case["text"] for case in context.expected["parser_cases"]]}
    )  # fmt: skip
    status, out, err = context.run_command(
        [python, "-I", "-B", "-c", context.expected["scripts"]["parser"]], data=given
    )
    try:
        found = json.loads(str(out).strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise CheckError(
            f"the parser could not be run (status {status}): {str(err).strip()[-200:]}"
        ) from None
    if "missing" in found:
        raise NotHereError(f"this release has its parsers elsewhere: {found['missing']}")
    for case, sizes in zip(context.expected["parser_cases"], found["results"]):
        for size, (calls, text) in sizes.items():
            problem = case_problem(case, calls, text)
            if problem:
                raise CheckError(
                    f"{context.expected['parser']}, {case['name']}, pieces of {size}: {problem}",
                    "known parser bug: docs/verify.md",
                )
    return f"{context.expected['parser']}: {len(found['results'])} texts right in pieces of {', '.join(found['sizes'])}"


def _call(context: CheckContext, question: str, stream: bool, least: int = 1) -> Reply:
    tokens = max(512, context.expected["tokens"])
    reply = context.chat(question, tokens=tokens, stream=stream, tools=context.expected["tools"])
    mark = leaked(reply.text)
    if mark:
        raise CheckError(f"{mark} is left in the answer: the parser did not take the call", FIX)
    if len(reply.calls) < least:
        raise CheckError(f"{len(reply.calls)} calls instead of {least}; it said {reply.text[:80]!r}", FIX)
    for call in reply.calls:
        problem = call_problem(call, context.expected["tools"])
        if problem:
            raise CheckError(problem, FIX)
        if not call["id"]:
            raise CheckError(f"the call of {call['name']} has no id: its result cannot be given back")
    if len({call["id"] for call in reply.calls}) != len(reply.calls):
        raise CheckError("two calls have one id")
    if reply.finish != "tool_calls":
        raise CheckError(f"finish_reason is {reply.finish!r} beside a call; clients look for tool_calls")
    if reply.notes:
        raise CheckError("; ".join(reply.notes))
    return reply


def _shown(reply: Reply) -> str:
    return ", ".join(f"{call['name']}({call['arguments']})" for call in reply.calls)[:100]


def single_call(context: CheckContext) -> str:
    return _shown(_call(context, WEATHER, stream=False))


def parallel_calls(context: CheckContext) -> str:
    return _shown(_call(context, PARALLEL, stream=False, least=2))


def streamed_call(context: CheckContext) -> str:
    one = _call(context, WEATHER, stream=True)
    return f"{_shown(one)}; {_shown(_call(context, PARALLEL, stream=True, least=2))}"[:160]


def after_result(context: CheckContext) -> str:
    reply = _call(context, WEATHER, stream=False)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": WEATHER},
        {"role": "assistant", "content": reply.text, "tool_calls": [
            {"id": call["id"], "type": "function",
             "function": {"name": call["name"], "arguments": call["arguments"]}} for call in reply.calls]},
    ]  # fmt: skip
    messages += [
        {"role": "tool", "tool_call_id": call["id"], "content": '{"celsius": 31, "sky": "clear"}'}
        for call in reply.calls
    ]
    answer = context.spoken(context.chat(messages, tokens=512, tools=context.expected["tools"]))
    if "31" not in answer.text:
        raise CheckError(f"told 31 degrees by the tool it says {answer.text[:100]!r}")
    return answer.text.strip()[:80]


def no_call(context: CheckContext) -> str:
    reply = context.spoken(
        context.chat("Say hi in one short sentence.", tokens=512, tools=context.expected["tools"])
    )
    if reply.calls:
        raise CheckError(f"it calls {_shown(reply)} to say hi")
    return reply.text.strip()[:60]


def reasoning_apart(context: CheckContext) -> str:
    """A parser that does not fit leaves the thoughts, or their marks, in the answer."""
    for stream in (False, True):
        reply = context.spoken(
            context.chat("Is 91 a prime number?", tokens=max(256, context.expected["tokens"]), stream=stream)
        )
        if not reply.reasoning.strip():
            raise CheckError("no reasoning_content came back", "--reasoning-parser must be the model's")
    return f"{len(reply.reasoning)} letters of thought, {len(reply.text)} of answer"


def thinking_off(context: CheckContext) -> str:
    for stream in (False, True):
        reply = context.spoken(
            context.chat(
                "Is 91 a prime number?",
                tokens=max(128, context.expected["tokens"]),
                stream=stream,
                chat_template_kwargs={"enable_thinking": False},
            )
        )
        if reply.reasoning.strip():
            raise CheckError(f"asked not to think it thinks: {reply.reasoning[:60]!r}")
        if not reply.text.strip():
            raise CheckError(
                "asked not to think it says nothing", "check --reasoning-parser and the chat template"
            )
    return reply.text.strip()[:60]


def budget(context: CheckContext) -> str:
    """The processor travels with the request as code of the release itself."""
    known = context.expected["budget"]
    python = f"{context.expected['environment']}/bin/python"
    words = [python, "-I", "-B", "-c", context.expected["scripts"]["budget"], known["processor"]]
    status, out, err = context.run_command(words)
    if status:
        raise CheckError(f"{known['processor']} cannot be made: {str(err).strip()[-160:]}")
    tokens = int(known["tokens"])
    reply = context.spoken(
        context.chat(
            "How many prime numbers are there below 1000? Think about each of them.",
            tokens=8 * tokens,
            custom_logit_processor=str(out).strip().splitlines()[-1],
            custom_params={"thinking_budget": tokens},
        )
    )
    free = ask(context.server, CHAT, context.body(reply.reasoning or "nothing", 1, False))
    used = free.prompt_tokens or 0
    if used > 2 * tokens + 32:
        raise CheckError(
            f"a budget of {tokens} tokens, and it thought for about {used}",
            "budget and drafts exclude each other on most releases: serve.<instance>.speculative",
        )
    return f"thought for about {used} tokens with a budget of {tokens}"
