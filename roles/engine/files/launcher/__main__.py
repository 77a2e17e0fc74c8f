# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The main process of an instance's unit: last checks, start, READY after a real token, watch, drain.

    python -I -S launcher /opt/sglang/releases/<id>/<instance>/launch.json

It ends when the engine does; systemd then kills whatever is left in the unit's control group.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from typing import Any

import checks
import decisions
import fabric
import health
import notify
import processes
from decisions import LastWords, LivenessMonitor, Patience, Progress, Restarts, Verdict

# systemd does not start again after this one: RestartPreventExitStatus= in the unit.
GAVE_UP = 79
FAILED = 1
TICK_SECONDS = 0.5
FEED_SECONDS = 5.0
MOVED_BYTES = 1 << 20
FIRST_TOKEN_SECONDS = 300.0
# Before a server is told to end: the longest wait until it has taken the connections that stand in its queue, and the
# time that it then has to read their requests.
TAKE_IN_SECONDS = 10.0
READ_SECONDS = 0.5
RECORD = "starts.json"


class DownError(Exception):
    """Why the engine must go, in one line."""


class StopError(Exception):
    """Somebody asked the unit to end."""


class OrderError(Exception):
    """The health watch of the host wants the engine to end."""

    def __init__(self, order: health.Order) -> None:
        super().__init__(order.why)
        self.order = order


