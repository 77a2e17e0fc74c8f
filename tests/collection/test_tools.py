# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands on machines that lack something: one message with the way out, and nothing was changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import BIN, ROOT, command, listing, succeed

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
SYSTEM = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, or mounts a disk")


@pytest.fixture
def home(workplace: Path) -> Iterator[Path]:
    """An empty home, and a cache in it, that any user may write to."""
    folder = workplace / "somebody"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def path_without(folder: Path, *hidden: str) -> str:
    """A PATH with every command of the system but some; `python3*` hides what begins so."""
    folder.mkdir()
    for directory in map(Path, reversed(SYSTEM)):
        for program in directory.iterdir() if directory.is_dir() else ():
            if not any(re.fullmatch(name, program.name) for name in hidden):
                (folder / program.name).unlink(missing_ok=True)
                (folder / program.name).symlink_to(program)
    return str(folder)


def stopped(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode != 0, done.stdout
    (line,) = re.findall("^STOPPED .*", done.stdout, re.MULTILINE)
    for words in said:
        assert words in line, done.stdout
    assert "Traceback" not in done.stdout


@needs_root
@pytest.mark.parametrize("target", ["demo", "demo-clean", "test", "test-all"])
def test_what_boots_hosts_asks_for_root(copy: Path, home: Path, target: str) -> None:
    before = listing(copy)
    done = command(*NOBODY, "make", target, cwd=copy, HOME=str(home), PATH=":".join(SYSTEM))
    stopped(done, "root", f"sudo make {target}")
    assert listing(copy) == before
    assert listing(home) == set()


@pytest.mark.parametrize("target", ["controller", "check"])
def test_a_machine_of_another_family_is_told_what_to_read(
    copy: Path, home: Path, workplace: Path, tmp_path: Path, target: str
) -> None:
    before = listing(copy)
    done = command("make", target, cwd=copy, HOME=str(home), PATH=path_without(tmp_path / "bin", "dpkg.*"))
    stopped(done, "not a Debian family machine", "bindep.txt")
    assert listing(copy) == before
    assert listing(home) == set()


@needs_root
def test_missing_packages_come_as_one_line_to_paste(copy: Path, home: Path, workplace: Path) -> None:
    """dpkg itself answers, from a copy of its database in which two packages are gone."""
    database = workplace / "dpkg"
    shutil.copytree(
        "/var/lib/dpkg", database, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock*", "*.list")
    )
    status = (database / "status").read_text(encoding="utf-8")
    without = re.sub(r"^Package: (make|git)\n(?:.+\n)+\n?", "", status, flags=re.MULTILINE)
    assert without != status
    (database / "status").write_text(without, encoding="utf-8")
    succeed("chmod", "--recursive", "a+rX", database, cwd=workplace)
    before = listing(copy)
    done = command(
        *(*NOBODY, "make", "controller"),
        cwd=copy,
        HOME=str(home),
        PATH=":".join(SYSTEM),
        DPKG_ADMINDIR=str(database),
    )
    stopped(done, "paste: sudo apt-get install --yes git make")
    assert listing(copy) == before


def no_python(home: Path, tmp_path: Path) -> dict[str, str]:
    """A machine with uv, where nothing may be downloaded and Python is older than 3.12."""
    path = path_without(tmp_path / "bin", r"python3\.1[2-9].*", r"python3", r"python", "uv")
    shutil.copy2(BIN / "uv", tmp_path / "bin" / "uv")
    return {
        "HOME": str(home),
        "PATH": path,
        "PYENV_ROOT": str(home / "none"),
        "UV_PYTHON_INSTALL_DIR": str(home / "none"),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
        "UV_NO_CONFIG": "1",
    }


def test_without_a_new_python_it_says_how_to_get_one(copy: Path, home: Path, tmp_path: Path) -> None:
    before = listing(copy)
    done = command("make", "controller", cwd=copy, **no_python(home, tmp_path))
    stopped(done, "no Python 3.12 or newer", "install one", "BAREMETAL_PYTHON")
    assert listing(copy) == before


def test_a_python_that_is_named_is_used(copy: Path, home: Path, tmp_path: Path) -> None:
    """The same machine, and the user says where one is; only the version that is too old is left out."""
    done = command(
        copy / "tools/controller",
        *(copy / "requirements/uv.txt", tmp_path / "venv"),
        cwd=tmp_path,
        **{
            **no_python(home, tmp_path),
            "BAREMETAL_PYTHON": str((BIN / "python").resolve()),
            "BAREMETAL_UV": str(BIN / "uv"),
        },
    )
    assert done.returncode == 0, done.stdout
    succeed(tmp_path / "venv/bin/uv", "--version", cwd=tmp_path)


def test_without_an_index_it_says_what_would_work(copy: Path, home: Path, tmp_path: Path) -> None:
    before = listing(copy)
    path = path_without(tmp_path / "bin", "uv")
    settings = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    done = command("make", "controller", cwd=copy, HOME=str(home), PATH=path, **settings)
    stopped(done, "uv could not be installed", "BAREMETAL_UV")
    assert listing(copy) == before


@pytest.fixture
def small_disk(workplace: Path) -> Iterator[Path]:
    folder = workplace / "small"
    folder.mkdir()
    succeed("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder, cwd=workplace)
    yield folder
    succeed("umount", folder, cwd=workplace)
    folder.rmdir()


@needs_root
@pytest.mark.parametrize(
    ("variables", "gib"),
    [
        (["BAREMETAL_LAB_DIR"], 12),
        (["BAREMETAL_CACHE"], 6),
        (["BAREMETAL_LAB_DIR", "BAREMETAL_CACHE"], 18),
    ],
)
def test_a_disk_that_is_too_small_is_named_before_any_download(
    copy: Path, home: Path, small_disk: Path, variables: list[str], gib: int
) -> None:
    before = listing(copy)
    given = {variable: str(small_disk / variable.lower()) for variable in variables}
    done = command("make", "demo", cwd=copy, HOME=str(home), **given)
    stopped(done, str(small_disk), "0 GiB free", f"about {gib} GiB are needed", "Nothing was downloaded")
    assert listing(copy) == before
    assert listing(home) == set()
    assert listing(small_disk) == set()


@needs_root
@pytest.mark.parametrize("target", ["test", "test-all"])
def test_tests_ask_for_their_disk_before_they_begin(
    copy: Path, home: Path, small_disk: Path, target: str
) -> None:
    before = listing(copy)
    given = {"TMPDIR": str(small_disk), "BAREMETAL_CACHE": str(home / "cache")}
    done = command("make", target, cwd=copy, HOME=str(home), **given)
    stopped(done, f"on the disk of {small_disk}, which has 0 GiB free", "set TMPDIR")
    assert listing(copy) == before
    assert listing(small_disk) == set()


def test_what_lay_in_a_folder_before_the_demo_survives_its_removal(copy: Path, tmp_path: Path) -> None:
    """The demo's own two steps; all of demo-clean would end a demo that somebody looks at right now."""
    folders = {name: tmp_path / name for name in ("new", "empty", "theirs", "default")}
    folders["empty"].mkdir()
    for name in ("theirs", "default"):
        folders[name].mkdir()
        (folders[name] / "thesis.tex").write_text("years of work", encoding="utf-8")
    script = ". tools/lib.sh; default=$1; shift; claim {0}; touch {0}/made; remove {0} $default"
    said = ""
    for folder in folders.values():
        words = script.format(f"'{folder}'")
        said += succeed("bash", "-euc", words, "bash", folders["default"], cwd=copy)
    assert {name for name, folder in folders.items() if folder.exists()} == {"theirs"}
    assert {path.name for path in folders["theirs"].iterdir()} == {"thesis.tex", "made"}
    assert f"{folders['theirs']} stays" in said


def test_an_unknown_command_leads_to_help(copy: Path) -> None:
    done = command("make", "denmo", cwd=copy)
    stopped(done, "denmo", "make help")


def test_help_lists_every_command_that_the_documents_name() -> None:
    listed = set(re.findall(r"^  make ([a-z-]+)", succeed("make", "help", cwd=ROOT), re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert listed == set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("tools/*"),
        *ROOT.glob("inventories/*/*.yml"),
    ]
    named = {
        (path.name, target)
        for path in texts
        if path.is_file()
        for target in re.findall(
            r"(?:`|sudo |^)make ([a-z][a-z-]*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert len(named) > 5
    assert {(name, target) for name, target in named if target not in listed} == set()


def test_every_command_runs_a_script_that_is_here() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    scripts = set(re.findall(r"\b((?:tools|tests)/[\w./-]+)", makefile))
    assert scripts and {name for name in scripts if not (ROOT / name).exists()} == set()
