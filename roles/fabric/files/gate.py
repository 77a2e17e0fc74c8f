# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's part of the measurements between hosts: a tournament in which no port is used twice at a time.

    python3 gate.py <specification.json >report.json

Each round pairs hosts; the first of a pair leads, and both directions are measured. Partners find each other over
TCP, so nobody has to start at the same time. Both prove that they know the token of this run, which never travels.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

CONNECT_SECONDS = 3.0
RETRY_SECONDS = 0.2
BLOCK = 1 << 18
# perftest compares two clocks for a fifth of a second before it measures; where the host was busy with something else just
# then, it goes on without a unit of time and prints nothing, or endless latencies and no bandwidth.
NO_CLOCK = "perftest found no steady clock on this busy host"
ATTEMPTS = 5
# Where packets are lost at first, a slow link may carry no whole message within the time: it is given more, up to this.
NO_MESSAGE = "not one message came through in its time"
LONGEST_STRETCH = 4
LONGEST_LINE = 1 << 16
HELLO_SECONDS = 5.0
MOST_CALLERS = 32
NONCE_BYTES = 32
TAG_LETTERS = 64


class MatchError(Exception):
    """Why a measurement was not made."""


class Line:
    """JSON values, one a line, over a TCP connection."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        connection.settimeout(seconds)
        self.connection = connection
        self.stream = connection.makefile("rb")

    def say(self, **value: Any) -> None:
        try:
            self.connection.sendall(json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise MatchError(f"the other host went away ({error.strerror})") from None

    def hear(self) -> dict[str, Any]:
        try:
            said = self.stream.readline(LONGEST_LINE)
        except (OSError, ValueError):
            said = b""
        if not said:
            raise MatchError("the other host went away, or said nothing in time")
        try:
            return dict(json.loads(said))
        except (TypeError, ValueError, RecursionError):
            raise MatchError("somebody else called who does not speak as a gate does") from None


def proof(token: str, *words: str) -> str:
    """JSON, so that no two lists of words have one text."""
    return hmac.new(bytes.fromhex(token), json.dumps(words).encode(), hashlib.sha256).hexdigest()


def same(one: Any, other: str) -> bool:
    """In a time that tells nothing of where they differ."""
    return isinstance(one, str) and hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def introduce(line: Line, token: str, me: str, other: str, number: int) -> None:
    """The caller's half: each proves that it knows the token, for this match and this connection."""
    nonce, theirs = os.urandom(NONCE_BYTES).hex(), str(line.hear().get("nonce", ""))
    words = (me, other, str(number), theirs, nonce)
    line.say(host=me, round=number, nonce=nonce, proof=proof(token, "caller", *words))
    if not same(line.hear().get("proof"), proof(token, "called", *words)):
        raise MatchError(f"somebody else answers in the place of {other}")


def recognise(line: Line, token: str, me: str) -> tuple[str, int]:
    """The half of who is called: the host and the round that the caller comes for."""
    nonce = os.urandom(NONCE_BYTES).hex()
    line.say(nonce=nonce)
    hello = line.hear()
    host, number, theirs = hello.get("host"), hello.get("round"), hello.get("nonce")
    if not isinstance(host, str) or not isinstance(number, int) or not isinstance(theirs, str):
        raise MatchError("somebody else called who does not speak as a gate does")
    words = (host, me, str(number), nonce, theirs)
    if not same(hello.get("proof"), proof(token, "caller", *words)):
        raise MatchError("somebody called who does not know the token of this run")
    line.say(proof=proof(token, "called", *words))
    return host, number


def gid_index(device: dict[str, Any]) -> str:
    """Of the planned address, as it is now: no index stays the same."""
    if device.get("link_layer") == "InfiniBand":
        return ""
    port = f"/sys/class/infiniband/{device['name']}/ports/{device['port']}"
    try:
        names = sorted(os.listdir(f"{port}/gids"), key=int)
    except OSError:
        raise MatchError(f"there is no RDMA device {device['name']}") from None
    for name in names:
        gid, kind = text(f"{port}/gids/{name}"), text(f"{port}/gid_attrs/types/{name}")
        if kind in device["gid_types"] and mapped(gid) == device["address"]:
            return name
    raise MatchError(
        f"{device['name']} has no {' or '.join(device['gid_types'])} GID for {device['address']}: was the address lost?"
    )


def mapped(gid: str) -> str:
    try:
        return str(ipaddress.IPv6Address(gid).ipv4_mapped)
    except ValueError:
        return ""


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def listens(port: int) -> bool:
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in text(table).splitlines()[1:]:
            cells = row.split()
            if cells[1].endswith(wanted) and cells[3] == "0A":
                return True
    return False


