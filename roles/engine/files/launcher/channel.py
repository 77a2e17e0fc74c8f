# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection between two agents of a group: both prove the secret, then every message is authenticated.

    first host    -> {"nonce": N1}
    other member  -> {"host": H, "nonce": N2, "proof": HMAC(secret, "member" H N1 N2)}
    first host    -> {"proof": HMAC(secret, "head" H N1 N2)}
    both          -> HMAC(session key, sender, number of the message, text) " " text

The secret never travels. A message that was seen before, from another connection or with another order is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import math
import os
import re
import socket
import time
from typing import Any

HANDSHAKE_BYTES = 1 << 10
MESSAGE_BYTES = 1 << 15
NONCE_BYTES = 32
# One message a second is usual; those of a pause of the reader come all at once.
BURST, PER_SECOND = 200.0, 10.0
LONGEST_TEXT = 1000
MOST_ENTRIES = 32
LARGEST_NUMBER = 1 << 53
SECRET = re.compile(r"[0-9a-f]{64}")
HEAD, MEMBER = b"head", b"member"
REFUSALS = {
    "address": "the address is not the planned one of this host",
    "secret": "the secrets of the group differ",
}

TEXT, FLAG, NUMBER, TIME, TEXTS = "text", "flag", "number", "time", "texts"
FROM_MEMBER = {
    "group": TEXT, "truth": TEXTS, "time": TIME, "ready": FLAG, "loaded": FLAG, "status": TEXT, "down": TEXT,
    "leave": FLAG, "generation": NUMBER, "held": TEXT,
}  # fmt: skip
FROM_HEAD = {
    "phase": TEXT, "generation": NUMBER, "count": TEXT, "serving": FLAG, "status": TEXT, "why": TEXT, "gave_up": FLAG,
    "refused": TEXT,
}  # fmt: skip
EMPTY: dict[str, Any] = {TEXT: "", FLAG: False, NUMBER: 0, TIME: 0.0, TEXTS: {}}
# Absent is not the same as empty for these.
OPTIONAL = ("why", "refused")


class ChannelError(Exception):
    """Why a connection is ended."""


def read_secret(path: str) -> bytes:
    """OSError or ValueError where it cannot be used."""
    with open(path, encoding="ascii") as stream:
        text = stream.read(4096).strip()
    if not SECRET.fullmatch(text):
        raise ValueError("the file does not hold a secret")
    return bytes.fromhex(text)


def checked(message: Any, fields: dict[str, str]) -> dict[str, Any]:
    """A message with every known field in its type; fields of another version are dropped."""
    if not isinstance(message, dict):
        raise ChannelError("it sent a malformed message")
    found = {}
    for name, kind in fields.items():
        if name not in message:
            if name not in OPTIONAL:
                found[name] = EMPTY[kind]
            continue
        if not _fits(message[name], kind):
            raise ChannelError(f"it sent a malformed message: {name}")
        found[name] = message[name]
    return found


def _fits(value: Any, kind: str) -> bool:
    if kind == FLAG:
        return isinstance(value, bool)
    if kind == TEXT:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    if kind == NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_NUMBER
    if kind == TIME:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and _finite(value)
    return (
        isinstance(value, dict)
        and len(value) <= MOST_ENTRIES
        and all(_fits(key, TEXT) and _fits(text, TEXT) for key, text in value.items())
    )


def _finite(value: float) -> bool:
    return abs(value) < LARGEST_NUMBER and math.isfinite(value)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _parse(line: bytes) -> Any:
    """Deep nesting ends in RecursionError long before a line of this length is read."""
    try:
        return json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ChannelError("it sent a malformed message") from None


