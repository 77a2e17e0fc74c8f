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
    Engine,
    Gateway,
    free_port,
    gateway,
    haproxy,
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
