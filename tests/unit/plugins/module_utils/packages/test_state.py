# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of the real dpkg, rpm and apt, and what is made of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.host import PrivateArchive, look
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.state import (
    INDEX,
    Looked,
    State,
    Step,
    archive_names,
    complaint,
    interrupted,
    missing_of,
    states_of,
    steps_of,
    unpacked_bytes,
    without_a_bundle,
)

BOOKWORM = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\n'
QUERIED = "gcc\tamd64\tinstalled\tok\nlibc6-dev\ti386\tinstalled\tok\nmake\tamd64\tconfig-files\tok\ntz\tall\tinstalled\tok\n"


class Machine:
    """Answers as the tools of a host do."""

    def __init__(self, answers: dict[str, tuple[int, str, str]]) -> None:
        self.answers = answers

    def run(self, words: Sequence[str]) -> tuple[int, str, str]:
        return self.answers[" ".join(words[:2]) if words[0] != "rpm" else words[-1]]

    def has(self, name: str) -> bool:
        return any(words.split(" ")[0] == name for words in self.answers)


DEBIAN = Machine(
    {"dpkg --print-architecture": (0, "amd64\n", ""), "dpkg-query --show": (1, QUERIED, "no package")}
)
FEDORA = Machine(
    {"rpm": (0, "", ""), "gcc": (0, "gcc-11\n", ""), "g++": (1, "no package provides g++\n", "")}
)
BARE = Machine({})


@pytest.mark.parametrize(
    ("machine", "os_release", "names", "found"),
    [
        (DEBIAN, BOOKWORM, ["gcc", "tz"], Looked("deb", "bookworm-amd64", ())),
        (DEBIAN, BOOKWORM, ["gcc", "g++"], Looked("deb", "bookworm-amd64", ("g++",))),
        (DEBIAN, BOOKWORM, ["libc6-dev", "make"], Looked("deb", "bookworm-amd64", ("libc6-dev", "make"))),
        (DEBIAN, 'VERSION_CODENAME="noble"\n', ["gcc"], Looked("deb", "noble-amd64", ())),
        (DEBIAN, "ID=strange\n", ["g++"], Looked("deb", "", ("g++",))),
        (FEDORA, "", ["gcc", "g++"], Looked("rpm", "", ("g++",))),
        (BARE, "", ["gcc"], Looked("", "", ("gcc",))),
        (BARE, "", [], Looked("", "", ())),
    ],
)
def test_what_is_missing(machine: Machine, os_release: str, names: list[str], found: Looked) -> None:
    assert look(names, machine.run, machine.has, os_release) == found


def test_a_package_of_another_architecture_does_not_count() -> None:
    assert missing_of(["gcc", "libc6-dev"], states_of(QUERIED), "amd64") == ["libc6-dev"]


@pytest.mark.parametrize(
    ("states", "updates", "found"),
    [
        ([State("a", "all", "installed"), State("b", "all", "config-files")], ["tmp.i"], []),
        ([State("a", "all", "triggers-pending")], [], []),
        ([State("a", "all", "half-configured"), State("b", "all", "unpacked")], ["0001"],
         ["a (half-configured)", "b (unpacked)"]),
        ([State("a", "all", "installed", "reinstreq")], [], ["a (reinstreq)"]),
        ([State("a", "all", "installed")], ["0003", "tmp.i"], ["its journal"]),
    ],
)  # fmt: skip
def test_what_dpkg_left_half_done(states: list[State], updates: list[str], found: list[str]) -> None:
    assert interrupted(states, updates) == found


def test_names_of_archives_that_apt_wants() -> None:
    printed = (
        "'file:/x/repo/./b_1.5_all.deb' b_1.5_all.deb 700 \n"
        "'file:/x/repo/./a_1%2bepoch%2b2.0%2bx_all.deb' a_1%3a2.0+x_all.deb 7 SHA256:0\n"
    )
    assert archive_names(printed) == ["b_1.5_all.deb", "a_1+epoch+2.0+x_all.deb"]
    assert archive_names("Reading package lists...\n") == []


