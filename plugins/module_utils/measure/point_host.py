# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One point of a scenario on one server: warm-up, load, the server's counters around it, and what came of it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import categories, counters, judge, prompts
from . import load_host as load
from . import samples as sampled
from . import sampling_host as sampling
from .client_host import CHAT, Server, ask, ask_all, chat
from .conversation import Conversation
from .http_response import Reply
from .summary import spread

IDLE_SECONDS = 20.0
SETTLE_SECONDS = 3.0
SHOWN_FAILURES = 5
KEPT_SAMPLES = 240
LAG_SHARE = 0.05


class PointError(Exception):
    """Why there is nothing to measure."""


@dataclass
class CheckContext:
    """What a point needs beside its parameters."""

    server: Server
    model: str
    thresholds: Mapping[str, Any]
    folder: str
    sample_seconds: float = 1.0
    look_at_gpus: sampling.Look = lambda: None
    scale: prompts.Scale | None = None
    questions: Mapping[str, Any] = field(default_factory=dict)
    metrics: str = "/metrics"
    """Path of the server's counters."""
    metric_names: Mapping[str, str] = field(default_factory=dict)
    """What is counted -> the engine's name of it."""


def run(context: CheckContext, point: Mapping[str, Any]) -> dict[str, Any]:
    """A record for the results file; PointError where the server gave nothing at all."""
    if point["kind"] == "accuracy":
        return accuracy(context, point)
    if context.scale is None:
        context.scale = measure_scale(context)
    work = conversations if point["kind"] == "conversation" else requests
    warm_up(context, point)
    idle = wait_idle(context)
    sampler = sampling.Sampler(
        os.path.join(context.folder, "samples.jsonl"),
        context.sample_seconds,
        context.look_at_gpus,
        lambda: metrics(context),
    )
    before = metrics(context)
    started, began = time.time(), time.monotonic()
    sampler.start()
    try:
        loaded, more = work(context, point)
    finally:
        samples = sampler.stop()
    replies = loaded.read(float(context.thresholds["stall_seconds"]))
    after = settled(context, before, sum(reply.completion_tokens or 0 for reply in replies))
    record = result(context, loaded, replies, before, after, idle)
    record.update(
        started=round(started, 3),
        began=round(began, 3),
        scale={"fixed": context.scale.fixed, "each": context.scale.each},
        samples={
            "summary": sampled.summary(samples),
            "series": samples[:KEPT_SAMPLES],
            "cpu_seconds": round(sampler.cpu_seconds, 3),
        },
        **more,
    )
    return record


def measure_scale(context: CheckContext) -> prompts.Scale:
    counted = []
    for words in prompts.PROBES:
        body = chat(context.model, prompts.message(prompts.prompt(words, f"scale-{words}")), 1, False)
        reply = ask(context.server, CHAT, body)
        if reply.prompt_tokens is None:
            raise PointError(f"the server did not answer the first question: {reply.failure} {reply.said}")
        counted.append((words, reply.prompt_tokens))
    return prompts.scale_of(counted)


def metrics(context: CheckContext) -> dict[str, float]:
    reply = ask(context.server, context.metrics)
    return counters.parse(str(reply.body), context.metric_names) if reply.good else {}


def wait_idle(context: CheckContext) -> bool:
    end = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < end:
        seen = metrics(context)
        if not seen.get(counters.RUNNING) and not seen.get(counters.QUEUED):
            return True
        time.sleep(0.5)
    return False


