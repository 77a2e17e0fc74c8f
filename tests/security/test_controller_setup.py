# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The script of a bundle that makes a controller trusts nothing that the manifest does not list."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import sign
from ansible_collections.baremetal.sglang.tests.security.signed_bundle import (
    UV,
    allow,
    describe,
    make_bundle,
    make_key,
)

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "roles/bundle/files/setup"
PAGE = ROOT / "docs/bundle-verification.md"
LAST = "the bundle has a controller for nothing and not for "
"""How far the script gets with a bundle that carries no controller: signature and files are verified by then."""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("disk")
    alice = make_key(folder / "keys", "alice")
    allow(folder / "allowed", "alice@example.com", alice)
    bundle = make_bundle(folder / "bundle", alice)
    (bundle / "controller").mkdir()
    shutil.copy(SETUP, bundle / "controller/setup")
    (bundle / "manifest.json.sig").unlink()
    sign(bundle, alice, describe(bundle))
    yield folder


@pytest.fixture
def bundle(disk: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(disk / "bundle", tmp_path / "carried/bundle"))


def setup(
    bundle: Path, cwd: Path, path: str = "/usr/bin:/bin", **words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(bundle / "controller/setup"), str(cwd / "made")],
        cwd=cwd,
        env={"PATH": path, "PYTHON": sys.executable, **words},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_it_comes_as_far_as_it_can_and_says_who_signed(disk: Path, bundle: Path, tmp_path: Path) -> None:
    done = setup(bundle, tmp_path, ALLOWED_SIGNERS=str(disk / "allowed"))
    assert "signed by alice@example.com" in done.stdout and LAST in done.stdout
    assert "WARNING" not in done.stdout
    assert not list(tmp_path.glob("made*")), "nothing is left behind"


def test_what_is_not_signed_is_said_plainly(bundle: Path, tmp_path: Path) -> None:
    assert "WARNING  the signature was NOT verified" in setup(bundle, tmp_path).stdout
    (bundle / "manifest.json.sig").unlink()
    assert "WARNING  the bundle is NOT SIGNED" in setup(bundle, tmp_path).stdout


MODULES = (
    "ssl",
    "sys",
    "json",
    "hashlib",
    "os",
    "stat",
    "tarfile",
    "zipfile",
    "encodings",
    "site",
    "sitecustomize",
)


@pytest.mark.parametrize("beside", ["current folder", "script"])
def test_no_module_and_no_program_of_a_folder_runs(bundle: Path, tmp_path: Path, beside: str) -> None:
    canary = tmp_path / "ran"
    folder = tmp_path / "work" if beside == "current folder" else bundle / "controller"
    folder.mkdir(exist_ok=True)
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'a').write({name!r})\n")
    for name in ("python3", "uname", "sha256sum", "ssh-keygen", "dirname", "cat"):
        (folder / name).write_text(f"#!/bin/sh\necho {name} >>{canary}\n")
        (folder / name).chmod(0o755)
    for path in ("/usr/bin:/bin", ":.:/usr/bin:/bin", "./:relative:/usr/bin:/bin:"):
        done = setup(bundle, folder, path, PYTHONPATH=str(folder), PYTHONSTARTUP=str(folder / "ssl.py"))
        assert "REFUSED" in done.stdout
        assert not canary.exists(), canary.read_text()


