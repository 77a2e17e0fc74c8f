# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process of a group member's unit: torchrun's elastic agent, and beside it the messages between the members.

    python -I -B launcher/agent.py /opt/sglang/releases/<id>/<instance>/launch.json

torchrun brings the launchers of all members up together, once. Whatever breaks on any host ends the agents of all
hosts; systemd then kills all that a unit held and starts the agent again. torchrun alone does not say who is missing,
does not compare the members, and leaves behind what a killed worker held.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import channel
import checks
import decisions
import group
import health
import notify
import processes
from channel import Channel, ChannelError
from group import DOWN, GATHER, RUN, Cause, Head

sys.path.remove(HERE)

FAILED, GAVE_UP = 1, 79
RECORD = "group.json"
TICK_SECONDS = 0.25
BEAT_SECONDS = 1.0
CONNECT_SECONDS = 3.0
EXTEND_SECONDS = 10.0
# Loading torch stops everything else in a process for a while; before a start nobody is in a hurry.
GATHER_PATIENCE = 4.0
# A launcher that was killed is told of by torchrun, with the signal, before that.
GONE_SECONDS = 2.0
# Connections that have not proven the secret yet; the oldest goes when there are more.
MOST_UNPROVEN = 32
# A stranger that calls again and again has one line in the journal in so long.
TOLD_SECONDS = 60.0
MOST_TOLD = 256


