# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages for hosts without a net, with everything that they depend on, as a folder that apt installs from.

The apt of this machine does the work in a root of its own: it checks the archive's signature and chooses versions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError

OWN_SOURCES = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
DEPENDS = ("--no-install-recommends", "--yes", "--download-only")


def own_release() -> str:
    values = (
        re.findall(r"(?m)^VERSION_CODENAME=\"?(\w+)", OS_RELEASE.read_text()) if OS_RELEASE.exists() else []
    )
    return values[0] if values else ""


class DebFolder:
    """One release and architecture of Debian or Ubuntu."""

    def __init__(self, place: Path, release: str, arch: str, say: Callable[[str], None]) -> None:
        self.release, self.arch = release, arch
        self.say = say
        self.root = place / f"{release}-{arch}"

    def fetch(self, packages: list[str], sources: list[str]) -> Path:
        """The folder with the packages and their index; without sources, those of this machine are used."""
        if not sources and self.release != own_release():
            raise FetchError(
                f"bundle_debs: {self.release} is not the release of this machine ({own_release() or 'unknown'}), and "
                f"packages for it are wanted ({', '.join(packages)}): give its sources, bundle_debs: [{{release: "
                f"{self.release}, arch: {self.arch}, sources: ['deb ADDRESS {self.release} main']}}]; or set "
                "bundle_debs_planned: false where the hosts have them, or have a mirror"
            )
        self._prepare(sources)
        self.say(f"asking apt for {', '.join(packages)} of {self.release} {self.arch}")
        self._apt("update")
        self._apt("install", *DEPENDS, *packages)
        folder = self.root / "debs"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        wanted = self._names(packages)
        archives = [
            (path, *path.stem.split("_"))
            for path in sorted((self.root / "cache/archives").glob("*.deb"))
            if "=".join(path.stem.split("_")[:2]) in wanted
        ]
        described = self._described([fields for _unused, *fields in archives])
        stanzas = []
        for path, name, version, arch in archives:
            # A colon in a file name is refused by disks that other systems write.
            plain = f"{name}_{version.replace('%3a', '+epoch+')}_{arch}.deb"
            shutil.copyfile(path, folder / plain)
            stanza = described[name, version.replace("%3a", ":"), arch]
            stanzas.append(re.sub(r"(?m)^Filename: .*$", f"Filename: ./{plain}", stanza))
        (folder / "Packages").write_text("\n".join(sorted(stanzas)), encoding="utf-8")
        return folder

    def _prepare(self, sources: list[str]) -> None:
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "status").write_text("")
        # apt would use local files where they are; here they are to be brought.
        lines = "".join(re.sub(r"\bfile:", "copy:", line) + "\n" for line in sources)
        (self.root / "etc/sources.list").write_text(lines)

    def _options(self) -> list[str]:
        own = not (self.root / "etc/sources.list").read_text()
        where = OWN_SOURCES if own else self.root / "etc"
        values = {
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "",
            "Debug::NoLocking": "true",
            "Dir::State": self.root / "state",
            "Dir::State::status": self.root / "status",
            "Dir::Cache": self.root / "cache",
            "Dir::Etc::sourcelist": where / "sources.list",
            "Dir::Etc::sourceparts": where / "sources.list.d" if own else "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
        }
        return [word for name, value in values.items() for word in ("-o", f"{name}={value}")]

    def _apt(self, *words: str, tool: str = "apt-get") -> str:
        try:
            done = subprocess.run(
                [tool, *self._options(), *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise FetchError(
                f"bundle_debs: {tool} is not here, and packages for {self.release} {self.arch} are wanted: build on "
                "Debian or Ubuntu, or set bundle_debs_planned: false where the hosts have them, or have a mirror"
            ) from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-5:]
            raise FetchError(f"bundle_debs: apt for {self.release} {self.arch}: " + "; ".join(said))
        return done.stdout

    def _names(self, packages: list[str]) -> set[str]:
        """What this run installs; the cache of apt may hold more from an earlier one."""
        printed = self._apt("install", "--simulate", "--no-install-recommends", "--yes", *packages)
        found = re.findall(r"(?m)^Inst (\S+) \((\S+)", printed)
        return {f"{name.split(':')[0]}={version.replace(':', '%3a')}" for name, version in found}

    def _described(self, archives: list[list[str]]) -> dict[tuple[str, str, str], str]:
        """What the index says of each, by name, version and architecture; asked for all at once, as apt is slow to start."""
        if not archives:
            return {}
        asked = [
            f"{name}:{arch if arch != 'all' else self.arch}={version.replace('%3a', ':')}"
            for name, version, arch in archives
        ]
        printed = self._apt("show", "--no-all-versions", *asked, tool="apt-cache")
        found = {}
        for stanza in printed.strip().split("\n\n"):
            fields = dict(re.findall(r"(?m)^(Package|Version|Architecture): *(\S+)", stanza))
            found[fields["Package"], fields["Version"], fields["Architecture"]] = stanza.strip() + "\n"
        return found
