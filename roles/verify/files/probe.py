# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a served model one question over its real API and print what came back as one JSON document.

Run it with the Python of the server's environment: that one contains the `openai` client.
The exit status is 0 only if tokens with text came back; `error` then is null, else it says what
is wrong and what to do. Token counts are the server's own (`usage`), never the number of chunks.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

HEALTHY = 200
STARTING = 503
POLL_SECONDS = 1.0
# A server whose scheduler hangs gives up on its own health check after 20 s and says so: hear it out.
REQUEST_SECONDS = 25.0
# A NaN in the logits makes every token the same one.
STUCK_TOKENS = 8

READ_THE_LOG = "read the unit's log on this host (journalctl -u 'sglang-*' -n 100)"


class ProbeError(Exception):
    """What is wrong, and what to do about it."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class HardTimeout(BaseException):
    """Not an Exception: no client library may swallow it."""


@dataclass
class Report:
    ok: bool = False
    health: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    prompt: str = ""
    answer: str = ""
    reasoning: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_ms: float | None = None
    total_ms: float | None = None
    tokens_per_second: float | None = None
    finish_reason: str | None = None
    note: str = ""
    error: dict[str, str] | None = None


Fetch = Callable[[str, float], "tuple[int, str]"]
Clock = Callable[[], float]


def server_root(base_url: str) -> str:
    """The address without the API path, which people like to paste with it."""
    root = base_url.rstrip("/")
    return root[: -len("/v1")] if root.endswith("/v1") else root


def make_fetch(root: str, api_key: str) -> Fetch:
    """GET a path: (status, body). The server is this host or a neighbour, so never through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def fetch(path: str, timeout: float) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        request = urllib.request.Request(root + path, headers=headers)
        try:
            with opener.open(request, timeout=max(timeout, 0.1)) as response:
                return response.status, response.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except http.client.HTTPException as error:
            raise OSError(f"what listens there does not speak HTTP ({type(error).__name__})") from error

    return fetch


def wait_until_healthy(
    fetch: Fetch,
    root: str,
    timeout: float,
    clock: Clock = time.monotonic,
    sleep: Any = time.sleep,
    path: str = "/health",
) -> float:
    """Poll the path; return the seconds waited. A server that is not up yet is not an error until the end."""
    start = clock()
    while True:
        try:
            status, _body = fetch(path, min(REQUEST_SECONDS, timeout - (clock() - start)))
            last = f"HTTP {status}" + (
                " (still loading, or its scheduler does not answer)" if status == STARTING else ""
            )
            if status == HEALTHY:
                return clock() - start
        except OSError as error:
            last = connection_problem(error)
        if clock() - start + POLL_SECONDS >= timeout:
            raise ProbeError(
                f"{root}{path} did not answer 200 within {timeout:.0f} s; the last try: {last}",
                f"{READ_THE_LOG}; if it is still loading, allow more time",
            )
        sleep(POLL_SECONDS)


def connection_problem(error: OSError) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused (nothing listens on that address and port)"
    # Two different exceptions before Python 3.10.
    if isinstance(reason, (TimeoutError, socket.timeout)):
        return "no answer (the connection hangs)"
    return str(reason) or type(reason).__name__


def check_generates(fetch: Fetch, root: str, remaining: float, path: str) -> int:
    """A health check that goes through the scheduler: a wedged one says that it is alive, and fails here."""
    fix = f"{READ_THE_LOG} and restart the unit: the scheduler is stuck or gone"
    limit = min(REQUEST_SECONDS, remaining)
    try:
        status, _body = fetch(path, limit)
    except OSError as error:
        raise ProbeError(
            f"{root} says that it is healthy, but {path} fails: {connection_problem(error)}", fix
        ) from error
    if status != HEALTHY:
        raise ProbeError(
            f"{root} says that it is healthy, but {path} answers HTTP {status}: no token is made",
            fix,
        )
    return status


