# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

PROBE = Path(__file__).parents[3] / "roles" / "verify" / "files" / "probe.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verify_probe", PROBE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


probe = load()


class Clock:
    """Time that passes only when somebody sleeps or a chunk arrives."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def delta(content: str = "", reasoning: str = "", finish: str | None = None) -> dict[str, Any]:
    return {
        "choices": [{"delta": {"content": content, "reasoning_content": reasoning}, "finish_reason": finish}],
        "usage": None,
    }


def usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}}


def arriving(clock: Clock, *chunks: dict[str, Any], every: float = 0.5) -> Iterator[dict[str, Any]]:
    for chunk in chunks:
        clock.sleep(every)
        yield chunk


def folded(*chunks: dict[str, Any]) -> Any:
    clock, report = Clock(), probe.Report()
    probe.read_stream(arriving(clock, *chunks), clock(), clock, report)
    return report


# --- the stream -------------------------------------------------------------------------------


def test_counts_come_from_usage_and_not_from_chunks() -> None:
    report = folded(
        delta(), delta(reasoning="Hmm"), delta("Hello"), delta(" you", finish="stop"), usage(14, 40)
    )
    assert (report.answer, report.reasoning) == ("Hello you", "Hmm")
    assert (report.prompt_tokens, report.completion_tokens) == (14, 40)
    assert report.finish_reason == "stop"
    # The role chunk is no token: the first is the second chunk, after 1 s of 2.5 s.
    assert (report.ttft_ms, report.total_ms) == (1000.0, 2500.0)
    assert report.tokens_per_second == 26.0


def test_a_stream_without_usage_has_no_counts() -> None:
    report = folded(delta("Hello", finish="stop"))
    assert report.completion_tokens is None
    assert report.tokens_per_second is None


@pytest.mark.parametrize(
    ("tokens", "first", "total", "expected"),
    [
        (11, 1.0, 2.0, 10.0),
        (1, 1.0, 2.0, 0.5),
        (10, 2.0, 2.0, 5.0),
        (0, 1.0, 2.0, None),
        (None, 1.0, 2.0, None),
    ],
)
def test_speed(tokens: int | None, first: float, total: float, expected: float | None) -> None:
    assert probe.speed(tokens, first, total) == expected


# --- the verdict ------------------------------------------------------------------------------


def report_of(**fields: Any) -> Any:
    values = {"answer": "Hello.", "completion_tokens": 3, "finish_reason": "stop", **fields}
    return probe.Report(**values)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"finish_reason": "length"},
        {"finish_reason": "tool_calls"},
        {"answer": "aaa"},
        {"reasoning": "Hmm"},
    ],
)
def test_real_tokens_pass(fields: dict[str, Any]) -> None:
    report = report_of(**fields)
    probe.judge(report, answer_required=True)
    assert (report.ok, report.note) == (True, "")


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"completion_tokens": None}, "no usage at all"),
        ({"completion_tokens": 0}, "0 completion tokens"),
        ({"answer": " \n"}, "no text"),
        ({"finish_reason": None}, "finish_reason is None"),
        ({"finish_reason": "abort"}, "finish_reason is 'abort'"),
        ({"answer": "!" * 20, "completion_tokens": 20}, "repeats one character"),
    ],
)
def test_what_is_no_answer(fields: dict[str, Any], what: str) -> None:
    report = report_of(**fields)
    with pytest.raises(probe.ProbeError, match=what) as caught:
        probe.judge(report, answer_required=False)
    assert not report.ok
    assert caught.value.fix


def test_reasoning_alone_passes_and_is_told() -> None:
    report = report_of(answer="", reasoning="Let me think")
    probe.judge(report, answer_required=False)
    assert report.ok
    assert "only reasoning" in report.note


def test_reasoning_alone_is_not_an_answer_if_one_is_required() -> None:
    report = report_of(answer="", reasoning="Let me think", finish_reason="length")
    with pytest.raises(probe.ProbeError, match="only reasoning") as caught:
        probe.judge(report, answer_required=True)
    assert "--max-tokens" in caught.value.fix
    assert not report.ok


# --- health and the list of models ------------------------------------------------------------


def test_waits_through_refused_and_loading() -> None:
    clock = Clock()
    answers: list[Any] = [ConnectionRefusedError(), (503, ""), (503, ""), (200, "")]

    def fetch(path: str, timeout: float) -> tuple[int, str]:
        assert path == "/health"
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert probe.wait_until_healthy(fetch, "http://h:1", 10, clock, clock.sleep) == 3.0
    assert answers == []


@pytest.mark.parametrize(
    ("answer", "last"),
    [
        (ConnectionRefusedError(), "nothing listens"),
        (TimeoutError(), "hangs"),
        (socket.timeout(), "hangs"),
        (probe.urllib.error.URLError(ConnectionRefusedError()), "nothing listens"),
        (OSError("No route to host"), "No route to host"),
        ((503, ""), "HTTP 503 .still loading"),
        ((404, ""), "HTTP 404"),
    ],
)
def test_waiting_ends_and_tells_the_last_try(answer: Any, last: str) -> None:
    clock = Clock()
    asked: list[float] = []

    def fetch(_path: str, timeout: float) -> tuple[int, str]:
        asked.append(timeout)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(probe.ProbeError, match=last) as caught:
        probe.wait_until_healthy(fetch, "http://h:1", 5, clock, clock.sleep)
    assert "journalctl" in caught.value.fix
    assert asked == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(("answer", "what"), [((503, ""), "HTTP 503"), (TimeoutError(), "hangs")])
def test_a_wedged_scheduler_is_told_from_a_healthy_server(answer: Any, what: str) -> None:
    def fetch(path: str, _timeout: float) -> tuple[int, str]:
        assert path == "/token"
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(probe.ProbeError, match=what) as caught:
        probe.check_generates(fetch, "http://h:1", 30, "/token")
    assert "scheduler" in caught.value.fix


MODELS = json.dumps({"data": [{"id": "glm-4.7"}, {"id": "other"}]})
ONE = json.dumps({"data": [{"id": "glm-4.7"}]})


@pytest.mark.parametrize(("body", "wanted"), [(MODELS, "glm-4.7"), (ONE, "glm-4.7"), (ONE, "")])
def test_the_model_is_chosen(body: str, wanted: str) -> None:
    assert probe.choose_model(body, 200, wanted, "http://h:1") == "glm-4.7"


@pytest.mark.parametrize(
    ("body", "status", "wanted", "what", "fix"),
    [
        (MODELS, 200, "glm-5", "serves glm-4.7, other, not glm-5", "served name"),
        (MODELS, 200, "", "serves glm-4.7, other", "--model"),
        ('{"data": []}', 200, "", "serves no model", "--model"),
        ("<html>", 200, "glm-4.7", "not a list of models", "--base-url"),
        ("{}", 401, "glm-4.7", "HTTP 401", "--api-key-file"),
        ("", 500, "glm-4.7", "HTTP 500", "journalctl"),
    ],
)
def test_a_wrong_model_is_refused(body: str, status: int, wanted: str, what: str, fix: str) -> None:
    with pytest.raises(probe.ProbeError, match=what) as caught:
        probe.choose_model(body, status, wanted, "http://h:1")
    assert fix in caught.value.fix


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_address_may_carry_the_api_path(url: str) -> None:
    assert probe.server_root(url) == "http://h:1"


# --- the whole script against a server on loopback ---------------------------------------------


class Server(BaseHTTPRequestHandler):
    """The outside of a model server; what it does is set by each test."""

    answers: ClassVar[dict[str, tuple[int, str]]] = {}
    drip: ClassVar[bool] = False
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(f"{self.path} {self.headers.get('Authorization', '')}".strip())
        status, body = self.answers[self.path]
        self.send_response(status)
        self.end_headers()
        if self.drip:
            # Bytes keep coming, so no read ever times out.
            for _unused in range(600):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(probe, "POLL_SECONDS", 0.1)
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    monkeypatch.setenv("all_proxy", "http://192.0.2.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    Server.answers = {"/health": (200, ""), "/token": (200, ""), "/v1/models": (200, ONE)}
    Server.drip, Server.seen = False, []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = probe.main([*arguments, "--token", "/token"])
    return code, json.loads(capsys.readouterr().out)


def speak(monkeypatch: pytest.MonkeyPatch, *chunks: dict[str, Any]) -> None:
    """Stand in for the openai client, which only the server's environment contains."""
    monkeypatch.setattr(probe, "stream_chat", lambda *_arguments: iter(chunks))