class Agent:
    """What both kinds of member have: the launcher below, systemd above, and torchrun in the main thread."""

    def __init__(self, launch: dict[str, Any], path: str, systemd: notify.Systemd) -> None:
        self.launch, self.path, self.systemd = launch, path, systemd
        self.plan = launch["group"]
        self.hosts = [member["host"] for member in self.plan["members"]]
        self.addresses = {member["address"]: member["host"] for member in self.plan["members"]}
        self.rank = self.plan["rank"]
        self.host, self.first = self.hosts[self.rank], self.hosts[0]
        self.endpoint = (self.plan["members"][0]["address"], self.plan["channel_port"])
        self.secret = channel.read_secret(self.plan["secret"])
        self.truth: dict[str, str] = {}
        self.looked = float("-inf")
        self.go = threading.Event()
        self.loaded = False
        self.generation = 0
        self.stopping = False
        self.launcher = 0
        self.launcher_spoke = 0.0
        self.fed = float("-inf")
        self.ready = False
        self.said_ready = False
        self.own = "starting"
        self.down = ""
        self.left = False
        self.held = ""
        self.draining = False
        self.health_looked = float("-inf")
        self.gone_at = time.monotonic()
        self.begun = time.monotonic()
        self.extended = float("-inf")
        self.beaten = float("-inf")
        self.record_path = os.path.join(launch["state"], RECORD)
        self.record: dict[str, Any] = _json(self.record_path)
        self.select = selectors.DefaultSelector()
        self.ear = self._ear()
        self.wake = self._signals()

    # --- below: the launcher speaks as if to systemd ---

    def _ear(self) -> socket.socket:
        path = os.path.join(self.launch["state"], "agent.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        ear.bind(path)
        ear.setblocking(False)
        self.select.register(ear, selectors.EVENT_READ)
        os.environ["NOTIFY_SOCKET"] = path
        return ear

    def _signals(self) -> socket.socket:
        """Signals arrive in this thread even while torchrun waits inside its own code."""
        ear, mouth = socket.socketpair()
        mouth.setblocking(False)
        ear.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
        self.mouth = mouth
        self.select.register(ear, selectors.EVENT_READ)
        return ear

    def _hear_launcher(self) -> None:
        while True:
            try:
                lines = self.ear.recv(65536).decode("utf-8", "replace").split("\n")
            except (BlockingIOError, InterruptedError):
                return
            self.launcher_spoke = time.monotonic()
            for line in lines if self.go.is_set() else ():
                key, _unused, value = line.partition("=")
                if key == "STATUS":
                    self.own = value
                elif key == "READY":
                    self.ready = True
                elif key == "X_PID" and value.isdigit():
                    self.launcher = int(value)
                elif key == "X_DOWN" and not self.down:
                    self.down = value
                elif key == "EXTEND_TIMEOUT_USEC":
                    self.systemd.say(line)

    def worker_ended(self, why: str) -> None:
        """From the main thread: torchrun has come to an end."""
        time.sleep(0.3)  # the launcher's own word may still be on its way
        self.left = True
        self.down = self.down or why

    # --- above: systemd ---

    def say(self, words: str) -> None:
        self.systemd.status(words)

    def keep_waiting(self, now: float) -> None:
        """More time for a start that waits for others; not for ever, so that who waits for the unit hears why."""
        if now - self.extended >= EXTEND_SECONDS:
            self.extended = now
            self.systemd.extend(EXTEND_SECONDS * 3)

    def feed(self, now: float) -> None:
        """For the agent alone: the others wait no longer for it than systemd does. The launcher is missed by the agent."""
        if self.said_ready and now - self.fed >= BEAT_SECONDS:
            self.fed = now
            self.systemd.say("WATCHDOG=1")

    def now_ready(self) -> None:
        if not self.said_ready:
            self.said_ready = True
            self.systemd.say("READY=1")

    def remember(self, **what: Any) -> None:
        self.record.update(what)
        part = self.record_path + ".part"
        with contextlib.suppress(OSError):
            with open(part, "w", encoding="utf-8") as stream:
                os.fchmod(stream.fileno(), 0o640)
                json.dump(self.record, stream)
            os.replace(part, self.record_path)

    # --- the truth of this host ---

    def look(self, now: float) -> None:
        """Looked at again while nothing runs: what differed may have been mended."""
        if now - self.looked > 10:
            self.truth, self.looked = truth_of(self.launch), time.monotonic()

    # --- life ---

    def live(self) -> None:
        """The thread beside torchrun; ends the process."""
        try:
            self.open()
            while True:
                for key, _mask in self.select.select(TICK_SECONDS):
                    if key.fileobj is self.ear:
                        self._hear_launcher()
                    elif key.fileobj is self.wake:
                        self._asked(self.wake.recv(64))
                    else:
                        self.hear(key)
                now = time.monotonic()
                self.feed(now)
                self.look_at_health(now)
                self.tick(now)
        except Exception as error:  # nobody else would ever say why
            self.end(f"the agent failed: {type(error).__name__}: {error}", FAILED)

    def _asked(self, numbers: bytes) -> None:
        if not self.stopping and any(number in (signal.SIGTERM, signal.SIGINT) for number in numbers):
            self.stopping = True
            self.systemd.say("STOPPING=1")
            self.asked_to_stop()

    def look_at_health(self, now: float) -> None:
        """A GPU that must not serve holds the group: requests finish first, unless they cannot."""
        path = self.launch.get("health", "")
        if not path or now - self.health_looked < health.LOOK_SECONDS:
            return
        self.health_looked = now
        order = health.read(path, self.launch["instance"], processes.boot())
        self.held = order.why if order else ""
        if order is None or not self.go.is_set() or self.stopping:
            return
        if order.decision == health.STOP:
            self.down = self.down or f"stopped by the health watch: {order.why}"
        elif not self.draining:
            self.draining = True
            self.ordered_to_drain()

    def drain(self) -> None:
        """The launcher lets requests finish, if it has any, and ends."""
        processes.kill([self.launcher] if self.launcher else [], signal.SIGTERM)

    def launcher_is_gone(self) -> bool:
        found = processes.stat(self.launcher) if self.launcher else None
        return self.left or found is None or found[0] in "ZX"

    def miss_launcher(self, now: float) -> None:
        """One that ended without a word, which torchrun takes for success and waits for the others; or that hangs."""
        if not self.go.is_set() or not self.launcher or self.down or not self.launcher_is_gone():
            self.gone_at = now
        elif now - self.gone_at > GONE_SECONDS:
            self.down = "its launcher is gone"
        quiet = now - self.launcher_spoke
        limit = (
            self.launch["watch"]["watchdog_seconds"] if self.ready else self.launch["start"]["stall_seconds"]
        )
        if self.launcher and not self.down and quiet > limit:
            self.down = f"its launcher has said nothing for {quiet:.0f} s"

    def end(self, words: str, status: int) -> None:
        self.say(words)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.launch["state"], "agent.sock"))
        # Straight out of the thread: systemd kills the launcher and all below it with the control group.
        os._exit(status)

    def open(self) -> None:
        raise NotImplementedError

    def hear(self, key: Any) -> None:
        raise NotImplementedError

    def tick(self, now: float) -> None:
        raise NotImplementedError

    def asked_to_stop(self) -> None:
        raise NotImplementedError

    def ordered_to_drain(self) -> None:
        """Every member but the first only says so with its next message."""

    def start(self, generation: int) -> None:
        self.generation, self.own = generation, "joining the others"
        self.go.set()