def choose_model(body: str, status: int, wanted: str, root: str) -> str:
    """The model to ask, by the server's own list. The server would answer to a wrong name as well."""
    if status != HEALTHY:
        raise ProbeError(
            f"{root}/v1/models answers HTTP {status}",
            "give the server's key with --api-key-file" if status in (401, 403) else READ_THE_LOG,
        )
    try:
        served = [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ProbeError(
            f"{root}/v1/models answers something that is not a list of models: {body[:200]!r}",
            "check that --base-url is the address of the model server",
        ) from error
    names = ", ".join(served) or "no model"
    if wanted and wanted not in served:
        raise ProbeError(
            f"{root} serves {names}, not {wanted}",
            "ask for a served name, or check which instance listens on this port",
        )
    if wanted:
        return wanted
    if len(served) != 1:
        raise ProbeError(f"{root} serves {names}", "say which one with --model")
    return served[0]


def read_stream(chunks: Iterable[dict[str, Any]], start: float, clock: Clock, report: Report) -> None:
    """Fold the chunks of a streamed chat completion into the report."""
    first: float | None = None
    usage: dict[str, Any] = {}
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            text, thought = delta.get("content") or "", delta.get("reasoning_content") or ""
            if first is None and (text or thought):
                first = clock()
            report.answer += text
            report.reasoning += thought
            report.finish_reason = choice.get("finish_reason") or report.finish_reason
    end = clock()
    report.prompt_tokens = usage.get("prompt_tokens")
    report.completion_tokens = usage.get("completion_tokens")
    report.total_ms = round((end - start) * 1000, 1)
    if first is not None:
        report.ttft_ms = round((first - start) * 1000, 1)
        report.tokens_per_second = speed(report.completion_tokens, first - start, end - start)


def speed(tokens: int | None, first: float, total: float) -> float | None:
    """Tokens per second after the first token; over the whole time if they all came at once."""
    if not tokens or total <= 0:
        return None
    if tokens > 1 and total > first:
        return round((tokens - 1) / (total - first), 1)
    return round(tokens / total, 1)


def judge(report: Report, answer_required: bool) -> None:
    """Set `ok`, or raise what is wrong with the answer."""
    answer, reasoning = report.answer.strip(), report.reasoning.strip()
    tokens = report.completion_tokens
    if not tokens:
        told = "no usage at all" if tokens is None else "0 completion tokens"
        raise ProbeError(f"the stream ended without tokens: the server reports {told}", READ_THE_LOG)
    if report.finish_reason not in ("stop", "length", "tool_calls"):
        raise ProbeError(
            f"the answer was not finished: finish_reason is {report.finish_reason!r}", READ_THE_LOG
        )
    if not answer and not reasoning:
        raise ProbeError(
            f"{tokens} tokens came back, but no text: only special tokens",
            "check that tokenizer and weights belong together, and the chat template",
        )
    text = answer or reasoning
    if tokens >= STUCK_TOKENS and len(text) >= STUCK_TOKENS and len(set(text)) == 1:
        raise ProbeError(
            f"the model repeats one character ({text[0]!r}): its numbers are broken (NaN)",
            "verify the weights' checksums, then the quantisation and attention settings",
        )
    if not answer:
        report.note = f"only reasoning came back, no answer, within {tokens} tokens"
        if answer_required:
            raise ProbeError(report.note, "raise --max-tokens, or check --reasoning-parser")
    report.ok = True


def stream_chat(
    root: str, report: Report, max_tokens: int, api_key: str, timeout: float
) -> Iterator[dict[str, Any]]:
    """The chunks of one streamed chat completion, asked with the client that users have."""
    try:
        import httpx
        import openai
    except ImportError as error:
        raise ProbeError(
            f"{sys.executable} has no package {error.name}",
            "run this script with the Python of the server's environment (/opt/sglang/envs/.../bin/python)",
        ) from error
    client = openai.OpenAI(
        base_url=f"{root}/v1",
        api_key=api_key or "none",
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=timeout),
    )
    try:
        with client.chat.completions.create(
            model=report.model,
            messages=[{"role": "user", "content": report.prompt}],
            max_tokens=max_tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        ) as stream:
            for chunk in stream:
                yield chunk.model_dump()
    except openai.APIStatusError as error:
        raise ProbeError(
            f"{root}/v1/chat/completions answers HTTP {error.status_code}: {error.message}",
            "give the server's key with --api-key-file" if error.status_code in (401, 403) else READ_THE_LOG,
        ) from error
    except openai.APITimeoutError as error:
        raise ProbeError(
            f"{root} sent nothing for {timeout:.0f} s in the middle of an answer", READ_THE_LOG
        ) from error
    except (openai.APIError, httpx.HTTPError) as error:
        raise ProbeError(
            f"the connection to {root} broke during the answer: {error}", READ_THE_LOG
        ) from error


