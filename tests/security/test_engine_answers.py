# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root asks the engine's port: whatever answers there, root is neither led elsewhere nor held up."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import host as doctor_look
from ansible_collections.baremetal.sglang.plugins.module_utils.service import serving_host as serving
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import API, METRICS

Answer = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.fixture
def server() -> Iterator[Callable[[Answer], str]]:
    """Answers each connection in the way that is given; counts them at `asked`."""
    with contextlib.ExitStack() as stack:

        def start(answer: Answer) -> str:
            ear = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                while True:
                    try:
                        link, _address = ear.accept()
                    except OSError:
                        return
                    with link, contextlib.suppress(OSError):
                        link.recv(65536)
                        answer(link)

            threading.Thread(target=serve, daemon=True).start()
            stack.callback(ear.shutdown, socket.SHUT_RDWR)
            return f"http://127.0.0.1:{ear.getsockname()[1]}"

        yield start


def test_a_whole_answer_is_good(server: Callable[[Answer], str]) -> None:
    address = server(lambda link: link.sendall(OK + b"Content-Length: 2\r\n\r\nok"))
    assert serving.healthy(address, "/health") and doctor_look._why_not(address, 0, "/token") == ""


def test_figures_are_read_and_endless_ones_are_not(server: Callable[[Answer], str]) -> None:
    planned = {"api": API, "metrics": METRICS}
    page = b'sglang:num_running_reqs{a="b"} 3\nsglang:gen_throughput inf\nsglang:token_usage nan\n'
    assert doctor_look._figures(server(lambda link: link.sendall(OK + b"\r\n" + page)), planned) == {
        "running": 3.0
    }


def test_a_redirect_is_not_followed(server: Callable[[Answer], str]) -> None:
    asked: list[int] = []

    def elsewhere(link: socket.socket) -> None:
        asked.append(1)
        link.sendall(OK + b"Content-Length: 0\r\n\r\n")

    target = server(elsewhere)
    head = f"HTTP/1.1 302 Found\r\nLocation: {target}/secret\r\nContent-Length: 0\r\n\r\n".encode()
    address = server(lambda link: link.sendall(head))
    assert not serving.healthy(address, "/health")
    assert doctor_look._why_not(address, 0, "/token") == "/token answers HTTP 302"
    assert asked == []


def test_an_answer_that_drips_ends_in_time(server: Callable[[Answer], str]) -> None:
    def drip(link: socket.socket) -> None:
        for letter in OK + b"Content-Length: 0\r\n\r\n":
            link.sendall(bytes([letter]))
            time.sleep(0.1)

    assert serving.fetch(server(drip), "/health", 1.0).failure == "timeout"


def test_an_answer_without_end_is_broken_off(
    server: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST_ANSWER", 1 << 20)
    sent: list[int] = []

    def flood(link: socket.socket) -> None:
        link.sendall(OK + b"\r\n")
        for _block in range(1000):
            link.sendall(b"x" * (1 << 16))
            sent.append(1 << 16)

    address = server(flood)
    assert serving.fetch(address, "/metrics", 60.0).failure == "too_long"
    assert sum(sent) < 1000 << 16


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"choices": ' + b"[" * 200_000, b"\xff\x00"])
def test_an_answer_that_no_parser_likes_is_text(server: Callable[[Answer], str], body: bytes) -> None:
    reply = serving.fetch(server(lambda link: link.sendall(OK + b"\r\n" + body)), "/x", 60.0)
    assert reply.good and isinstance(reply.body, str)


@pytest.mark.parametrize(
    "head", ["HTTP/1.1 \u00b2 OK", "HTTP/1.1 200 OK\r\nContent-Length: " + "\u00b2" * 4, "HTTP"]
)
def test_a_head_that_is_no_number_is_no_crash(server: Callable[[Answer], str], head: str) -> None:
    address = server(lambda link: link.sendall(head.encode("latin-1") + b"\r\n\r\n"))
    assert isinstance(serving.healthy(address, "/health"), bool)


def test_lines_of_the_log_hold_nothing_that_a_terminal_obeys() -> None:
    lines = serving.last_lines(lambda _words: (0, "b\x1b[2J\tx\na\u202e\n", ""), "sglang-a.service")
    assert lines == ["a?", "b?[2J x"]
