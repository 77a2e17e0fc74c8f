# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks of a client on engines, on other clients and on the gateway, against a real HAProxy on loopback."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.keys import Key, digest_of

from .gateway_world import (
    CHAT,
    PATIENCE,
    POLICY,
    Engine,
    Gateway,
    first_status,
    frame,
    free_port,
    gateway,
    haproxy,
    headers,
    literal,
    request_of,
    section,
    wait_for,
)

# Seconds of processes and sockets: from `make test` on.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not haproxy(), reason="haproxy is not installed (bindep.txt, profile gateway)"),
]
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


@pytest.fixture(scope="module")
def several(folder: Path, engines: dict[str, Engine]) -> Iterator[Gateway]:
    """Several models, so that the body decides."""
    place = folder / "several"
    place.mkdir()
    told = section(
        place,
        free_port(),
        {
            "tiny": [engines["a"]],
            "zai-org/GLM-4.7": [engines["b"]],
            "ti.y": [engines["c"]],
            # All that a name may hold.
            "a:b@c+d-e_f/g.h": [engines["c"]],
        },
        body_buffer_kib=128,
    )
    with gateway(place, told) as made:
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


SERVED = {"tiny": b"a", "zai-org/GLM-4.7": b"b", "ti.y": b"c", "a:b@c+d-e_f/g.h": b"c"}
DECIDED = {
    '{"model": "zai-org/GLM-4.7"}': b"b",
    '{"model": "zai-org\\/GLM-4.7"}': b"b",
    '{"model": "zai-org\\u002fGLM-4.7"}': b"b",
    '{"model": "zai-org\\u002FGLM-4.\\u0037"}': b"b",
    '{"mod\\u0065l": "tiny"}': b"a",
    '{"\\u006dodel": "\\u0074iny"}': b"a",
    ' {\n"model"\t:\r"tiny"\n}\n': b"a",
    '{"a": {"model": "ti.y"}, "b": [{"model": "ti.y"}], "model": "tiny"}': b"a",
    '{"model": "tiny", "tools": [{"properties": {"model": {"type": "string"}}}]}': b"a",
    '{"a": "\\"model\\": \\"ti.y\\"", "model": "tiny"}': b"a",
    '{"a": "}", "b\\\\": "{", "model": "tiny", "c": "\\\\"}': b"a",
    '{"model\\\\": "ti.y", "\\"model": "ti.y", "Model": "ti.y", "model": "tiny"}': b"a",
    '{"a": "model", "model": "tiny", "b": -1.5e3, "c": null, "d": []}': b"a",
    '{"messages": [{"content": "' + "x" * 100_000 + '"}], "model": "tiny"}': b"a",
    # What lies beyond the buffer is not looked at.
    '{"model": "tiny", "messages": ["' + "x" * 300_000 + '"]}': b"a",
}
UNDECIDED = [
    "",
    "{}",
    "[]",
    '"model"',
    '[{"model": "tiny"}]',
    '{"a": {"model": "tiny"}}',
    '{"model": null}',
    '{"model": 5}',
    '{"model": ["tiny"]}',
    '{"model": {"model": "tiny"}}',
    '{"model": "tiny", "model": "tiny"}',
    '{"model": "tiny", "model": "ti.y"}',
    '{"model": "tiny", "mod\\u0065l": "ti.y"}',
    '{"mod\\u0065l": "ti.y", "model": "tiny"}',
    '{"model": 5, "model": "tiny"}',
    '{"model": "tiny", "model": 5}',
    '{"model": "tiny"',
    '{"model": "tiny"} x',
    '{"model": "tiny"}{"model": "ti.y"}',
    '{"a": [}, "model": "tiny"}',
    "{'model': 'tiny'}",
    '{model: "tiny"}',
    '\ufeff{"model": "tiny"}',
    '{"messages": ["' + "x" * 300_000 + '"], "model": "tiny"}',
    '{"model": "tiny", "model": "ti.y", "messages": ["' + "x" * 300_000 + '"]}',
]
UNKNOWN = [
    "nobody",
    "",
    "TINY",
    "tiny ",
    " tiny",
    "tixy",
    "tiny\\n",
    "tiny\\u0000",
    "model-tiny",
    "-i",
    "\\u0422iny",
    "*",
]


@pytest.mark.parametrize(("body", "engine"), DECIDED.items(), ids=range(len(DECIDED)))
def test_the_model_is_found_as_a_json_parser_finds_it(several: Gateway, body: str, engine: bytes) -> None:
    assert several.post(body) == (200, engine)


