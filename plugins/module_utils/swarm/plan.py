# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gives, who receives and who is left out of a fan-out: decided from what each host has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SEED, SOURCE, RECEIVE, COPY, NOTHING, REFUSED = "seed", "source", "receive", "copy", "nothing", "refused"


class SwarmError(Exception):
    """Says what is wrong with the whole fan-out, where it was said and what would work."""


@dataclass(frozen=True)
class Look:
    """What one host said: see the module swarm_info."""

    address: str
    complete: bool
    bytes_lacking: int
    free: int
    python: str
    arch: str
    problems: tuple[str, ...]
    port_free: bool


@dataclass(frozen=True)
class Part:
    """What one host does. seed and source give, receive and copy are filled; the rest is left alone."""

    does: str
    wheel: str = ""
    address: str = ""
    peers: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    share: tuple[int, int] = (0, 0)
    names: tuple[tuple[str, str], ...] = ()
    why: str = ""
    bytes: int = 0


def look_of(said: Mapping[str, Any]) -> Look:
    return Look(
        address=said["address"],
        complete=said["complete"],
        bytes_lacking=said["bytes_lacking"],
        free=said["free"],
        python=said["python"],
        arch=said["arch"],
        problems=tuple(said["problems"]),
        port_free=said["port_free"],
    )


def wheel_for(look: Look, wheels: Iterable[str]) -> str:
    """The file of libtorrent that this host's Python takes, or nothing."""
    fitting = re.compile(rf"libtorrent-[\d.]+-{look.python}-{look.python}-.*manylinux.*_{look.arch}\.whl")
    return max((name for name in wheels if fitting.fullmatch(name)), default="")


def unfit(look: Look) -> str:
    """Why this host cannot take part; nothing when it can."""
    if look.problems:
        return "; ".join(look.problems)
    if look.bytes_lacking > look.free:
        short = look.bytes_lacking - look.free
        return (
            f"no space: {look.bytes_lacking / 1e9:.2f} GB are needed and {look.free / 1e9:.2f} GB are free; "
            f"free {short / 1e9:.2f} GB"
        )
    return ""


def swarm_plan(
    said: Mapping[str, Mapping[str, Any]], wheels: Iterable[str], port: int, has_source: bool
) -> dict[str, dict[str, Any]]:
    """The part of every host, by its name. The order of hosts is the order of shares, and of choice of a source."""
    wheels = list(wheels)
    looks = {host: look_of(entry) for host, entry in said.items()}
    parts: dict[str, Part] = {}
    able: dict[str, str] = {}
    for host, look in looks.items():
        reason = unfit(look)
        wheel = wheel_for(look, wheels)
        if reason:
            parts[host] = Part(REFUSED, why=reason, bytes=look.bytes_lacking)
        elif wheel and look.port_free:
            able[host] = wheel
        elif look.complete:
            parts[host] = Part(NOTHING)
        elif not look.port_free:
            why = f"port {port} on {look.address} is taken; set swarm_port to one that is free on all hosts"
            parts[host] = Part(REFUSED, why=why, bytes=look.bytes_lacking)
        elif has_source:
            why = f"no libtorrent for {look.python} on {look.arch}: sent over ssh"
            parts[host] = Part(COPY, why=why, bytes=look.bytes_lacking)
        else:
            why = (
                f"no libtorrent for {look.python} on {look.arch} among the wheels, and no swarm_source to copy from; "
                "give the host a Python of 3.9 to 3.13 (ansible_python_interpreter), or swarm_source"
            )
            parts[host] = Part(REFUSED, why=why, bytes=look.bytes_lacking)
    parts.update(_swarm(looks, able, has_source))
    return {host: asdict(parts[host]) for host in looks}


