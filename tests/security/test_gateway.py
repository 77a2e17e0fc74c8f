# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks of a client on engines, on other clients and on the gateway, against a real HAProxy on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .gateway_world import (
    CHAT,
    Engine,
    Gateway,
    frame,
    free_port,
    gateway,
    haproxy,
    headers,
    request_of,
    section,
)

pytestmark = pytest.mark.skipif(
    not haproxy(), reason="haproxy is not installed (bindep.txt, profile gateway)"
)
BODY = '{"model": "tiny", "messages": []}'


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def engines() -> dict[str, Engine]:
    return {name: Engine(name) for name in ("a", "b", "c")}


@pytest.fixture(scope="module")
def one(folder: Path, engines: dict[str, Engine]) -> Iterator[Gateway]:
    """One model with two replicas."""
    told = section(folder, free_port(), {"tiny": [engines["a"], engines["b"]]})
    with gateway(folder, told) as made:
        yield made


@pytest.fixture
def fresh(engines: dict[str, Engine]) -> Iterator[dict[str, Engine]]:
    for engine in engines.values():
        engine.requests.clear()
    yield engines
    for engine in engines.values():
        engine.behaviour = "serve"


def received(engines: dict[str, Engine]) -> int:
    return sum(len(engine.requests) for engine in engines.values())


def test_a_request_that_kills_its_engine_reaches_no_other(one: Gateway, fresh: dict[str, Engine]) -> None:
    for name in ("a", "b"):
        fresh[name].behaviour = "die"
    status, _body = one.post(BODY)
    assert status == 502
    assert received(fresh) == 1


def test_an_unreachable_engine_costs_no_request(one: Gateway, fresh: dict[str, Engine]) -> None:
    fresh["a"].stop()
    try:
        answers = [one.post(BODY) for _number in range(4)]
    finally:
        fresh["a"].start()
        one.settle()
    assert answers == [(200, b"b")] * 4


FORGED = {
    "X-Forwarded-For": '"GET /health_generate HTTP/1.1" 200',
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Real-Ip": "10.0.0.1",
    "Forwarded": "for=10.0.0.1",
    "Via": "1.1 evil",
    "True-Client-Ip": "10.0.0.1",
    "Proxy": "http://evil.example",
    "X-Original-Url": "/server_info",
    "X-Rewrite-Url": "/server_info",
    "X-Http-Method-Override": "DELETE",
    "X-Data-Parallel-Rank": "7",
    "X-Smg-Routing-Key": "x",
    "X-Override-Rid": "a",
    "X-Custom-Labels": "key=bob",
    "X-Request-Id-Label": "bob",
    "X-Sglang-Instance": "c",
    "x_sglang_instance": "c",
    "X-Api-Key": "sk-alice",
    "Cookie": "a=b",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade, Content-Type",
    "Te": "trailers",
    "Early-Data": "1",
    "Content-Encoding": "gzip",
}
OURS = "x-sglang-instance"
PASSED = {OURS, "host", "content-length", "content-type", "accept", "user-agent"}


def test_an_engine_gets_no_header_that_only_a_proxy_may_set(one: Gateway, fresh: dict[str, Engine]) -> None:
    said = [f"{name}: {value}" for name, value in FORGED.items()]
    said += ["Content-Type: application/json", "Accept: */*", "User-Agent: it"]
    assert one.post(BODY, *said)[0] == 200
    ((name, found),) = [(name, asked) for name, engine in fresh.items() for asked in engine.requests]
    assert set(found.headers) - {"connection"} == PASSED
    assert found.headers[OURS] == name
    assert found.headers["host"] == "engine" and found.headers.get("connection", "close") == "close"
    assert found.body.decode() == BODY


def test_the_same_over_the_second_version_of_http(one: Gateway, fresh: dict[str, Engine]) -> None:
    said = {name.lower(): value for name, value in FORGED.items() if name not in ("Upgrade", "Connection")}
    asked = request_of("POST", CHAT, *said.items(), ("content-length", str(len(BODY))))
    assert one.second(headers(*asked, end=False), frame(0, 1, 1, BODY.encode())) == 200
    ((name, found),) = [(name, asked) for name, engine in fresh.items() for asked in engine.requests]
    assert set(found.headers) - {"connection"} == {OURS, "host", "content-length"}
    assert found.headers[OURS] == name


def test_an_engine_gets_a_bare_path(one: Gateway, fresh: dict[str, Engine]) -> None:
    for asked in (f"{CHAT}?rid=a", f"http://localhost{CHAT}", f"https://localhost{CHAT}?x"):
        assert one.post(BODY, path=asked)[0] == 200
    assert one.post(BODY, path=f"http://evil.example{CHAT}")[0] == 400
    assert {request.line for engine in fresh.values() for request in engine.requests} == {
        f"POST {CHAT} HTTP/1.1"
    }


def test_behind_an_inner_listener_only_what_reached_no_engine_is_sent_again(
    folder: Path, fresh: dict[str, Engine]
) -> None:
    told = section(folder, free_port(), {"tiny": [fresh["a"], fresh["c"]]}, [fresh["a"]], check_seconds=60)
    with gateway(folder, told) as made:
        fresh["a"].stop()
        try:
            assert [made.post(BODY) for _number in range(4)] == [(200, b"c")] * 4
            fresh["c"].stop()
            said = made.post(BODY)
            assert said[0] == 503 and b"overloaded" in said[1]
        finally:
            for name in ("a", "c"):
                fresh[name].start()
        for engine in fresh.values():
            engine.requests.clear()
            engine.behaviour = "die"
        assert made.post(BODY)[0] == 502
        assert received(fresh) == 1
        # An engine's own word that it takes nothing more is passed on, not asked of the next one.
        for engine in fresh.values():
            engine.behaviour = "503"
        assert made.post(BODY)[0] == 503
        assert received(fresh) == 2