@pytest.mark.parametrize("body", UNDECIDED, ids=range(len(UNDECIDED)))
def test_a_body_that_does_not_name_one_model_is_refused(
    several: Gateway, fresh: dict[str, Engine], body: str
) -> None:
    status, said = several.post(body)
    assert status == 400 and json.loads(said)["error"]["type"] == "invalid_request_error"
    assert received(fresh) == 0


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_model_is_not_found(several: Gateway, fresh: dict[str, Engine], name: str) -> None:
    status, said = several.post(f'{{"model": "{name}"}}')
    assert status == 404 and json.loads(said)["error"]["type"] == "not_found"
    assert received(fresh) == 0


def some_value(random: Random, depth: int = 0) -> Any:
    kind = random.randrange(7 if depth < 4 else 4)
    if kind == 0:
        return random.choice([None, True, False, 0, -1, 1.5e300])
    if kind < 4:
        return "".join(
            random.choice('model"\\{}[]:, /\n\u00e9\u4e2dtiny') for _number in range(random.randrange(12))
        )
    if kind == 4:
        return [some_value(random, depth + 1) for _number in range(random.randrange(4))]
    return {
        random.choice(["model", "a", 'm"', "mode\\", "m" * 9]): some_value(random, depth + 1)
        for _number in range(random.randrange(4))
    }


