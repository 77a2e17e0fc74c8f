# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP answer out of the pieces that arrived, each with its time. Pure: bytes and times in, a Reply out.

While load runs the client keeps pieces and does nothing else; they are read when it is over. So what the client
itself does cannot be in the times.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

OK = 200
DONE = "[DONE]"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"
FINISHED = ("stop", "length", "tool_calls", "function_call")
SHOWN = 300
STATUS, LENGTH = re.compile(r"[0-9]{3}\Z"), re.compile(r"[0-9]{1,15}\Z")
Piece = tuple[float, bytes]


@dataclass
class Reply:
    """What one request came to. Tokens are the server's own count (usage); chunks are never tokens."""

    status: int = 0
    failure: str = ""
    """A class of its own for each way to fail; "" is good."""
    said: str = ""
    """What the server said with it, shortened."""
    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, str]] = field(default_factory=list)
    """{id, name, arguments}; arguments are the text that came, JSON or not."""
    finish: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    chunks: int = 0
    """Events that carried text, reasoning or a call."""
    begun: float = 0.0
    first: float | None = None
    last: float | None = None
    ended: float = 0.0
    longest_gap: float = 0.0
    gaps: list[float] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """The whole JSON, of an answer that is not a stream."""
    notes: list[str] = field(default_factory=list)
    """Odd things in the stream that are no failure by themselves, such as a name that came twice."""

    @property
    def good(self) -> bool:
        return not self.failure

    @property
    def ttft(self) -> float | None:
        return None if self.first is None else self.first - self.begun

    @property
    def tpot(self) -> float | None:
        """Seconds for each token after the first one: right with any number of tokens in a chunk."""
        tokens = self.completion_tokens or 0
        if self.first is None or self.last is None or tokens < 2 or self.last <= self.first:
            return None
        return (self.last - self.first) / (tokens - 1)


class BrokenError(Exception):
    """The answer cannot be read."""


def _payload(pieces: Iterable[Piece], chunked: bool) -> Iterator[Piece]:
    """The body's bytes, still with the time of arrival, out of their transfer coding."""
    if not chunked:
        yield from pieces
        return
    buffer, wanted = b"", -1
    for moment, data in pieces:
        buffer += data
        while True:
            if wanted < 0:
                line, mark, rest = buffer.partition(b"\r\n")
                if not mark:
                    break
                try:
                    wanted, buffer = int(line.split(b";")[0], 16), rest
                except ValueError:
                    raise BrokenError(f"a chunk begins with {line[:40]!r}") from None
                if wanted == 0:
                    return
            if len(buffer) < wanted + 2:
                # A chunk may come in several pieces; what is there already came now.
                if buffer and len(buffer) <= wanted:
                    yield moment, buffer
                    wanted, buffer = wanted - len(buffer), b""
                break
            yield moment, buffer[:wanted]
            buffer, wanted = buffer[wanted + 2 :], -1
    raise BrokenError("the stream was cut")


def _events(pieces: Iterable[Piece]) -> Iterator[tuple[float, str, str]]:
    """(time, event name, data) of each server-sent event."""
    buffer, name = b"", ""
    data: list[str] = []
    for moment, block in pieces:
        buffer += block
        *lines, buffer = buffer.split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line:
                if data:
                    yield moment, name, "\n".join(data)
                name, data = "", []
            elif line.startswith("data:"):
                data.append(line[5:].lstrip(" "))
            elif line.startswith("event:"):
                name = line[6:].strip()


def _split(pieces: list[Piece]) -> tuple[int, dict[str, str], list[Piece]]:
    """Status, headers, and the pieces behind them."""
    held = b""
    for number, (moment, data) in enumerate(pieces):
        held += data
        head, mark, rest = held.partition(b"\r\n\r\n")
        if not mark:
            continue
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/") or len(words) < 2 or not STATUS.match(words[1]):
            raise BrokenError(f"no HTTP answer: {first[:60]!r}")
        headers = {}
        for line in lines:
            key, _unused, value = line.partition(":")
            headers[key.strip().lower()] = value.strip()
        return int(words[1]), headers, [(moment, rest), *pieces[number + 1 :]]
    raise BrokenError("the connection was closed before an answer" if not held else "the answer has no end")


def read(pieces: list[Piece], begun: float, ended: float, trouble: str = "", stall: float = 0.0) -> Reply:
    """`trouble` is what the client knows already (connect, timeout, stall, reset); it wins over "cut"."""
    reply = Reply(begun=begun, ended=ended)
    try:
        reply.status, reply.headers, body = _split(pieces)
    except BrokenError as error:
        return _failed(reply, trouble or "no_answer", str(error))
    chunked = reply.headers.get("transfer-encoding", "").lower() == "chunked"
    streamed = reply.headers.get("content-type", "").startswith("text/event-stream")
    if reply.status != OK or not streamed:
        return _whole(reply, body, chunked, trouble)
    try:
        done = _stream(reply, _payload(body, chunked))
    except BrokenError as error:
        done = False
        reply.said = reply.said or str(error)
    if reply.failure:
        return reply
    if trouble:
        return _failed(reply, trouble)
    if not done or not reply.finish:
        return _failed(reply, "cut", "the stream ended without its end mark")
    if not reply.completion_tokens:
        return _failed(reply, "no_usage" if reply.completion_tokens is None else "empty")
    if stall and reply.longest_gap > stall:
        reply.notes.append(f"stalled for {reply.longest_gap:.1f} s")
    return reply