class First(Agent):
    """The first host: it alone knows when all may start, and why all must stop."""

    def open(self) -> None:
        restarts = decisions.Restarts.remembered(
            self.launch["restart"], self.record, processes.boot(), time.monotonic()
        )
        self.head = Head(
            self.hosts,
            self.plan["id"],
            restarts,
            self.plan["lost_seconds"],
            self.plan["blame_seconds"],
            self.plan["skew_seconds"],
            generation=int(self.record.get("generation") or 0),
            ended=str(self.record.get("ended") or ""),
        )
        since = self.record.get("missing") or {}
        for host in self.hosts[1:]:
            self.head.seats[host].missing_since = float(since.get(host) or time.time())
        self.peers: dict[socket.socket, Channel] = {}
        self.told: dict[str, float] = {}
        self.listener: socket.socket | None = None
        self.served = 0.0
        self.good = False
        self.drained = False

    def _listen(self) -> bool:
        address, port = self.endpoint
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            self.say(
                f"cannot listen on {address}:{port} ({error.strerror}): ss -ltnp 'sport = :{port}' names who "
                f"has the port, ip address shows whether the address is up"
            )
            return False
        listener.listen(64)
        listener.setblocking(False)
        self.listener = listener
        self.select.register(listener, selectors.EVENT_READ)
        return True

    def hear(self, key: Any) -> None:
        if key.fileobj is self.listener:
            self._accept()
            return
        peer = self.peers.get(key.fileobj)
        if peer is None:
            # Ended by a message that came at the same moment over another connection.
            return
        proven = peer.proven
        try:
            messages = peer.receive(self.addresses, channel.FROM_MEMBER)
            if peer.host == self.host:
                raise ChannelError("it is not at its planned address")
        except ChannelError as error:
            if not proven:
                self._turn_away(peer.address, str(error))
                peer.host = ""
            self.hang_up(peer, str(error))
            return
        if peer.proven and not proven:
            for other in [
                item for item in self.peers.values() if item.host == peer.host and item is not peer
            ]:
                self.hang_up(other, "its agent started anew")
        for message in messages:
            refused = self.head.hears(peer.host, message, time.monotonic(), time.time())
            if refused:
                peer.send({"refused": refused})

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            link, address = self.listener.accept()
            peer = Channel(link, str(address[0]), self.secret, server=True)
            self.peers[link] = peer
            self.select.register(link, selectors.EVENT_READ)
        unproven = [item for item in self.peers.values() if not item.proven]
        for peer in sorted(unproven, key=lambda item: item.since)[: max(len(unproven) - MOST_UNPROVEN, 0)]:
            self.hang_up(peer, "too many connections")

    def _turn_away(self, address: str, why: str) -> None:
        """In the journal only, and not each time: the status is for the members."""
        now = time.monotonic()
        if now - self.told.get(address, float("-inf")) < TOLD_SECONDS:
            return
        if len(self.told) >= MOST_TOLD:
            self.told.clear()
        self.told[address] = now
        notify.log(f"a connection from {address} was ended: {why}")

    def hang_up(self, peer: Channel, why: str) -> None:
        if self.peers.pop(peer.link, None) is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self.select.unregister(peer.link)
        peer.close()
        if peer.host:
            self.head.loses(peer.host, why, time.monotonic(), time.time())

    def tick(self, now: float) -> None:
        head = self.head
        if head.restarts.exhausted and head.phase == GATHER:
            self.give_up(head.restarts.reason or head.ended)
        if self.listener is None and not self._listen():
            self.keep_waiting(now)
            return
        if not head.leaving:
            self.miss_launcher(now)
        own = {"group": self.plan["id"], "truth": self.truth, "ready": self.ready, "down": self.down,
               "loaded": self.loaded, "time": time.time(), "status": self.own, "generation": self.generation,
               "held": self.held}  # fmt: skip
        head.hears(self.host, own, now, time.time())
        patience = GATHER_PATIENCE if head.phase == GATHER else 1.0
        for host in head.silent(now, patience):
            quiet = now - head.seats[host].heard
            for peer in [item for item in self.peers.values() if item.host == host]:
                self.hang_up(peer, f"no word from it for {quiet:.0f} s: link, power or a frozen host")
        for peer in [item for item in self.peers.values() if not item.proven]:
            if now - peer.since > self.plan["lost_seconds"] * GATHER_PATIENCE:
                self.hang_up(peer, "it never said who it is")
        if head.phase == GATHER:
            self._gather(now)
        elif head.phase == RUN:
            self._run(now)
        elif head.is_over(now):
            self._over()
        if now - self.beaten >= BEAT_SECONDS:
            self.beat(now)

    def _gather(self, now: float) -> None:
        head = self.head
        self.look(now)
        if not head.missing and not head.objections() and (taken := self._taken()):
            self.say(f"not started: {taken}")
            self.keep_waiting(now)
            return
        if head.may_start(now):
            # Who is killed cannot write down why.
            ended = f"{self.host}: its agent was killed, or the host went down"
            self.remember(generation=head.generation, missing={}, ended=ended, **head.restarts.record())
            self.start(head.generation)
            self.beat(now)
            return
        self.say(head.waits_for(now))
        missing = {host: head.seats[host].missing_since for host in head.missing}
        if missing != self.record.get("missing"):
            self.remember(missing=missing)
        if now - self.begun > self.plan["wait_seconds"] and (
            head.missing or head.held or head.objections() or head.loading
        ):
            self.end(head.waits_for(now), FAILED)
        self.keep_waiting(now)

    def _words(self) -> str:
        """With how the generation before ended: who looks in the morning wants to know."""
        before = self.head.ended
        return f"{self.own} (generation {self.head.generation - 1} ended: {before})" if before else self.own

    def _taken(self) -> str:
        """Where the ranks and the agents meet must be free on this host."""
        found = [problem for port in self.plan["ports"] for problem in checks.port(self.endpoint[0], port)]
        return "; ".join(problem.what for problem in found)

    def _run(self, now: float) -> None:
        head = self.head
        self.say(group.head_words(head.generation, head.count(), self._words()))
        if self.ready and all(seat.ready for seat in head.seats.values()) and not self.served:
            self.served = now
            self.beat(now)
            self.now_ready()
        if not self.served:
            self.keep_waiting(now)
        elif not self.good and now - self.served >= self.launch["restart"]["good_service_seconds"]:
            self.good = True
            head.restarts.failures.clear()
            self.remember(**head.restarts.record())
        if head.leaving:
            if not self.drained:
                self.drained = True
                self.drain()
            if self.launcher_is_gone():
                held = head.seats[head.leaving].held
                words = f"stopped by the health watch: {held}" if held else "was stopped"
                head.breaks(Cause(head.leaving, words, wanted=True), now)

    def ordered_to_drain(self) -> None:
        self.head.leaving = self.head.leaving or self.host

    def asked_to_stop(self) -> None:
        self.head.leaving = self.host
        if self.head.phase == GATHER:
            self._tell("was stopped", False)
            self.end("stopped", 0)

    def _over(self) -> None:
        head, cause = self.head, self.head.cause()
        words = cause.words()
        if cause.wanted:
            head.restarts.failures.clear()
        head.restarts.reason = decisions.one_line(words, 500)
        gave_up = head.restarts.exhausted and not self.stopping
        self.remember(
            **head.restarts.record(gave_up),
            generation=head.generation,
            ended=words,
            missing={host: head.seats[host].missing_since for host in head.missing},
        )
        if self.stopping:
            self._tell(words, False)
            self.end("stopped", 0)
        if gave_up:
            self.give_up(words)
        self._tell(words, False)
        self.end(f"generation {head.generation} ended: {words}", FAILED)

    def give_up(self, words: str) -> None:
        self.remember(**self.head.restarts.record(True))
        bound = len(self.head.restarts.failures)
        self._tell(f"the group gave up after {bound} starts; the last one: {words}", True)
        self.end(f"the group gave up after {bound} starts; the last one: {words}", GAVE_UP)

    def _tell(self, words: str, gave_up: bool) -> None:
        last = {
            **self.head.beat(time.monotonic(), "", False),
            "phase": DOWN,
            "why": words,
            "gave_up": gave_up,
        }
        for peer in self.peers.values():
            peer.send(last)
        time.sleep(0.1)

    def beat(self, now: float) -> None:
        self.beaten = now
        said = self.head.beat(now, self._words(), bool(self.served))
        for peer in [item for item in self.peers.values() if item.proven]:
            if not peer.send(said):
                self.hang_up(peer, "nothing can be sent to it")


