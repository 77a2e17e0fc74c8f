# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project as others get it: a copy of its files, an archive, an installed collection, other Ansibles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, parse_lock

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
OURS = ("ANSIBLE_", "BAREMETAL_", "MOLECULE_", "PYTEST_", "VIRTUAL_ENV")
TOO_OLD = "ansible-core==2.19.*"


def command(
    *words: str | Path, cwd: Path, timeout: float = 1200, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs it without what this shell says to our tools and to Ansible; both streams come together."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**kept, "ANSIBLE_NOCOLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def succeed(*words: str | Path, cwd: Path, **environment: str) -> str:
    done = command(*words, cwd=cwd, **environment)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-6000:]}"
    return done.stdout


def listing(folder: Path) -> set[tuple[str, int, int]]:
    """Every file below it with size and time: equal before and after means that nothing was changed."""
    return {
        (str(path.relative_to(folder)), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="session")
def workplace() -> Iterator[Path]:
    """Outside the project, and open to every user of this machine; pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="baremetal-sglang-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def copy(workplace: Path) -> Path:
    """What a clone would hold: the files that git knows or would add, as they are now."""
    folder = workplace / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in sorted(filter(None, listed.split("\0"))):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="session")
def built(copy: Path, workplace: Path) -> Path:
    out = workplace / "built"
    succeed(BIN / "ansible-galaxy", "collection", "build", "--output-path", out, copy, cwd=workplace)
    (archive,) = out.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="session")
def installed(built: Path, workplace: Path) -> Path:
    """A collections path that holds ours and nothing else; nothing of the project's folder is near."""
    collections = workplace / "collections"
    succeed(
        BIN / "ansible-galaxy",
        *("collection", "install", "--offline", "--collections-path", collections, built),
        cwd=workplace,
        ANSIBLE_HOME=str(workplace / "home"),
    )
    return collections


@pytest.fixture
def elsewhere(installed: Path, workplace: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has installed the collection and has no configuration."""
    return {"ANSIBLE_COLLECTIONS_PATH": str(installed), "ANSIBLE_HOME": str(workplace / "home")}


@pytest.fixture(scope="session")
def too_old(workplace: Path) -> Path:
    """The commands of an ansible-core that is older than we support."""
    venv = workplace / "too-old"
    succeed(BIN / "uv", "venv", "--quiet", "--python", sys.executable, venv, cwd=workplace)
    succeed(BIN / "uv", "pip", "install", "--quiet", "--python", venv / "bin/python", TOO_OLD, cwd=workplace)
    return venv / "bin"


@pytest.fixture(scope="session")
def oldest() -> Path:
    """The commands of the oldest ansible-core that we support, in .venv-oldest as `make oldest` makes it."""
    succeed(
        ROOT / "tools/controller",
        *(ROOT / "requirements/oldest.txt", ROOT / ".venv-oldest"),
        cwd=ROOT,
    )
    return ROOT / ".venv-oldest/bin"


ENGINE_LOCKS = {
    "0.5.10.post1": ("0.5.10.post1-cu128-x86_64-py3.11.txt", "2.28"),
    "0.5.23": ("0.5.23-cu130-x86_64-py3.11.txt", "2.36"),
}


@pytest.fixture(scope="session")
def engine_wheels() -> dict[str, zipfile.ZipFile]:
    """The engine's own wheels, the last release with either way to look for kernel files."""
    folder = Path(__file__).parents[2] / "files/engines/sglang/locks"
    cache = WheelCache(Path.home() / ".cache/baremetal-sglang/wheels", print)
    found = {}
    for version, (lock, glibc) in ENGINE_LOCKS.items():
        pins = [pin for pin in parse_lock((folder / lock).read_text()) if pin.name == "sglang"]
        (path,) = cache.complete(pins, Target("3.11", "x86_64", glibc), Indexes())
        found[version] = zipfile.ZipFile(path)
    return found