def written(random: Random, text: str) -> str:
    """One of the many ways to write a string in JSON."""
    found = json.dumps(text, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.5:
        found = "".join(
            f"\\u{ord(letter):04x}"
            if letter.isalnum() and letter.isascii() and random.random() < 0.3
            else letter
            for letter in text
        )
        found = (
            '"' + found.replace("/", "\\/") + '"'
            if text.isascii() and not set(text) & set('"\\\n')
            else json.dumps(text)
        )
    return found


def test_random_spellings_agree_with_a_json_parser(several: Gateway, fresh: dict[str, Engine]) -> None:
    random = Random(18)
    for _number in range(80):
        members = [(random.choice("abc"), some_value(random)) for _count in range(random.randrange(5))]
        members += [
            ("model", random.choice([*SERVED, *SERVED, "nobody", 7]))
            for _count in range(random.choice([0, 1, 1, 1, 2]))
        ]
        random.shuffle(members)
        space = random.choice(["", " ", "\n\t"])
        body = "{" + f",{space}".join(
            f"{written(random, name)}{space}:{written(random, value) if isinstance(value, str) else json.dumps(value)}{space}"
            for name, value in members
        ) + "}"  # fmt: skip
        pairs = json.loads(body, object_pairs_hook=list)
        named = [value for name, value in pairs if name == "model"]
        if len(named) == 1 and isinstance(named[0], str):
            wanted = (200, SERVED[named[0]]) if named[0] in SERVED else (404, b"")
        else:
            wanted = (400, b"")
        status, said = several.post(body)
        assert (status, said if status == 200 else b"") == wanted, body


def test_a_deeply_nested_body_hurts_nobody(several: Gateway) -> None:
    for depth in (20, 1000, 60_000):
        assert several.post('{"a": ' + "[" * depth + "]" * depth + ', "model": "tiny"}')[0] in (200, 400)
        assert several.post(BODY)[0] == 200


def closed(link: socket.socket) -> bool:
    """Whether the gateway ends it within the test's patience; a limit of today would outlast that."""
    link.settimeout(PATIENCE)
    try:
        while link.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def asked(made: Gateway, source: str, key: str = "sk-alice") -> int:
    head = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    try:
        return first_status(made.exchange(head.encode(), source))
    except OSError:
        return 0


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gw-") as name:
        yield Path(name)


def test_silent_connections_of_one_address_lock_out_that_address_alone(
    place: Path, fresh: dict[str, Engine]
) -> None:
    told = section(place, free_port(), {"tiny": [fresh["a"]]}, connections_of_source=20)
    with gateway(place, told) as made:
        links = [made.reach("127.0.0.2") for _number in range(20)]
        wait_for(lambda: "conn_cur=20" in made.admin("show table sources"))
        assert asked(made, "127.0.0.2") == 0
        assert asked(made, "127.0.0.3") == 200
        for link in links:
            link.close()
        wait_for(lambda: "conn_cur=20" not in made.admin("show table sources"))
        assert asked(made, "127.0.0.2") == 200


def test_a_full_front_leaves_the_inner_listener_alone(place: Path, fresh: dict[str, Engine]) -> None:
    told = section(place, free_port(), {"tiny": [fresh["a"]]}, [fresh["a"]], connections=10)
    with gateway(place, told) as made:
        links = [made.reach(f"127.0.0.{number + 2}") for number in range(12)]
        wait_for(lambda: "CurrConns: 1" in made.admin("show info"))
        assert made.inner("GET /health_generate", told["inner"]["port"]) == 200
        for link in links:
            link.close()
        wait_for(lambda: asked(made, "127.0.0.1") == 200)


def test_who_says_nothing_is_hung_up_on(place: Path, fresh: dict[str, Engine]) -> None:
    limits = {"client_seconds": 1, "header_seconds": 1, "idle_seconds": 1, "body_seconds": 1}
    told = section(place, free_port(), {"tiny": [fresh["a"]]}, **limits)
    with gateway(place, told) as made:
        assert closed(made.reach())
        for protocol in ("http/1.1", "h2"):
            assert closed(made.connect(protocol)), protocol
        begun = made.connect()
        begun.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
        assert first_status(begun.recv(65536)) == 408
        for size in (100, 10_000_000):
            begun = made.connect()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-alice\r\nContent-Length: {size}\r\n\r\n"
            begun.sendall(head.encode() + b"x")
            assert first_status(begun.recv(65536)) == 408
        assert received(fresh) == 0


def test_the_limits_of_the_policy_are_short_and_leave_room() -> None:
    limits = POLICY["limits"]
    assert limits["client_seconds"] <= 15 and limits["header_seconds"] <= 5 and limits["idle_seconds"] <= 30
    # Eight addresses can neither fill the listener nor the memory with headers that do not end.
    assert 8 * limits["connections_of_source"] * 2 <= limits["connections"]
    assert 8 * limits["connections_of_source"] * limits["body_buffer_kib"] * 2 <= limits["memory_mib"] * 1024


def test_an_address_is_its_own_source_and_a_network_of_ipv6_is_one(
    place: Path, fresh: dict[str, Engine]
) -> None:
    told = section(place, free_port(), {"tiny": [fresh["a"]]})
    told["front"]["address"] = "::"
    with gateway(place, told) as made:
        links = [
            made.reach("127.0.0.5"),
            made.reach("127.0.0.6"),
            socket.create_connection(("::1", made.port)),
        ]
        wait_for(lambda: made.admin("show table sources").count("conn_cur=1") == 3)
        entries = made.admin("show table sources")
        assert {"key=::ffff:127.0.0.5 ", "key=::ffff:127.0.0.6 ", "key=:: "} <= set(
            re.findall("key=[^ ]+ ", entries)
        )
        for link in links:
            link.close()


def test_who_only_tries_is_neither_answered_nor_logged_for_long(
    place: Path, fresh: dict[str, Engine]
) -> None:
    told = section(place, free_port(), {"tiny": [fresh["a"]]}, keyless_of_source_10s=2)
    with gateway(place, told) as made:
        answers = []
        wait_for(lambda: answers.append(asked(made, "127.0.0.2", "sk-wrong")) or not answers[-1])
        assert set(answers) == {401, 0}
        assert made.log().count(" 401 ") == answers.count(401)
        # A key opens the way again, and other addresses never noticed.
        assert asked(made, "127.0.0.2") == 200
        assert asked(made, "127.0.0.1", "sk-wrong") == 401


HEAD = "Host: localhost\r\nAuthorization: Bearer sk-alice\r\n"
LENGTH = ("content-length", str(len(BODY)))


@pytest.fixture(scope="module")
def opened(folder: Path, engines: dict[str, Engine]) -> Iterator[Gateway]:
    """One engine, a GET endpoint that the inventory opened, and a key for one request at once."""
    place = folder / "opened"
    place.mkdir()
    told = section(place, free_port(), {"tiny": [engines["a"]]})
    told["front"]["endpoints"] = [*told["front"]["endpoints"], "GET /v1/files"]
    with gateway(place, told, Key("bob", digest_of("sk-bob"), concurrency=1)) as made:
        yield made


def test_no_trailer_reaches_an_engine(opened: Gateway, fresh: dict[str, Engine]) -> None:
    """A server with httptools adds them to the headers, after those that the gateway looked at."""
    chunks = (
        f"Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n{BODY}\r\n0\r\nX-Data-Parallel-Rank: 7\r\n\r\n"
    )
    for line, status in ((f"POST {CHAT}", 411), ("GET /v1/files", 411)):
        assert first_status(opened.exchange(f"{line} HTTP/1.1\r\n{HEAD}{chunks}".encode())) == status
    data, trailers = frame(0, 0, 1, BODY.encode()), frame(1, 5, 1, literal("x-data-parallel-rank", "7"))
    assert opened.second(headers(*request_of("POST", CHAT), end=False), data, trailers) == 411
    assert opened.second(headers(*request_of("GET", "/v1/files"), end=False), data, trailers) == 400
    assert opened.second(headers(*request_of("GET", "/v1/files"), end=False), trailers) == 400
    assert received(fresh) == 0
    assert opened.second(headers(*request_of("POST", CHAT, LENGTH), end=False), data, trailers) == 200
    (asked,) = fresh["a"].requests
    assert b"rank" not in asked.head + asked.body
    assert opened.second(headers(*request_of("GET", "/v1/files"))) == 200


@pytest.mark.parametrize(
    "line",
    [
        ("te", "chunked"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("x-a", "b\r\nx-b: c"),
        ("x-a", "\0"),
        ("X-Upper", "1"),
        ("x a", "1"),
        (":path", "/server_info"),
        ("content-length", "5"),
    ],
)
def test_a_header_that_means_two_things_ends_a_stream_of_http_2(
    opened: Gateway, fresh: dict[str, Engine], line: tuple[str, str]
) -> None:
    asked = request_of("POST", CHAT, LENGTH, line)
    assert opened.second(headers(*asked, end=False), frame(0, 1, 1, BODY.encode())) == 0
    assert received(fresh) == 0


@pytest.mark.parametrize("length", ["20", "10"])
def test_a_body_of_another_length_than_said_ends_a_stream_of_http_2(
    opened: Gateway, fresh: dict[str, Engine], length: str
) -> None:
    asked = request_of("POST", CHAT, ("content-length", length))
    assert opened.second(headers(*asked, end=False), frame(0, 1, 1, b"x" * 15)) == 0
    assert received(fresh) == 0


@pytest.mark.parametrize(
    "path",
    [
        "*",
        "",
        "http://localhost/v1/models",
        f"{CHAT} HTTP/1.1",
        f"{CHAT}\r\nX: y",
        f"{CHAT}#x",
        f"{CHAT}\\..",
        f"{CHAT}%00",
    ],
)
def test_odd_paths_of_http_2_are_closed(opened: Gateway, fresh: dict[str, Engine], path: str) -> None:
    asked = request_of("POST", path, LENGTH)
    assert opened.second(headers(*asked, end=False), frame(0, 1, 1, BODY.encode())) in (0, 400, 404)
    assert received(fresh) == 0


def test_there_is_no_tunnel_to_an_engine(opened: Gateway, fresh: dict[str, Engine]) -> None:
    assert first_status(opened.exchange(f"CONNECT localhost:22 HTTP/1.1\r\n{HEAD}\r\n".encode())) in (
        400,
        404,
    )
    plain = [(":method", "CONNECT"), (":authority", "localhost:22"), ("authorization", "Bearer sk-alice")]
    assert opened.second(headers(*plain, end=False)) in (0, 400, 404)
    assert received(fresh) == 0
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {}\r\nHTTP2-Settings: AAMAAABk\r\nSec-WebSocket-Key: x\r\n\r\n"
    for kind in ("websocket", "h2c"):
        opened.exchange(f"GET /v1/files HTTP/1.1\r\n{HEAD}{upgrade.format(kind)}".encode())
    extended = request_of("CONNECT", "/v1/files", (":protocol", "websocket"))
    extended.insert(1, extended.pop())
    opened.second(headers(*extended, end=False))
    for asked in fresh["a"].requests:
        assert {"upgrade", "http2-settings", "sec-websocket-key"}.isdisjoint(asked.headers)
        assert asked.headers["connection"] == "close"


@pytest.mark.parametrize(
    "lines",
    [
        "Authorization: Bearer sk-alice\r\nAuthorization: Bearer sk-wrong",
        "Authorization: Bearer sk-wrong\r\nAuthorization: Bearer sk-alice",
        "Authorization: Bearer  sk-alice",
        "Authorization: Bearer\tsk-alice",
        "Authorization: Bearer sk-alice, Bearer sk-alice",
        "Authorization: Bearer sk-alice x",
        "Authorization: Basic sk-alice",
        "Authorization: sk-alice",
        "Authorization: Bearer " + digest_of("sk-alice"),
        "Authorization: Bearer sk-ali\r\n ce",
        "Proxy-Authorization: Bearer sk-alice",
        "X-Api-Key: sk-alice",
        "Cookie: Authorization=Bearer sk-alice",
    ],
)
def test_a_key_is_given_once_and_in_one_form(opened: Gateway, lines: str) -> None:
    said = f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{lines}\r\nConnection: close\r\n\r\n"
    assert first_status(opened.exchange(said.encode())) == 401


@pytest.mark.parametrize(
    "line",
    [
        "HEAD /v1/models HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "TRACE /v1/models HTTP/1.1",
        f"post {CHAT} HTTP/1.1",
        f"GET {CHAT} HTTP/1.1",
        "GET /v1/models",
        "GET /v1/models\\ HTTP/1.1",
        "GET /\u00e9 HTTP/1.1",
    ],
)
def test_odd_request_lines_are_refused(opened: Gateway, fresh: dict[str, Engine], line: str) -> None:
    assert first_status(opened.exchange(f"{line}\r\n{HEAD}\r\n".encode("latin-1"))) in (400, 404)
    assert received(fresh) == 0


@pytest.mark.parametrize(
    "length", ["99999999999999999999", "-1", "+16", "0x10", "16,17", "16 17", "1e2", "67108865"]
)
def test_odd_lengths_are_refused(opened: Gateway, fresh: dict[str, Engine], length: str) -> None:
    said = f"POST {CHAT} HTTP/1.1\r\n{HEAD}Content-Length: {length}\r\n\r\n{BODY}"
    assert first_status(opened.exchange(said.encode())) in (400, 413)
    assert received(fresh) == 0


def test_a_path_cannot_forge_a_line_of_the_log(opened: Gateway) -> None:
    opened.exchange(f'GET /"_401_"x"\\y HTTP/1.1\r\n{HEAD}\r\n'.encode())
    wait_for(lambda: "_401_" in opened.log())
    (line,) = [line for line in opened.log().splitlines() if "_401_" in line]
    assert '"/\\"_401_\\"x\\"\\\\y" 404 ' in line


def test_requests_at_once_are_counted_over_all_connections_and_streams(
    opened: Gateway, fresh: dict[str, Engine]
) -> None:
    fresh["a"].behaviour = "hold"
    fresh["a"].go_on.clear()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(opened.post(BODY, key="bob")[0]))
        for _number in range(12)
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(answers) == 11)
        body = frame(0, 1, 1, BODY.encode())
        assert opened.second(headers(*request_of("POST", CHAT, LENGTH, key="sk-bob"), end=False), body) == 429
    finally:
        fresh["a"].go_on.set()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [429] * 11 and received(fresh) == 1


