# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real HAProxy on loopback with the generated configuration, engines that record bytes, and raw clients for it."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import Wanted
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import config_text
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.keys import Key, digest_of, map_text
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import Authority
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_signing import new_request
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

ROOT = Path(__file__).resolve().parents[2]
POLICY = yaml.safe_load((ROOT / "files/policy.yml").read_text(encoding="utf-8"))["gateway"]
CHAT = "/v1/chat/completions"
PATIENCE = 40.0
HOSTS = ("g1", "g2", "m1")
"""A gateway, a host of engines behind an internal listener, and Prometheus."""


def haproxy() -> str:
    """The program, or nothing where it is not installed."""
    return shutil.which("haproxy") or next(filter(os.path.exists, ["/usr/sbin/haproxy"]), "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Request:
    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def headers(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:] if line)
        return {name.lower(): value.strip() for name, _colon, value in pairs}


@dataclass(eq=False)
class Engine:
    """Answers 200 with its name; how it treats completions is `behaviour`: serve, die, hold, twice or 503."""

    name: str
    behaviour: str = "serve"
    requests: list[Request] = field(default_factory=list)
    port: int = 0
    held: int = 0
    most_held: int = 0

    def __post_init__(self) -> None:
        self.lock, self.go_on = threading.Lock(), threading.Event()
        self.start()

    def start(self) -> None:
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def stop(self) -> None:
        # A close alone leaves a thread in accept() with the port.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                link = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link: socket.socket) -> None:
        with link, contextlib.suppress(OSError):
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    piece = link.recv(65536)
                    if not piece:
                        return
                    rest += piece
                head, _end, rest = rest.partition(b"\r\n\r\n")
                found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                size = int(found[1]) if found else 0
                chunked = re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head)
                while len(rest) < size or (chunked and not re.search(rb"(^|\r\n)0\r\n(.*\r\n)*\r\n$", rest)):
                    piece = link.recv(65536)
                    if not piece:
                        return
                    rest += piece
                cut = len(rest) if chunked else size
                body, rest = rest[:cut], rest[cut:]
                if not self.answer(link, Request(head, body)):
                    return

    def answer(self, link: socket.socket, asked: Request) -> bool:
        status, behaviour = b"200 OK", self.behaviour
        if asked.line.startswith("GET /health_generate "):
            behaviour = "serve"
        else:
            with self.lock:
                self.requests.append(asked)
        if behaviour == "die":
            return False
        if behaviour == "503":
            status = b"503 Service Unavailable"
        if behaviour == "hold":
            with self.lock:
                self.held += 1
                self.most_held = max(self.most_held, self.held)
            self.go_on.wait(PATIENCE)
            with self.lock:
                self.held -= 1
        text = self.name.encode()
        said = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)
        if behaviour == "twice":
            said += b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret"
        link.sendall(said)
        return True


