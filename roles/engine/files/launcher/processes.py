# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes as /proc shows them, and the one that the launcher starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
from collections.abc import Iterable

# From the kernel's in.h and in6.h; Python does not name them.
IP_MINTTL, IPV6_MINHOPCOUNT = 21, 73
MOST_HOPS = 255
PIDFD_GETFD = 438
LISTENING = "0A"


def spawn(argv: list[str], environment: dict[str, str]) -> tuple[int, int]:
    """The engine's process, and the end of the pipe that all it prints comes out of."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    pid = os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, writing, 1),
            (os.POSIX_SPAWN_DUP2, writing, 2),
            (os.POSIX_SPAWN_CLOSE, reading),
        ],
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE],
    )
    os.close(writing)
    return pid, reading


def boot() -> str:
    """What no two boots share: the boot_id of a container is its machine's; PID 1 makes its socket at each boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()} {os.stat('/run/systemd/notify').st_ctime_ns}"
    except OSError:
        return ""


def out_of_memory(root: str = "") -> int:
    """How many processes of this unit the kernel has ended for want of memory; 0 where it does not count them."""
    try:
        with open(f"{root}/proc/self/cgroup", encoding="ascii") as stream:
            group = next(line[3:].rstrip("\n") for line in stream if line.startswith("0::"))
        with open(f"{root}/sys/fs/cgroup{group}/memory.events", encoding="ascii") as stream:
            events = dict(line.split() for line in stream)
        return int(events.get("oom_kill", 0))
    except (OSError, ValueError, StopIteration):
        return 0


def ended(pid: int) -> int | None:
    """The wait status of a child that has ended."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if found else None


def stat(pid: int) -> tuple[str, int, str] | None:
    """(state, parent, start time) of a process that is there."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
        return fields[0], int(fields[1]), fields[19]
    except (OSError, IndexError, ValueError):
        return None


def command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def tree(root: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = stat(int(name))
            if found:
                children.setdefault(found[1], []).append(int(name))
    result = [root]
    for pid in result:
        result.extend(children.get(pid, ()))
    return result


class Members:
    """The processes that the engine cannot live without, as they were when it became ready."""

    def __init__(self, root: int, mark: str) -> None:
        self.known: dict[int, tuple[str, str]] = {}
        for pid in tree(root):
            found, words = stat(pid), command(pid)
            if found and (pid == root or words.startswith(mark)):
                name = "the server" if pid == root else words.split()[0]
                self.known[pid] = (name, found[2])

    def states(self) -> dict[int, tuple[str, str]]:
        """Process -> (name, state); a state of "" where it is another process by now, or none."""
        result = {}
        for pid, (name, begun) in self.known.items():
            found = stat(pid)
            result[pid] = (name, found[0] if found and found[2] == begun else "")
        return result


class Starting:
    """Processes without which a start comes to nothing, from the moment that each goes by its name."""

    def __init__(self, root: int, names: str) -> None:
        self.root = root
        self.names = re.compile(names) if names else None
        self.known: dict[int, tuple[str, str]] = {}

    def gone(self) -> str:
        """The first of them that is there no more, in words; empty while all are."""
        if self.names is None:
            return ""
        for pid, (name, begun) in self.known.items():
            found = stat(pid)
            if found is None or found[2] != begun or found[0] in "ZXx":
                return f"{name} (process {pid}) is gone"
        for pid in tree(self.root):
            words = command(pid)
            if pid != self.root and words and self.names.match(words) and (found := stat(pid)):
                self.known[pid] = (words.split()[0], found[2])
        return ""


def moved_bytes(root: int) -> int:
    """What the tree has read and written: grows while shards are read and code is compiled."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/io", encoding="ascii") as stream:
            values = dict(line.split(": ") for line in stream.read().splitlines())
            total += int(values["rchar"]) + int(values["wchar"]) + int(values["read_bytes"])
    return total


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def kill_tree(root: int) -> None:
    """From the root on, so that nobody is there to start anew what was killed."""
    for _again in range(3):
        kill(tree(root))


# --- no new connections ---


def refuse_connections(root: int, port: int) -> bool:
    """From now on the kernel drops new connections to the engine's port; those that are there go on.

    The server itself takes new requests as long as old ones run, so under load it would never come to an end.
    """
    inodes = listening(port)
    shut = False
    for pid in tree(root) if inodes else ():
        for number in _descriptors(pid, inodes):
            shut = _drop(pid, number) or shut
    return shut


def listening(port: int) -> list[str]:
    """The inodes of the sockets that listen on a port."""
    return [cells[9] for cells in _listeners(port)]


def waiting(port: int) -> int:
    """How many connections the server has not taken yet; it would reset them when it ends."""
    return sum(int(cells[4].rpartition(":")[2], 16) for cells in _listeners(port))


def _listeners(port: int) -> list[list[str]]:
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/self/net/{name}", encoding="ascii") as stream:
            for line in stream.read().splitlines()[1:]:
                cells = line.split()
                if cells[3] == LISTENING and int(cells[1].rpartition(":")[2], 16) == port:
                    found.append(cells)
    return found


def _descriptors(pid: int, inodes: list[str]) -> list[int]:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{name}") in wanted:
                    found.append(int(name))
    return found


def _drop(pid: int, number: int) -> bool:
    """An option on the other process's own socket; kernels before 5.6 cannot lend it.

    The socket then asks for more hops than packets start with, so that the kernel drops each of them. Unlike a socket
    filter, which some kernels refuse to everybody but root, this needs no privilege.
    """
    opened = []
    try:
        opened.append(os.pidfd_open(pid))
        lent = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, opened[0], number, 0)
        if lent < 0:
            return False
        opened.append(lent)
        with socket.socket(fileno=os.dup(lent)) as listener:
            listener.setsockopt(socket.SOL_IP, IP_MINTTL, MOST_HOPS)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, IPV6_MINHOPCOUNT, MOST_HOPS)
        return True
    except (OSError, AttributeError):
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