class Launcher:
    def __init__(self, launch: dict[str, Any], systemd: notify.Systemd) -> None:
        self.launch, self.systemd = launch, systemd
        self.address = (launch["address"], launch["port"])
        self.grouped = "group" in launch
        self.stop = False
        self.wake = threading.Event()
        self.words = LastWords(verdicts=Verdict.from_plan(launch["logs"]))
        self.progress = Progress.from_plan(launch["logs"])
        self.quiet = re.compile(launch["logs"]["quiet"].encode())
        self.moved = threading.Event()
        self.ready = threading.Event()
        self.monitor: LivenessMonitor | None = None
        self.trouble = ""
        self.notes: list[str] = []
        self.pid = 0
        self.starved = processes.out_of_memory()
        self.health_looked = float("-inf")
        self.record_path = os.path.join(launch["state"], RECORD)
        self.restarts = Restarts.remembered(
            launch["restart"], _json(self.record_path), processes.boot(), time.monotonic()
        )

    # --- the whole life ---

    def run(self) -> int:
        if self.grouped:
            # To the agent of the group, which is the unit's main process.
            self.systemd.say(f"X_PID={os.getpid()}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: self.wake.set())
        try:
            self._look_at_health()
            self._count()
            self._last_checks()
            self._start()
            self._until_ready()
            self._watch()
        except StopError:
            return self._end()
        except OrderError as error:
            return self._obey(error.order)
        except DownError as why:
            return self._fail(str(why))
        return FAILED

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self.stop = True
        self.wake.set()

    def _pause(self, seconds: float) -> None:
        """Until something happens, but no longer than that; raises when the unit is to end."""
        self.wake.wait(seconds)
        self.wake.clear()
        if self.stop:
            raise StopError

    # --- the health of the host ---

    def _order(self) -> health.Order | None:
        """A group is ordered through its agent, which tells the members."""
        path = "" if self.grouped else self.launch.get("health", "")
        return health.read(path, self.launch["instance"], processes.boot()) if path else None

    def _look_at_health(self) -> None:
        now = time.monotonic()
        if now - self.health_looked < health.LOOK_SECONDS:
            return
        self.health_looked = now
        order = self._order()
        if order is not None:
            raise OrderError(order)

    def _obey(self, order: health.Order) -> int:
        """Ends the engine, and stays down until the order is gone; no failure of the engine."""
        self.restarts.failures.clear()
        self._remember()
        try:
            if self.pid and processes.ended(self.pid) is None:
                if self.ready.is_set() and order.decision == health.DRAIN:
                    self._drain(f"; {order.why}")
                processes.kill_tree(self.pid)
            while order.returns:
                words = f"stopped by the health watch, waits: {order.why}"
                self.systemd.status(words, "WATCHDOG=1")
                self.systemd.extend(60)
                self._pause(health.LOOK_SECONDS)
                now = self._order()
                if now is None:
                    self.systemd.status("the health watch lets it serve again: starting")
                    return FAILED
                order = now
        except StopError:
            self.systemd.status("stopped")
            return 0
        self.systemd.status(f"stopped by the health watch: {order.why}")
        return GAVE_UP

    # --- before ---

    def _count(self) -> None:
        """A group is counted by its agent, for all members together."""
        if self.grouped:
            return
        if self.restarts.exhausted:
            raise DownError(self.restarts.reason or "it was killed each time before it served")
        self._back_off()
        self.restarts.begin(time.monotonic())
        self._remember()

    def _back_off(self) -> None:
        delay, failures = self.restarts.delay, len(self.restarts.failures)
        if delay <= 0:
            return
        bound = len(self.restarts.delays)
        last = self.restarts.last_reason
        said = f"waiting {delay:.0f} s before start {failures + 1} of {bound}; the last one: {last}"
        end = time.monotonic() + delay
        self.systemd.status(said, f"EXTEND_TIMEOUT_USEC={int((delay + 60) * 1e6)}")
        while time.monotonic() < end:
            self._pause(end - time.monotonic())

    def _last_checks(self) -> None:
        self.systemd.status("last checks: driver, GPUs, weights, kernel files, fabric, port, disk")
        compiled = self.launch["compiled"]
        with contextlib.suppress(OSError):
            os.makedirs(compiled, mode=0o700, exist_ok=True)
            os.utime(compiled)
        end = time.monotonic() + self.launch["checks"]["settle_seconds"]
        while True:
            found = checks.problems(self.launch)
            if not found:
                self.notes = checks.notes(self.launch)
                for note in self.notes:
                    self.systemd.status(note)
                return
            if time.monotonic() >= end or not all(problem.passing for problem in found):
                raise DownError(decisions.all_at_once(found))
            self._pause(1.0)

    # --- starting ---

    def _start(self) -> None:
        # What the plan says wins over files that it cannot know.
        secret = decisions.of_files(os.environ) if self.launch.get("environment_from_files") else {}
        environment = {**secret, **self.launch["environment"]}
        for name in ("USER", "LOGNAME"):
            environment.setdefault(name, os.environ.get(name, ""))
        environment.setdefault("LANG", "C.UTF-8")
        environment.update(self._sockets())
        self.started = time.monotonic()
        try:
            self.pid, pipe = processes.spawn(self.launch["argv"], environment)
        except OSError as error:
            raise DownError(f"{self.launch['argv'][0]} cannot be started: {error.strerror}") from None
        threading.Thread(target=self._pump, args=(pipe,), daemon=True).start()
        threading.Thread(target=self._look, daemon=True).start()

    def _sockets(self) -> dict[str, str]:
        """The inventory allows TCP where RDMA is not as planned, and the journal says that it came to that."""
        planned = self.launch["checks"].get("fabric", {})
        found = fabric.problems(planned) if planned.get("sockets") else []
        if not found:
            return {}
        self.systemd.status(f"on sockets, as the inventory allows (fabric_sockets): {'; '.join(found)}")
        return dict(fabric.SOCKETS)

    def _pump(self, pipe: int) -> None:
        """The engine's lines go on to the journal, and are read on their way."""
        rest = b""
        while True:
            block = os.read(pipe, 65536)
            if not block:
                break
            *lines, rest = (rest + block.replace(b"\r", b"\n")).split(b"\n")
            now = time.monotonic()
            shown = [line for line in lines if line and not self.quiet.fullmatch(line)]
            for line in shown:
                text = line[:2000].decode("utf-8", "replace")
                self.words.add(now, text)
                if not self.ready.is_set() and self.progress.read(text):
                    self.moved.set()
                    if self.progress.said_failed:
                        self.wake.set()
            _write(b"".join(line + b"\n" for line in shown))
        _write(rest)

    def _look(self) -> None:
        """In a thread of its own: asks the engine, however long an answer takes."""
        watch = self.launch["watch"]
        while not self.ready.is_set():
            try:
                if self._first_token():
                    self.monitor = LivenessMonitor(
                        watch["silence_seconds"], watch["stopped_seconds"], time.monotonic()
                    )
                    self.ready.set()
                    self.wake.set()
                    break
            except notify.NoAnswerError as error:
                self.trouble = str(error)
            time.sleep(TICK_SECONDS)
        monitor = self.monitor
        while monitor is not None:
            time.sleep(watch["probe_seconds"])
            try:
                status, _unused = notify.ask(
                    self.address, "GET", self._health(), seconds=watch["probe_limit_seconds"]
                )
            except notify.NoAnswerError as error:
                monitor.failed(str(error))
                continue
            if status == 200:
                monitor.answered(time.monotonic())
            else:
                monitor.failed(f"{self._health()} answers {status}")

    def _health(self) -> str:
        """The first rank answers for the engine; the others have no API, only a word that they are there."""
        api = self.launch["api"]
        return str(api["token"] if self.launch["head"] else api["alive"])

    def _first_token(self) -> bool:
        if not self.progress.said_ready:
            alive = self.launch["api"]["alive"]
            status, _unused = notify.ask(self.address, "GET", alive, seconds=25.0)
            if status != 200:
                self.trouble = f"{alive} answers {status}"
                return False
        if not self.launch["head"]:
            return True
        first = self.launch["api"]["first"]
        if not first:
            status, _unused = notify.ask(self.address, "GET", self._health(), seconds=FIRST_TOKEN_SECONDS)
            self.trouble = f"{self._health()} answers {status}"
            return status == 200
        status, answer = notify.ask(self.address, "POST", first["path"], first["body"], FIRST_TOKEN_SECONDS)
        if status == 200 and notify.tokens_of(answer, first["tokens"]) > 0:
            return True
        self.trouble = f"{first['path']} answers {status} and no token"
        return False

    def _until_ready(self) -> None:
        start = self.launch["start"]
        patience = Patience(start["seconds"], start["stall_seconds"], start["most_seconds"], self.started)
        vital = processes.Starting(self.pid, self.launch["logs"].get("failed", {}).get("gone", ""))
        looked = extended = float("-inf")
        bytes_moved = 0
        while not self.ready.is_set():
            self._pause(TICK_SECONDS)
            now = time.monotonic()
            self._still_running(f"({self.progress.status})")
            self._not_failed(vital.gone())
            self._room()
            self._look_at_health()
            if self.moved.is_set():
                self.moved.clear()
                patience.moved = now
            if now - looked >= 5:
                looked, total = now, processes.moved_bytes(self.pid)
                if abs(total - bytes_moved) >= MOVED_BYTES:
                    bytes_moved, patience.moved = total, now
            if why := patience.at_an_end(now):
                raise DownError(f"{why}, {self.progress.status}{self._because(self.trouble)}")
            if now - extended >= 10:
                extended = now
                self.systemd.extend(start["stall_seconds"] + 30)
            answers = " answers " in self.trouble  # a refused connection is what each start begins with
            self.systemd.status(self.progress.status + (f" ({self.trouble})" if answers else ""))

    def _still_running(self, when: str) -> None:
        status = processes.ended(self.pid)
        if status is None:
            return
        time.sleep(0.3)  # its last lines may still be in the pipe
        now = time.monotonic()
        starved = processes.out_of_memory() > self.starved
        error = self._error(now)
        explained = bool(error) and not decisions.CRASHED.match(error)
        ending = decisions.ending(status, explained, starved)
        raise DownError(f"the server {ending} {when}{self._because(self.words.explained(now))}")

    def _not_failed(self, gone: str) -> None:
        """Some engines leave their main process there when a start has failed."""
        if not gone and not self.progress.said_failed:
            return
        time.sleep(0.3)  # the lines that say why may still be in the pipe
        now = time.monotonic()
        said = self.words.explained(now) if self._error(now) else self.progress.said_failed
        raise DownError(f"the start failed ({gone or self.progress.status}){self._because(said)}")

    def _room(self) -> None:
        floor = self.launch["watch"].get("memory_floor_percent", 0)
        if floor and (why := decisions.memory_problem(_text("/proc/meminfo"), floor)):
            raise DownError(why)

    def _because(self, words: str) -> str:
        return f": {words}" if words else ""

    # --- serving ---

    def _watch(self) -> None:
        launch, monitor = self.launch, self.monitor
        if monitor is None:
            raise DownError("it was ready without a token")
        members = processes.Members(self.pid, launch["logs"]["members"])
        begun = time.monotonic()
        where = f"{launch['address']}:{launch['port']}"
        what = f"serving {launch['serves']} on {where}, first token" if launch["head"] else "its ranks are up"
        said = "; ".join((f"{what} after {begun - self.started:.0f} s", *self.notes))
        self.systemd.status(said, "READY=1")
        threading.Thread(target=self._prune, daemon=True).start()
        fed, good = float("-inf"), False
        while True:
            self._pause(1.0)
            now = time.monotonic()
            self._still_running(f"after {now - begun:.0f} s of service")
            self._room()
            self._look_at_health()
            if why := monitor.members(now, members.states()):
                time.sleep(0.3)
                said = self._error(now) and self.words.explained(now)
                raise DownError(f"{why}{self._because(said)}")
            if why := monitor.silence(now):
                raise DownError(f"hung: {why}")
            if now - fed >= FEED_SECONDS:
                fed = now
                self.systemd.say("WATCHDOG=1")
            if not good and now - begun >= launch["restart"]["good_service_seconds"]:
                good = True
                self.restarts.failures.clear()
                self._remember()

    def _error(self, now: float) -> str:
        found = self.words.cause(now)
        return found if decisions.EXCEPTION.match(found) else ""

    def _prune(self) -> None:
        """Remove JIT caches of environments that are gone."""
        above, own = os.path.split(self.launch["compiled"])
        with contextlib.suppress(OSError):
            folders = [(entry.name, entry.stat().st_mtime) for entry in os.scandir(above) if entry.is_dir()]
            for name in decisions.superfluous(folders, own, self.launch["compiled_keep"]):
                shutil.rmtree(os.path.join(above, name), ignore_errors=True)

    # --- the end ---

    def _end(self) -> int:
        """A wanted end is no failure, whatever the engine makes of it."""
        self.restarts.failures.clear()
        self._remember()
        if self.pid and processes.ended(self.pid) is None:
            self.systemd.say("STOPPING=1")
            if self.ready.is_set():
                self._drain()
            processes.kill_tree(self.pid)
        self.systemd.status("stopped")
        return 0

    def _drain(self, why: str = "") -> None:
        seconds = self.launch["drain_seconds"]
        shut = processes.refuse_connections(self.pid, self.launch["port"])
        intake = "no new ones are taken" if shut else "the gateway must send no new ones"
        self.systemd.status(f"draining: running requests have up to {seconds} s, {intake}{why}")
        end = time.monotonic() + seconds
        if shut:
            self._take_in_what_came_before()
        if self.launch["api"].get("cuts_streams"):
            self._until_nobody_is_served(end)
        processes.kill([self.pid], signal.SIGTERM)
        while time.monotonic() < end:
            self.wake.wait(0.2)
            self.wake.clear()
            if processes.ended(self.pid) is not None:
                return
        self.systemd.status(f"requests still ran after {seconds} s: they are cut off")

    def _take_in_what_came_before(self) -> None:
        """A server resets the connections that it has not taken or not read yet when it is told to end."""
        end = time.monotonic() + TAKE_IN_SECONDS
        while processes.waiting(self.launch["port"]) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(READ_SECONDS)

    def _until_nobody_is_served(self, end: float) -> None:
        """The server ends what runs a moment after it is told to end: it is told when no connection is left."""
        while time.monotonic() < end and processes.ended(self.pid) is None:
            if not processes.connected(self.launch["port"]):
                return
            self.wake.wait(0.2)
            self.wake.clear()

    def _fail(self, why: str) -> int:
        if self.grouped:
            self.systemd.say(f"X_DOWN={decisions.one_line(why, 500)}")
            self.systemd.status(why)
            if self.pid:
                processes.kill_tree(self.pid)
            return FAILED
        self.restarts.reason = decisions.one_line(why, 500)
        gave_up = self.restarts.exhausted
        self._remember(gave_up)
        self.systemd.status(self.restarts.words(why))
        if self.pid:
            processes.kill_tree(self.pid)
        return GAVE_UP if gave_up else FAILED

    def _remember(self, gave_up: bool = False) -> None:
        if self.grouped:
            return
        part = self.record_path + ".part"
        with contextlib.suppress(OSError):
            with open(part, "w", encoding="utf-8") as stream:
                # For the metrics collector, which is in the group of the service.
                os.fchmod(stream.fileno(), 0o640)
                json.dump(self.restarts.record(gave_up), stream)
            os.replace(part, self.record_path)


def _write(data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(1, data) :]


def _json(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def main(arguments: list[str]) -> int:
    systemd = notify.Systemd(notify.notify_address())
    try:
        # `current` may point elsewhere while this one runs.
        path = os.path.realpath(arguments[0])
        with open(path, encoding="utf-8") as stream:
            launch = json.load(stream)
        launcher = Launcher(launch, systemd)
    except (IndexError, OSError, ValueError, KeyError) as error:
        systemd.status(
            f"launch.json is not usable ({type(error).__name__}: {error}): run site.yml --tags engine"
        )
        return GAVE_UP
    return launcher.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
