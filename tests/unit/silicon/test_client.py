# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second load client, against a server that streams as the engine does, in chunks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.tests.silicon import client


async def _loaded(requests: int, tokens: int, whole: bool, strict: bool) -> dict[str, Any]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        asked = json.loads(await reader.readexactly(size))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        events = [{"text": "x", "meta_info": {"completion_tokens": n + 1}} for n in range(tokens)]
        parts = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        for part in [*parts, *([b"data: [DONE]\n\n"] if whole else [])]:
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        assert len(asked["input_ids"]) == 5
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await client.load(port, 2, requests, 5, tokens, 1, strict)


def test_tokens_are_the_servers_own_count() -> None:
    found = asyncio.run(_loaded(3, 7, True, True))
    assert (found["requests"], found["whole"], found["tokens"]) == (3, 3, 21)
    assert found["tokens_per_second"] > 0


@pytest.mark.parametrize(("tokens", "whole"), [(0, True), (7, False)])
def test_a_stream_without_tokens_or_end_is_no_result(tokens: int, whole: bool) -> None:
    with pytest.raises(SystemExit, match="a stream ended"):
        asyncio.run(_loaded(1, tokens, whole, True))


def test_a_stream_that_is_cut_off_is_counted_where_that_is_asked() -> None:
    assert asyncio.run(_loaded(1, 7, False, False))["whole"] == 0
