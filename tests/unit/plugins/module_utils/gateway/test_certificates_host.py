# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An authority and what it signs, with the real openssl; and what the controller reads of files that are given."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates_host import (
    Openssl,
    OpensslError,
    alternative_names,
    end_of,
    names_of,
    publish,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_files import read_certificate

NAMES = ["gpu-01", "10.0.0.11", "llm.example", "fd00::1"]


def run(words: Any, **_how: Any) -> tuple[int, str, str]:
    done = subprocess.run(list(words), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    openssl = Openssl(run)
    openssl.make_authority(str(tmp_path), 400, "test")
    issue(tmp_path, 90)
    return tmp_path


def issue(folder: Path, days: int) -> None:
    openssl = Openssl(run)
    if not (folder / "inner.key").exists():
        openssl.make_key(str(folder / "inner.key"))
    csr = openssl.request(str(folder / "inner.key"), {"O": "x", "OU": "gateway", "CN": "gpu-01"})
    publish(str(folder / "inner.crt"), openssl.sign(str(folder), csr, NAMES, days), 0o644)


def why_not(folder: Path, names: list[str] | None = None, days: int = 30) -> str:
    paths = (str(folder / name) for name in ("inner.crt", "inner.key", "ca.crt"))
    return Openssl(run).why_not(*paths, NAMES if names is None else names, days)


def test_what_is_signed_passes_the_strictest_look(tls: Path) -> None:
    words = ["openssl", "verify", "-x509_strict", "-CAfile", tls / "ca.crt"]
    for purpose in ("sslserver", "sslclient"):
        status, out, err = run(
            [*words, "-purpose", purpose, "-verify_hostname", "llm.example", tls / "inner.crt"]
        )
        assert status == 0, out + err
    assert (tls / "inner.key").stat().st_mode & 0o777 == (tls / "ca.key").stat().st_mode & 0o777 == 0o600
    assert why_not(tls) == ""


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [(NAMES, 91, "days left"), ([*NAMES, "other.example"], 30, "it lacks DNS:other.example")],
)
def test_when_a_new_one_is_needed(tls: Path, names: list[str], days: int, words: str) -> None:
    assert words in why_not(tls, names, days)


def test_another_key_another_authority_and_nothing_at_all(tls: Path, tmp_path: Path) -> None:
    Openssl(run).make_key(str(tls / "inner.key"))
    assert why_not(tls) == "it does not belong to the key"
    (tls / "ca.key").unlink()
    Openssl(run).make_authority(str(tls), 400, "test")
    assert "verif" in why_not(tls)
    (tls / "inner.crt").unlink()
    assert why_not(tls) == "there is none"


def test_a_renewed_authority_keeps_what_it_signed(tls: Path) -> None:
    Openssl(run).make_authority(str(tls), 800, "test")
    assert why_not(tls) == ""


def test_names_are_read_as_they_are_written() -> None:
    printed = "X509v3 Subject Alternative Name: \n    DNS:gpu-01, IP Address:10.0.0.11, DNS:llm.example, IP Address:FD00:0:0:0:0:0:0:1\n"
    assert ", ".join(names_of(printed)) == alternative_names(NAMES)
    assert end_of("notAfter=Jan  2 00:00:00 1970 GMT\n") == 86400


def test_what_openssl_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(OpensslError, match=r"openssl x509: .*"):
        Openssl(run).days_left(str(tmp_path / "none"), 0)


def given(folder: Path, certificate: str = "inner.crt", key: str = "inner.key") -> dict[str, Any]:
    return read_certificate({"certificate": str(folder / certificate), "key": str(folder / key)})


def test_files_that_are_given(tls: Path) -> None:
    seen = given(tls)
    assert seen["key_matches"] and seen["days_left"] == 89 and seen["days_to_start"] == 0
    assert sorted(seen["names"]) == sorted(["gpu-01", "llm.example", "10.0.0.11", "fd00::1"])
    assert not given(tls, key="ca.key")["key_matches"]
    assert "cannot be read: No such file" in given(tls, "none.crt")["problem"]
    assert "holds no certificate" in given(tls, "inner.key")["problem"]
    assert "holds no private key" in given(tls, key="inner.crt")["problem"]
    words = [
        "openssl",
        "ec",
        "-in",
        tls / "inner.key",
        "-aes128",
        "-passout",
        "pass:x",
        "-out",
        tls / "locked.key",
    ]
    subprocess.run(words, check=True, capture_output=True)
    assert "has a passphrase" in given(tls, key="locked.key")["problem"]
    assert read_certificate({}) == read_certificate(None) == read_certificate({"certificate": "x"}) == {}
