# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our client against a server of known truth: tokens, times, and every way to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import http_response as wire
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import (
    CHAT,
    Server,
    ask,
    chat,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS
from ansible_collections.baremetal.sglang.tests.unit.fixtures.truth_server import TruthServer

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

DATA = yaml.safe_load((Path(__file__).parents[5] / "files/bench.yml").read_text(encoding="utf-8"))
HELLO = [{"role": "user", "content": "hello"}]


def context(server: TruthServer, folder: Path, **more: Any) -> point.CheckContext:
    return point.CheckContext(
        Server(server.url, silence=more.pop("silence", 5.0), limit=more.pop("limit", 20.0)),
        "truth",
        {**DATA["thresholds"], **more.pop("thresholds", {})},
        str(folder),
        sample_seconds=more.pop("sample_seconds", 0),
        questions=DATA["questions"],
        metric_names=METRICS,
        scale=more.pop("scale", prompts.Scale(4, 2)),
    )


def load(**more: Any) -> dict[str, Any]:
    return {
        "kind": "load", "label": "test", "seed": 1, "input": 64, "output": 32, "concurrency": 4, "requests": 10,
        "warm_up": 0, **more,
    }  # fmt: skip


# --- one answer ---


@pytest.mark.parametrize("sizes", [(1,), (3, 4), (64,)])
def test_tokens_are_the_server_s_whatever_the_chunks_hold(sizes: tuple[int, ...]) -> None:
    with TruthServer(per_chunk=sizes) as server:
        reply = ask(Server(server.url), CHAT, chat("truth", HELLO, 64, True))
    assert (reply.failure, reply.completion_tokens) == ("", 64)
    if sizes != (64,):
        # A busy machine is late; pieces counted as tokens would take longer than the whole answer.
        whole = reply.ended - reply.begun
        assert reply.tpot
        assert 0.009 < reply.tpot <= whole / 63
        assert reply.ttft
        assert 0.05 + 0.01 * (sizes[0] - 1) - 0.001 < reply.ttft < whole - 0.2


def test_reasoning_and_calls_are_tokens_too() -> None:
    calls = [{"name": "get_weather", "arguments": '{"city": "Paris", "unit": "celsius"}'}]
    with TruthServer(reasoning=40, calls=calls) as server:
        reply = ask(Server(server.url), CHAT, chat("truth", HELLO, 60, True))
    assert reply.good
    assert reply.completion_tokens == 60
    assert reply.reasoning.startswith("hmm")
    assert reply.calls == [{"id": "c0", **calls[0]}]
    # The first token is a thought, long before the call.
    assert reply.ttft
    assert reply.ttft < reply.ended - reply.begun - 0.2


def test_a_role_alone_is_no_token() -> None:
    with TruthServer(early_role=True, ttft=0.2) as server:
        reply = ask(Server(server.url), CHAT, chat("truth", HELLO, 8, True))
    assert reply.ttft
    assert reply.ttft > 0.19


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("http_500", "http_500"), ("http_429", "http_429"), ("cut", "cut"), ("reset", "reset"), ("die", "cut"),
        ("sse_error", "sse_error"), ("no_usage", "no_usage"), ("empty", "empty"), ("garbage", "malformed"),
        ("hang", "stall"),
    ],
)  # fmt: skip
def test_each_fault_has_its_name(fault: str, failure: str) -> None:
    with TruthServer(fault=fault) as server:
        reply = ask(Server(server.url, silence=1.0, limit=5), CHAT, chat("truth", HELLO, 8, True))
    assert reply.failure == failure


def test_nobody_there() -> None:
    with TruthServer() as server:
        url = server.url
    assert ask(Server(url), CHAT, chat("truth", HELLO, 8, True)).failure == "connect"


