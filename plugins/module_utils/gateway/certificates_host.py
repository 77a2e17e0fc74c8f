# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates with the host's own openssl: a private key never leaves the host that it was made on."""

from __future__ import annotations

import calendar
import ipaddress
import os
import secrets
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..facts.host import RunCommand

DAY = 86400
ORGANIZATION = "baremetal.sglang"
# openssl.cnf of the distribution would add extensions of its own.
CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
{subject}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
LEAF = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


class OpensslError(Exception):
    """What openssl said."""


def alternative_names(names: Iterable[str]) -> str:
    found = []
    for name in names:
        try:
            found.append(f"IP:{ipaddress.ip_address(name)}")
        except ValueError:
            found.append(f"DNS:{name}")
    return ", ".join(found)


def names_of(printed: str) -> list[str]:
    """Out of `openssl x509 -ext subjectAltName`, as alternative_names writes them."""
    found = []
    for item in (word.strip() for line in printed.splitlines() for word in line.split(",")):
        if item.startswith("DNS:"):
            found.append(item)
        elif item.startswith("IP Address:"):
            found.append(f"IP:{ipaddress.ip_address(item.partition(':')[2])}")
    return found


def end_of(printed: str) -> int:
    """Seconds since 1970 out of `notAfter=Nov 21 20:06:18 2026 GMT`."""
    return calendar.timegm(time.strptime(printed.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z"))


@dataclass
class Openssl:
    run: RunCommand

    def __call__(self, *words: str) -> str:
        status, out, err = self.run(["openssl", *words])
        if status:
            raise OpensslError(f"openssl {words[0]}: {' '.join(str(err or out).split())[-400:]}")
        return str(out)

    def make_key(self, path: str) -> None:
        made = f"{path}.new"
        with open(os.open(made, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8"):
            pass
        self("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", made)
        os.chmod(made, 0o600)
        os.rename(made, path)

    def request(self, key: str, subject: dict[str, str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            settings = _written(folder, "settings", CONFIGURATION.format(subject=_lines(subject)))
            return self("req", "-new", "-key", key, "-config", settings)

    def make_authority(self, folder: str, days: int, name: str) -> None:
        """With the key that is there: what it signed before stays good."""
        key, certificate = os.path.join(folder, "ca.key"), os.path.join(folder, "ca.crt")
        if not os.path.exists(key):
            self.make_key(key)
        with tempfile.TemporaryDirectory() as made:
            subject = {"O": ORGANIZATION, "CN": name}
            settings = _written(made, "settings", CONFIGURATION.format(subject=_lines(subject)))
            text = self(
                *("req", "-x509", "-new", "-key", key, "-config", settings, "-extensions", "authority"),
                *("-days", str(days), "-sha256", "-set_serial", _serial()),
            )
        publish(certificate, text, 0o644)

    def sign(self, authority: str, request: str, names: Iterable[str], days: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            asked = _written(folder, "request", request)
            extensions = _written(folder, "extensions", LEAF.format(names=alternative_names(names)))
            return self(
                *("x509", "-req", "-in", asked, "-CA", os.path.join(authority, "ca.crt")),
                *("-CAkey", os.path.join(authority, "ca.key"), "-set_serial", _serial()),
                *("-days", str(days), "-sha256", "-extfile", extensions),
            )

    def days_left(self, certificate: str, now: float) -> float:
        return (end_of(self("x509", "-in", certificate, "-noout", "-enddate")) - now) / DAY

    def why_not(self, certificate: str, key: str, authority: str, names: Iterable[str], days: int) -> str:
        """Why a new one is needed; empty where this one is good for long enough."""
        if not os.path.exists(certificate) or not os.path.exists(authority):
            return "there is none"
        try:
            self("verify", "-CAfile", authority, certificate)
            left = self.days_left(certificate, time.time())
            there = names_of(self("x509", "-in", certificate, "-noout", "-ext", "subjectAltName"))
            fits = self("x509", "-in", certificate, "-noout", "-pubkey") == self(
                "pkey", "-in", key, "-pubout"
            )
        except OpensslError as error:
            return str(error)
        if left < days:
            return f"it has {left:.0f} days left"
        if not fits:
            return "it does not belong to the key"
        lacking = set(alternative_names(names).split(", ")) - set(there)
        return f"it lacks {', '.join(sorted(lacking))}" if lacking else ""


def publish(path: str, text: str, mode: int) -> None:
    handle, made = tempfile.mkstemp(prefix=".certificate-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(made, mode)
    os.rename(made, path)


def _lines(subject: dict[str, str]) -> str:
    return "\n".join(f"{key} = {value}" for key, value in subject.items())


def _serial() -> str:
    return f"0x{secrets.token_hex(16)}"


def _written(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path
