# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load on a server: so many streams at once, or requests at given moments, or conversations. Times only; reading is later."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Optional

from .client_host import Raw, Server, send
from .http_response import Reply
from .summary import quantile

LOOK_SECONDS = 0.05
Say = Callable[[Reply], Optional[bytes]]


@dataclass
class Burden:
    """What the client itself took: a busy client measures itself."""

    cpu_share: float = 0.0
    lag_p99_ms: float = 0.0

    def limited(self, cpu_most: float, lag_most_ms: float) -> bool:
        return self.cpu_share > cpu_most or self.lag_p99_ms > lag_most_ms


@dataclass
class Loaded:
    raws: list[Raw] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    """Read already: those of conversations."""
    seconds: float = 0.0
    unsent: int = 0
    """Requests that the time limit left over."""
    burden: Burden = field(default_factory=Burden)

    def read(self, stall: float) -> list[Reply]:
        return [*self.replies, *(raw.read(stall) for raw in self.raws)]


async def _watched(work: Awaitable[None], burden: Burden) -> float:
    """Seconds that the work took; how late the loop was meanwhile goes into `burden`."""
    lags: list[float] = []

    async def look() -> None:
        while True:
            wanted = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            lags.append(time.monotonic() - wanted)

    watcher = asyncio.ensure_future(look())
    begun, cpu = time.monotonic(), time.process_time()
    await work
    seconds = time.monotonic() - begun
    burden.cpu_share = round((time.process_time() - cpu) / seconds, 4) if seconds else 0.0
    watcher.cancel()
    burden.lag_p99_ms = round(quantile(lags, 0.99) * 1000, 2) if lags else 0.0
    return seconds


def closed(
    server: Server, path: str, bodies: Sequence[bytes], streams: int, ramp: float, limit: float
) -> Loaded:
    """`streams` at once, each taking the next request as soon as it has its answer."""
    found = Loaded()
    # Everything that costs time is made before the first one leaves.
    waiting = [server.request(path, body) for body in reversed(bodies)]

    async def stream(number: int) -> None:
        await asyncio.sleep(number * ramp)
        while waiting and time.monotonic() < end:
            found.raws.append(await send(server, waiting.pop()))

    async def work() -> None:
        await asyncio.gather(*(stream(number) for number in range(streams)))

    async def run() -> None:
        found.seconds = await _watched(work(), found.burden)

    end = time.monotonic() + limit
    asyncio.run(run())
    found.unsent = len(waiting)
    return found


def opened(
    server: Server, path: str, bodies: Sequence[bytes], moments: Sequence[float], limit: float
) -> Loaded:
    """Each request at its moment, however many are under way."""
    found = Loaded()
    requests = [server.request(path, body) for body in bodies]

    async def one(number: int, begun: float) -> None:
        await asyncio.sleep(max(0.0, begun + moments[number] - time.monotonic()))
        if time.monotonic() - begun > limit:
            found.unsent += 1
        else:
            found.raws.append(await send(server, requests[number]))

    async def work() -> None:
        begun = time.monotonic()
        await asyncio.gather(*(one(number, begun) for number in range(len(requests))))

    async def run() -> None:
        found.seconds = await _watched(work(), found.burden)

    asyncio.run(run())
    return found


def converse(
    server: Server, path: str, openings: Sequence[tuple[bytes, Say]], streams: int, limit: float
) -> Loaded:
    """Conversations: the next request follows from the answer; it ends with None, a failure, or the time."""
    found = Loaded()
    waiting = list(reversed(openings))

    async def stream() -> None:
        while waiting and time.monotonic() < end:
            body: bytes | None
            body, say = waiting.pop()
            while body is not None and time.monotonic() < end:
                reply = (await send(server, server.request(path, body))).read()
                found.replies.append(reply)
                body = say(reply)

    async def work() -> None:
        await asyncio.gather(*(stream() for _unused in range(streams)))

    async def run() -> None:
        found.seconds = await _watched(work(), found.burden)

    end = time.monotonic() + limit
    asyncio.run(run())
    found.unsent = len(waiting)
    return found