def test_a_whole_request_has_its_limit() -> None:
    with TruthServer(each=0.2) as server:
        reply = ask(Server(server.url, limit=0.8), CHAT, chat("truth", HELLO, 64, True))
    assert reply.failure == "timeout"


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_pieces_may_end_anywhere(cut: int) -> None:
    """One answer, cut into two pieces at many places, is read the same."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"\xc3\xa9"}}]}\n\n'
    last = (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"completion_tokens":1}}\n\n'
        b"data: [DONE]\n\n"
    )
    body = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (event, last)) + b"0\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + body
    reply = wire.read([(1.0, whole[:cut]), (2.0, whole[cut:])], 0.5, 3.0)
    assert (reply.failure, reply.text, reply.completion_tokens) == ("", "é", 1)


# --- a point ---


def test_what_is_reported_is_what_the_server_did(tmp_path: Path) -> None:
    with TruthServer(per_chunk=(3, 4)) as server:
        record = point.run(context(server, tmp_path), load(output=96, requests=8))
    assert record["valid"], record["why"]
    assert record["tokens"]["completion_tokens"] == 8 * 96 == record["server"]["completion_tokens"]
    assert 9 < record["tpot_ms"]["median"] <= record["seconds"] * 1000 / 95
    assert record["output_length"]["min"] == record["output_length"]["max"] == 96
    # Two rounds of four streams, and the ramp.
    most = 8 * 96 / (2 * (0.05 + 0.95) + 0.06)
    assert 0 < record["output_tokens_per_second"] < 1.02 * most


@pytest.mark.parametrize("fault", ["http_500", "http_429", "cut", "sse_error", "reset"])
def test_failed_requests_are_counted_and_left_out_of_the_speed(fault: str, tmp_path: Path) -> None:
    with TruthServer(fault=fault, fail_every=5) as server:
        record = point.run(context(server, tmp_path), load())
    assert record["requests"]["good"] == 8
    assert sum(record["requests"]["failed"].values()) == 2
    assert record["tokens"]["good_completion_tokens"] == 8 * 32
    assert not record["valid"]
    assert "failed: 2" in record["why"]


def test_a_stall_is_seen(tmp_path: Path) -> None:
    with TruthServer(fault="stall", fail_every=5) as server:
        record = point.run(context(server, tmp_path, thresholds={"stall_seconds": 0.8}), load())
    assert record["requests"]["stalled"] == 2
    assert record["chunk_gap_ms"]["max"] > 900


def test_a_server_that_queues_shows_in_the_first_token(tmp_path: Path) -> None:
    with TruthServer(slots=1) as server:
        record = point.run(context(server, tmp_path), load(output=16, requests=8))
    assert record["valid"], record["why"]
    assert record["ttft_ms"]["median"] > 300
    assert record["tpot_ms"]["median"] > 9


def test_somebody_else_s_tokens_make_the_point_invalid(tmp_path: Path) -> None:
    with TruthServer(extra_counted=8) as server:
        record = point.run(context(server, tmp_path), load())
    assert not record["valid"]
    assert "somebody else used it" in record["why"]


def test_a_server_without_counters_is_said(tmp_path: Path) -> None:
    with TruthServer() as server:
        server.metrics = lambda: ""  # type: ignore[method-assign]
        record = point.run(context(server, tmp_path), load())
    assert record["server"]["agrees"] is None
    assert record["valid"]


def test_requests_at_their_moments(tmp_path: Path) -> None:
    with TruthServer() as server:
        record = point.run(context(server, tmp_path), load(rate=20, concurrency=None, requests=20, output=8))
    moments = prompts.arrivals(20, 20, 1)
    assert moments[-1] + 0.11 < record["seconds"]
    assert record["requests"]["good"] == 20


def test_the_time_limit_leaves_requests_and_says_so(tmp_path: Path) -> None:
    with TruthServer() as server:
        record = point.run(context(server, tmp_path), load(requests=40, limit=0.6))
    assert record["requests"]["unsent"] > 0
    assert "unsent" in record["why"]


def test_lengths_are_what_the_server_counts(tmp_path: Path) -> None:
    with TruthServer(words_to_tokens=3, ttft=0, each=0) as server:
        record = point.run(context(server, tmp_path, scale=None), load(input=600, output=2, requests=3))
    assert record["prompt_length"]["median"] == pytest.approx(600, rel=0.02)


def test_prompts_differ_and_are_the_same_in_the_next_run(tmp_path: Path) -> None:
    asked = []
    for _unused in range(2):
        with TruthServer(ttft=0, each=0) as server:
            point.run(context(server, tmp_path), load(output=1, requests=4, concurrency=1))
            asked.append([body["messages"][0]["content"] for body in server.asked])
    assert asked[0] == asked[1]
    assert len({text[:40] for text in asked[0]}) == 4


def test_a_shared_beginning_is_shared(tmp_path: Path) -> None:
    with TruthServer(ttft=0, each=0) as server:
        point.run(context(server, tmp_path), load(output=1, requests=3, concurrency=1, input=200, shared=150))
        texts = [body["messages"][0]["content"] for body in server.asked]
    first = [text.split("\n")[0] for text in texts]
    assert len(set(first)) == 1
    assert len(first[0]) > 300
    assert len(set(texts)) == 3


def test_samples_come_from_another_process(tmp_path: Path) -> None:
    with TruthServer() as server:
        record = point.run(context(server, tmp_path, sample_seconds=0.1), load(output=64))
    series = record["samples"]["series"]
    assert len(series) > 5
    assert all("host_cpu_percent" in sample for sample in series)
    assert record["samples"]["summary"]["running"]["max"] >= 3
    # What looking cost, apart from the load.
    assert 0 < record["samples"]["cpu_seconds"] < record["seconds"]


# --- conversations and accuracy ---


def test_a_conversation_runs_its_tools_and_counts_broken_arguments(tmp_path: Path) -> None:
    turns = len(DATA["questions"]["agent"]["turns"])

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        if asked["messages"][-1]["role"] == "tool":
            return {"text": "It is done.", "tokens": 4}
        broken = sum(message["role"] == "user" for message in asked["messages"]) == 2
        arguments = '{"path": "a.txt"' if broken else '{"path": "a.txt"}'
        return {"calls": [{"name": "read_file", "arguments": arguments}], "tokens": 8}

    with TruthServer(ttft=0.01, each=0.001) as server:
        server.answer = answer
        record = point.run(
            context(server, tmp_path),
            {"kind": "conversation", "label": "t", "seed": 1, "turns": turns, "requests": 2, "concurrency": 1, "input": 64,
             "output": 32},
        )  # fmt: skip
        last = server.asked[-1]["messages"]
    conversation = record["conversation"]
    assert (conversation["finished"], conversation["calls"], conversation["bad_calls"]) == (2, 2 * turns, 2)
    assert "no JSON object" in conversation["problems"][0]
    # Real replies stay, results carry the id of their call, and no broken JSON goes back.
    assert [message["role"] for message in last[1:5]] == ["user", "assistant", "tool", "assistant"]
    assert last[3]["tool_call_id"] == last[2]["tool_calls"][0]["id"]
    assert all(
        isinstance(json.loads(call["function"]["arguments"]), dict)
        for message in last
        for call in message.get("tool_calls", ())
    )
    assert record["tokens"]["completion_tokens"] == record["server"]["completion_tokens"]


def right_answer(asked: dict[str, Any]) -> dict[str, Any]:
    text = asked["messages"][-1]["content"]
    for question in DATA["questions"]["exact"] + DATA["questions"]["calls"]:
        if question["ask"] == text:
            if "answers" in question:
                return {"text": question["answers"][0], "tokens": 4}
            return {
                "tokens": 8,
                "text": "" if question["calls"] else "I cannot.",
                "calls": [
                    {"name": call["name"],
                     "arguments": json.dumps({key: values[0] for key, values in call["arguments"].items()})}
                    for call in question["calls"]
                ],
            }  # fmt: skip
    raise AssertionError(text)


@pytest.mark.parametrize("name", ["exact", "calls"])
def test_accuracy_knows_right_from_wrong(name: str, tmp_path: Path) -> None:
    asked = {"kind": "accuracy", "set": name, "output": 64, "label": name, "seed": 1}
    with TruthServer(ttft=0, each=0) as server:
        server.answer = right_answer
        right = point.run(context(server, tmp_path), asked)
        server.answer = lambda _asked: {"text": "I do not know", "tokens": 4}
        wrong = point.run(context(server, tmp_path), asked)
    assert right["accuracy"]["share"] == 1.0, right["accuracy"]["wrong"]
    # Where no tool fits, an answer without a call is right.
    assert wrong["accuracy"]["share"] < 0.35
    assert len(wrong["accuracy"]["wrong"]) == wrong["accuracy"]["asked"] - wrong["accuracy"]["right"]
