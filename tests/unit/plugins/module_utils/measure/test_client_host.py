# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a request is over: only its last chunk ends it, however the network cuts what the server sent."""

from __future__ import annotations

import asyncio

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Exchange

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 210\r\n\r\n"


class Transport(asyncio.Transport):
    closed = False

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def fed(*pieces: bytes) -> Transport:
    loop, transport = asyncio.new_event_loop(), Transport()
    try:
        exchange = Exchange(b"", loop.create_future(), 10000)
        exchange.connection_made(transport)
        for piece in pieces:
            assert not transport.closed
            exchange.data_received(piece)
    finally:
        loop.close()
    return transport


def test_a_length_that_ends_in_zero_is_no_last_chunk() -> None:
    assert not fed(PLAIN).closed


@pytest.mark.parametrize("cut", range(1, len(CHUNKED)))
def test_the_last_chunk_ends_it_wherever_it_is_cut(cut: int) -> None:
    assert fed(CHUNKED[:cut], CHUNKED[cut:]).closed