def _swarm(looks: Mapping[str, Look], able: Mapping[str, str], has_source: bool) -> dict[str, Part]:
    """Those that can speak to each other; a source is chosen where no host is complete."""
    lacking = [host for host in able if not looks[host].complete]
    seeds = [host for host in able if looks[host].complete]
    if not lacking:
        return {host: Part(NOTHING) for host in seeds}
    if not seeds and not has_source:
        return {
            host: Part(
                REFUSED,
                why="no host has the files, and there is no swarm_source",
                bytes=looks[host].bytes_lacking,
            )
            for host in lacking
        }
    first = "" if seeds else min(lacking, key=lambda host: looks[host].bytes_lacking)
    givers = seeds or [first]
    receivers = [host for host in lacking if host != first]
    if first and not receivers:
        return {first: Part(COPY, why="the only host", bytes=looks[first].bytes_lacking)}
    addresses = {host: looks[host].address for host in (*givers, *receivers)}
    if len(set(addresses.values())) != len(addresses):
        shown = ", ".join(f"{host} = {address}" for host, address in addresses.items())
        raise SwarmError(f"swarm_address is the same on several hosts: {shown}; give each its own")
    parts = {}
    for host, address in addresses.items():
        parts[host] = Part(
            does=RECEIVE if host in receivers else SOURCE if host == first else SEED,
            wheel=able[host],
            address=address,
            peers=tuple(other for other in addresses.values() if other != address),
            sources=tuple(addresses[giver] for giver in givers if giver != host),
            share=(receivers.index(host), len(receivers)) if host in receivers else (0, 0),
            names=tuple((address, other) for other, address in addresses.items()),
            bytes=0 if looks[host].complete else looks[host].bytes_lacking,
        )
    return parts


NUMBERS = (
    "bytes", "total", "rate", "rate_up", "seconds", "failed_pieces", "failed_bytes", "pid",
)  # fmt: skip
COUNTS, LISTS = ("from", "to", "refused", "strangers"), ("connected", "complete_peers", "suspected")
MOST_ENTRIES, LONGEST_WORDS, LARGEST_NUMBER = 4096, 500, 1 << 62


def status_of(said: Any) -> dict[str, Any]:
    """What an agent wrote, with every field in its type and nothing that a terminal would act on; {} if it is no status.

    The agent speaks to hosts that may be hostile: what it says is shown, and decides nothing but when to stop waiting.
    """
    if not isinstance(said, Mapping) or not said:
        return {}
    found: dict[str, Any] = {name: _number(said.get(name)) for name in NUMBERS}
    found["complete"] = said.get("complete") is True
    for name in ("state", "problem"):
        found[name] = _words(said.get(name))
    for name in COUNTS:
        given = said.get(name)
        pairs = list(given.items())[:MOST_ENTRIES] if isinstance(given, Mapping) else []
        found[name] = {_words(key): _number(count) for key, count in pairs}
    for name in LISTS:
        given = said.get(name)
        found[name] = [_words(item) for item in given[:MOST_ENTRIES]] if isinstance(given, list) else []
    return found


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LARGEST_NUMBER:
        return 0
    return value


def _words(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in value[:LONGEST_WORDS])


def swarm_plan_text(parts: Mapping[str, Mapping[str, Any]], name: str, port: int) -> list[str]:
    """What will be moved, a line a host."""
    words = {
        SEED: "gives what it has",
        SOURCE: "{gb:.2f} GB over ssh, then gives them to the others",
        RECEIVE: "{gb:.2f} GB from the others, port {port}",
        COPY: "{gb:.2f} GB as a plain copy: {why}",
        REFUSED: "REFUSED  {why}",
    }
    return [
        f"{host}  {name}  " + words[part["does"]].format(gb=part["bytes"] / 1e9, port=port, why=part["why"])
        for host, part in parts.items()
        if part["does"] in words
    ]


def blame(status: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Who sent damaged pieces; where several were cut off and nothing is proven, one of them did."""
    refused = ", ".join(names.get(a, a) for a in status["refused"])
    suspected = " or ".join(names.get(a, a) for a in status["suspected"])
    said = [f"REFUSED damaged pieces from {refused}"] if refused else []
    return said + ([f"REFUSED damaged pieces that came from {suspected}"] if suspected else [])


def swarm_summary(
    results: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]],
    looks: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Bytes, rate and from whom, a line a host; addresses are said as the names of hosts."""
    names = {look["address"]: host for host, look in looks.items()}
    lines = []
    for host, ended, waited in results:
        result = {**(ended or {}), **{key: value for key, value in (waited or {}).items() if key != "status"}}
        status = result.get("status") or {}
        if not status:
            continue
        given = sum(status["to"].values())
        seconds = max(result.get("seconds", 0), 0.1)
        came = sum(status["from"].values())
        whom = ", ".join(f"{names.get(a, a)} {n / 1e9:.2f}" for a, n in status["from"].items())
        line = f"{host}  {came / 1e9:.2f} GB in {seconds:.0f} s, {came / seconds / 1e6:.0f} MB/s"
        line += f" (GB from {whom})" if whom else ""
        line += f", gave {given / 1e9:.2f} GB" if given else ""
        blamed = ", ".join(blame(status, names))
        line += f"; {blamed}" if blamed else ""
        line += f"; {result['problem']}" if result.get("problem") else ""
        lines.append(line)
    return lines
