# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parent of service units on a machine without systemd: starts, watches, restarts and stops them as their files say.

`serve` runs the init; the programs `systemctl` and `journalctl` of a run call `asked`. Of the confinement
it imitates the user, mount and IPC namespaces, NoNewPrivileges and the umask; IMITATED and OMITTED say so in the report.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("STAND_IN_INIT", "/run/stand-in-init"))
UNITS = Path(os.environ.get("STAND_IN_UNITS", "/etc/systemd/system"))
IMITATED = (
    "User, Group, WorkingDirectory, UMask, LimitNOFILE, LimitMEMLOCK, LimitSTACK, NoNewPrivileges, ProtectSystem, "
    "ProtectHome, PrivateTmp, PrivateIPC, /dev/shm, resolv.conf, Type=notify, WatchdogSec, Restart, KillMode=mixed"
)
OMITTED = (
    "DevicePolicy, IPAddressDeny, RestrictAddressFamilies, SystemCallFilter, PrivateUsers, ProtectProc, ProtectKernel*, "
    "capability sets, cgroup limits"
)
DEFAULTS = {
    "DefaultLimitNOFILE": "524288",
    "DefaultLimitNOFILESoft": "1024",
    "DefaultLimitMEMLOCK": "infinity",
}
UNSHARE_MOUNT, UNSHARE_IPC, NO_NEW_PRIVILEGES, SUBREAPER = 0x20000, 0x08000000, 38, 36
TICK = 0.05


