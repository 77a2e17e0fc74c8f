# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, certificates and revocation lists as PEM texts, by the library that ansible-core brings. Decides nothing.

Times are seconds since 1970.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    ORGANIZATION,
    ROLES,
    Wanted,
    as_address,
)

# Absent only where nothing but the syntax of this file is checked.
with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LONGEST_REQUEST = 16384


@dataclass(frozen=True)
class Signed:
    pem: str
    serial: str
    sha256: str
    ends: int


def new_key() -> tuple[str, str]:
    """A private key, and the name that follows from it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return _private_pem(key), key_id(key.public_key())


def new_request() -> tuple[str, str]:
    """A key and a request for it, for what lies on the controller itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(_name(NameOID.COMMON_NAME, "request"))
    return _private_pem(key), _pem(made.sign(key, hashes.SHA256()))


def key_id(public: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def authority_certificate(key_pem: str, name: str, start: int, end: int) -> str:
    """Signed by its own key; it may sign certificates and lists, and no other authority."""
    key = _load_key(key_pem)
    subject = x509.Name(
        [
            *_name(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            *_name(NameOID.COMMON_NAME, f"{ORGANIZATION} authority {name}"),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(start))
        .not_valid_after(_time(end))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pem(made.sign(key, hashes.SHA256()))


def leaf_certificate(
    key_pem: str, authority_pem: str, public: ec.EllipticCurvePublicKey, wanted: Wanted, start: int, end: int
) -> Signed:
    key, issuer, role = _load_key(key_pem), _load(authority_pem), ROLES[wanted.role]
    usages = [
        *([ExtendedKeyUsageOID.SERVER_AUTH] if role.server else []),
        *([ExtendedKeyUsageOID.CLIENT_AUTH] if role.client else []),
    ]
    subject = x509.Name(
        [
            *_name(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            *_name(NameOID.ORGANIZATIONAL_UNIT_NAME, wanted.role),
            *_name(NameOID.COMMON_NAME, wanted.owner),
        ]
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(start))
        .not_valid_after(min(_time(end), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
    )
    if wanted.names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in wanted.names])
        made = made.add_extension(names, critical=False)
    signed = made.sign(key, hashes.SHA256())
    return Signed(
        _pem(signed),
        f"{signed.serial_number:040x}",
        signed.fingerprint(hashes.SHA256()).hex(),
        int(signed.not_valid_after_utc.timestamp()),
    )


def revocation_list(
    key_pem: str, authority_pem: str, number: int, start: int, revoked: Iterable[tuple[str, int]]
) -> str:
    """It lasts as long as the authority: a list that ends between two runs would shut every listener."""
    key, issuer = _load_key(key_pem), _load(authority_pem)
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(_time(start))
        .next_update(issuer.not_valid_after_utc)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(_time(when))
        made = made.add_revoked_certificate(entry.build())
    return _pem(made.sign(key, hashes.SHA256()))


def proven_key(request: str) -> ec.EllipticCurvePublicKey:
    """The key of a request, when the request proves that its sender has it; ValueError says what is wrong with it."""
    if len(request) > LONGEST_REQUEST:
        raise ValueError(f"it is longer than {LONGEST_REQUEST} characters")
    try:
        found = x509.load_pem_x509_csr(request.encode())
        public, proven = found.public_key(), found.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"it cannot be read: {str(error)[:200]}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise ValueError("its key is of another kind than P-256")
    if not proven:
        raise ValueError("it is not signed by the key in it")
    return public


def end_of(pem: str) -> int:
    return int(_load(pem).not_valid_after_utc.timestamp())


def sha256_of(pem: str) -> str:
    """Hash of the first certificate in what a host says that it has; empty where there is none."""
    try:
        return _load(pem).fingerprint(hashes.SHA256()).hex()
    except ValueError:
        return ""


def keys_of(pems: str) -> set[str]:
    """Names of the keys of all certificates in a text; empty where there is none."""
    try:
        found = x509.load_pem_x509_certificates(pems.encode())
    except ValueError:
        return set()
    return {key_id(item.public_key()) for item in found}


def belong(pem: str, key_pem: str) -> bool:
    """Whether a certificate was made for a key."""
    try:
        return key_id(_load(pem).public_key()) == key_id(_load_key(key_pem).public_key())
    except ValueError:
        return False


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind than P-256")
    return key


def _pem(made: Any) -> str:
    return str(made.public_bytes(serialization.Encoding.PEM).decode())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _name(oid: x509.ObjectIdentifier, value: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value)])


def _general_name(name: str) -> x509.GeneralName:
    address = as_address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _key_usage(*wanted: str) -> x509.KeyUsage:
    every = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in wanted for name in every})


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
