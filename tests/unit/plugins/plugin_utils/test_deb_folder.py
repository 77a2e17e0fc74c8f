# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With the real apt and dpkg, and an archive of two small packages that is made here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.deb_folder import DebFolder, own_release
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="needs the apt of Debian or Ubuntu")


def package(archive: Path, name: str, version: str, depends: str = "") -> None:
    root = archive.parent / f"{name}-root"
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: m <m@example.com>\n"
    control += f"Depends: {depends}\n" if depends else ""
    (root / "DEBIAN/control").write_text(f"{control}Description: {name}\n")
    deb = archive / f"{name}.deb"
    archive.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "--build", str(root), str(deb)], check=True, capture_output=True)
    sha256 = subprocess.run(["sha256sum", str(deb)], check=True, capture_output=True, text=True).stdout[:64]
    with (archive / "Packages").open("a") as index:
        index.write(f"{control}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {sha256}\n")
        index.write(f"Description: {name}\n\n")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    package(tmp_path / "archive", "compiler", "1:2.0", "library (>= 1)")
    package(tmp_path / "archive", "library", "1.5")
    package(tmp_path / "archive", "unrelated", "1")
    return tmp_path / "archive"


def fetched(place: Path, source: Path, *packages: str) -> Path:
    line = f"deb [trusted=yes] file:{source} ./"
    return DebFolder(place, "bookworm", "amd64", print).fetch(list(packages), [line])


def test_brings_what_is_needed_and_an_index_that_apt_installs_from(archive: Path, tmp_path: Path) -> None:
    folder = fetched(tmp_path / "one", archive, "compiler")
    names = ["Packages", "compiler_1+epoch+2.0_all.deb", "library_1.5_all.deb"]
    assert sorted(path.name for path in folder.iterdir()) == names
    # What a host does with the folder: apt finds, checks and resolves all of it from there alone.
    again = fetched(tmp_path / "two", folder, "compiler")
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_a_package_that_is_not_needed_any_more_goes(archive: Path, tmp_path: Path) -> None:
    fetched(tmp_path / "one", archive, "compiler")
    folder = fetched(tmp_path / "one", archive, "library")
    assert sorted(path.name for path in folder.iterdir()) == ["Packages", "library_1.5_all.deb"]


def test_a_changed_package_and_an_unknown_name_are_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"bundle_debs: apt for bookworm amd64: .*nothing-like-it"):
        fetched(tmp_path / "one", archive, "nothing-like-it")
    with (archive / "library.deb").open("ab") as stream:
        stream.write(b"?")
    with pytest.raises(FetchError, match="bundle_debs: apt for bookworm amd64"):
        fetched(tmp_path / "two", archive, "library")


def test_the_packages_of_this_machine_are_for_its_own_release_only(tmp_path: Path) -> None:
    assert own_release() != "nowhere"
    with pytest.raises(FetchError, match="nowhere is not the release of this machine"):
        DebFolder(tmp_path, "nowhere", "amd64", print).fetch(["gcc"], [])
