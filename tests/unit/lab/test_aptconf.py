# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which archives an image is built from, for the ways in which machines write them down."""

from __future__ import annotations

import pytest
from lab.aptconf import Source, for_suite, parse_deb822, parse_one_line
from lab.problems import LabError

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/d.gpg

Types: deb
URIs: http://mirror.test/security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main # note
deb-src http://mirror.test/debian bookworm main
# deb http://off.test/debian bookworm main
deb http://third.test/tool stable main
"""


def test_deb822() -> None:
    assert parse_deb822(DEB822) == [
        Source("http://mirror.test/debian", "bookworm", ("main", "contrib"), "/usr/share/keyrings/d.gpg"),
        Source(
            "http://mirror.test/debian", "bookworm-updates", ("main", "contrib"), "/usr/share/keyrings/d.gpg"
        ),
        Source("http://mirror.test/security", "bookworm-security", ("main",), ""),
    ]


def test_one_line() -> None:
    assert parse_one_line(ONE_LINE) == [
        Source("http://mirror.test/debian", "bookworm", ("main",), "/k.gpg"),
        Source("http://third.test/tool", "stable", ("main",), ""),
    ]


def test_another_release_comes_from_the_same_archives() -> None:
    lines = [source.line for source in for_suite(parse_deb822(DEB822), "trixie", "/archive.gpg", None)]
    assert lines == [
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian trixie main",
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian trixie-updates main",
        "deb [signed-by=/archive.gpg] http://mirror.test/security trixie-security main",
    ]


def test_a_machine_without_a_debian_archive_is_told_so() -> None:
    ubuntu = [Source("http://archive.test/ubuntu", "noble", ("main",))]
    with pytest.raises(LabError, match="BAREMETAL_DEBIAN_MIRROR"):
        for_suite(ubuntu, "bookworm", "/k.gpg", None)
    assert for_suite(ubuntu, "bookworm", "/k.gpg", "http://m.test/d") == [
        Source("http://m.test/d", "bookworm", ("main",), "/k.gpg")
    ]
