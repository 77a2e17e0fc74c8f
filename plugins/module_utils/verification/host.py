# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be seen on the host beside the API: log, sockets, processes, files, and the gateway."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pwd
import re
import socket
import struct

from ..engines.kernel_log import Message, problems, read
from ..measure.client_host import CHAT, Server, ask
from ..weights import folder_host as weights_folder
from .check_context import CheckContext, CheckError, NotHereError

LISTEN = "0A"
OVER_RDMA, OVER_SOCKETS = re.compile(r"NET/IB|via NET/IB"), re.compile(r"NET/Socket|via NET/Socket")
REFUSED = (401, 403)
HIDDEN = (401, 403, 404, 405)


def kernel_files(context: CheckContext) -> str:
    log = context.expected["kernels"]
    said = read(
        context.invocation_log(), [Message(item["outcome"], item["text"]) for item in log["messages"]]
    )
    wrong = problems(said, log)
    if wrong:
        raise CheckError(
            "kernel files are not those of the plan: " + "; ".join(wrong), "site.yml --tags engine"
        )
    return "; ".join(one.words() for one in said) or "as planned"


def transport(context: CheckContext) -> str:
    lines = context.invocation_log()
    fast = any(OVER_RDMA.search(line) for line in lines)
    slow = any(OVER_SOCKETS.search(line) for line in lines)
    if context.expected["rdma"] and slow and not fast:
        raise CheckError(
            f"NCCL uses sockets, planned are {', '.join(context.expected['rdma'])}",
            "playbooks/fabric.yml",
        )
    if not fast and not slow:
        raise NotHereError(
            "the log does not say which transport NCCL uses (NCCL_DEBUG=INFO in environment would)"
        )
    return "RDMA" if fast else "sockets, as planned"