def _failed(reply: Reply, failure: str, said: str = "") -> Reply:
    reply.failure, reply.said = failure, (reply.said or said)[:SHOWN]
    return reply


def _whole(reply: Reply, pieces: list[Piece], chunked: bool, trouble: str) -> Reply:
    try:
        data = b"".join(block for _unused, block in _payload(pieces, chunked))
    except BrokenError as error:
        return _failed(reply, trouble or "cut", str(error))
    length = reply.headers.get("content-length", "")
    told = int(length) if LENGTH.match(length) else None
    if told is not None and len(data) < told:
        return _failed(reply, trouble or "cut", f"{len(data)} of {length} bytes came")
    if trouble and told is None and not chunked:
        return _failed(reply, trouble)
    text = data.decode("utf-8", "replace")
    try:
        reply.body = json.loads(text)
    except (ValueError, RecursionError):
        reply.body = text
    if reply.status != OK:
        return _failed(reply, f"http_{reply.status}", _error_words(reply.body))
    if isinstance(reply.body, dict) and "choices" in reply.body:
        reply.first = reply.last = reply.ended
        _usage(reply, reply.body.get("usage"))
        for choice in (reply.body["choices"] or [])[:1]:
            message = choice.get("message") or {}
            reply.text, reply.reasoning = (
                message.get("content") or "",
                message.get("reasoning_content") or message.get("reasoning") or "",
            )
            reply.finish = choice.get("finish_reason") or ""
            for call in message.get("tool_calls") or []:
                function = call.get("function") or {}
                reply.calls.append(
                    {"id": str(call.get("id") or ""), "name": str(function.get("name") or ""),
                     "arguments": function.get("arguments") or ""}
                )  # fmt: skip
        if reply.completion_tokens is None:
            return _failed(reply, "no_usage")
    return reply


def _error_words(body: Any) -> str:
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("detail") or inner
        return str(inner)[:SHOWN]
    return str(body)[:SHOWN]


def _usage(reply: Reply, usage: Any) -> None:
    if not isinstance(usage, dict):
        return
    reply.prompt_tokens = usage.get("prompt_tokens", reply.prompt_tokens)
    reply.completion_tokens = usage.get("completion_tokens", reply.completion_tokens)
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        reply.cached_tokens = details.get("cached_tokens", reply.cached_tokens)


def _stream(reply: Reply, pieces: Iterable[Piece]) -> bool:
    """Whether the end mark came."""
    calls: dict[int, dict[str, str]] = {}
    done = False
    try:
        for moment, name, data in _events(pieces):
            if data == DONE:
                done = True
                continue
            try:
                chunk = json.loads(data)
            except (ValueError, RecursionError):
                _failed(reply, "malformed", f"an event is no JSON: {data[:120]}")
                return done
            if name == "error" or (isinstance(chunk, dict) and chunk.get("error")):
                _failed(reply, "sse_error", _error_words(chunk))
                continue
            _chunk(reply, chunk, moment, calls)
    finally:
        reply.calls = [calls[index] for index in sorted(calls)]
    return done


def _chunk(reply: Reply, chunk: Any, moment: float, calls: dict[int, dict[str, str]]) -> None:
    _usage(reply, chunk.get("usage"))
    for choice in chunk.get("choices") or []:
        if choice.get("index"):
            continue
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
        reply.text += text
        reply.reasoning += thought
        for call in delta.get("tool_calls") or []:
            _call(reply, call, calls)
        if text or thought or delta.get("tool_calls"):
            if reply.first is None:
                reply.first = moment
            else:
                gap = moment - (reply.last or moment)
                reply.gaps.append(gap)
                reply.longest_gap = max(reply.longest_gap, gap)
            reply.last = moment
            reply.chunks += 1
        reply.finish = choice.get("finish_reason") or reply.finish


def _call(reply: Reply, call: dict[str, Any], calls: dict[int, dict[str, str]]) -> None:
    index = call.get("index")
    if not isinstance(index, int):
        reply.notes.append("a call without an index")
        index = len(calls)
    function = call.get("function") or {}
    found = calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
    if function.get("name"):
        if found["name"]:
            reply.notes.append(f"the name of call {index} came twice")
        found["name"] = str(function["name"])
    if call.get("id"):
        if found["id"] and found["id"] != call["id"]:
            reply.notes.append(f"the id of call {index} changed")
        found["id"] = str(call["id"])
    arguments = function.get("arguments")
    found["arguments"] += arguments if isinstance(arguments, str) else ""