def test_files_that_nobody_listed_are_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "controller/ssl.py").write_text("")
    (bundle / "wheels/extra-1-py3-none-any.whl").symlink_to("/etc/passwd")
    done = setup(bundle, tmp_path)
    assert done.returncode == 1
    assert (
        "the manifest does not know these files: controller/ssl.py, wheels/extra-1-py3-none-any.whl"
        in done.stdout
    )


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no signature", "manifest.json.sig: is missing"),
        ("changed manifest", "manifest.json.sig: is not accepted"),
        ("another signer", "manifest.json.sig: is not accepted"),
        ("signer without keys", "set ALLOWED_SIGNERS too"),
        ("keys of the bundle", "lies in the bundle that it is to judge"),
        ("keys that are not there", "there is no such file"),
        ("manifest is a link", "manifest.json is a link"),
        ("manifest is damaged", "manifest.json: is damaged"),
        ("a name that climbs", "its manifest names files that no bundle has"),
        ("a name that moves the cursor", "its manifest names files that no bundle has"),
    ],
)
def test_refusals(disk: Path, bundle: Path, tmp_path: Path, case: str, said: str) -> None:
    words = {"ALLOWED_SIGNERS": str(disk / "allowed")}
    manifest = bundle / "manifest.json"
    if case == "no signature":
        (bundle / "manifest.json.sig").unlink()
    elif case == "changed manifest":
        manifest.write_text(manifest.read_text() + " ")
    elif case == "another signer":
        words["SIGNER"] = "bob@example.com"
    elif case == "signer without keys":
        words = {"SIGNER": "alice@example.com"}
    elif case == "keys of the bundle":
        shutil.copy(disk / "allowed", bundle / "locks/allowed")
        describe(bundle)
        words = {"ALLOWED_SIGNERS": str(bundle / "locks/allowed")}
    elif case == "keys that are not there":
        words = {"ALLOWED_SIGNERS": str(tmp_path / "nowhere")}
    elif case == "manifest is a link":
        manifest.rename(tmp_path / "real")
        manifest.symlink_to(tmp_path / "real")
    else:
        words = {}
        if case == "manifest is damaged":
            manifest.write_text('{"files": 5}')
        else:
            name = "locks/../../x" if "climbs" in case else "locks/\x1b[2J"
            found = json.loads(manifest.read_text())
            found["files"][name] = found["files"][UV]
            manifest.write_text(json.dumps(found))
    done = setup(bundle, tmp_path, **words)
    assert done.returncode == 1 and said in done.stdout, done.stdout
    assert "\x1b" not in done.stdout and "Traceback" not in done.stdout
    assert not list(tmp_path.glob("made*"))


def test_a_link_in_the_place_of_its_work_is_not_followed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/file").write_text("x")
    (tmp_path / "made.partial").symlink_to(tmp_path / "theirs")
    assert LAST in setup(bundle, tmp_path).stdout
    assert (tmp_path / "theirs/file").read_text() == "x"


# -- docs/bundle-verification.md


def commands(page: str) -> list[str]:
    return [re.sub(r"(?m)^ {3}", "", block) for block in re.findall(r"(?ms)^ *```sh\n(.*?)^ *```", page)]


def by_hand(disk: Path, bundle: Path, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Every command of the page, one after the other, as somebody types them."""
    first, *rest = commands(PAGE.read_text(encoding="utf-8"))
    values = {"bundle": str(bundle), "allowed": str(disk / "allowed"), "signer": "alice@example.com"}
    assert dict(line.split("=", 1) for line in first.splitlines()).keys() == values.keys()
    script = "set -e\n" + "".join(f"{name}='{value}'\n" for name, value in values.items()) + "\n".join(rest)
    return subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_every_command_of_the_page_works(disk: Path, bundle: Path, tmp_path: Path) -> None:
    done = by_hand(disk, bundle, tmp_path)
    assert done.returncode == 0, done.stdout
    assert 'Good "bundle@baremetal.sglang" signature for alice@example.com' in done.stdout
    assert "setup: OK" in done.stdout
    assert len(commands(PAGE.read_text(encoding="utf-8"))) == 6


@pytest.mark.parametrize("what", ["manifest.json", "controller/setup", UV, "manifest.json.sig"])
def test_the_page_finds_what_was_changed(disk: Path, bundle: Path, tmp_path: Path, what: str) -> None:
    data = bytearray((bundle / what).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / what).write_bytes(bytes(data))
    assert by_hand(disk, bundle, tmp_path).returncode != 0


def test_the_page_names_the_variables_of_the_script() -> None:
    page, script = PAGE.read_text(encoding="utf-8"), SETUP.read_text(encoding="utf-8")
    for name in ("ALLOWED_SIGNERS", "SIGNER", "PYTHON"):
        assert f"| `{name}` |" in page and f"${{{name}:-" in script
    assert os.access(SETUP, os.X_OK)