def files(context: CheckContext) -> str:
    """The quick look: sizes and times of the manifest. --tags weights of verify.yml reads every byte."""
    found = weights_folder.look(context.expected["weights"])
    if found["state"] == "foreign" and context.expected["weights_of_user"]:
        return f"{context.expected['weights']} is the user's own folder: not compared with a manifest"
    if found["state"] != "whole":
        wrong = "; ".join(f"{item.path}: {item.what}" for item in found["damage"])[:200]
        raise CheckError(
            f"{context.expected['weights']} is {found['state']} {wrong}".strip(), "site.yml --tags weights"
        )
    return f"{context.expected['weights']} as published"


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    words = struct.unpack(f"<{len(raw) // 4}I", raw)
    packed = struct.pack(f">{len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, packed)


def listeners(text: str) -> list[tuple[str, int]]:
    """(address, port) of each listening socket in /proc/net/tcp or tcp6."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == LISTEN:
            place, _unused, port = words[1].partition(":")
            found.append((_address(place), int(port, 16)))
    return found


def loopback_only(context: CheckContext) -> str:
    port = context.server.port
    open_to: set[str] = set()
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        if os.path.exists(path):
            with open(path, encoding="ascii") as stream:
                open_to |= {address for address, number in listeners(stream.read()) if number == port}
    if not open_to:
        raise CheckError(f"nothing listens on port {port}")
    allowed = {*context.expected["addresses"], "127.0.0.1", "::1", "::ffff:127.0.0.1"}
    strange = sorted(open_to - allowed)
    if strange:
        raise CheckError(
            f"port {port} is open on {', '.join(strange)}: the engine itself asks for no key",
            "only the gateway may be reached: take host out of options and restart",
        )
    said = f"port {port} on {', '.join(sorted(open_to))} only"
    more = sorted(_own_listeners(context.processes()) - {(address, port) for address in open_to})
    wide = [f"port {number} on {address}" for address, number in more if not _is_closed(address, allowed)]
    if not wide:
        return said
    # torch's store listens on every address at a port of its own choice; the unit's filter is what closes it.
    _status, shown, _error = context.run_command(
        ["systemctl", "show", context.unit, "--property=IPAddressDeny"]
    )
    if shown.strip() == "IPAddressDeny=":
        raise CheckError(
            f"{', '.join(wide)} is open to other hosts: the unit has no IPAddressDeny",
            "site.yml --tags engine writes the unit anew",
        )
    return f"{said}; {', '.join(wide)} is closed by the unit's IPAddressDeny"


def _is_closed(address: str, allowed: set[str]) -> bool:
    return address in allowed or address.removeprefix("::ffff:").startswith("127.")


def _own_listeners(pids: list[int]) -> set[tuple[str, int]]:
    """(address, port) of each socket that one of the processes holds and listens on."""
    found: set[tuple[str, int]] = set()
    held: set[str] = set()
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/fd/*"):
            with contextlib.suppress(OSError):
                held.add(os.readlink(path))
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        head, *lines = _bytes(path).decode("ascii", "replace").splitlines() or [""]
        own = [line for line in lines if len(cells := line.split()) > 9 and f"socket:[{cells[9]}]" in held]
        found.update(listeners("\n".join([head, *own])))
    return found


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def no_key(context: CheckContext) -> str:
    """A key on a command line is seen by every user of the host; one in the server is told with its settings."""
    pids, api = context.processes(), context.expected["api"]
    for pid in pids:
        words = _bytes(f"/proc/{pid}/cmdline").decode("utf-8", "replace").split("\0")
        given = {word.partition("=")[0] for word in words}
        shown = [option for option in api["secret_options"] if option in given]
        if shown:
            raise CheckError(
                f"process {pid} has {', '.join(shown)} on its command line", "the gateway holds the key"
            )
    if api["settings"]:
        info = context.get(api["settings"]).body
        held = [name for name in api["secrets"] if isinstance(info, dict) and info.get(name)]
        if held:
            raise CheckError(
                f"{api['settings']} tells {', '.join(held)}", "the gateway holds the key, not the engine"
            )
    return f"{len(pids)} processes{' and ' if api['settings'] else ''}{api['settings']} show none"


def own_user(context: CheckContext) -> str:
    wanted = context.expected["user"]
    found = set()
    for pid in context.processes():
        try:
            found.add(pwd.getpwuid(os.stat(f"/proc/{pid}").st_uid).pw_name)
        except (OSError, KeyError):
            continue
    if found - {wanted}:
        raise CheckError(
            f"processes of {context.unit} run as {', '.join(sorted(found))}, planned is {wanted}"
        )
    if not found:
        raise CheckError(f"{context.unit} has no processes")
    return str(wanted)


def _gateway(context: CheckContext, key: str = "") -> Server:
    given = context.expected["gateway"]
    return Server(given["url"], key=key, ca_file=given.get("ca_file", ""), silence=20, limit=30)


def _key(context: CheckContext) -> str:
    path = context.expected["gateway"].get("key_file", "")
    return _bytes(path).decode().strip() if path else ""


def without_key(context: CheckContext) -> str:
    body = context.body("hi", 4, False)
    for key, words in (("", "no key"), ("wrong-key-of-the-check", "a wrong key")):
        reply = ask(_gateway(context, key), CHAT, body)
        if reply.status not in REFUSED:
            raise CheckError(
                f"with {words} the gateway answers {reply.status or reply.failure}",
                "playbooks/site.yml --tags gateway",
            )
    key = _key(context)
    if not key:
        return "refused without a key and with a wrong one; no key_file to try the right one"
    reply = ask(_gateway(context, key), CHAT, body)
    if not reply.good:
        raise CheckError(f"with the right key the gateway answers {reply.failure} {reply.said}")
    return "refused without a key and with a wrong one, answered with the right one"


def closed_endpoints(context: CheckContext) -> str:
    """Routes that would change or tell the server's inside; a key must not open them either."""
    server = _gateway(context, _key(context))
    opened = []
    for path in context.expected["closed"]:
        reply = ask(server, path)
        if reply.status not in HIDDEN:
            opened.append(f"{path} ({reply.status or reply.failure})")
    if opened:
        raise CheckError(f"the gateway lets through {', '.join(opened)}")
    return f"{len(context.expected['closed'])} routes are closed"


def identity(context: CheckContext) -> str:
    """What must be the same on all hosts of an instance; compared where all are known."""

    def digest(path: str) -> str:
        data = _bytes(path)
        return hashlib.sha256(data).hexdigest()[:16] if data else ""

    context.identity.update(
        {
            "environment": context.expected["environment_id"],
            "packages": digest(f"{context.expected['environment']}/.environment.json")
            and context.expected["environment_id"],
            "weights": digest(f"{context.expected['weights']}/.weights.json"),
            "driver": _driver(),
            "kernel": os.uname().release,
        }
    )
    return ", ".join(f"{name} {value}" for name, value in context.identity.items() if value)


def _driver() -> str:
    match = re.search(rb"Kernel Module(?:\s+for \S+)?\s+(\d[\d.]+)", _bytes("/proc/driver/nvidia/version"))
    return str(match[1].decode()) if match else ""


def unit_processes(group: str) -> list[int]:
    """All that the unit's control group holds, for either version of cgroups."""
    pids: set[int] = set()
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        for path in glob.glob(f"{root}{group}/**/cgroup.procs", recursive=True):
            pids |= {int(word) for word in _bytes(path).split()}
    return sorted(pids)
