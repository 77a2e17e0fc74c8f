# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health and the API itself, asked on the host that serves."""

from __future__ import annotations

import base64
import struct
import time
import zlib
from typing import Any

from ..measure import counters, prompts
from ..measure.client_host import CHAT, ask
from .check_context import CheckContext, CheckError, NotHereError

OK = 200
TWICE = 3
LOOKS, BETWEEN_LOOKS = 6, 0.5
STORY = "Tell me a short story about a rack of servers."


def health(context: CheckContext) -> str:
    path = context.expected["api"]["alive"]
    reply = context.get(path)
    if reply.status != OK:
        raise CheckError(
            f"{path} answers {reply.status or reply.failure} {reply.said}", "systemctl status " + context.unit
        )
    return f"{(reply.ended - reply.begun) * 1000:.0f} ms"


def tokens_flow(context: CheckContext) -> str:
    path = context.expected["api"]["token"]
    reply = context.get(path)
    if reply.status != OK:
        raise CheckError(
            f"{path} answers {reply.status or reply.failure}: no token is made",
            "restart " + context.unit,
        )
    return f"{(reply.ended - reply.begun) * 1000:.0f} ms"


def served_name(context: CheckContext) -> str:
    reply = context.get(context.expected["api"]["models"])
    try:
        names = [entry["id"] for entry in reply.body["data"]]
    except (TypeError, KeyError):
        raise CheckError(f"/v1/models answers {reply.status} and no list of models") from None
    if context.model not in names:
        raise CheckError(
            f"it serves {', '.join(names)}, not {context.model}", "check which instance has this port"
        )
    return context.model


def metrics(context: CheckContext) -> str:
    path, names = context.expected["api"]["metrics"], context.expected["metric_names"]
    before = counters.parse(str(context.get(path).body), names)
    reply = context.chat("Count to three.", tokens=8)
    made = reply.completion_tokens or 0
    # Some engines count in another process, a moment later.
    for _each in range(LOOKS):
        after = counters.parse(str(context.get(path).body), names)
        if (counters.delta(before, after, counters.GENERATED) or 0) >= made:
            break
        time.sleep(BETWEEN_LOOKS)
    missing = [
        names.get(name, name)
        for name in context.expected["metrics"]
        if name not in after and f"{name}_count" not in after
    ]
    if missing:
        raise CheckError(f"{path} lacks {', '.join(missing)}", "monitoring reads these: check the release")
    counted = counters.delta(before, after, counters.GENERATED) or 0
    if counted < made:
        raise CheckError(f"{made} tokens were made and the counter rose by {counted:.0f}")
    return f"{len(after)} counters; tokens are counted"


def chat(context: CheckContext) -> str:
    reply = context.spoken(context.chat("Say hi in one short sentence."))
    if not reply.completion_tokens or not reply.prompt_tokens:
        raise CheckError("the answer comes without usage: tokens cannot be counted")
    text = reply.text.strip() or reply.reasoning.strip()
    if len(text) >= 8 and len(set(text)) == 1:
        raise CheckError(
            f"the model repeats one character ({text[0]!r}): its numbers are broken (NaN)",
            "verify the weights (--tags weights), then quantisation and attention backend",
        )
    return f"{reply.completion_tokens} tokens: {text[:60]}"


def streaming(context: CheckContext) -> str:
    reply = context.spoken(context.chat(STORY, stream=True))
    tokens = reply.completion_tokens or 0
    if tokens > 4 * max(1, reply.chunks) and reply.chunks < 2:
        raise CheckError(f"{tokens} tokens came in {reply.chunks} piece: something buffers the stream")
    speed = f", {1 / reply.tpot:.1f} tokens/s" if reply.tpot else ""
    return f"first token after {(reply.ttft or 0) * 1000:.0f} ms, {tokens} tokens in {reply.chunks} pieces{speed}"


def several_turns(context: CheckContext) -> str:
    messages: list[dict[str, Any]] = []
    lengths = []
    for question in ("My name is Ada.", "I have a dog called Rex.", "What do you know about me?"):
        messages.append({"role": "user", "content": question})
        reply = context.spoken(context.chat(messages, stream=True))
        lengths.append(reply.prompt_tokens or 0)
        messages.append({"role": "assistant", "content": reply.text})
    if not lengths[0] < lengths[1] < lengths[2]:
        raise CheckError(
            f"the prompt does not grow with the turns ({lengths} tokens): check the chat template"
        )
    return f"prompt of {', '.join(map(str, lengths))} tokens"


