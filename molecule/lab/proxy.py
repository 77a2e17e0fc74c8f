# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ssh's ProxyCommand: connects inside the lab's network namespace and hands the socket to ssh.

Runs alone (`python -I -S proxy.py LAB HOST PORT`), because it starts once for each connection.
With ProxyUseFdpass ssh takes over the connected socket, so no process stands between the two.
"""

from __future__ import annotations

import os
import socket
import stat
import sys

NAMESPACES = "/run/netns"
REGISTRY = "/run/baremetal-sglang-lab"
DISCONNECT = 1
UNAVAILABLE = 7


def main() -> int:
    lab, host, port = sys.argv[1:4]
    try:
        hand_over(connect(lab, host, int(port)))
    except OSError as error:
        explain(str(error.strerror or error))
        return 1
    return 0


def connect(lab: str, host: str, port: int) -> socket.socket:
    try:
        namespace = os.open(f"{NAMESPACES}/bsl-{lab}", os.O_RDONLY)
    except OSError as error:
        raise OSError(f"The lab '{lab}' is not up. Start it: tools/lab -i INVENTORY up") from error
    try:
        os.setns(namespace, os.CLONE_NEWNET)
    except OSError as error:
        raise OSError(f"Only root can reach the lab '{lab}'. Run the command with sudo.") from error
    address = host if host[:1].isdigit() else address_of(lab, host)
    try:
        connection = socket.create_connection((address, port), timeout=20)
    except OSError as error:
        raise OSError(
            f"{host} port {port} in the lab '{lab}' does not answer: {error.strerror or error}"
        ) from error
    connection.setblocking(True)
    return connection


def address_of(lab: str, host: str) -> str:
    import json  # here, because Ansible gives addresses and never pays for it

    with open(f"{REGISTRY}/{lab}/lab.json") as file:
        address: str | None = json.load(file)["hosts"].get(host)
    if address is None:
        raise OSError(f"The lab '{lab}' has no host {host}.")
    return address


def hand_over(connection: socket.socket) -> None:
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])


def explain(sentence: str) -> None:
    """Says why through ssh itself. What a ProxyCommand writes to stderr is thrown away when
    connections are shared, as Ansible's are; a server's reason to disconnect is shown to the user."""
    if not stat.S_ISSOCK(os.fstat(1).st_mode):
        sys.stderr.write(f"{sentence}\n")
        return
    ours, theirs = socket.socketpair()
    hand_over(theirs)
    theirs.close()
    if os.fork():
        return  # ssh waits for us to end before it reads; the child keeps the other end open for it
    ours.settimeout(10)
    try:
        ours.sendall(b"SSH-2.0-lab\r\n" + packet(disconnect(sentence)))
        while ours.recv(4096):
            pass
    finally:
        os._exit(0)


def disconnect(sentence: str) -> bytes:
    """RFC 4253, section 11.1."""
    text = sentence.encode()
    return (
        bytes([DISCONNECT]) + UNAVAILABLE.to_bytes(4, "big") + len(text).to_bytes(4, "big") + text + bytes(4)
    )


def packet(payload: bytes) -> bytes:
    """RFC 4253, section 6, before any key was agreed on."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


if __name__ == "__main__":
    sys.exit(main())