class Other(Agent):
    """Any other member: it does what the first host says, and tells what happens here."""

    def open(self) -> None:
        self.peer: Channel | None = None
        self.tried = float("-inf")
        self.trouble = ""
        self.heard = time.monotonic()
        self.last: dict[str, Any] = {}
        self.refused = ""
        self.missing_since = float(self.record.get("head_missing") or time.time())
        self.told: tuple[bool, str] = (False, "")
        self.left_at = 0.0

    def hear(self, _key: Any) -> None:
        try:
            messages = self.peer.receive({}, channel.FROM_HEAD) if self.peer else []
        except ChannelError as error:
            self.hang_up(str(error))
            return
        for message in messages:
            if "refused" in message:
                self.refused = message["refused"]
                self.hang_up("refused")
                return
            self.refused = ""
            self.heard, self.last = time.monotonic(), message
            if "why" in message:
                self._over(message)
            elif message.get("phase") == RUN and not self.go.is_set():
                self.start(message["generation"])
            if self.missing_since:
                self.missing_since = 0.0
                self.remember(head_missing=0.0)

    def _over(self, message: dict[str, Any]) -> None:
        if self.stopping:
            self.end("stopped", 0)
        if message.get("gave_up"):
            self.end(message["why"], GAVE_UP)
        if self.go.is_set():
            self.end(f"generation {message['generation']} ended: {message['why']}", FAILED)

    def hang_up(self, why: str) -> None:
        if self.peer is None:
            return
        with contextlib.suppress(KeyError, ValueError):
            self.select.unregister(self.peer.link)
        self.peer.close()
        self.peer = None
        self.trouble = why
        self.missing_since = self.missing_since or time.time()
        self.remember(head_missing=self.missing_since)
        if self.stopping:
            self.end("stopped", 0)
        if self.go.is_set():
            own = f" ({self.down})" if self.down else ""
            self.end(f"generation {self.generation} ended: {self.first}: {why}{own}", FAILED)

    def _connect(self, now: float) -> None:
        self.tried = now
        try:
            link = socket.create_connection(
                self.endpoint, CONNECT_SECONDS, (self.plan["members"][self.rank]["address"], 0)
            )
        except OSError as error:
            self.trouble = error.strerror or "no answer"
            return
        self.peer = Channel(link, self.endpoint[0], self.secret, server=False, host=self.host)
        self.heard = time.monotonic()
        self.select.register(link, selectors.EVENT_READ)

    def tick(self, now: float) -> None:
        if self.peer is None and now - self.tried >= BEAT_SECONDS:
            self.look(now)
            self._connect(now)
        patience = 1.0 if self.go.is_set() else GATHER_PATIENCE
        if self.peer is not None and now - self.heard > self.plan["lost_seconds"] * patience:
            self.hang_up(f"no word from it for {now - self.heard:.0f} s: link, power or a frozen host")
        self.miss_launcher(now)
        if now - self.beaten >= BEAT_SECONDS or self.told != (self.ready, self.down):
            self._beat(now)
        self._speak(now)
        if self.stopping and now - self.left_at > self.launch["drain_seconds"] + 10:
            self.end("stopped before the first host had ended", 0)

    def _beat(self, now: float) -> None:
        self.beaten, self.told = now, (self.ready, self.down)
        if not self.go.is_set():
            self.look(now)
        said = {"host": self.host, "group": self.plan["id"], "truth": self.truth, "time": time.time(),
                "ready": self.ready, "loaded": self.loaded, "status": self.own, "down": self.down, "leave": self.stopping or self.draining,
                "generation": self.generation, "held": self.held}  # fmt: skip
        if self.peer is not None and not self.peer.send(said):
            self.hang_up("nothing can be sent to it")

    def _speak(self, now: float) -> None:
        if self.refused:
            words = f"not started: {self.first} says: {self.refused}"
        elif self.peer is None or not self.last:
            since = f"missing since {group.clock(self.missing_since)}"
            why = f": {self.trouble}" if self.trouble else ""
            words = f"waiting for the first host {self.first} at {self.endpoint[0]} ({since}{why})"
        else:
            words = group.member_words(self.last, self.first, self.own)
        self.say(words)
        if self.go.is_set() and self.ready and self.last.get("serving"):
            self.now_ready()
        if self.said_ready:
            return
        self.keep_waiting(now)
        if not self.go.is_set() and now - self.begun > self.plan["wait_seconds"]:
            self.end(words, FAILED)

    def asked_to_stop(self) -> None:
        self.left_at = time.monotonic()
        if not self.go.is_set() or self.peer is None:
            self.end("stopped", 0)
        self._beat(self.left_at)


