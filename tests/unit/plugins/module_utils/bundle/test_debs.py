# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages: which a bundle is to carry for its plans, and whether it has those that a host lacks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.debs import wanted as bundle_debs
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import (
    BundleError,
    bundled,
    listed_paths,
)
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import FILES

TABLE = yaml.safe_load((FILES / "operating_systems.yml").read_text(encoding="utf-8"))


def plan(system: str, *packages: str, arch: str = "x86_64", host: str = "gpu-1") -> dict[str, Any]:
    return {
        "host": host,
        "facts": {"os": system, "arch": arch},
        "host_settings": {"packages": list(packages)},
    }


def deb(release: str, arch: str, *packages: str, sources: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"release": release, "arch": arch, "packages": list(packages), "sources": list(sources)}


JAMMY = {"release": "jammy", "arch": "amd64", "sources": ["deb copy:/mirror jammy main"]}
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], bool, list[dict[str, Any]]]] = {
    "nothing is named": ([plan("debian 12")], [], True, []),
    "by the hosts' releases": (
        [plan("debian 12", "gcc"), plan("debian 12", "g++", "gcc"), plan("ubuntu 24.04", "make", arch="aarch64")],
        [],
        True,
        [deb("bookworm", "amd64", "g++", "gcc"), deb("noble", "arm64", "make")],
    ),
    "sources of one release": (
        [plan("ubuntu 22.04", "gcc")],
        [JAMMY],
        True,
        [deb("jammy", "amd64", "gcc", sources=("deb copy:/mirror jammy main",))],
    ),
    "further packages": ([plan("debian 12", "gcc")], [deb("bookworm", "amd64", "strace")], True,
                         [deb("bookworm", "amd64", "gcc", "strace")]),
    "only what is said": (
        [plan("debian 12", "gcc"), plan("ubuntu 22.04", "g++")],
        [deb("bookworm", "amd64")],
        False,
        [deb("bookworm", "amd64", "gcc")],
    ),
    "a release that no plan has gets what all name": (
        [plan("debian 12", "gcc"), plan("rocky 9", "gcc-c++")],
        [deb("trixie", "amd64")],
        True,
        [deb("bookworm", "amd64", "gcc"), deb("trixie", "amd64", "gcc")],
    ),
    "nothing for rpm": ([plan("rocky 9", "gcc-c++")], [], True, []),
    "an unknown release, said by hand": (
        [plan("debian 14", "gcc")], [deb("forky", "amd64")], True, [deb("forky", "amd64", "gcc")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_a_bundle_carries(name: str) -> None:
    plans, given, derive, found = CASES[name]
    for _again in range(2):
        made = bundle_debs(plans, given, TABLE, derive)
        asked = {(entry["release"], entry["arch"]) for entry in given}
        assert [entry.pop("planned") for entry in made] == [
            (entry["release"], entry["arch"]) not in asked for entry in found
        ]
        assert made == found, "what was given is not changed"


def test_an_unknown_release_is_refused_with_what_to_set() -> None:
    plans = [
        plan("debian 14", "gcc", host="gpu-7"),
        plan("ubuntu 26.04", "g++", arch="aarch64", host="gpu-8"),
    ]
    with pytest.raises(BundleError) as refusal:
        bundle_debs(plans, [], TABLE, True)
    for words in (
        "gpu-7",
        "debian 14",
        "gcc",
        "arch: amd64",
        "gpu-8",
        "arch: arm64",
        "bundle_debs_planned: false",
    ):
        assert words in str(refusal.value)
    assert bundle_debs(plans, [], TABLE, False) == []


@pytest.mark.parametrize(
    "entry", [{"release": "jammy"}, {"release": "jammy", "arch": "amd64", "package": "gcc"}]
)
def test_an_entry_that_cannot_be_meant_so(entry: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"bundle_debs: .*(arch|package) in \{'release': 'jammy'"):
        bundle_debs([plan("debian 12", "gcc")], [entry], TABLE, True)


def manifest(*paths: str) -> dict[str, Any]:
    return {"files": {path: {"size": 1, "sha256": "0" * 64} for path in paths}}


def lacking(*names: str, archive: str = "bookworm-amd64", kind: str = "deb") -> list[dict[str, Any]]:
    item = {"host": "gpu-1", "missing": list(names), "archive": archive, "format": kind}
    return [{"kind": "packages", "name": "packages", "item": item}]


HERE = (
    "debs/bookworm-amd64/Packages",
    "debs/bookworm-amd64/gcc_4+epoch+12_amd64.deb",
    "debs/noble-amd64/g++_1_amd64.deb",
)


def test_the_files_of_the_hosts_own_release() -> None:
    found = bundled(manifest(*HERE), lacking("gcc"), {})
    assert [entry["path"] for entry in found[0]["item"]["files"]] == ["Packages", "gcc_4+epoch+12_amd64.deb"]
    assert listed_paths(found) == list(HERE[:2])


@pytest.mark.parametrize(
    ("wanted", "paths", "said"),
    [
        (lacking("gcc"), (), "the bundle has no debs/bookworm-amd64"),
        (lacking("gcc", "g++"), HERE, r"lacks g\+\+: .*packages: \[g\+\+\].* apt-get install .* gcc g\+\+"),
        (lacking("gcc"), HERE[1:], "debs/bookworm-amd64 of the bundle lacks Packages"),
        (lacking("gcc", archive="noble-arm64"), HERE, r"no debs/noble-arm64: .*release: noble, arch: arm64"),
        (lacking("gcc", kind="rpm"), HERE, "Debian and Ubuntu only: .*dnf install gcc"),
    ],
)
def test_a_bundle_that_lacks_them(wanted: list[dict[str, Any]], paths: tuple[str, ...], said: str) -> None:
    with pytest.raises(BundleError, match=f"gpu-1.*{said}"):
        bundled(manifest(*paths), wanted, {})
