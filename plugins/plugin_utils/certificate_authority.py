# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The certificate authority on the controller: its keys, its record, and what it signs.

A host sends a request that proves that it has a key. Subject and extensions of the request are never looked at: owner, role
and names come from the plan.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.gateway import certificates as rules
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    DAY,
    Issued,
    Record,
    Settings,
    Wanted,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils import certificate_signing as signing

COLLECTION = Path(__file__).resolve().parents[2]
STATE = "authority.json"
KEY_NAME = 16
"""Characters of a key's hash that name its files."""
USES = ("current", "next", "previous")
ROTATIONS = ("begin", "switch", "finish")


class AuthorityError(Exception):
    """What is wrong, where, and what works instead."""

    def __init__(self, where: str, what: str, fix: str) -> None:
        super().__init__(f"REFUSED  {where}\n  {what}\n  {fix}")


@dataclass(frozen=True)
class Seen:
    """What a host has for one role, as it says itself."""

    certificate: str = ""
    fits: bool = False


class Authority:
    """Everything below one folder; every change happens under its lock and is written in one step."""

    def __init__(
        self, folder: str | Path, settings: Settings | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.settings = settings or Settings()
        self.now = now
        self.record = Record()
        self.keys: dict[str, str] = {}
        """Use -> identifier of a key: current, next, previous."""
        self.crl_number, self.crl_digest = 0, ""
        self.changed = False
        self._rehearsing = False

    @contextlib.contextmanager
    def open(self, create: bool = False) -> Iterator[Authority]:
        """Locked and read; made first where `create` says so."""
        self._refuse_place()
        if not self.exists() and not create:
            yield self
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.exists():
                self._read()
            else:
                self.keys = {"current": self._new_key()}
                self._save()
            if create:
                self._renew_own_certificates()
            yield self

    @contextlib.contextmanager
    def rehearsal(self, check: bool) -> Iterator[None]:
        """In check mode nothing that happens inside is written."""
        self._rehearsing = check
        yield
        self._rehearsing = False

    def exists(self) -> bool:
        return (self.folder / STATE).exists()

    def _refuse_place(self) -> None:
        where = f"certificates_dir = {self.folder}"
        if self.folder.resolve().is_relative_to(COLLECTION.resolve()):
            raise AuthorityError(
                where,
                "the authority's key must not lie inside the collection, from where it would get into bundles",
                "give certificates_dir a folder outside of the clone, or leave it out",
            )
        if not self.folder.exists():
            return
        for path in (self.folder, *sorted(self.folder.glob("*.key"))):
            found = path.stat()
            if found.st_uid not in (0, os.geteuid()):
                raise AuthorityError(
                    where,
                    f"{path} belongs to another user (uid {found.st_uid})",
                    "run as that user, or chown -R it",
                )
            if found.st_mode & 0o077:
                raise AuthorityError(
                    where,
                    f"{path} can be read by other users (mode {found.st_mode & 0o777:04o})",
                    f"chmod go= {path}, and rotate the authority where somebody may have read its key",
                )

    def _read(self) -> None:
        try:
            data = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
            self.keys = {str(use): str(name) for use, name in data["keys"].items()}
            self.crl_number, self.crl_digest = int(data["crl_number"]), str(data["crl_digest"])
            self.record = Record(
                [Issued.from_dict(item) for item in data["certificates"]],
                {str(owner): int(when) for owner, when in data["blocked"].items()},
                {str(owner): int(when) for owner, when in data["renewed"].items()},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise AuthorityError(
                f"certificates_dir = {self.folder}",
                f"{STATE} cannot be read: {error!r}",
                "restore the folder from its backup",
            ) from error
        for name in self.keys.values():
            for ending in ("key", "crt"):
                if not (self.folder / f"{name}.{ending}").exists():
                    raise AuthorityError(
                        f"certificates_dir = {self.folder}",
                        f"{name}.{ending} is missing",
                        "restore the folder from its backup",
                    )

    def _save(self) -> None:
        """The record, and revocation lists that fit to it."""
        self.changed = True
        if self._rehearsing:
            return
        lists = {name: self._revoked(name) for name in self._trusted()}
        # Only where it says something new: each new text is brought to every host, which reloads.
        digest = _digest([lists, [self._text(name, "crt") for name in lists]])
        if digest != self.crl_digest:
            self.crl_number, self.crl_digest = self.crl_number + 1, digest
            write(self.folder / "crl.pem", "".join(self._crl(*item) for item in lists.items()))
        data = {
            "keys": self.keys,
            "crl_number": self.crl_number,
            "crl_digest": self.crl_digest,
            "certificates": [item.to_dict() for item in self.record.certificates],
            "blocked": self.record.blocked,
            "renewed": self.record.renewed,
        }
        write(self.folder / STATE, json.dumps(data, indent=1, sort_keys=True) + "\n")

    def _trusted(self) -> list[str]:
        return [self.keys[use] for use in USES if use in self.keys]

    def texts(self) -> tuple[str, str]:
        """Certificates that hosts accept, and a revocation list for each: HAProxy wants one for every link of a chain."""
        if not self.keys:
            return "", ""
        trust = "".join(self._text(name, "crt") for name in self._trusted())
        return trust, (self.folder / "crl.pem").read_text(encoding="utf-8")

    def trusted_keys(self) -> set[str]:
        return signing.keys_of(self.texts()[0])

    def _new_key(self) -> str:
        key, identifier = signing.new_key()
        name = identifier[:KEY_NAME]
        write(self.folder / f"{name}.key", key)
        self._certify_self(name)
        return name

    def _text(self, name: str, ending: str) -> str:
        return (self.folder / f"{name}.{ending}").read_text(encoding="utf-8")

    def _certify_self(self, name: str) -> None:
        start, end = self._validity(self.settings.authority_days)
        made = signing.authority_certificate(self._text(name, "key"), name, start, end)
        write(self.folder / f"{name}.crt", made)

    def _renew_own_certificates(self) -> None:
        """With their own keys, so that all that they signed stays valid."""
        least = self.now() + (self.settings.days + self.settings.renew_days) * DAY
        ending = [name for name in self._trusted() if signing.end_of(self._text(name, "crt")) < least]
        for name in ending:
            self._certify_self(name)
        if ending:
            self._save()

    def _validity(self, days: int) -> tuple[int, int]:
        """From a while ago, as clocks of hosts without a network differ."""
        now = int(self.now())
        return now - self.settings.backdate_hours * 3600, now + days * DAY

    def why_issue(self, wanted: Wanted, seen: Seen) -> str:
        if not self.keys:
            return "there is none"
        sha256 = signing.sha256_of(seen.certificate)
        return rules.why_issue(
            wanted,
            sha256,
            seen.fits,
            self.record,
            self.keys["current"],
            int(self.now()),
            self.settings.renew_days,
        )

    def refuse_wanted(self, wanted: Iterable[Wanted]) -> None:
        errors = [error for item in wanted for error in item.errors()]
        if errors:
            raise AuthorityError(
                "certificates", "; ".join(errors), "rename the host, or correct gateway.names"
            )

    def refuse_blocked(self, wanted: Wanted) -> None:
        raise AuthorityError(
            f"certificate of {wanted.owner}",
            f"its certificates were revoked by name on {rules.date(self.record.blocked[wanted.owner])}",
            f"give it new ones with playbooks/certificates.yml -e renew={wanted.owner}, "
            "or take it out of the inventory",
        )

    def issue(self, wanted: Wanted, request: str) -> str:
        """A certificate for the key of the request, and nothing else of the request."""
        self.refuse_wanted([wanted])
        if wanted.owner in self.record.blocked:
            self.refuse_blocked(wanted)
        try:
            public = signing.proven_key(request)
        except ValueError as error:
            raise AuthorityError(
                f"certificate of {wanted.owner}",
                f"the host sent an invalid certificate request: {error}",
                f"look at {wanted.owner}: module certificate_files makes another one",
            ) from error
        identifier = signing.key_id(public)
        other = next((item for item in self.record.certificates if item.key == identifier), None)
        if other is not None or identifier[:KEY_NAME] in self._trusted():
            raise AuthorityError(
                f"certificate of {wanted.owner}",
                f"its request uses a key that belongs to {other.owner if other else 'the authority'} already",
                "delete the *.key files of a host that is a copy of another, and run again",
            )
        name = self.keys["current"]
        made = signing.leaf_certificate(
            self._text(name, "key"),
            self._text(name, "crt"),
            public,
            wanted,
            *self._validity(self.settings.days),
        )
        self.record.certificates.append(
            Issued(
                serial=made.serial,
                owner=wanted.owner,
                role=wanted.role,
                names=wanted.names,
                issued=int(self.now()),
                ends=made.ends,
                authority=name,
                key=identifier,
                sha256=made.sha256,
            )
        )
        # Recorded before anybody has it: what is not recorded cannot be revoked.
        self._save()
        return made.pem

    def _revoked(self, name: str) -> list[tuple[str, int]]:
        return [
            (item.serial, item.revoked)
            for item in self.record.certificates
            if item.authority == name and item.revoked and item.ends > self.now()
        ]

    def _crl(self, name: str, revoked: list[tuple[str, int]]) -> str:
        start = self._validity(0)[0]
        return signing.revocation_list(
            self._text(name, "key"), self._text(name, "crt"), self.crl_number, start, revoked
        )

    def revoke(self, asked: str) -> list[str]:
        """Serials that are revoked now; by name, the owner is also refused new certificates until it is renewed."""
        found = rules.matching(self.record, asked)
        if not found:
            known = sorted({item.owner for item in self.record.certificates})
            raise AuthorityError(
                f"revoke = {asked}",
                "no certificate has this owner or serial",
                f"known owners: {', '.join(known) or 'none'}; playbooks/certificates.yml lists the serials",
            )
        now = int(self.now())
        valid = [item for item in found if not item.revoked and item.ends > now]
        by_name = any(item.owner == asked for item in found)
        if not valid and (not by_name or asked in self.record.blocked):
            return []
        serials = {item.serial for item in valid}
        self.record.certificates = [
            replace(item, revoked=now) if item.serial in serials else item
            for item in self.record.certificates
        ]
        if by_name:
            self.record.blocked.setdefault(asked, now)
        self._save()
        return sorted(serials)

    def renew(self, owner: str, known: Iterable[str]) -> None:
        """The next run gives it new keys and certificates."""
        if owner not in known:
            raise AuthorityError(
                f"renew = {owner}", "the inventory has no such host", f"known: {', '.join(sorted(known))}"
            )
        # What is issued in this second is new as well.
        self.record.renewed[owner] = int(self.now())
        self.record.blocked.pop(owner, None)
        self.record.certificates = [
            replace(item, issued=min(item.issued, int(self.now()) - 1)) if item.owner == owner else item
            for item in self.record.certificates
        ]
        self._save()

    def rotate(self, step: str) -> None:
        """A new key in three steps, so that hosts and clients accept it before it signs."""
        needed = {"begin": ("next", False), "switch": ("next", True), "finish": ("previous", True)}
        if step not in ROTATIONS:
            raise AuthorityError(f"rotate = {step}", "unknown step", f"give one of {', '.join(ROTATIONS)}")
        use, there = needed[step]
        if (use in self.keys) != there or (step == "begin" and "previous" in self.keys):
            raise AuthorityError(
                f"rotate = {step}",
                f"the authority has these keys now: {', '.join(sorted(self.keys))}",
                "the steps are begin, then switch, then finish, each after the one before has reached every host",
            )
        if step == "begin":
            self.keys["next"] = self.keys["current"] if self._rehearsing else self._new_key()
        elif step == "switch":
            self.keys["previous"] = self.keys["current"]
            self.keys["current"] = self.keys.pop("next")
        else:
            old = self.keys.pop("previous")
            using = sorted(
                {
                    item.owner
                    for item in self.record.certificates
                    if item.authority == old and self.record.newest(item.owner, item.role) == item
                    and item.ends > self.now() and not item.revoked
                }
            )  # fmt: skip
            if using:
                raise AuthorityError(
                    "rotate = finish",
                    f"the newest certificates of {', '.join(using)} are signed by the old key",
                    "run playbooks/monitoring.yml first (hosts that are gone: revoke them by name)",
                )
        self._save()
        if step == "finish" and not self._rehearsing:
            (self.folder / f"{old}.key").unlink()
            (self.folder / f"{old}.crt").unlink()

    def rows(self, hosts: Iterable[str]) -> list[dict[str, str]]:
        return rules.listing(self.record, hosts, int(self.now()), self.settings.renew_days)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def write(path: Path, text: str) -> None:
    """For the owner alone, in one step."""
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)
    handle = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    made.rename(path)
