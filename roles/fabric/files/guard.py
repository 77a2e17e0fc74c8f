# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Applies a change of the network, and takes it back where nobody said in time that the host can be reached.

    python3 guard.py apply|undo FOLDER

FOLDER/pending.json says what was before; without it there is nothing to take back.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import Any

PENDING, UNDONE = "pending.json", "undone.json"
COMMAND_SECONDS = 60
# The answer of the module that started this leaves the host over the network as it still is.
HEAD_START_SECONDS = 1.0


def run(words: list[str]) -> str:
    try:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{' '.join(words)}: {error}")
        return ""
    if done.returncode:
        print(f"{' '.join(words)} ended with {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def apply(pending: dict[str, Any]) -> None:
    time.sleep(HEAD_START_SECONDS)
    for netdev in pending["live"]:
        run(["ip", "link", "set", "dev", netdev, "up"])
    for words in pending["apply"]:
        run(words)
    for netdev, mtu in pending["mtu"].items():
        # Some managers set it only on the next boot.
        run(["ip", "link", "set", "dev", netdev, "mtu", str(mtu)])


def undo(pending: dict[str, Any]) -> None:
    for words in pending["before_undo"]:
        run(words)
    for path, before in pending["files"].items():
        put(path, before)
    for words in pending["undo"]:
        run(words)
    for netdev, before in pending["live"].items():
        restore(netdev, before)


def put(path: str, before: dict[str, Any] | None) -> None:
    if before is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    handle = os.open(f"{path}.part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(before["text"])
        os.fchmod(stream.fileno(), before["mode"])
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(f"{path}.part", path)


def restore(netdev: str, before: dict[str, Any]) -> None:
    """What no manager brings back: addresses and MTU that were set by hand, or by one that has gone."""
    time.sleep(0.5)
    now = addresses(netdev)
    for address in now - set(before["addresses"]):
        run(["ip", "address", "delete", address, "dev", netdev])
    if before["mtu"]:
        run(["ip", "link", "set", "dev", netdev, "mtu", str(before["mtu"])])
    for address in before["addresses"]:
        if address not in addresses(netdev):
            run(["ip", "address", "replace", address, "dev", netdev])
    if not before["up"]:
        run(["ip", "link", "set", "dev", netdev, "down"])


def addresses(netdev: str) -> set[str]:
    try:
        rows = json.loads(run(["ip", "-j", "-4", "address", "show", "dev", netdev]) or "[]")
    except ValueError:
        rows = []
    found = (address for row in rows for address in row.get("addr_info", ()))
    return {f"{item['local']}/{item['prefixlen']}" for item in found}


def main(what: str, folder: str) -> int:
    path = os.path.join(folder, PENDING)
    try:
        with open(path, encoding="utf-8") as stream:
            pending = json.load(stream)
    except FileNotFoundError:
        return 0
    if what == "apply":
        apply(pending)
        return 0
    print("nobody said that this host can be reached with its new network: going back")
    undo(pending)
    os.replace(path, os.path.join(folder, UNDONE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