def parsed(text: str) -> dict[str, list[str]]:
    """Key -> its values, of a unit file; an empty value takes the earlier ones back."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";", "[")):
            found[key] = [*found.get(key, []), value] if value else []
    return found


def seconds(text: str, default: float) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)?", text.strip())
    if not match:
        return default
    return float(match[1]) * {"ms": 0.001, "s": 1, "min": 60, "h": 3600}[match[2] or "s"]


class Unit:
    """One service: its file, its process, what it said."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.active, self.sub, self.result, self.status, self.code = "inactive", "dead", "success", "", 0
        self.restarts = 0
        self.wanted = False
        self.process: subprocess.Popen[bytes] | None = None
        self.invocation = ""
        self.lines: list[tuple[float, str, str]] = []
        self.entered = 0.0
        self.beat = 0.0
        self.start_limit = 0.0
        self.events: list[tuple[float, str]] = []

    @property
    def file(self) -> Path:
        return UNITS / self.name

    def values(self) -> dict[str, list[str]]:
        return parsed(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def one(self, key: str, default: str = "") -> str:
        found = self.values().get(key, [])
        return found[-1] if found else default

    def note(self, words: str) -> None:
        self.events.append((time.time(), words))

    def say(self, line: str) -> None:
        self.lines.append((time.time(), self.invocation, line))
        with (FOLDER / f"{self.name}.log").open("a", encoding="utf-8") as out:
            out.write(f"{time.time():.3f} {line}\n")

    # --- start ---

    def start(self) -> None:
        with self.lock:
            if self.active in ("active", "activating", "deactivating") and self.process is not None:
                return
            self.wanted = True
            self._spawn()

    def _spawn(self) -> None:
        values = self.values()
        command = shlex.split((values.get("ExecStart") or [""])[-1])
        self.invocation = uuid.uuid4().hex
        address = str(FOLDER / f"{self.invocation[:8]}.notify")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(address)
        os.chmod(address, 0o666)
        watchdog = seconds(self.one("WatchdogSec"), 0)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "NOTIFY_SOCKET": address,
            "INVOCATION_ID": self.invocation,
        }
        for name in values.get("EnvironmentFile", []):
            environment.update(_assignments(name))
        for line in values.get("Environment", []):
            environment.update(word.partition("=")[::2] for word in shlex.split(line) if "=" in word)
        self.active, self.sub, self.result, self.status = "activating", "start", "success", ""
        self.beat = self.entered = time.monotonic()
        self.start_limit = time.monotonic() + seconds(self.one("TimeoutStartSec"), 90)
        self.note("exec")
        reader, writer = os.pipe()
        try:
            account = pwd.getpwnam(self.one("User")) if self.one("User") else None
            if account:
                environment.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
            if watchdog:
                environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
            self.process = subprocess.Popen(
                [sys.executable, __file__, "exec", json.dumps(_confinement(values, address)), *command],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=environment,
                cwd=self.one("WorkingDirectory", "/").lstrip("-"),
                start_new_session=True,
            )
        except (OSError, KeyError) as error:
            self.say(f"cannot be started: {error}")
            self.active, self.sub, self.result = "failed", "failed", "resources"
            os.close(reader)
            listener.close()
            return
        finally:
            os.close(writer)
        pid = self.process.pid
        for target, values_of in (
            (self._read, (reader,)),
            (self._hear, (listener, pid)),
            (self._wait, (self.process,)),
        ):
            threading.Thread(target=target, args=values_of, daemon=True).start()

    def _read(self, reader: int) -> None:
        with open(reader, "rb", closefd=True) as stream:
            for line in stream:
                # A bar redraws its line; what stands last counts.
                for part in re.split(r"[\r\n]+", line.decode("utf-8", "replace")):
                    if part:
                        self.say(part)

    def _hear(self, listener: socket.socket, pid: int) -> None:
        listener.settimeout(TICK * 4)
        watchdog = seconds(self.one("WatchdogSec"), 0)
        while self.process is not None and self.process.pid == pid and self.process.poll() is None:
            with contextlib.suppress(TimeoutError):
                for line in listener.recv(65536).decode("utf-8", "replace").splitlines():
                    self._told(line)
            now = time.monotonic()
            if self.active == "active" and watchdog and now - self.beat > watchdog:
                self.note("watchdog")
                self.result = "watchdog"
                os.kill(pid, signal.SIGKILL)
            if self.active == "activating" and now > self.start_limit:
                self.note("start timeout")
                self.result = "timeout"
                os.kill(pid, signal.SIGKILL)
        listener.close()

    def _told(self, line: str) -> None:
        key, _equals, value = line.partition("=")
        if key == "READY" and value == "1":
            self.active, self.sub, self.entered = "active", "running", time.monotonic()
            self.beat = time.monotonic()
            self.note("ready")
        elif key == "STATUS":
            self.status = value
            self.note(f"status {value}")
        elif key == "WATCHDOG":
            self.beat = time.monotonic()
        elif key == "EXTEND_TIMEOUT_USEC":
            self.start_limit = max(self.start_limit, time.monotonic() + int(value) / 1e6)
        elif key == "STOPPING":
            self.sub = "stop"

    # --- end ---

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with self.lock:
            self.process = None
            self.code = code if code >= 0 else -code
            if self.result not in ("watchdog", "timeout"):
                self.result = "success" if code == 0 else "signal" if code < 0 else "exit-code"
            self.note(f"ended {self.result} {self.code}")
            kept = self.one("Restart") in ("on-failure", "always") and (
                code != 0 or self.one("Restart") == "always"
            )
            stays = str(self.code) in self.one("RestartPreventExitStatus").split() and code > 0
            if not (self.wanted and kept and not stays):
                self.active = "inactive" if code == 0 or not self.wanted else "failed"
                self.sub = "dead" if self.active == "inactive" else "failed"
                return
            self.active, self.sub = "activating", "auto-restart"
        time.sleep(seconds(self.one("RestartSec"), 0.1))
        with self.lock:
            if self.wanted:
                self.restarts += 1
                self._spawn()

    def tree(self) -> list[int]:
        """Every process that was started under this invocation, whatever its parent is now."""
        wanted, found = f"INVOCATION_ID={self.invocation}".encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return found

    def stop(self) -> None:
        with self.lock:
            self.wanted = False
            process = self.process
            if process is None:
                self.active, self.sub = "inactive", "dead"
                return
            self.active, self.sub = "deactivating", "stop-sigterm"
            self.note("stop")
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        limit = time.monotonic() + seconds(self.one("TimeoutStopSec"), 90)
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(TICK)
        if process.poll() is None:
            self.result = "timeout"
            process.kill()
        while self.process is not None:
            time.sleep(TICK)

    def property(self, name: str) -> str:
        there = self.file.exists()
        return {
            "ActiveState": self.active,
            "SubState": self.sub,
            "Result": self.result,
            "ExecMainStatus": str(self.code),
            "MainPID": str(self.process.pid if self.process else 0),
            "NRestarts": str(self.restarts),
            "StatusText": self.status,
            "LoadState": "loaded" if there else "not-found",
            "UnitFileState": "enabled" if there else "",
            "NeedDaemonReload": "no",
            "InvocationID": self.invocation,
            "IPAddressDeny": self.one("IPAddressDeny"),
        }.get(name, "")