class Channel:
    """Lines over a socket that never blocks; `server` is the end that was called."""

    def __init__(
        self, link: socket.socket, address: str, secret: bytes, server: bool, host: str = ""
    ) -> None:
        self.link, self.address, self.secret, self.server = link, address, secret, server
        self.host = host
        """The member at the other end once it has proven who it is; at a member's end, the member itself."""
        self.proven = False
        self.since = time.monotonic()
        self.rest = b""
        self.nonce = os.urandom(NONCE_BYTES).hex()
        self.key = b""
        self.sent = self.received = 0
        self.allowance, self.counted = BURST, self.since
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server:
            self._write(json.dumps({"nonce": self.nonce}).encode())

    # --- out ---

    def send(self, message: dict[str, Any]) -> bool:
        """A line is far smaller than the socket's buffer: one that does not fit is of a peer that is gone."""
        if not self.proven:
            return True
        clipped = {
            key: value[:LONGEST_TEXT] if isinstance(value, str) else value for key, value in message.items()
        }
        text = json.dumps(clipped).encode()
        self.sent += 1
        return self._write(self._tag(self.server, self.sent, text) + b" " + text)

    def refuse(self, why: str) -> None:
        """Before a proof; only a word out of a short list, because nobody can rely on it."""
        self._write(json.dumps({"refused": why}).encode())

    def _write(self, line: bytes) -> bool:
        try:
            return self.link.send(line + b"\n") == len(line) + 1
        except OSError:
            return False

    # --- in ---

    def receive(self, addresses: dict[str, str], fields: dict[str, str]) -> list[dict[str, Any]]:
        """Authenticated messages that have come. `addresses`: address -> member, at the end that was called."""
        try:
            block = self.link.recv(MESSAGE_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError:
            raise ChannelError("its agent is gone") from None
        if not block:
            raise ChannelError("its agent is gone")
        *lines, self.rest = (self.rest + block).split(b"\n")
        found = []
        for line in lines:
            self._bound(line)
            if self.proven:
                found.append(checked(self._open(line), fields))
            elif self.server:
                self._prove_member(line, addresses)
            else:
                self._prove_head(line)
        self._bound(self.rest)
        return found

    def _bound(self, line: bytes) -> None:
        if len(line) > (MESSAGE_BYTES if self.proven else HANDSHAKE_BYTES):
            raise ChannelError("it sent a message that is too long")

    def _open(self, line: bytes) -> Any:
        now = time.monotonic()
        self.allowance = min(BURST, self.allowance + (now - self.counted) * PER_SECOND) - 1
        self.counted = now
        if self.allowance < 0:
            raise ChannelError("it sends too many messages")
        tag, _unused, text = line.partition(b" ")
        self.received += 1
        if not hmac.compare_digest(tag, self._tag(not self.server, self.received, text)):
            raise ChannelError("it sent a message that is not authentic")
        return _parse(text)

    def _prove_member(self, line: bytes, addresses: dict[str, str]) -> None:
        said = _hello(line)
        host, theirs = said.get("host", ""), said.get("nonce", "")
        if not host or addresses.get(self.address) != host:
            self.refuse("address")
            raise ChannelError("it is not at its planned address")
        proof = self._proof(MEMBER, host, self.nonce, theirs)
        if len(theirs) != NONCE_BYTES * 2 or not hmac.compare_digest(
            proof, said.get("proof", "").encode("utf-8", "replace")
        ):
            self.refuse("secret")
            raise ChannelError("it does not have the secret of the group")
        self._write(json.dumps({"proof": self._proof(HEAD, host, self.nonce, theirs).decode()}).encode())
        self.host = host
        self._agree(host, self.nonce, theirs)

    def _prove_head(self, line: bytes) -> None:
        said = _hello(line)
        if "refused" in said:
            raise ChannelError(REFUSALS.get(said["refused"], "it refused the connection"))
        if not self.key:
            theirs = said.get("nonce", "")
            if len(theirs) != NONCE_BYTES * 2:
                raise ChannelError("it does not speak as an agent does")
            proof = self._proof(MEMBER, self.host, theirs, self.nonce).decode()
            hello = {"host": self.host, "nonce": self.nonce, "proof": proof}
            if not self._write(json.dumps(hello).encode()):
                raise ChannelError("nothing can be sent to it")
            self.theirs = theirs
            self.key = b"asked"
            return
        proof = self._proof(HEAD, self.host, self.theirs, self.nonce)
        if not hmac.compare_digest(proof, said.get("proof", "").encode("utf-8", "replace")):
            raise ChannelError(REFUSALS["secret"])
        self._agree(self.host, self.theirs, self.nonce)

    # --- keys ---

    def _proof(self, role: bytes, host: str, head_nonce: str, member_nonce: str) -> bytes:
        return self._mac(self.secret, role, host, head_nonce, member_nonce).hexdigest().encode()

    def _agree(self, host: str, head_nonce: str, member_nonce: str) -> None:
        self.key = self._mac(self.secret, b"session", host, head_nonce, member_nonce).digest()
        self.proven = True

    def _tag(self, from_head: bool, number: int, text: bytes) -> bytes:
        what = (HEAD if from_head else MEMBER) + b" %d " % number + text
        return hmac.new(self.key, what, hashlib.sha256).hexdigest().encode()

    @staticmethod
    def _mac(key: bytes, role: bytes, *words: str) -> hmac.HMAC:
        """JSON, so that no two lists of words have one text."""
        return hmac.new(key, role + b" " + json.dumps(words).encode(), hashlib.sha256)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.link.close()


def _hello(line: bytes) -> dict[str, str]:
    said = _parse(line)
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise ChannelError("it does not speak as an agent does")
    return said