@contextlib.contextmanager
def hard_deadline(seconds: float) -> Iterator[None]:
    """End whatever runs inside: a server that drips bytes for ever never meets a read timeout."""

    def expire(_number: int, _frame: object) -> None:
        raise HardTimeout

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def probe(options: argparse.Namespace) -> Report:
    report = Report(model=options.model, prompt=options.prompt)
    root = server_root(options.base_url)
    deadline: float = time.monotonic() + options.timeout

    def remaining() -> float:
        return max(0.1, deadline - time.monotonic())

    step = f"waiting for {options.alive}"
    try:
        api_key = options.api_key_file.read_text().strip() if options.api_key_file else ""
        fetch = make_fetch(root, api_key)
        # The margin lets the waiting loop end with its own, better message.
        with hard_deadline(options.timeout + POLL_SECONDS):
            report.health["waited_s"] = round(
                wait_until_healthy(fetch, root, options.timeout, path=options.alive), 1
            )
            report.health["alive"] = HEALTHY
            step = f"asking {options.token}"
            report.health["token"] = check_generates(fetch, root, remaining(), options.token)
            step = "asking /v1/models"
            status, body = fetch("/v1/models", remaining())
            report.model = choose_model(body, status, options.model, root)
            step = "waiting for tokens"
            chunks = stream_chat(root, report, options.max_tokens, api_key, remaining())
            read_stream(chunks, time.monotonic(), time.monotonic, report)
            judge(report, options.expect_nonempty)
    except ProbeError as error:
        report.error = {"what": error.what, "fix": error.fix}
    except HardTimeout:
        report.error = {
            "what": f"{root} hangs: {options.timeout:.0f} s passed while {step}",
            "fix": READ_THE_LOG,
        }
    except OSError as error:
        report.error = {"what": f"{step} at {root} failed: {connection_problem(error)}", "fix": READ_THE_LOG}
    return report


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--base-url", required=True, help="address of the server, such as http://127.0.0.1:30000"
    )
    parser.add_argument("--model", default="", help="served name; may be left out if one model is served")
    parser.add_argument("--prompt", default="Say hello.")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for everything together")
    parser.add_argument("--alive", default="/health", help="path that answers 200 once the server listens")
    parser.add_argument("--token", default="/health", help="path that answers 200 only when a token was made")
    parser.add_argument("--api-key-file", type=Path, help="file with the server's key")
    parser.add_argument(
        "--expect-nonempty",
        action="store_true",
        help="the answer itself must have text; reasoning is not enough",
    )
    options = parser.parse_args(arguments)
    if not options.base_url.startswith(("http://", "https://")):
        parser.error(f"--base-url {options.base_url}: begin it with http:// or https://")
    if options.timeout <= 0 or options.max_tokens <= 0:
        parser.error("--timeout and --max-tokens must be greater than 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    report = probe(parse_arguments(arguments))
    print(json.dumps(asdict(report)))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
