# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and requests with the host's own openssl: a private key never leaves the host that it was made on."""

from __future__ import annotations

import calendar
import os
import tempfile
import time
from dataclasses import dataclass

from ..facts.host import RunCommand

# No part of this comes from a name: the authority ignores all of a request but its key.
CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
CN = request
"""


class OpensslError(Exception):
    """What openssl said."""


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
        """Always a new file: what lies there already, or is linked from there, is not written to."""
        made = f"{path}.part"
        if os.path.lexists(made):
            os.unlink(made)
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", made)
        os.chmod(made, 0o600)
        os.rename(made, path)

    def request(self, key: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            settings = os.path.join(folder, "settings")
            with open(settings, "w", encoding="utf-8") as stream:
                stream.write(CONFIGURATION)
            return self("req", "-new", "-key", key, "-config", settings)

    def fits(self, certificate: str, key: str) -> bool:
        """Whether a certificate was made for a key."""
        try:
            return self("x509", "-in", certificate, "-noout", "-pubkey") == self(
                "pkey", "-in", key, "-pubout"
            )
        except OpensslError:
            return False


def publish(path: str, text: str, mode: int) -> None:
    handle, made = tempfile.mkstemp(prefix=".certificate-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(made, mode)
    os.rename(made, path)