def figure(output: str, column: int) -> float:
    """A column of the last row of numbers that a program of perftest prints."""
    rows = [line.split() for line in output.splitlines() if re.match(r"^\s*\d+\s+\d+(\s+[\d.]+)+\s*\Z", line)]
    if not rows or len(rows[-1]) <= column or not float(rows[-1][column]):
        raise MatchError(reason(output))
    return float(rows[-1][column])


def reason(output: str) -> str:
    if re.search(r"status 12\b|retry counter", output):
        return "RDMA packets get lost (status 12): a firewall stops UDP 4791, or the MTU differs on the way"
    if re.search(
        r"[Cc]ouldn't connect|Unable to (init|open) .*socket|Connection (refused|timed out)", output
    ):
        return "the measuring program is not reached over TCP: is there a firewall?"
    if re.search(r"Correlation coefficient|\binf\b", output):
        return NO_CLOCK
    if re.search(r"^\s*\d+\s+0(\s+0\.0+)+\s*$", output, re.MULTILINE):
        return NO_MESSAGE
    lines = [
        line.strip() for line in output.splitlines() if line.strip() and not set(line.strip()) <= set("-")
    ]
    return f"no figure came: {' '.join(lines[-2:])[:200]}" if lines else "no figure came within its time"


class Perftest:
    """ib_write_bw on all devices at once, or ib_write_lat on one after the other."""

    def __init__(self, spec: dict[str, Any], latency: bool, stretch: int = 1) -> None:
        self.me, self.settings, self.latency = spec["me"], spec["settings"], latency
        self.seconds = max(1, round(self.settings["seconds"])) * stretch
        self.devices = spec["hosts"][spec["me"]]["devices"]
        self.program = "ib_write_lat" if latency else "ib_write_bw"
        self.running: list[subprocess.Popen[str]] = []

    def words(self, place: int) -> list[str]:
        device = self.devices[place]
        if not shutil.which(self.program):
            raise MatchError(
                f"{self.me} has no {self.program}: install the package perftest (a bundle carries it in debs/)"
            )
        words = [self.program, "-d", device["name"], "-i", str(device["port"]), "-F"]
        words += ["-p", str(self.settings["ports"]["rdma"] + place)]
        try:
            index = gid_index(device)
        except MatchError as error:
            raise MatchError(f"{self.me}: {error}") from None
        words += ["-x", index] if index else []
        if self.latency:
            return [*words, "-n", str(self.settings["latency_iterations"])]
        return [*words, "--report_gbits", "-s", str(self.settings["message_bytes"]), "-D", str(self.seconds)]

    def receive(self) -> None:
        for place in range(len(self.devices)):
            self.running.append(start(self.words(place)))
        end = time.monotonic() + 10
        waiting = list(range(len(self.devices)))
        while waiting and time.monotonic() < end:
            waiting = [place for place in waiting if not listens(self.settings["ports"]["rdma"] + place)]
            ended = [process for process in self.running if process.poll() is not None]
            if ended:
                raise MatchError(reason(ended[0].communicate()[0]))
            time.sleep(0.05)

    def received(self) -> dict[str, Any]:
        stop(self.running)
        return {}

    def send(self, other: dict[str, Any]) -> dict[str, Any]:
        seconds = 30 + 2 * self.seconds
        started, found = [], []
        for place, device in enumerate(self.devices[: len(other["devices"])]):
            words = [*self.words(place), other["devices"][place]["address"] or other["address"]]
            started.append((device["name"], start(words)))
            if self.latency:
                found.append(self._figure(*started[-1], seconds))
        if not self.latency:
            found = [self._figure(name, process, seconds) for name, process in started]
        return {"devices": found}

    def _figure(self, name: str, process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
        try:
            output = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            stop([process])
            output = process.communicate()[0]
        try:
            # Typical latency and average bandwidth.
            return {"name": name, "value": figure(output, 4 if self.latency else 3)}
        except MatchError as error:
            return {"name": name, "error": str(error)}


class Tcp:
    """What remains where RDMA does not work; also the measure of links without it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.settings = spec["settings"]
        self.address = spec["hosts"][spec["me"]]["address"]
        self.token = spec["token"]
        self.known = {host["address"] for host in spec["hosts"].values()}
        self.port = self.settings["ports"]["tcp"]
        self.counted = 0
        self.begun = self.ended = 0.0

    def receive(self) -> None:
        self.listener = socket.create_server((self.address, self.port), backlog=64)
        self.listener.settimeout(10)
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self) -> None:
        open_: list[socket.socket] = []
        with contextlib.suppress(OSError):
            while len(open_) < self.settings["tcp_streams"]:
                connection, (address, *_unused) = self.listener.accept()
                if address in self.known and self._is_stream(connection):
                    open_.append(connection)
                else:
                    connection.close()
        self.begun = self.ended = time.monotonic()
        while open_:
            ready, _unused, _unused = select.select(open_, [], [], 10)
            if not ready:
                break
            for connection in ready:
                block = connection.recv(BLOCK)
                if not block:
                    open_.remove(connection)
                    connection.close()
                self.counted += len(block)
                self.ended = time.monotonic()

    def _is_stream(self, connection: socket.socket) -> bool:
        """Bytes of a stranger are not counted."""
        connection.settimeout(1)
        said = b""
        with contextlib.suppress(OSError):
            while len(said) < TAG_LETTERS:
                block = connection.recv(TAG_LETTERS - len(said))
                if not block:
                    break
                said += block
        connection.settimeout(None)
        return same(said.decode("ascii", "replace"), proof(self.token, "stream", self.address))

    def received(self) -> dict[str, Any]:
        self.thread.join(15)
        self.listener.close()
        seconds = self.ended - self.begun
        if seconds <= 0:
            raise MatchError("no byte came over TCP")
        return {"devices": [{"name": "tcp", "value": self.counted * 8 / seconds / 1e9}]}

    def send(self, other: dict[str, Any]) -> dict[str, Any]:
        end = time.monotonic() + self.settings["tcp_seconds"]
        threads = []
        for _stream in range(self.settings["tcp_streams"]):
            connection = socket.create_connection((other["address"], self.port), 5, (self.address, 0))
            connection.sendall(proof(self.token, "stream", other["address"]).encode())
            threads.append(threading.Thread(target=pour, args=(connection, end), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.settings["tcp_seconds"] + 15)
        return {}


def pour(connection: socket.socket, end: float) -> None:
    block = bytes(BLOCK)
    # What waits in a large buffer when the time is up would be counted as fast.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)
    with contextlib.suppress(OSError), connection:
        while time.monotonic() < end:
            connection.send(block)


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def stop(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        if process.poll() is None:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Tournament:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.me = spec, spec["me"]
        self.mine = spec["hosts"][self.me]
        self.patience = float(spec["settings"]["patience"])
        # A match whose other side hangs must not stop the rounds behind it.
        self.limit = 60 + 3 * LONGEST_STRETCH * spec["settings"]["seconds"]
        self.token = str(spec["token"])
        self.early: dict[tuple[str, int], Line] = {}
        self.arrived = threading.Condition()
        self.callers = threading.Semaphore(MOST_CALLERS)
        self.gone: dict[str, str] = {}
        self.rows: list[dict[str, Any]] = []

    def run(self) -> list[dict[str, Any]]:
        address = (self.mine["address"], self.spec["settings"]["ports"]["meet"])
        with socket.create_server(address, backlog=64) as self.listener:
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()
            for number, matches in enumerate(self.spec["rounds"]):
                for first, second in matches:
                    if first == self.me:
                        self.lead(second, number)
                    elif second == self.me:
                        self.follow(first, number)
        return self.rows

    def lead(self, other: str, number: int) -> None:
        try:
            line = self.call(other, number)
        except MatchError as error:
            self.gone[other] = str(error)
            self.row(self.me, other, number, "", error=str(error))
            return
        with line.connection:
            for kind in self.spec["measures"]:
                for sending in (True, False):
                    pair = (self.me, other) if sending else (other, self.me)
                    self.row(*pair, number, kind, **self.match(kind, sending, line, other))
            with contextlib.suppress(MatchError):
                line.say(do="end")

    def match(self, kind: str, sending: bool, line: Line, other: str) -> dict[str, Any]:
        stretch = 1
        for _attempt in range(ATTEMPTS):
            try:
                found = (self.i_send if sending else self.i_receive)(kind, line, other, stretch)
            except (MatchError, OSError) as error:
                found = {"error": str(error)}
            said = [part.get("error", "") for part in [found, *found.get("devices", [])]]
            if NO_MESSAGE in said and stretch < LONGEST_STRETCH:
                stretch *= 2
            elif not any(NO_CLOCK in text for text in said):
                break
        return found

    def i_send(self, kind: str, line: Line, other: str, stretch: int) -> dict[str, Any]:
        line.say(do="receive", kind=kind, stretch=stretch)
        answer(line)
        sent = self.measure(kind, stretch).send(self.spec["hosts"][other])
        line.say(do="received")
        return {**answer(line), **sent}

    def i_receive(self, kind: str, line: Line, _other: str, stretch: int) -> dict[str, Any]:
        measure = self.measure(kind, stretch)
        measure.receive()
        try:
            line.say(do="send", kind=kind, stretch=stretch)
            sent = answer(line)
        finally:
            received = measure.received()
        return {**sent, **received}

    def follow(self, other: str, number: int) -> None:
        try:
            line = self.called(other, number)
        except MatchError as error:
            self.gone[other] = str(error)
            self.row(other, self.me, number, "", error=str(error))
            return
        measure: Any = None
        with line.connection, contextlib.suppress(MatchError):
            while True:
                said = line.hear()
                if said.get("do") not in ("receive", "received", "send"):
                    return
                try:
                    if said["do"] == "receive":
                        measure = self.measure(said["kind"], said["stretch"])
                        measure.receive()
                        line.say(done={})
                    elif said["do"] == "received":
                        line.say(done=measure.received())
                    else:
                        sender = self.measure(said["kind"], said["stretch"])
                        line.say(done=sender.send(self.spec["hosts"][other]))
                except (MatchError, OSError) as error:
                    line.say(error=str(error))

    def measure(self, kind: str, stretch: int) -> Any:
        return Tcp(self.spec) if kind == "tcp" else Perftest(self.spec, kind == "latency", stretch)

    def call(self, other: str, number: int) -> Line:
        place = (self.spec["hosts"][other]["address"], self.spec["settings"]["ports"]["meet"])
        end = time.monotonic() + (CONNECT_SECONDS if other in self.gone else self.patience)
        why = "no answer"
        while True:
            try:
                connection = socket.create_connection(place, CONNECT_SECONDS, (self.mine["address"], 0))
                line = Line(connection, HELLO_SECONDS)
                introduce(line, self.token, self.me, other, number)
                connection.settimeout(self.limit)
                return line
            except ConnectionRefusedError:
                why = "refuses the connection: its part of the measurement does not run"
            except OSError as error:
                why = f"gives no answer ({error.strerror or 'timed out'}): a firewall, a cable, or another subnet"
            if time.monotonic() > end:
                raise MatchError(f"{other} at {place[0]}, TCP port {place[1]} {why}")
            time.sleep(RETRY_SECONDS)

    def called(self, other: str, number: int) -> Line:
        end = time.monotonic() + (CONNECT_SECONDS if other in self.gone else self.patience)
        with self.arrived:
            while (other, number) not in self.early:
                left = end - time.monotonic()
                if left <= 0:
                    raise MatchError(
                        f"{other} did not call on TCP port {self.spec['settings']['ports']['meet']}"
                    )
                self.arrived.wait(left)
            return self.early.pop((other, number))

    def accept(self, listener: socket.socket) -> None:
        """Beside the matches, each caller for itself: one that says nothing holds up nobody."""
        with contextlib.suppress(OSError):
            while True:
                connection, _address = listener.accept()
                if not self.callers.acquire(blocking=False):
                    connection.close()
                    continue
                threading.Thread(target=self.welcome, args=(connection,), daemon=True).start()

    def welcome(self, connection: socket.socket) -> None:
        try:
            line = Line(connection, HELLO_SECONDS)
            place = recognise(line, self.token, self.me)
            connection.settimeout(self.limit)
        except (MatchError, OSError):
            connection.close()
            return
        finally:
            self.callers.release()
        with self.arrived:
            self.early[place] = line
            self.arrived.notify_all()

    def row(self, sender: str, receiver: str, number: int, kind: str, **found: Any) -> None:
        self.rows.append({"from": sender, "to": receiver, "round": number, "kind": kind, **found})


def answer(line: Line) -> dict[str, Any]:
    said = line.hear()
    if "error" in said:
        raise MatchError(said["error"])
    return dict(said["done"])


if __name__ == "__main__":
    specification = json.load(sys.stdin)
    begun = time.monotonic()
    try:
        rows = Tournament(specification).run()
    except OSError as error:
        place = f"{specification['hosts'][specification['me']]['address']}, TCP port {specification['settings']['ports']['meet']}"
        sys.exit(
            f"cannot listen on {place} ({error.strerror}): does the host have this address, is the port free?"
        )
    json.dump({"rows": rows, "seconds": round(time.monotonic() - begun, 3)}, sys.stdout)