def settled(context: CheckContext, before: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Counters rise when a request has ended, which may be a moment after its last byte."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        after = metrics(context)
        counted = counters.delta(before, after, counters.GENERATED)
        if counted is None or counted >= tokens or time.monotonic() > end:
            return after
        time.sleep(0.2)


def bodies(context: CheckContext, point: Mapping[str, Any], count: int, label: str) -> list[bytes]:
    scale = context.scale or prompts.Scale(0, 1)
    seed = f"{point['seed']}-{label}"
    sizes = prompts.lengths(point.get("lengths", "fixed"), count, dict(point), point["seed"])
    shared_tokens = int(point.get("shared", 0))
    # The same beginning for all requests of a point; the cache knows it after the first.
    shared = prompts.text(scale.words(shared_tokens), f"{seed}-shared") + "\n" if shared_tokens else ""
    made = []
    for number, (size, output) in enumerate(sizes):
        own = scale.words(max(1, round(size - shared_tokens + (scale.fixed if shared_tokens else 0))))
        content = prompts.prompt(own, f"{seed}-{number}", shared)
        body = chat(context.model, prompts.message(content), output, True, **point.get("body", {}))
        made.append(json.dumps(body).encode())
    return made


def warm_up(context: CheckContext, point: Mapping[str, Any]) -> None:
    """Compiles, fills pools and opens what has to be open; nothing of it is counted."""
    count = int(point.get("warm_up", 1))
    if point["kind"] != "load" or count <= 0:
        return
    small = {**point, "shared": 0}
    ask_all(context.server, CHAT, list(bodies(context, small, count, "warm-up")))


def requests(context: CheckContext, point: Mapping[str, Any]) -> tuple[load.Loaded, dict[str, Any]]:
    made = bodies(context, point, int(point["requests"]), str(point["label"]))
    limit = float(point.get("limit", context.thresholds["point_seconds"]))
    if point.get("rate") is not None:
        moments = prompts.arrivals(len(made), float(point["rate"]), int(point["seed"]))
        return load.opened(context.server, CHAT, made, moments, limit), {}
    ramp = float(context.thresholds["ramp_seconds"])
    return load.closed(context.server, CHAT, made, int(point["concurrency"]), ramp, limit), {}


def conversations(context: CheckContext, point: Mapping[str, Any]) -> tuple[load.Loaded, dict[str, Any]]:
    script = context.questions["agent"]
    scale = context.scale or prompts.Scale(0, 1)
    started = [
        Conversation(
            context.model,
            f"{point['seed']}-{point['label']}-{number}",
            script["turns"][: int(point["turns"])],
            script["tools"],
            script["results"],
            int(point["output"]),
            scale.words(int(point["input"])),
            dict(point.get("body", {})),
        )
        for number in range(int(point["requests"]))
    ]
    limit = float(point.get("limit", context.thresholds["point_seconds"]))
    openings = [(conversation.opening(), conversation.say) for conversation in started]
    loaded = load.converse(context.server, CHAT, openings, int(point["concurrency"]), limit)
    steps = [step for conversation in started for step in conversation.steps]
    problems = [problem for step in steps for problem in step["problems"]]
    return loaded, {
        "conversation": {
            "conversations": len(started),
            "finished": sum(
                1
                for conversation in started
                if not conversation.ended and conversation.turn == len(conversation.turns)
            ),
            "steps": len(steps),
            "calls": sum(step["calls"] for step in steps),
            "bad_calls": len(problems),
            "problems": problems[:SHOWN_FAILURES],
            "ended_early": [conversation.ended for conversation in started if conversation.ended][
                :SHOWN_FAILURES
            ],
            "seconds": spread(
                [sum(step["seconds"] for step in conversation.steps) for conversation in started]
            ),
        }
    }


def result(
    context: CheckContext,
    loaded: load.Loaded,
    replies: list[Reply],
    before: Mapping[str, float],
    after: Mapping[str, float],
    idle: bool,
) -> dict[str, Any]:
    good = [reply for reply in replies if reply.good]
    failures = Counter(reply.failure for reply in replies if not reply.good)
    # Failed requests cost the server tokens too; they are in its counters, so they are in the sum beside it.
    tokens = {
        "completion_tokens": sum(reply.completion_tokens or 0 for reply in replies),
        "good_completion_tokens": sum(reply.completion_tokens or 0 for reply in good),
        "prompt_tokens": sum(reply.prompt_tokens or 0 for reply in good),
        # Only servers with --enable-cache-report say it here; the counters know it anyway.
        "cached_tokens": sum(reply.cached_tokens or 0 for reply in good),
    }
    agreed = counters.reconcile(before, after, tokens, float(context.thresholds["disagreement"]))
    first = spread([reply.ttft for reply in good], 1000)
    # A hand that is late by far less than what it measures does no harm.
    late = max(float(context.thresholds["client_lag_ms"]), LAG_SHARE * (first or {}).get("median", 0.0))
    limited = loaded.burden.limited(float(context.thresholds["client_cpu_share"]), late)
    why, remarks = [], []
    if not good:
        why.append("no request was answered")
    if failures:
        said = next((f" ({reply.said})" for reply in replies if not reply.good and reply.said), "")
        why.append(
            "failed: " + ", ".join(f"{count} {name}" for name, count in sorted(failures.items())) + said
        )
        # A request that broke has no usage, so the sums cannot be equal.
        agreed["agrees"], agreed["why"] = None, "some requests gave no count"
    if loaded.unsent:
        why.append(f"the time was over with {loaded.unsent} requests unsent")
    if agreed["agrees"] is False:
        why.append(str(agreed["why"]))
    if loaded.burden.cpu_share > float(context.thresholds["client_cpu_share"]):
        remarks.append(f"limited by the client: {loaded.burden.cpu_share:.0%} of a core")
    elif limited:
        remarks.append(f"the client came late by {loaded.burden.lag_p99_ms:.1f} ms: a busy host")
    if not idle:
        remarks.append("the server had other work when it began")
    span = _span(replies) or loaded.seconds
    return {
        "seconds": round(loaded.seconds, 4),
        "requests": {
            "sent": len(replies),
            "good": len(good),
            "unsent": loaded.unsent,
            "failed": dict(sorted(failures.items())),
            "said": [f"{reply.failure}: {reply.said}" for reply in replies if not reply.good][
                :SHOWN_FAILURES
            ],
            "stalled": sum(1 for reply in replies if any("stalled" in note for note in reply.notes)),
        },
        "tokens": tokens,
        "prompt_length": spread([reply.prompt_tokens for reply in good]),
        "output_length": spread([reply.completion_tokens for reply in good]),
        "output_tokens_per_second": round(tokens["good_completion_tokens"] / span, 3) if span else None,
        "requests_per_second": round(len(good) / span, 4) if span else None,
        "decode_tokens_per_second": spread([1 / reply.tpot if reply.tpot else None for reply in good]),
        "ttft_ms": first,
        "tpot_ms": spread([reply.tpot for reply in good], 1000),
        "chunk_gap_ms": spread([gap for reply in good for gap in reply.gaps], 1000),
        "request_seconds": spread([reply.ended - reply.begun for reply in good]),
        "server": agreed,
        "client": {
            "cpu_share": loaded.burden.cpu_share,
            "lag_p99_ms": loaded.burden.lag_p99_ms,
            "limited": limited,
        },
        "valid": not why,
        "why": "; ".join(why),
        "remarks": remarks,
    }


def _span(replies: list[Reply]) -> float:
    """From the first request to the last answer; the ramp belongs to it, starting the client does not."""
    if not replies:
        return 0.0
    return max(reply.ended for reply in replies) - min(reply.begun for reply in replies)


def accuracy(context: CheckContext, point: Mapping[str, Any]) -> dict[str, Any]:
    started, began = time.time(), time.monotonic()
    tools, wrong, right, failed = context.questions["tools"], [], 0, 0
    asked = context.questions[point["set"]]
    made = []
    judged: list[tuple[str, bool]] = []
    for question in asked:
        more = dict(point.get("body", {}))
        if "calls" in question:
            more["tools"] = [tool for tool in tools if tool["function"]["name"] in question["tools"]]
        made.append(chat(context.model, prompts.message(question["ask"]), int(point["output"]), True, **more))
    for question, reply in zip(asked, ask_all(context.server, CHAT, made)):
        if not reply.good:
            failed += 1
            problem = f"{reply.failure} {reply.said}"
        elif "calls" in question:
            problem = judge.calls_right(reply.calls, question["calls"])
        else:
            problem = (
                "" if judge.answer_right(reply.text, question["answers"]) else f"said {reply.text[-80:]!r}"
            )
        if "category" in question:
            judged.append((question["category"], not problem))
        if problem:
            wrong.append({"ask": question["ask"], "problem": problem})
        else:
            right += 1
    return {
        "started": round(started, 3), "seconds": round(time.monotonic() - began, 3),
        "accuracy": {"asked": len(asked), "right": right, "share": round(right / len(asked), 4), "wrong": wrong,
                     **({"categories": categories.tally(judged)} if judged else {})},
        "requests": {"sent": len(asked), "good": len(asked) - failed, "failed": {"failed": failed} if failed else {}},
        "valid": not failed, "why": f"{failed} requests failed" if failed else "",
    }  # fmt: skip