@dataclass
class Gateway:
    folder: Path
    port: int
    process: Any
    keys: dict[str, str]

    def admin(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.folder / "admin.sock"))
            link.sendall(command.encode() + b"\n")
            said = b""
            while piece := link.recv(65536):
                said += piece
        return said.decode()

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return "Uptime" in self.admin("show info")
        return False

    def settle(self) -> None:
        """Until the gateway has found every engine up."""
        wait_for(lambda: "DOWN" not in self.admin("show stat -1 4 -1"))

    def reach(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection that says nothing."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))

    def inner(self, asked: str, port: int, *lines: str) -> int:
        made = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        made.load_cert_chain(self.folder / "gateway.crt", self.folder / "gateway.key")
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        with made.wrap_socket(plain, server_hostname="g2") as link:
            head = [f"{asked} HTTP/1.1", "Host: x", "X-Sglang-Instance: a", *lines, "", ""]
            link.sendall("\r\n".join(head).encode())
            return first_status(link.recv(65536))

    def connect(self, protocol: str = "http/1.1", source: str = "127.0.0.1") -> ssl.SSLSocket:
        made = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        made.set_alpn_protocols([protocol])
        return made.wrap_socket(self.reach(source), server_hostname="localhost")

    def exchange(self, data: bytes, source: str = "127.0.0.1") -> bytes:
        """All that comes back until the gateway closes, or until nothing came for two seconds after an answer."""
        with self.connect(source=source) as link:
            with contextlib.suppress(OSError):
                link.sendall(data)
            said = b""
            with contextlib.suppress(OSError):
                while piece := link.recv(65536):
                    said += piece
                    link.settimeout(2.0)
            return said

    def post(
        self, body: bytes | str, *headers: str, path: str = CHAT, key: str = "alice", length: bool = True
    ) -> tuple[int, bytes]:
        data = body.encode() if isinstance(body, str) else body
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {self.keys[key]}"]
        lines += [*headers, *([f"Content-Length: {len(data)}"] if length else []), "Connection: close"]
        said = self.exchange("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data)
        return first_status(said), said.partition(b"\r\n\r\n")[2]

    def second(self, *frames: bytes) -> int:
        """Status of stream 1 of HTTP/2; 0 where it was reset or the connection closed."""
        with self.connect("h2") as link:
            assert link.selected_alpn_protocol() == "h2"
            with contextlib.suppress(OSError):
                link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + b"".join(frames))
            data = b""
            with contextlib.suppress(OSError):
                while piece := link.recv(65536):
                    data += piece
                    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                        size, kind = int.from_bytes(data[:3], "big"), data[3]
                        payload, data = data[9 : 9 + size], data[9 + size :]
                        if kind == 1:
                            return status_of(payload)
                        if kind in (3, 7):
                            return 0
        return 0

    def log(self) -> str:
        return (self.folder / "haproxy.log").read_text(encoding="latin-1")


def first_status(said: bytes) -> int:
    return int(said[9:12]) if said.startswith(b"HTTP/1.") else 0


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header of HTTP/2 without index and without Huffman code."""

    def text(said: str) -> bytes:
        raw = said.encode("latin-1")
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        left, size = len(raw) - 127, b"\x7f"
        while left >= 128:
            size, left = size + bytes([left % 128 + 128]), left // 128
        return size + bytes([left]) + raw

    return b"\x00" + text(name) + text(value)


def headers(*pairs: tuple[str, str], end: bool = True, stream: int = 1) -> bytes:
    return frame(1, 5 if end else 4, stream, b"".join(literal(name, value) for name, value in pairs))


def request_of(
    method: str, path: str, *more: tuple[str, str], key: str = "sk-alice"
) -> list[tuple[str, str]]:
    head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
    return [*head, ("authorization", f"Bearer {key}"), *more]


STATIC = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}


def status_of(block: bytes) -> int:
    """Of a header block whose first entry is :status; HAProxy writes it indexed, or as plain text."""
    if block[0] & 0x80:
        return STATIC[block[0] & 0x7F]
    found = re.search(rb"\x03(\d{3})", block[:16])
    assert found, block[:16]
    return int(found[1])


def issue(authority: Authority, wanted: Wanted, folder: Path, name: str = "") -> str:
    """Serial of a new certificate, which lies under its role's name, or under another one, with its key."""
    key, csr = new_request()
    with authority.open():
        made = authority.issue(wanted, csr)
        serial = authority.record.certificates[-1].serial
    (folder / f"{name or wanted.role}.key").write_text(key, encoding="ascii")
    (folder / f"{name or wanted.role}.crt").write_text(made, encoding="ascii")
    return serial


def trust(authority: Authority, folder: Path) -> None:
    with authority.open():
        certificates, revocations = authority.texts()
    (folder / "ca.crt").write_text(certificates, encoding="ascii")
    (folder / "crl.pem").write_text(revocations, encoding="ascii")


def make_certificates(authority: Authority, told: dict[str, Any], folder: Path) -> None:
    """Those that the plan names and that are not there yet, as the roles install them."""
    with authority.open(create=True):
        pass
    for item in told["certificates"]:
        if not (folder / f"{item['role']}.crt").exists():
            issue(authority, Wanted.from_dict(item), folder)
    trust(authority, folder)


class Served(Protocol):
    """A stand-in for an engine on this machine."""

    name: str
    port: int


@functools.cache
def planner() -> World:
    return World(load_data_files([]))


def section(
    folder: Path,
    port: int,
    models: Mapping[str, Sequence[Served]],
    behind: Sequence[Served] = (),
    **limits: int,
) -> dict[str, Any]:
    """What the planner says for gateway g1, moved onto free ports of this machine.

    Engines in `behind` are planned on host g2, and the same process has the internal listener of that host; m1 watches it.
    """
    served: dict[str, Served] = {}
    serve = {}
    for model, engines in models.items():
        for engine in engines:
            # An instance has one model, a stand-in may serve two.
            name = f"{engine.name}{len(served)}" if engine.name in served else engine.name
            served[name] = engine
            hosts = ["g2" if engine in behind else "g1"]
            wanted = {"model": "glm-4.7-tiny", "device": "cpu", "standby": False}
            serve[name] = {
                **wanted,
                "hosts": hosts,
                "served_model_name": model,
                "port": 30000 + 10 * len(served),
            }
    asked = {
        "hosts": ["g1"],
        "address": "127.0.0.1",
        "port": port,
        "inner_port": free_port(),
        "names": ["localhost"],
        # As many connections as a process may have files here.
        "limits": {"connections": 400, "inner_connections": 400, **limits},
    }
    facts = {name: planner().host("cpu", name, number) for number, name in enumerate(HOSTS, 1)}
    result = planner().plan(
        facts,
        serve,
        gateway=asked,
        monitoring={"prometheus": "m1"} if behind else None,
        addresses=dict.fromkeys(HOSTS, "127.0.0.1"),
    )
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    told: dict[str, Any] = copy.deepcopy(result.gateways["g1"])
    if behind:
        other = copy.deepcopy(result.gateways["g2"])
        inner = {**other["inner"], "address": "127.0.0.1", "node_exporter_port": 1, "dcgm_exporter_port": 1}
        inner["instances"] = {name: served[name].port for name in inner["instances"]}
        told["inner"] = inner
        mine = [item for item in told["certificates"] if item["role"] != "internal"]
        told["certificates"] = mine + other["certificates"] + result.monitoring["m1"]["certificates"]
    for servers in told["front"]["models"].values():
        for server in servers:
            server["port"] = asked["inner_port"] if server["tls"] else served[server["instance"]].port
    user, group = (
        subprocess.run(["id", word], capture_output=True, text=True, check=True).stdout.strip()
        for word in ("-un", "-gn")
    )
    told["account"] = {"user": user, "group": group}
    told["folders"] = dict.fromkeys(told["folders"], str(folder))
    return told


@contextlib.contextmanager
def gateway(folder: Path, told: dict[str, Any], *keys: Key) -> Iterator[Gateway]:
    """Runs with one key for alice and those that are given; a key's text is `sk-` and its name."""
    known = [Key("alice", digest_of("sk-alice")), *keys]
    (folder / "keys.map").write_text(map_text(known), encoding="ascii")
    (folder / "haproxy.cfg").write_text(config_text(told), encoding="utf-8")
    (folder / "admin.sock").unlink(missing_ok=True)
    make_certificates(Authority(folder / "authority"), told, folder)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [haproxy(), "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=subprocess.STDOUT
        )
    made = Gateway(folder, told["front"]["port"], process, {key.name: f"sk-{key.name}" for key in known})
    try:
        wait_for(lambda: process.poll() is not None or made.answers())
        assert process.poll() is None, made.log()
        made.settle()
        yield made
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], Any], what: str = "the condition of the test") -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"never seen: {what}"
        time.sleep(0.02)
