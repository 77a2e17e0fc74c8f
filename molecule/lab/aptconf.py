# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Debian packages come from on this machine, read from its own apt configuration.

No mirror is named here: an image is built from whatever this machine itself installs from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .problems import LabError
from .processes import run

CODENAMES = {"debian-12": "bookworm", "debian-13": "trixie"}
MAINTAINED = tuple(CODENAMES.values())
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR_VARIABLE = "BAREMETAL_DEBIAN_MIRROR"
ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)


@dataclass(frozen=True)
class Source:
    """One archive and suite, with the keyring that signs it (empty: apt's trusted keys)."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str = ""

    @property
    def line(self) -> str:
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {self.suite} {' '.join(self.components)}"


def parse_one_line(text: str) -> list[Source]:
    """The sources of a sources.list file."""
    sources = []
    for line in text.splitlines():
        match = ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if match:
            options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
            sources.append(
                Source(
                    match["uri"],
                    match["suite"],
                    tuple(match["components"].split()),
                    options.get("signed-by", ""),
                )
            )
    return sources


def parse_deb822(text: str) -> list[Source]:
    """The sources of a *.sources file. A key given in the file itself falls back to the archive keyring."""
    sources = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0].isspace():
                fields[key] += f"\n{line.strip()}"
            else:
                key, _unused, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        components = tuple(fields.get("components", "").split())
        sources += [
            Source(
                uri,
                suite,
                components,
                signed_by if signed_by.startswith("/") and "\n" not in signed_by else "",
            )
            for uri in fields.get("uris", "").split()
            for suite in fields.get("suites", "").split()
        ]
    return sources


def read_sources(directory: Path = Path("/etc/apt")) -> list[Source]:
    found: list[Source] = []
    for path in [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]:
        found += parse_one_line(path.read_text()) if path.exists() else []
    for path in sorted((directory / "sources.list.d").glob("*.sources")):
        found += parse_deb822(path.read_text())
    return found


def for_suite(sources: Iterable[Source], codename: str, keyring: str, mirror: str | None) -> list[Source]:
    """This machine's Debian archives, with the release exchanged for the one that is wanted."""
    if mirror:
        return [Source(mirror, codename, ("main",), keyring)]
    chosen: dict[tuple[str, str], Source] = {}
    for source in sources:
        release, dash, pocket = source.suite.partition("-")
        if release in MAINTAINED and "main" in source.components and pocket in ("", "updates", "security"):
            suite = f"{codename}{dash}{pocket}"
            chosen.setdefault(
                (source.uri, suite), Source(source.uri, suite, ("main",), source.signed_by or keyring)
            )
    if not any(source.suite == codename for source in chosen.values()):
        raise LabError(
            "This machine's apt configuration names no Debian archive, so the hosts' systems cannot be built. "
            f"Set {MIRROR_VARIABLE} to the address of one, such as the line `deb ADDRESS bookworm main` of a Debian machine has."
        )
    return list(chosen.values())


def sources_for(codename: str) -> list[Source]:
    if not Path(KEYRING).exists():
        raise LabError(
            "The keys of the Debian archives are missing. Paste:\n  apt-get install --yes debian-archive-keyring"
        )
    return for_suite(read_sources(), codename, KEYRING, os.environ.get(MIRROR_VARIABLE))


def acquire_options() -> list[str]:
    """How this machine reaches its archives (proxies, timeouts, retries), as apt options."""
    dump = run(["apt-config", "dump", "Acquire"], check=False).stdout
    wanted = re.compile(r'Acquire::(http|https|ftp|Retries|ForceIPv[46])\b.* "(?!").*";')
    return [line for line in dump.splitlines() if wanted.fullmatch(line)]