def test_steps_and_the_room_that_they_take() -> None:
    steps = steps_of(
        "Inst libc6 [2.36-9] (2.36-10 localhost [amd64]) []\nInst gcc (4:12.2 localhost [amd64])\nConf gcc (4:12.2 localhost [amd64])\n"
    )
    assert steps == [Step("libc6", "2.36-10", "2.36-9"), Step("gcc", "4:12.2")]
    assert [step.words for step in steps] == ["libc6 2.36-9 -> 2.36-10", "gcc 4:12.2"]
    index = (
        "Package: gcc\nVersion: 4:12.2\nInstalled-Size: 42\nDescription: x\n\n"
        "Package: libc6\nVersion: 2.36-9\nInstalled-Size: 9\n\nPackage: libc6\nVersion: 2.36-10\nInstalled-Size: 8\n"
    )
    assert unpacked_bytes(index, steps) == 50 * 1024


@pytest.mark.parametrize(
    ("out", "err", "said"),
    [
        ("", "E: Unable to locate package zz\n", "E: Unable to locate package zz"),
        (
            "The following packages have unmet dependencies:\n a : Depends: b (= 1) but 2 is to be installed\n",
            "E: Unable to correct problems, you have held broken packages.\n",
            "a : Depends: b (= 1) but 2 is to be installed; E: Unable to correct problems, you have held broken packages.",
        ),
        ("something odd\n", "", "something odd"),
    ],
)
def test_why_apt_does_not(out: str, err: str, said: str) -> None:
    assert complaint(out, err) == said


@pytest.mark.parametrize(
    ("looked", "said"),
    [
        (Looked("deb", "bookworm-amd64", ("gcc",)), []),
        (
            Looked("deb", "", ("gcc",)),
            ["on gpu-1", "VERSION_CODENAME", "apt-get install --no-install-recommends gcc"],
        ),
        (
            Looked("rpm", "", ("g++",)),
            ["on gpu-1", "Debian and Ubuntu only", "dnf install g++", "host_package_source"],
        ),
        (Looked("", "", ("gcc",)), ["on gpu-1", "install gcc"]),
    ],
)
def test_what_no_bundle_can_bring(looked: Looked, said: list[str]) -> None:
    message = without_a_bundle(looked, "gpu-1")
    assert bool(message) is bool(said)
    assert [words for words in said if words not in message] == []


@pytest.mark.skipif(not shutil.which("apt-get"), reason="needs the apt of Debian or Ubuntu")
def test_a_private_archive_asks_nothing_but_its_own_index(tmp_path: Path) -> None:
    """The real apt: it resolves from this index alone, and refuses what does not go together with what is installed."""

    def run(words: Sequence[str]) -> tuple[int, str, str]:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        )
        return done.returncode, done.stdout, done.stderr

    def stanza(name: str, version: str, file: str, depends: str = "") -> str:
        more = f"Depends: {depends}\n" if depends else ""
        return (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: m <m@example.com>\n{more}"
            f"Filename: ./{file}\nSize: 7\nSHA256: {'0' * 64}\nDescription: x\n"
        )

    index = "\n".join(
        [
            stanza("zz-tool", "1:2", "zz-tool_1+epoch+2_all.deb", "zz-library"),
            stanza("zz-library", "1", "zz-library_1_all.deb"),
            stanza("zz-misfit", "1", "zz-misfit_1_all.deb", "dpkg (= 0.1)"),
        ]
    )
    archive = PrivateArchive(run, str(tmp_path), index)
    assert archive.apt("update")[0] == 0
    found = archive_names(archive.install(["zz-tool"], "--print-uris")[1])
    assert sorted(found) == ["zz-library_1_all.deb", "zz-tool_1+epoch+2_all.deb"]
    assert {step.name for step in steps_of(archive.install(["zz-tool"], "--simulate")[1])} == {
        "zz-tool",
        "zz-library",
    }
    code, out, err = archive.install(["zz-misfit"], "--simulate")
    assert code and "zz-misfit : Depends: dpkg (= 0.1)" in complaint(out, err)
    code, out, err = archive.install(["adduser-ng-that-is-nowhere"], "--simulate")
    assert code and "Unable to locate package" in complaint(out, err)
    assert INDEX in {path.name for path in (tmp_path / "repo").iterdir()}
