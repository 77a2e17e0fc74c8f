# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and requests with the real openssl; and what the controller reads of files that are given."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates_host import (
    Openssl,
    OpensslError,
    end_of,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_files import read_certificate

NAMES = ["gpu-01", "10.0.0.11", "llm.example", "fd00::1"]


def run(words: Any, **_how: Any) -> tuple[int, str, str]:
    done = subprocess.run(list(words), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    """A certificate that somebody gives, and another key."""
    Openssl(run).make_key(str(tmp_path / "front.key"))
    Openssl(run).make_key(str(tmp_path / "other.key"))
    names = ",".join(
        f"{'IP' if name[-1].isdigit() and 'gpu' not in name else 'DNS'}:{name}" for name in NAMES
    )
    words = [
        "openssl",
        "req",
        "-x509",
        "-new",
        "-key",
        tmp_path / "front.key",
        "-subj",
        "/CN=x",
        "-days",
        "90",
    ]
    status, _out, err = run([*words, "-addext", f"subjectAltName={names}", "-out", tmp_path / "front.crt"])
    assert status == 0, err
    return tmp_path


def test_a_key_is_for_its_owner_and_overwrites_no_link(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("secret")
    (tmp_path / "a.key.part").symlink_to(tmp_path / "shadow")
    Openssl(run).make_key(str(tmp_path / "a.key"))
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "shadow").read_text() == "secret"


def test_a_request_holds_nothing_but_the_key(tmp_path: Path) -> None:
    from cryptography import x509

    openssl = Openssl(run)
    openssl.make_key(str(tmp_path / "a.key"))
    made = x509.load_pem_x509_csr(openssl.request(str(tmp_path / "a.key")).encode())
    assert made.is_signature_valid and made.subject.rfc4514_string() == "CN=request"
    assert list(made.extensions) == []


def test_what_belongs_to_a_key(tls: Path) -> None:
    openssl = Openssl(run)
    assert openssl.fits(str(tls / "front.crt"), str(tls / "front.key"))
    assert not openssl.fits(str(tls / "front.crt"), str(tls / "other.key"))
    assert not openssl.fits(str(tls / "front.crt"), str(tls / "none.key"))
    assert end_of("notAfter=Jan  2 00:00:00 1970 GMT\n") == 86400


def test_what_openssl_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(OpensslError, match=r"openssl req: .*"):
        Openssl(run).request(str(tmp_path / "none"))


def given(folder: Path, certificate: str = "front.crt", key: str = "front.key") -> dict[str, Any]:
    return read_certificate({"certificate": str(folder / certificate), "key": str(folder / key)})


def test_files_that_are_given(tls: Path) -> None:
    seen = given(tls)
    assert seen["key_matches"] and seen["days_left"] == 89 and seen["days_to_start"] == 0
    assert sorted(seen["names"]) == sorted(["gpu-01", "llm.example", "10.0.0.11", "fd00::1"])
    assert not given(tls, key="other.key")["key_matches"]
    assert "cannot be read: No such file" in given(tls, "none.crt")["problem"]
    assert "holds no certificate" in given(tls, "front.key")["problem"]
    assert "holds no private key" in given(tls, key="front.crt")["problem"]
    words = [
        "openssl",
        "ec",
        "-in",
        tls / "front.key",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        tls / "locked.key",
    ]
    subprocess.run(words, check=True, capture_output=True)
    assert "has a passphrase" in given(tls, key="locked.key")["problem"]
    assert read_certificate({}) == read_certificate(None) == read_certificate({"certificate": "x"}) == {}