def _scaled(context: CheckContext) -> prompts.Scale:
    counted = []
    for words in prompts.PROBES:
        reply = context.chat(prompts.prompt(words, f"verify-{words}"), tokens=1)
        counted.append((words, reply.prompt_tokens or 0))
    return prompts.scale_of(counted)


def long_prompt(context: CheckContext) -> str:
    wanted = int(context.expected["long_prompt"])
    if not wanted:
        raise NotHereError("the plan has no context length")
    words = _scaled(context).words(wanted)
    reply = context.spoken(context.chat(prompts.prompt(words, "verify-long"), tokens=8))
    return f"{reply.prompt_tokens} tokens of {context.expected['context']} answered after {reply.ended - reply.begun:.1f} s"


def too_long(context: CheckContext) -> str:
    length = int(context.expected["context"])
    if not length:
        raise NotHereError("the plan has no context length")
    words = length + length // 4
    body = context.body(prompts.text(words, "verify-too-long"), 8, False)
    reply = ask(context.server, CHAT, body)
    if reply.good and (reply.prompt_tokens or 0) <= length:
        raise NotHereError(f"{words} words were {reply.prompt_tokens} tokens: not too long")
    if reply.good:
        raise CheckError(
            f"a prompt of {reply.prompt_tokens} tokens was taken, the plan's context is {length}"
        )
    if not 400 <= reply.status < 500:
        raise CheckError(
            f"a prompt that is too long is answered with {reply.status or reply.failure} {reply.said}"
        )
    return f"refused with {reply.status}"


def bad_request(context: CheckContext) -> str:
    found = []
    for body in (b"{not json", {"model": context.model}, {"model": context.model, "messages": "none"}):
        reply = ask(context.server, CHAT, body)
        if not 400 <= reply.status < 500:
            raise CheckError(
                f"a broken request is answered with {reply.status or reply.failure}, not with 4xx"
            )
        found.append(str(reply.status))
    context.chat("Are you still there?", tokens=4)
    return f"refused with {', '.join(found)}, and it serves on"


def concurrency(context: CheckContext) -> str:
    count = int(context.expected["concurrency"])
    made = [
        context.body(f"Story number {number}. {STORY}", context.expected["tokens"], True)
        for number in range(count)
    ]
    replies = context.chats(made)
    for reply in replies:
        context.spoken(context.good(reply))
    tokens = sum(reply.completion_tokens or 0 for reply in replies)
    seconds = max(reply.ended for reply in replies) - min(reply.begun for reply in replies)
    return f"{count} at once, {tokens} tokens in {seconds:.1f} s"


def determinism(context: CheckContext) -> str:
    answers = {context.chat(STORY, stream=bool(number % 2)).text for number in range(TWICE)}
    if len(answers) != 1:
        raise CheckError(
            f"{len(answers)} different answers to one question at temperature 0",
            "check the option for deterministic answers, and the attention backend",
        )
    return f"{TWICE} times the same answer, streamed and not"


def red_square(side: int = 64) -> str:
    """A PNG as a data URI."""

    def part(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + b"\xff\0\0" * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def image(context: CheckContext) -> str:
    content = [
        {"type": "image_url", "image_url": {"url": red_square()}},
        {"type": "text", "text": "What colour is this square? Answer with one word."},
    ]
    without = context.chat("What colour is this square? Answer with one word.", tokens=1)
    reply = context.spoken(context.chat([{"role": "user", "content": content}], tokens=256))
    if (reply.prompt_tokens or 0) <= (without.prompt_tokens or 0) + 1:
        raise CheckError("the image added no tokens to the prompt: it was dropped")
    if "red" not in reply.text.casefold():
        raise CheckError(f"asked for the colour of a red square it says {reply.text[:80]!r}")
    return f"sees red ({reply.prompt_tokens} tokens)"


def acceptance(context: CheckContext) -> str:
    path, names = context.expected["api"]["metrics"], context.expected["metric_names"]
    before = counters.parse(str(context.get(path).body), names)
    reply = context.chat(STORY, tokens=max(64, context.expected["tokens"]), stream=True, ignore_eos=True)
    after = counters.parse(str(context.get(path).body), names)
    verified = counters.delta(before, after, counters.VERIFIED)
    made = counters.delta(before, after, counters.GENERATED) or 0
    length = made / verified if verified else after.get(counters.ACCEPTED, 0.0)
    if length <= 1.0:
        raise CheckError(
            f"each step made {length:.2f} tokens: no draft was accepted",
            "check the MTP layer of the weights and the speculative settings",
        )
    return f"{length:.2f} tokens a step over {reply.completion_tokens} tokens"