def test_streams_that_are_reset_at_once_leave_nothing_behind(
    opened: Gateway, fresh: dict[str, Engine]
) -> None:
    with opened.connect("h2") as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        with contextlib.suppress(OSError):
            for number in range(1, 2001, 2):
                asked = headers(*request_of("POST", CHAT, LENGTH, key="sk-bob"), end=False, stream=number)
                link.sendall(asked + frame(3, 0, number, (8).to_bytes(4, "big")))
    wait_for(lambda: opened.post(BODY, key="bob")[0] == 200)
    assert opened.post(BODY)[0] == 200


def test_what_an_engine_says_too_much_is_not_another_client_s_answer(
    opened: Gateway, fresh: dict[str, Engine]
) -> None:
    fresh["a"].behaviour = "twice"
    assert [opened.post(BODY)[1] for _number in range(3)] == [b"a"] * 3


def test_a_key_that_is_taken_back_ends_on_open_connections_too(opened: Gateway) -> None:
    said = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-bob\r\n\r\n"
    map_path, digest = opened.folder / "keys.map", digest_of("sk-bob")
    with opened.connect() as link:
        link.sendall(said)
        assert first_status(link.recv(65536)) == 200
        opened.admin(f"del map {map_path} {digest}")
        try:
            link.sendall(said)
            assert first_status(link.recv(65536)) == 401
        finally:
            opened.admin(f"add map {map_path} {digest} bob:0:1:0")
