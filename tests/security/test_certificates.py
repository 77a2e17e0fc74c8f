# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host can get out of the certificate authority, and which certificates a real HAProxy accepts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import Wanted
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import config_text
from ansible_collections.baremetal.sglang.plugins.plugin_utils import certificate_signing as signing
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import (
    Authority,
    AuthorityError,
    Seen,
)
from cryptography import x509
from cryptography.x509.oid import NameOID

from . import gateway_world
from .gateway_world import free_port, haproxy, make_certificates, section, trust, wait_for

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE = Wanted("internal", "g2", ("g2", "10.0.0.2"))
HOSTILE = [
    "/O=baremetal.sglang/OU=gateway/CN=g1",
    "/O=baremetal.sglang/OU=monitoring/CN=g2/CN=g1",
    "/CN=*",
    "/OU=gateway/OU=internal/CN=g2\nCN=g1",
]
EXTENSIONS = [
    "subjectAltName=DNS:*",
    "subjectAltName=DNS:g1,IP:10.0.0.1",
    "basicConstraints=critical,CA:TRUE",
    "keyUsage=critical,keyCertSign,cRLSign",
    "extendedKeyUsage=clientAuth,serverAuth",
]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "authority")
    with made.open(create=True):
        pass
    return made


def run(*words: str | Path) -> str:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout


def request(folder: Path, subject: str = "/CN=request", *extensions: str, key: str = "") -> str:
    """A request as a host with root can make it, with anything in it."""
    path = folder / "host.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if not key else ["-newkey", key]
    more = [word for item in extensions for word in ("-addext", item)]
    return run("openssl", "req", "-new", *kind, "-nodes", "-keyout", path, "-subj", subject, *more)


def issue(authority: Authority, wanted: Wanted, csr: str) -> x509.Certificate:
    with authority.open():
        return x509.load_pem_x509_certificate(authority.issue(wanted, csr).encode())


def said(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[Any]:
    return [item.value for item in certificate.subject.get_attributes_for_oid(oid)]


@pytest.mark.parametrize("subject", HOSTILE)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_nothing_of_a_request_but_its_key_is_signed(
    authority: Authority, tmp_path: Path, subject: str, extension: str
) -> None:
    made = issue(authority, ENGINE, request(tmp_path, subject, extension))
    assert said(made, NameOID.ORGANIZATIONAL_UNIT_NAME) == ["internal"]
    assert said(made, NameOID.COMMON_NAME) == ["g2"]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(item.value) for item in names] == ["g2", "10.0.0.2"]
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign
    purposes = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [item.dotted_string for item in purposes] == ["1.3.6.1.5.5.7.3.1"]


