# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of a bundle's manifest, by `ssh-keygen -Y`: no tool that a controller does not have."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import (
    MANIFEST,
    NAMESPACE,
    SIGNATURE,
)

KEY = re.compile(r"key (SHA256:\S+)")


class SignatureError(Exception):
    """Says why a signature is not accepted, or cannot be made."""


POLICY_ARGUMENTS: dict[str, Any] = {
    "allowed_signers": {"type": "path", "default": ""},
    "signer": {"type": "str", "default": ""},
}
"""Options of every action that reads a bundle."""


@dataclass(frozen=True)
class SignaturePolicy:
    """Whose signature of a manifest is accepted."""

    allowed: Path | None
    """File of allowed signers; without one, a bundle that nobody signed is accepted."""
    signer: str = ""
    """The only name of that file that is accepted; empty accepts all of them."""

    @classmethod
    def from_arguments(cls, given: Mapping[str, Any]) -> SignaturePolicy:
        allowed = str(given["allowed_signers"] or "")
        return cls(Path(allowed) if allowed else None, str(given["signer"] or ""))

    def problems(self, folder: Path) -> list[str]:
        """What makes the policy itself useless for a bundle in that folder."""
        if self.allowed is None:
            return (
                [
                    f"bundle_signer = {self.signer}: names a signer without the file that has the keys: "
                    "set bundle_allowed_signers too"
                ]
                if self.signer
                else []
            )
        if not self.allowed.is_file():
            return [f"bundle_allowed_signers = {self.allowed}: there is no such file"]
        if self.allowed.resolve().is_relative_to(folder.resolve()):
            return [
                f"bundle_allowed_signers = {self.allowed}: lies in the bundle that it is to judge: "
                "keep the file on the controller"
            ]
        return []


ANYBODY = SignaturePolicy(None)
"""Accepts what nobody signed; a signature that is there must hold all the same."""


@dataclass(frozen=True)
class Signed:
    key: str
    """Fingerprint; empty when the bundle is not signed."""
    by: str = ""
    """Who it is in the file of allowed signers; empty when there is no such file."""

    @property
    def words(self) -> str:
        if not self.key:
            return "not signed: nobody vouches for it"
        if not self.by:
            return f"signed with key {self.key}, which nothing was compared with (bundle_allowed_signers is not set)"
        return f"signed by {self.by} with key {self.key}"


def _ssh_keygen(*words: str, data: bytes | None = None) -> subprocess.CompletedProcess[str]:
    try:
        # A passphrase that is asked for would hang a run; a key with one belongs in an agent.
        done = subprocess.run(
            ["ssh-keygen", *words],
            input=data or b"",
            capture_output=True,
            check=False,
            env={**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise SignatureError("ssh-keygen is not here: install the OpenSSH client of this machine") from error
    # No terminal control and no unreadable bytes from a file that somebody else made.
    text = (stream.decode(errors="replace").strip() for stream in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *text)


def sign(folder: Path, key: Path, data: bytes) -> bool:
    """Signs the manifest; keeps a signature of the same key that still holds. Says whether it is another."""
    target = folder / SIGNATURE
    fingerprint = _fingerprint(key)
    if target.is_file():
        done = _ssh_keygen("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(target), data=data)
        if done.returncode == 0 and fingerprint in done.stdout:
            return False
    part = folder / f"{SIGNATURE}.part"
    part.write_bytes(_signature(key, data))
    part.rename(target)
    return True


def prove(key: Path) -> None:
    """Whether the key will sign, known before anything is fetched that it is to vouch for."""
    _fingerprint(key)
    _signature(key, b"")


def _fingerprint(key: Path) -> str:
    own = _ssh_keygen("-l", "-f", str(key))
    if own.returncode:
        raise SignatureError(f"bundle_sign_key = {key}: {own.stderr}")
    return own.stdout.split()[1]


def _signature(key: Path, data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / MANIFEST
        copy.write_bytes(data)
        done = _ssh_keygen("-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(copy))
        if done.returncode:
            raise SignatureError(f"bundle_sign_key = {key}: {done.stderr}")
        return (Path(place) / SIGNATURE).read_bytes()


def check(signature: bytes | None, data: bytes, policy: SignaturePolicy) -> Signed:
    """Who signed these bytes; a signature that does not hold is refused even where nobody is asked for."""
    if signature is None:
        if policy.allowed is None:
            return Signed("")
        raise SignatureError(
            f"{SIGNATURE}: is missing: the bundle is not signed, and {policy.allowed} says who must have"
        )
    with tempfile.TemporaryDirectory() as place:
        # A copy: what lies on a disk that is carried around may be another file at the next look.
        copy = Path(place) / SIGNATURE
        copy.write_bytes(signature)
        return _checked(copy, data, policy)


def _checked(signature: Path, data: bytes, policy: SignaturePolicy) -> Signed:
    allowed, signer = policy.allowed, policy.signer
    done = _ssh_keygen("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(signature), data=data)
    if done.returncode:
        raise SignatureError(
            f"{SIGNATURE}: does not belong to this {MANIFEST}: one of the two was changed ({done.stderr})"
        )
    match = KEY.search(done.stdout)
    key = match[1] if match else "unknown"
    if allowed is None:
        return Signed(key)
    principals = _ssh_keygen("-Y", "find-principals", "-s", str(signature), "-f", str(allowed))
    known = principals.stdout.splitlines()
    if principals.returncode:
        expired = [line for line in principals.stderr.splitlines() if "expired" in line or "not yet" in line]
        if expired:
            raise SignatureError(f"{SIGNATURE}: the time of key {key} is over: {expired[0]}")
        raise SignatureError(f"{SIGNATURE}: unknown signer: key {key} stands in no line of {allowed}")
    if signer and signer not in known:
        raise SignatureError(f"{SIGNATURE}: signed by {', '.join(known)}, and bundle_signer wants {signer}")
    name = signer or known[0]
    done = _ssh_keygen(
        *("-Y", "verify", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", str(signature)), data=data
    )
    if done.returncode:
        raise SignatureError(f"{SIGNATURE}: not accepted from {name}: {done.stderr or done.stdout}")
    return Signed(key, name)