# --- what must be the same on all members ---


def truth_of(launch: dict[str, Any]) -> dict[str, str]:
    """As it lies on this host now, not as it was planned."""
    environment = os.path.realpath(os.path.dirname(os.path.dirname(launch["argv"][0])))
    loaded = decisions.driver_version(_text(checks.NVIDIA_VERSION)) or ""
    kernels = launch["checks"]["kernel_files"]
    return {
        "release": launch["group"]["release"],
        "launcher": _hash(*sorted(glob.glob(os.path.join(HERE, "*.py")))),
        "environment": os.path.basename(environment),
        "weights": _hash(os.path.join(launch["weights"], checks.MANIFEST)),
        "driver": loaded.partition(".")[0],
        "NCCL": _nccl(environment),
        "kernel file": _hash(*sorted(kernels)) if kernels else "",
    }


def _nccl(environment: str) -> str:
    found = glob.glob(os.path.join(environment, "lib/python3*/site-packages/nvidia_nccl_cu*.dist-info"))
    names = sorted({os.path.basename(path).rpartition(".dist-info")[0].partition("-")[2] for path in found})
    return " ".join(names)


def _hash(*paths: str) -> str:
    said = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as stream:
                said.update(stream.read())
        except OSError:
            return "missing"
    return said.hexdigest()[:12]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _json(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def torchrun(agent: Agent) -> None:
    """In the main thread, because torchrun wants signals and its end is the worker's end."""
    if agent.launch.get("environment_from_files"):
        os.environ[decisions.PASSED_ON] = ",".join(decisions.of_files(os.environ))
    os.environ.update(agent.launch["environment"], TORCHELASTIC_SIGNALS_TO_HANDLE="SIGQUIT")
    from torch.distributed import run

    agent.loaded = True
    agent.go.wait()
    python = agent.launch["argv"][0]
    words = [word.replace("{generation}", str(agent.generation)) for word in agent.plan["torchrun"]]
    words += ["--no-python", python, "-I", "-S", "-B", HERE, agent.path]
    try:
        run.main(words)
    except BaseException as error:
        agent.worker_ended(why_it_ended(error))
    else:
        agent.worker_ended("its launcher ended")


def why_it_ended(error: BaseException) -> str:
    for failure in getattr(error, "failures", {}).values():
        code = getattr(failure, "exitcode", 1)
        if isinstance(code, int) and code < 0:
            return f"the launcher was killed by signal {-code}"
        return f"the launcher ended with exit status {code}"
    return decisions.one_line(f"torchrun: {type(error).__name__}: {error}", 300)


def main(arguments: list[str]) -> int:
    systemd = notify.Systemd(notify.notify_address())
    try:
        # `current` may point elsewhere while this one runs.
        path = os.path.realpath(arguments[0])
        with open(path, encoding="utf-8") as stream:
            launch = json.load(stream)
        agent = (Other if launch["group"]["rank"] else First)(launch, path, systemd)
    except (IndexError, OSError, ValueError, KeyError) as error:
        systemd.status(
            f"launch.json or the secret of the group is not usable ({type(error).__name__}: {error}): "
            "run site.yml --tags engine"
        )
        return GAVE_UP
    threading.Thread(target=agent.live, daemon=True).start()
    try:
        torchrun(agent)
    except Exception as error:
        agent.end(f"torchrun cannot be loaded: {type(error).__name__}: {error}", FAILED)
    # The thread has the last word: it knows what the others are to be told.
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