@pytest.mark.parametrize(
    "name",
    [
        "g2\nbasicConstraints = critical, CA:TRUE",
        "g2\n",
        "g2\r",
        "g2\x00.example",
        "g2, DNS:g1",
        "DNS:g1",
        "*",
        "*.example.org",
        "g2.*",
        "${ENV::HOME}",
        "g2 g1",
        "",
        "-g2",
        "g2..example",
        "g2.",
        "ｇ2",  # noqa: RUF001
        "10.0.0.999",
        "fe80::1%eth0",
        "a" * 64,
        ".".join(["a" * 60] * 5),
    ],
)
def test_names_that_no_certificate_of_a_host_may_hold(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    for wanted in (Wanted("internal", "g2", ("g2", name)), Wanted("internal", name, ("g2",))):
        with pytest.raises(AuthorityError, match="REFUSED"):
            issue(authority, wanted, request(tmp_path))
    assert authority.record.certificates == []


def test_a_wildcard_only_for_the_front_and_only_below_two_labels(
    authority: Authority, tmp_path: Path
) -> None:
    made = issue(authority, Wanted("front", "g1", ("*.llm.example",)), request(tmp_path))
    assert "*.llm.example" in str(made.extensions.get_extension_for_class(x509.SubjectAlternativeName))
    for names in (("*.example",), ("*",), ("a.*.example",), ("*.*.example.org",)):
        assert Wanted("front", "g1", names).errors()


@pytest.mark.parametrize(
    "wanted", [Wanted("admin", "g2", ("g2",)), Wanted("gateway", "g1", ("g1",)), Wanted("internal", "g2")]
)
def test_roles_are_a_closed_list(authority: Authority, tmp_path: Path, wanted: Wanted) -> None:
    with pytest.raises(AuthorityError):
        issue(authority, wanted, request(tmp_path))


def test_a_request_has_to_prove_its_key(authority: Authority, tmp_path: Path) -> None:
    good = request(tmp_path)
    data = bytearray(x509.load_pem_x509_csr(good.encode()).public_bytes(signing.serialization.Encoding.DER))
    data[-5] ^= 1
    import base64

    broken = "-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(data)).decode()
    broken += "-----END CERTIFICATE REQUEST-----\n"
    for csr in (broken, "", "x", good + "A" * 20000, request(tmp_path, key="rsa:1024")):
        with pytest.raises(AuthorityError, match="invalid certificate request"):
            issue(authority, ENGINE, csr)
    assert authority.record.certificates == []


def test_one_key_has_one_owner(authority: Authority, tmp_path: Path) -> None:
    csr = request(tmp_path)
    issue(authority, ENGINE, csr)
    with pytest.raises(AuthorityError, match="belongs to g2"):
        issue(authority, Wanted("gateway", "g1"), csr)


def test_the_authority_can_have_no_authority_below_it(authority: Authority, tmp_path: Path) -> None:
    """A leaf that was signed by a leaf is refused, and so would be a second authority."""
    own = x509.load_pem_x509_certificate(authority.texts()[0].encode())
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
    usage = own.extensions.get_extension_for_class(x509.KeyUsage)
    assert (
        usage.critical
        and usage.value.key_cert_sign
        and usage.value.crl_sign
        and not usage.value.digital_signature
    )

    with authority.open():
        leaf = authority.issue(ENGINE, request(tmp_path))
    (tmp_path / "leaf.crt").write_text(leaf)
    (tmp_path / "ca.crt").write_text(authority.texts()[0])
    stolen = request(tmp_path, "/OU=gateway/CN=g1")
    (tmp_path / "stolen.csr").write_text(stolen)
    # The host's own key signs as if it were an authority.
    shutil.copy(tmp_path / "host.key", tmp_path / "other.key")
    run("openssl", "x509", "-req", "-in", tmp_path / "stolen.csr", "-CA", tmp_path / "leaf.crt", "-CAkey",
        leaf_key(authority, tmp_path), "-out", tmp_path / "forged.crt", "-days", "9")  # fmt: skip
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-CAfile",
            tmp_path / "ca.crt",
            "-untrusted",
            tmp_path / "leaf.crt",
            tmp_path / "forged.crt",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "invalid CA certificate" in done.stdout + done.stderr


def leaf_key(authority: Authority, folder: Path) -> Path:
    """A key with its own leaf certificate, in leaf.crt."""
    csr = request(folder)
    with authority.open():
        (folder / "leaf.crt").write_text(authority.issue(ENGINE, csr))
    shutil.copy(folder / "host.key", folder / "leaf.key")
    return folder / "leaf.key"


def test_the_key_lies_where_nobody_else_reads_it(authority: Authority, tmp_path: Path) -> None:
    (key,) = authority.folder.glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600 and authority.folder.stat().st_mode & 0o777 == 0o700
    for path in (key, authority.folder):
        path.chmod(path.stat().st_mode | 0o040)
        with pytest.raises(AuthorityError, match="can be read by other users"), authority.open():
            pass
        path.chmod(path.stat().st_mode & ~0o040)
    with (
        pytest.raises(AuthorityError, match="inside the collection"),
        Authority(REPOSITORY / "ca").open(create=True),
    ):
        pass
    (tmp_path / "link").symlink_to(REPOSITORY / "inventories")
    with (
        pytest.raises(AuthorityError, match="inside the collection"),
        Authority(tmp_path / "link/ca").open(create=True),
    ):
        pass


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - baremetal.sglang.certificate:
        folder: "{{ folder }}/{{ inventory_hostname }}"
        authority: "{{ folder }}/authority"
        certificates: "{{ wanted[inventory_hostname] }}"
      register: made
"""
# What a host with root can put in place of its openssl: every request is for a gateway.
FAKE = """#!/bin/sh
[ "$1" = req ] && exec {openssl} req -new -key "$4" -subj /O=baremetal.sglang/OU=gateway/CN=g1 -addext subjectAltName=DNS:*
exec {openssl} "$@"
"""


def play(folder: Path, *words: str, env: Any = None) -> subprocess.CompletedProcess[str]:
    wanted = {
        "g1": [{"role": "gateway", "owner": "g1", "names": []}],
        "g2": [{"role": "internal", "owner": "g2", "names": ["g2"]}],
    }
    hosts = {
        name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for name in wanted
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    (folder / "play.yml").write_text(PLAY)
    for name in wanted:
        (folder / name).mkdir(exist_ok=True)
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml", *words,
         "-e", json.dumps({"folder": str(folder), "wanted": wanted})],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1",
             "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_host_with_its_own_openssl_gets_what_the_plan_says(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin/openssl"
    fake.write_text(FAKE.format(openssl=shutil.which("openssl")))
    fake.chmod(0o755)
    checked = play(tmp_path, "--check", "--diff")
    assert checked.returncode == 0 and "there is none" in checked.stdout, checked.stdout + checked.stderr
    assert not (tmp_path / "authority").exists() and list((tmp_path / "g2").iterdir()) == []

    first = play(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    made = x509.load_pem_x509_certificate((tmp_path / "g2/internal.crt").read_bytes())
    assert said(made, NameOID.ORGANIZATIONAL_UNIT_NAME) == ["internal"] and said(
        made, NameOID.COMMON_NAME
    ) == ["g2"]
    assert "DNSName(value='g2')" in str(made.extensions.get_extension_for_class(x509.SubjectAlternativeName))
    assert (tmp_path / "g2/internal.key").stat().st_mode & 0o777 == 0o600
    second = play(tmp_path)
    assert second.stdout.count("changed=0") == 2, second.stdout
    injected = play(tmp_path, env={"ANSIBLE_INJECT_FACT_VARS": "true"})
    assert injected.returncode != 0 and "inject_facts_as_vars" in injected.stdout
    # Another controller, or a lost folder: hosts do not change their authority on the way.
    (tmp_path / "authority").rename(tmp_path / "away")
    lost = play(tmp_path)
    assert lost.returncode != 0 and "trusts another authority" in lost.stdout


class Engine(BaseHTTPRequestHandler):
    """Answers every path; /v1/chat/completions slowly, so that a reload happens in its middle."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _number in range(self.server.pieces if self.path.startswith("/v1/") else 1):  # type: ignore[attr-defined]
                self.wfile.write(b"1\r\nx\r\n")
                self.wfile.flush()
                if self.path.startswith("/v1/"):
                    self.server.go.wait(30)  # type: ignore[attr-defined]
            self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.do_GET()

    def log_message(self, *_words: Any) -> None:
        pass


class Proxy:
    """HAProxy as the roles run it, master and workers, with the planner's section."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.authority = folder, authority
        (folder / "keys.map").write_text("")
        self.engine = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
        self.engine.daemon_threads = True
        self.engine.pieces, self.engine.go = 3, threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=self.engine.serve_forever, daemon=True).start()
        engine = SimpleNamespace(name="a", port=self.engine.server_port)
        limits = {"check_seconds": 1, "connections": 100, "table_entries": 1000}
        self.section = section(folder, free_port(), {"tiny": [engine]}, [engine], **limits)
        self.port = self.section["inner"]["port"]
        make_certificates(authority, self.section, folder)
        self.process: subprocess.Popen[bytes] | None = None

    def certificate(self, name: str, wanted: Wanted) -> None:
        gateway_world.issue(self.authority, wanted, self.folder, name)

    def trust(self) -> None:
        trust(self.authority, self.folder)

    def start(self) -> None:
        self.trust()
        (self.folder / "haproxy.cfg").write_text(config_text(self.section))
        words = [haproxy(), "-W", "-f", self.folder / "haproxy.cfg", "-p", self.folder / "pid"]
        checked = subprocess.run([*words, "-c"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.listens, "HAProxy listens")

    def listens(self) -> bool:
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", self.port)) == 0

    def worker(self) -> int:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(self.folder / "admin.sock"))
                link.sendall(b"show info\n")
                text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
            except OSError:
                return 0
        return int(next((line.split()[1] for line in text.splitlines() if line.startswith("Pid:")), 0))

    def reload(self) -> None:
        assert self.process
        before = self.worker()
        self.process.send_signal(signal.SIGUSR2)
        wait_for(lambda: self.worker() not in (0, before), "another worker after the reload")

    def context(self, name: str = "") -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if name:
            made.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return made

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return context.wrap_socket(raw, server_hostname="g2", session=session)

    def get(
        self, name: str, path: str = "/health_generate", context: ssl.SSLContext | None = None, **how: Any
    ) -> int:
        """Status, or 0 where the connection is refused."""
        try:
            with self.connect(context or self.context(name), **how) as link:
                head = f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Sglang-Instance: a\r\nConnection: close\r\n\r\n"
                link.sendall(head.encode())
                data = b"".join(iter(lambda: link.recv(4096), b""))
                return int(data.split(b" ")[1]) if data else 0
        except OSError:
            return 0

    def stop(self) -> None:
        self.engine.go.set()  # type: ignore[attr-defined]
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        self.engine.shutdown()


@pytest.fixture
def proxy(authority: Authority) -> Iterator[Proxy]:
    if not haproxy():
        pytest.skip("haproxy is not installed (bindep.txt, profile gateway)")
    # Short: HAProxy takes no path of a socket above 97 characters.
    with tempfile.TemporaryDirectory(prefix="p-") as name:
        made = Proxy(Path(os.path.realpath(name)), authority)
        try:
            yield made
        finally:
            made.stop()


def test_a_real_haproxy_accepts_each_certificate_for_its_role_only(proxy: Proxy) -> None:
    proxy.certificate("former", Wanted("gateway", "g3"))
    proxy.certificate("monitor", Wanted("monitoring", "g1"))
    proxy.start()
    engine, metrics = "/health_generate", "/metrics/engine/a"
    found = {
        name: (proxy.get(name, engine), proxy.get(name, metrics))
        for name in ("", "gateway", "monitoring", "former", "monitor", "internal", "front")
    }
    assert found == {
        "": (0, 0),
        "gateway": (200, 404),
        "monitoring": (404, 200),
        # Right role, but the plan has no such gateway; right host, but another role.
        "former": (404, 404),
        "monitor": (404, 404),
        # Servers' certificates are no clients' certificates.
        "internal": (0, 0),
        "front": (0, 0),
    }


def test_a_real_haproxy_refuses_a_revoked_client_and_keeps_streams_through_the_reload(proxy: Proxy) -> None:
    proxy.start()
    assert proxy.get("gateway") == 200
    context = proxy.context("gateway")
    # Sessions of this version can be taken up again without another look at the certificate.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with proxy.connect(context) as link:
        link.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-Sglang-Instance: a\r\nContent-Length: 0\r\n\r\n"
        )
        started = link.recv(4096)
        assert b"200 OK" in started
        session = link.session
        # A session from before is one more way in.
        assert proxy.get("gateway", context=context, session=session) == 200
        with proxy.authority.open():
            # Of its front and of its internal connections.
            assert len(proxy.authority.revoke("g1")) == 2
        proxy.trust()
        proxy.reload()
        assert proxy.get("gateway") == 0
        assert proxy.get("gateway", context=context, session=session) == 0
        proxy.engine.go.set()  # type: ignore[attr-defined]
        rest = started
        while not rest.endswith(b"0\r\n\r\n"):
            piece = link.recv(4096)
            assert piece, "the stream ended early"
            rest += piece
        assert rest.partition(b"\r\n\r\n")[2].count(b"x") == 3
    with proxy.authority.open():
        proxy.authority.renew("g1", ["g1"])
    proxy.certificate("gateway", Wanted("gateway", "g1"))
    assert proxy.get("gateway") == 200


def served_by(proxy: Proxy, wanted: Wanted, revoked: bool = False) -> str:
    """What HAProxy's health check says of another host that shows this certificate."""
    folder = proxy.folder / "remote"
    folder.mkdir()
    serial = gateway_world.issue(proxy.authority, wanted, folder, "remote")
    if revoked:
        with proxy.authority.open():
            proxy.authority.revoke(serial)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "remote.crt", folder / "remote.key")

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        pieces, go = 1, threading.Event()

        def finish_request(self, request: Any, client_address: Any) -> None:
            with contextlib.suppress(OSError):
                super().finish_request(context.wrap_socket(request, server_side=True), client_address)

    server = Server(("127.0.0.1", 0), Engine)
    (other,) = proxy.section["front"]["models"]["tiny"]
    other["port"] = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        proxy.start()
        wait_for(lambda: check_status(proxy).startswith("L"), "the first health check")
        return check_status(proxy)
    finally:
        server.shutdown()
        server.server_close()