def test_one_document_and_zero_for_real_tokens(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, delta("Hello.", finish="stop"), usage(5, 3))
    code, document = run(capsys, "--base-url", f"{server}/v1", "--prompt", "Hi")
    assert code == 0
    assert document["ok"] is True
    assert document["error"] is None
    assert document["health"]["alive"] == document["health"]["token"] == 200
    wanted = {
        "model": "glm-4.7",
        "prompt": "Hi",
        "answer": "Hello.",
        "prompt_tokens": 5,
        "completion_tokens": 3,
    }
    assert {key: document[key] for key in wanted} == wanted


def test_the_key_is_read_from_its_file(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("secret\n")
    speak(monkeypatch, delta("Hello.", finish="stop"), usage(5, 3))
    code, document = run(capsys, "--base-url", server, "--api-key-file", str(tmp_path / "key"))
    assert code == 0
    assert "/v1/models Bearer secret" in Server.seen
    assert "secret" not in json.dumps(document)


def test_a_missing_key_file_is_an_error_in_the_document(
    server: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, document = run(capsys, "--base-url", server, "--api-key-file", str(tmp_path / "none"))
    assert code == 1
    assert str(tmp_path / "none") in document["error"]["what"]


def test_an_empty_stream_fails(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch)
    code, document = run(capsys, "--base-url", server)
    assert (code, document["ok"]) == (1, False)
    assert "without tokens" in document["error"]["what"]


def test_still_loading_at_the_end_of_the_wait(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    Server.answers["/health"] = (503, "")
    code, document = run(capsys, "--base-url", server, "--timeout", "5")
    assert code == 1
    assert "HTTP 503 (still loading" in document["error"]["what"]
    assert len(Server.seen) > 1


def test_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, document = run(capsys, "--base-url", f"http://127.0.0.1:{port}", "--timeout", "10")
    assert code == 1
    assert "connection refused" in document["error"]["what"]


def test_a_server_that_accepts_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        code, document = run(
            capsys, "--base-url", f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5"
        )
    assert code == 1
    assert "hangs" in document["error"]["what"]


def test_something_else_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _address = other.accept()
                    with connection:
                        connection.recv(4096)
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        code, document = run(
            capsys, "--base-url", f"http://127.0.0.1:{other.getsockname()[1]}", "--timeout", "5"
        )
        other.shutdown(socket.SHUT_RDWR)
    assert code == 1
    assert "does not speak HTTP" in document["error"]["what"]


def test_a_server_that_drips_for_ever_is_cut_off(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    Server.drip = True
    code, document = run(capsys, "--base-url", server, "--timeout", "0.5")
    assert code == 1
    assert "hangs" in document["error"]["what"]


def test_a_python_without_the_client_says_which_one_to_use(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("httpx", "openai"):
        monkeypatch.setitem(sys.modules, name, None)
    code, document = run(capsys, "--base-url", server)
    assert code == 1
    assert "has no package" in document["error"]["what"]
    assert "environment" in document["error"]["fix"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--base-url", "127.0.0.1:30000"], "begin it with http://"),
        (["--base-url", "http://h:1", "--timeout", "0"], "greater than 0"),
        (["--base-url", "http://h:1", "--max-tokens", "-1"], "greater than 0"),
    ],
)
def test_bad_arguments(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        probe.main(arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