def _assignments(name: str) -> dict[str, str]:
    path = Path(name.lstrip("-"))
    if name.startswith("-") and not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


# --- confinement of one process ---


def _confinement(values: dict[str, list[str]], address: str) -> dict[str, Any]:
    last = {key: found[-1] for key, found in values.items() if found}
    shared = next((line for line in values.get("TemporaryFileSystem", []) if line.startswith("/dev/shm")), "")
    return {
        "user": last.get("User", ""),
        "umask": last.get("UMask", ""),
        "read_only": last.get("ProtectSystem") == "strict",
        "home": last.get("ProtectHome") == "true",
        "tmp": last.get("PrivateTmp") == "true",
        "ipc": last.get("PrivateIPC") == "true",
        "shm": shared.partition(":")[2],
        "writable": [path for line in values.get("ReadWritePaths", []) for path in line.split()],
        "hidden": [path.lstrip("-") for line in values.get("InaccessiblePaths", []) for path in line.split()],
        "private": last.get("NoNewPrivileges") == "true",
        "limits": {key[5:]: last[key] for key in last if key.startswith("Limit")},
        "notify": address,
    }


def confine(given: dict[str, Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _limit(given["limits"])
    if given["read_only"] or given["tmp"]:
        if libc.unshare(UNSHARE_MOUNT | (UNSHARE_IPC if given["ipc"] else 0)):
            raise OSError(ctypes.get_errno(), "unshare")
        _mounts(given)
    if given["umask"]:
        os.umask(int(given["umask"], 8))
    if given["private"]:
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if given["user"]:
        account = pwd.getpwnam(given["user"])
        os.initgroups(given["user"], account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def _limit(limits: dict[str, str]) -> None:
    for name, text in limits.items():
        soft, _colon, hard = text.partition(":")
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            numbers = [
                resource.RLIM_INFINITY if part == "infinity" else int(part) for part in (soft, hard or soft)
            ]
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(kind, (numbers[0], numbers[1]))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def _mounts(given: dict[str, Any]) -> None:
    _mount("--make-rprivate", "/")
    for path in (*given["writable"], str(FOLDER)):
        if Path(path.lstrip("-")).exists():
            _mount("--bind", path.lstrip("-"), path.lstrip("-"))
    for path in ("/tmp", "/var/tmp") if given["tmp"] else ():
        _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", path)
    if given["shm"]:
        _mount("-t", "tmpfs", "-o", given["shm"], "tmpfs", "/dev/shm")
    for path in given["hidden"]:
        if Path(path).is_file():
            _mount("--bind", "/dev/null", path)
        elif Path(path).is_dir():
            _mount("-t", "tmpfs", "-o", "mode=0000", "tmpfs", path)
    for path in ("/home", "/root") if given["home"] else ():
        _mount("-t", "tmpfs", "-o", "mode=0000", "tmpfs", path)
    if given["read_only"]:
        _mount("-o", "remount,bind,ro", "/")


# --- the init ---


class Init:
    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}

    def unit(self, name: str) -> Unit:
        return self.units.setdefault(name if "." in name else f"{name}.service", Unit(name))

    def systemctl(self, words: list[str]) -> tuple[int, str]:
        if "--version" in words:
            return 0, "systemd 255 (stand-in)\n"
        verb = next((word for word in words if not word.startswith("-")), "")
        names = [word for word in words if not word.startswith("-")][1:]
        wanted = [p for word in words if word.startswith("--property=") for p in word[11:].split(",")]
        if verb == "show":
            if not names:
                return 0, "".join(f"{name}={DEFAULTS.get(name, '')}\n" for name in wanted)
            return 0, "\n".join(
                "".join(f"{p}={self.unit(name).property(p)}\n" for p in wanted) for name in names
            )
        if verb == "is-active":
            states = [self.unit(name).active for name in names]
            return (0 if "active" in states else 3), "".join(f"{state}\n" for state in states)
        if verb in ("start", "stop", "restart"):
            return self._change(verb, names, "--no-block" not in words)
        if verb == "reset-failed":
            for name in names:
                unit = self.unit(name)
                unit.restarts = 0
                if unit.active == "failed":
                    unit.active, unit.sub = "inactive", "dead"
        return 0, ""

    def _change(self, verb: str, names: list[str], wait: bool) -> tuple[int, str]:
        for name in names:
            unit = self.unit(name)
            if verb != "start":
                unit.stop()
            if verb != "stop":
                if not unit.file.exists():
                    return 5, f"Unit {name} not found.\n"
                unit.start()
        while wait and any(self.unit(name).active == "activating" for name in names):
            time.sleep(TICK)
        failed = verb != "stop" and any(self.unit(name).active == "failed" for name in names)
        return (1, "Job failed.\n") if failed else (0, "")

    def journalctl(self, words: list[str]) -> tuple[int, str]:
        unit, invocation, since, most, reverse = "", "", 0.0, 0, "--reverse" in words
        for place, word in enumerate(words):
            after = words[place + 1] if place + 1 < len(words) else ""
            if word in ("-u", "--unit"):
                unit = after
            elif word in ("-n", "--lines"):
                most = int(after)
            elif word.startswith("_SYSTEMD_UNIT="):
                unit = word.partition("=")[2]
            elif word.startswith("_SYSTEMD_INVOCATION_ID="):
                invocation = word.partition("=")[2]
            elif word.startswith("--since=@"):
                since = float(word[9:])
            elif word.startswith("--lines="):
                most = int(word[8:])
        found = [
            (when, line)
            for one in self.units.values()
            if not unit or one.name == unit
            for when, given, line in one.lines
            if (not invocation or given == invocation) and when >= since
        ]
        lines = [line for _when, line in sorted(found, key=lambda item: item[0])]
        lines = lines[-most:] if most else lines
        return 0, "".join(f"{line}\n" for line in (lines[::-1] if reverse else lines))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            if request["program"] == "events":
                unit = self.unit(request["words"][0])
                return {"status": 0, "out": json.dumps({"events": unit.events, "restarts": unit.restarts})}
            status, out = getattr(self, request["program"])(request["words"])
        except Exception as error:
            return {"status": 1, "out": "", "err": f"{type(error).__name__}: {error}\n"}
        return {"status": status, "out": out}

    def serve(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        os.chmod(FOLDER, 0o755)
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        place = FOLDER / "socket"
        place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(place))
            listener.listen(64)
            while True:
                peer, _unused = listener.accept()
                threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer, peer.makefile("rwb") as stream:
            stream.write(json.dumps(self.answer(json.loads(stream.readline()))).encode() + b"\n")


def ask(program: str, words: list[str]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(FOLDER / "socket"))
        with peer.makefile("rwb") as stream:
            stream.write(json.dumps({"program": program, "words": words}).encode() + b"\n")
            stream.flush()
            return dict(json.loads(stream.readline()))


def asked(program: str, words: list[str]) -> int:
    """What `systemctl` and `journalctl` do."""
    if program == "journalctl" and "-k" in words:
        return subprocess.run(["dmesg"], check=False).returncode
    found = ask(program, words)
    sys.stdout.write(found["out"])
    sys.stderr.write(found.get("err", ""))
    return int(found["status"])


def main() -> int:
    if sys.argv[1] == "serve":
        Init().serve()
    elif sys.argv[1] == "exec":
        confine(json.loads(sys.argv[2]))
        os.execv(sys.argv[3], sys.argv[3:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