def check_status(proxy: Proxy) -> str:
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(str(proxy.folder / "admin.sock"))
            link.sendall(b"show stat\n")
            lines = b"".join(iter(lambda: link.recv(65536), b"")).decode().splitlines()
        except OSError:
            return ""
    names = lines[0].lstrip("# ").split(",")
    rows = [dict(zip(names, line.split(","))) for line in lines[1:] if line]
    found = next(
        (row["check_status"] for row in rows if (row["pxname"], row["svname"]) == ("model-tiny", "a")), ""
    )
    return found.removeprefix("* ")


@pytest.mark.parametrize(
    ("wanted", "revoked", "status"),
    [
        (Wanted("internal", "g2", ("g2",)), False, "L7OK"),
        (Wanted("internal", "g2", ("g2",)), True, "L6RSP"),
        (Wanted("internal", "g3", ("g3", "127.0.0.1")), False, "L6RSP"),
        (Wanted("front", "g1", ("*.g2.example",)), False, "L6RSP"),
        # HAProxy takes a common name where no other name fits: the role still keeps a client's certificate out.
        (Wanted("gateway", "g2"), False, "L6RSP"),
        (Wanted("monitoring", "g2"), False, "L6RSP"),
    ],
)
def test_a_real_haproxy_sends_requests_to_the_right_server_only(
    proxy: Proxy, wanted: Wanted, revoked: bool, status: str
) -> None:
    assert served_by(proxy, wanted, revoked) == status


def test_a_blocked_owner_gets_nothing_before_it_is_renewed(authority: Authority, tmp_path: Path) -> None:
    made = issue(authority, ENGINE, request(tmp_path))
    with authority.open():
        assert authority.revoke("g2") == [f"{made.serial_number:040x}"]
        assert authority.revoke("g2") == []
        with pytest.raises(AuthorityError, match="renew=g2"):
            authority.issue(ENGINE, request(tmp_path))
        authority.renew("g2", ["g2"])
        assert authority.why_issue(ENGINE, Seen()) == "there is none"
    issue(authority, ENGINE, request(tmp_path))
    with pytest.raises(AuthorityError, match="no certificate has this owner or serial"), authority.open():
        authority.revoke("g7")
