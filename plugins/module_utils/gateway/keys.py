# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of the gateway: who has one, by its hash alone, and what a running HAProxy has to be told."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
DIGEST = re.compile(r"[0-9A-F]{64}")
WHOLE = re.compile(r"[0-9]{1,9}")
DECIMAL = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
NONE = "none"
OPTIONS = {
    "rate": (WHOLE, 1, "a whole number from 1 to 999999999"),
    "concurrency": (WHOLE, 1, "a whole number from 1 to 999999999"),
    "days": (DECIMAL, 86400, "a number of days above 0, such as 90 or 0.5"),
    "grace_seconds": (WHOLE, 1, "a whole number of seconds from 1 on"),
}
"""What may be said of each: form, seconds or requests in one, in words."""
PREFIX = "sk-"
SCHEMA = 1
BATCH = 200
"""Commands in one line to the admin socket, which reads 16 KiB at most."""


class KeysError(Exception):
    """What is wrong, and what would work."""


@dataclass(frozen=True)
class Key:
    name: str
    sha256: str
    """Of the key, in upper case as HAProxy makes it; the key itself is nowhere."""
    rate: int = 0
    """Requests a minute; 0 means unlimited."""
    concurrency: int = 0
    """Requests at once."""
    until: int = 0
    """Seconds since 1970 at which it ends; 0 is never."""
    made: int = 0


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest().upper()


def parse(text: str) -> list[Key]:
    if not text.strip():
        return []
    try:
        said = json.loads(text)
        keys = [Key(**entry) for entry in said["keys"]]
        for key in keys:
            _whole(key)
        return keys
    except (ValueError, KeyError, TypeError) as error:
        raise KeysError(
            f"the file of keys cannot be read ({error}): bring it back from a copy, or remove it and make new keys"
        ) from error


def _whole(key: Key) -> None:
    """Raises where a field would be something else in the map: a name with a newline has no limits there."""
    numbers = (key.rate, key.concurrency, key.until, key.made)
    if any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers):
        raise ValueError(f"a number of {key.name!r} is negative or not whole")
    if not (isinstance(key.name, str) and NAME.fullmatch(key.name)):
        raise ValueError(f"invalid name {key.name!r}")
    if not (isinstance(key.sha256, str) and DIGEST.fullmatch(key.sha256)):
        raise ValueError(f"invalid hash of {key.name!r}")


def numbers(given: Mapping[str, str]) -> dict[str, int]:
    """Limits and times that were asked for; 0 for `none` alone, because every other 0 would be a key without limits."""
    found, wrong = {}, []
    for option, (expression, unit, words) in OPTIONS.items():
        said = given[option]
        if said == NONE:
            found[option] = 0
        elif expression.fullmatch(said) and float(said) * unit >= 1:
            found[option] = int(float(said) * unit)
        else:
            wrong.append(f"invalid {option} {said!r}: give {words}, or {NONE}")
    if wrong:
        raise KeysError("; ".join(wrong))
    return found


def rendered(keys: Iterable[Key]) -> str:
    entries = [asdict(key) for key in sorted(keys, key=lambda key: (key.name, key.made, key.sha256))]
    return json.dumps({"schema": SCHEMA, "keys": entries}, indent=1, sort_keys=True) + "\n"


def map_entries(keys: Iterable[Key]) -> dict[str, str]:
    return {key.sha256: f"{key.name}:{key.rate}:{key.concurrency}:{key.until}" for key in keys}


def map_text(keys: Iterable[Key]) -> str:
    return "".join(f"{digest} {value}\n" for digest, value in sorted(map_entries(keys).items()))


def usable(name: str) -> None:
    if not NAME.fullmatch(name):
        raise KeysError(
            f"{name!r} cannot be the name of a key: use up to 63 letters, digits, dots, dashes, underscores or @, "
            "beginning with a letter or digit"
        )


def of_name(keys: Iterable[Key], name: str, now: int) -> list[Key]:
    """Its key and, for a while after a change, the one before; the one in use comes last."""
    found = [key for key in keys if key.name == name and (not key.until or key.until > now)]
    return sorted(found, key=lambda key: (key.until == 0, key.until, key.made))


def present(keys: list[Key], wanted: Key, now: int) -> tuple[list[Key], bool]:
    """(all keys, whether a new one was made); one that is there only changes its limits."""
    usable(wanted.name)
    there = of_name(keys, wanted.name, now)
    if not there:
        return [*ended(keys, now), replace(wanted, made=now)], True
    last = there[-1]
    kept = replace(last, rate=wanted.rate, concurrency=wanted.concurrency, until=wanted.until or last.until)
    return [kept if key == last else key for key in keys], False


def rotated(keys: list[Key], name: str, digest: str, now: int, grace: int, life: int = 0) -> list[Key]:
    """A new key with the limits of the old one, which goes on for `grace` seconds."""
    there = of_name(keys, name, now)
    if not there:
        known = ", ".join(sorted({key.name for key in keys})) or "none"
        raise KeysError(
            f"there is no key {name} to rotate (there are: {known}): make it with key_state=present"
        )
    last = there[-1]
    until = min(filter(None, (last.until, now + grace)))
    others = [key for key in ended(keys, now) if key.name != name]
    old = [replace(last, until=until)] if grace else []
    return [*others, *old, replace(last, sha256=digest, made=now, until=now + life if life else 0)]


def revoked(keys: list[Key], name: str) -> list[Key]:
    return [key for key in keys if key.name != name]


def ended(keys: Iterable[Key], now: int) -> list[Key]:
    """Without those whose time is over."""
    return [key for key in keys if not key.until or key.until > now]


def shown(keys: Iterable[Key], now: int) -> list[str]:
    lines = []
    for key in sorted(keys, key=lambda key: (key.name, key.made)):
        rate = f"{key.rate} requests a minute" if key.rate else "any rate"
        most = f"{key.concurrency} at once" if key.concurrency else "any number at once"
        days = (key.until - now) / 86400
        life = "no end" if not key.until else "ended" if days <= 0 else f"{days:.1f} days left"
        lines.append(f"{key.name}  {rate}, {most}, {life}  ({key.sha256[:12]})")
    return lines


def listed(said: str) -> dict[str, str]:
    """What HAProxy prints for `show map`."""
    lines = (line.split(" ", 2) for line in said.splitlines() if line.startswith("0x"))
    return {words[1]: words[2] for words in lines if len(words) == 3}


def commands(path: str, live: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What is taken away first: a revoked key is not waited for."""
    lines = [f"del map {path} {digest}" for digest in sorted(set(live) - set(wanted))]
    lines += [
        f"{'set' if digest in live else 'add'} map {path} {digest} {value}"
        for digest, value in sorted(wanted.items())
        if live.get(digest) != value
    ]
    return ["; ".join(lines[start : start + BATCH // 2]) for start in range(0, len(lines), BATCH // 2)]
