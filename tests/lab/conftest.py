# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs for tests: each has a name and a directory of its own, and is gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "molecule"))
TOOL = REPOSITORY / "tools" / "lab"

CONNECTION = {
    "lab_tool": str(TOOL),
    "lab_state": "/run/baremetal-sglang-lab/{{ lab_name }}",
    "ansible_user": "root",
    "ansible_ssh_private_key_file": "{{ lab_state }}/state/id_ed25519",
    "ansible_control_path": "{{ lab_state }}/ssh/%%h-%%p-%%r",
    "ansible_ssh_common_args": (
        "-o 'ProxyCommand=\"{{ lab_tool }}\" --name {{ lab_name }} proxy %h %p' -o ProxyUseFdpass=yes "
        "-o UserKnownHostsFile={{ lab_state }}/state/known_hosts -o IdentitiesOnly=yes"
    ),
}
Hosts = dict[str, dict[str, Any]]


def lab_name(suffix: str) -> str:
    return f"test-{os.getpid()}-{suffix}"


def write_inventory(directory: Path, name: str, hosts: Hosts, **variables: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.yml"
    described = {"all": {"vars": CONNECTION | {"lab_name": name} | variables, "hosts": hosts}}
    path.write_text(yaml.safe_dump(described, width=1000))
    return path


def tool(*words: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [TOOL, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="session", autouse=True)
def labs_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state of every lab of these tests; the images stay in the shared cache."""
    if os.geteuid() != 0:
        pytest.skip("booting hosts needs root")
    directory = tmp_path_factory.mktemp("labs")
    before = os.environ.get("BAREMETAL_LAB_DIR")
    os.environ["BAREMETAL_LAB_DIR"] = str(directory)
    os.environ.pop("BAREMETAL_LAB", None)
    yield directory
    if before is None:
        del os.environ["BAREMETAL_LAB_DIR"]
    else:
        os.environ["BAREMETAL_LAB_DIR"] = before


@pytest.fixture(scope="session")
def images(labs_directory: Path) -> None:
    """Built before any clock of a test runs."""
    tool("images", "debian-12", "debian-13")


@pytest.fixture
def make_lab(images: None, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`make_lab(suffix, hosts, **variables)` describes a lab; it is taken away at the end."""
    from lab import Lab

    made = []

    def make(suffix: str, hosts: Hosts, **variables: Any) -> Any:
        lab = Lab.from_inventory(write_inventory(tmp_path, lab_name(suffix), hosts, **variables))
        made.append(lab)
        return lab

    yield make
    for lab in made:
        lab.down()


@pytest.fixture(scope="session")
def swarm_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libtorrent for the hosts' Python, as a bundle would carry it."""
    from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
    from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
    from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, parse_lock

    cache = Path(os.environ.get("BAREMETAL_CACHE_DIR", Path.home() / ".cache/baremetal-sglang")) / "wheels"
    pins = parse_lock((REPOSITORY / "requirements/swarm.txt").read_text())
    found = WheelCache(cache, print).complete(pins, Target("3.11", os.uname().machine, "2.36"), Indexes())
    folder = tmp_path_factory.mktemp("wheels")
    for path in found:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def copy_readable(source: Path, target: Path) -> None:
    """For every user of the host, whatever the modes of this clone are."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
