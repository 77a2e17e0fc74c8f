# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads on the controller a certificate that is given for the gateway; the planner judges it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

DAY = 86400


def read_certificate(gateway: Any) -> dict[str, Any]:
    """{problem} where the files cannot be used; empty where none are given."""
    given = gateway if isinstance(gateway, dict) else {}
    certificate, key = given.get("certificate"), given.get("key")
    if not (isinstance(certificate, str) and isinstance(key, str) and certificate and key):
        return {}
    # ansible-core brings it; hosts never need it.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    path, what = certificate, "certificate"
    try:
        found = x509.load_pem_x509_certificate(Path(certificate).expanduser().read_bytes())
        path, what = key, "private key"
        private = serialization.load_pem_private_key(Path(key).expanduser().read_bytes(), password=None)
    except OSError as error:
        return {"problem": f"{path} cannot be read: {error.strerror}"}
    except TypeError:
        return {"problem": f"{path} has a passphrase, and HAProxy starts without anybody to type it"}
    except ValueError:
        return {"problem": f"{path} holds no {what} in PEM form"}
    now = datetime.now(timezone.utc)
    form = {
        "encoding": serialization.Encoding.DER,
        "format": serialization.PublicFormat.SubjectPublicKeyInfo,
    }
    return {
        "key_matches": private.public_key().public_bytes(**form) == found.public_key().public_bytes(**form),
        "days_left": int((found.not_valid_after_utc - now).total_seconds() // DAY),
        "days_to_start": max(0, -int((now - found.not_valid_before_utc).total_seconds() // DAY)),
        "names": _names(found),
    }


def _names(certificate: Any) -> list[str]:
    from cryptography import x509

    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *said.get_values_for_type(x509.DNSName),
        *(str(item) for item in said.get_values_for_type(x509.IPAddress)),
    ]
