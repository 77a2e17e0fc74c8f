# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""runtime_backend: pixi, from channels to an environment: solved, carried, and installed without a way out.

No public channel is asked: the packages are made here, CPython from this machine among them. py-rattler is
the library that pixi is built on; pixi itself is not run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import rattler
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.pixi_project import (
    WheelFile,
    environment_name,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.conda_channel import (
    CondaChannel,
    SolveError,
    write_project,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Target, parse_lock

from . import conda_packages
from .conftest import REPOSITORY

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "baremetal-sglang"
# One with a program of its own, whose first line names the interpreter.
VARIANTS = (
    ("cu126", "12.6", "x86_64"),
    ("cu128", "12.8", "x86_64"),
    ("cu130", "13.0", "aarch64"),
    ("cu128", "12.8", "aarch64"),
)
PYPI = ("packaging", "distro")


class Bundle(NamedTuple):
    folder: Path
    upstream: Path
    minor: str
    names: dict[str, str]
    lock: str


def index(channel: Path) -> None:
    import asyncio

    from rattler.index import index_fs

    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))


def fill(folder: Path, upstream: Path, minor: str, wheels: list[WheelFile]) -> dict[str, str]:
    """Every CUDA and both machines in one channel and one lock."""
    channel = CondaChannel(folder / "conda", [str(upstream)])
    names, made = {}, []
    for cuda, level, arch in VARIANTS:
        names[cuda] = environment_name("0.5.9", cuda, minor)
        made.append(channel.environment(names[cuda], arch, minor, level, "2.34", wheels))
    channel.index()
    write_project(folder / "pixi", made)
    return names


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("pixi")
    minor = conda_packages.upstream(root / "upstream")
    index(root / "upstream")
    folder = root / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "locks").mkdir()
    pins = [
        pin
        for pin in parse_lock((REPOSITORY / "requirements/controller.txt").read_text())
        if pin.name in PYPI
    ]
    tools = [
        pin
        for name in ("uv", "rattler")
        for pin in parse_lock((REPOSITORY / f"requirements/{name}.txt").read_text())
    ]
    cache = WheelCache(CACHE / "wheels", print)
    target, indexes = Target(minor, "x86_64", "2.34"), Indexes()
    wheels = []
    for pin, path in zip(pins, cache.complete(pins, target, indexes), strict=True):
        shutil.copy(path, folder / "wheels")
        wheels.append(WheelFile(path.name, pin.name, pin.version, path.parent.name))
    for path in cache.complete(tools, target, indexes):
        shutil.copy(path, folder / "wheels")
    lock = "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels)
    (folder / "locks/small.txt").write_text(lock)
    return Bundle(
        folder, root / "upstream", minor, fill(folder, root / "upstream", minor, wheels), "small.txt"
    )


def digests(folder: Path, below: str = "") -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((folder / below).rglob("*")) if path.is_file()}  # fmt: skip


def test_every_variant_has_its_own_compiler_in_one_channel(bundle: Bundle) -> None:
    here = subprocess.run(
        ["sh", bundle.folder / "pixi/here.sh", bundle.folder.parent / "project"], check=False
    )
    assert here.returncode == 0
    lock = rattler.LockFile.from_path(bundle.folder.parent / "project/pixi.lock")
    found: dict[tuple[str, str], str] = {}
    for name, environment in lock.environments():
        for platform in environment.platforms():
            for record in environment.conda_repodata_records_for_platform(platform) or []:
                path = Path(record.url.removeprefix("file://"))
                assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256.hex()
                if record.name.normalized == "cuda-nvcc-impl":
                    found[name, str(platform.name)] = str(record.version)
            wheels = environment.pypi_packages_for_platform(platform)
            assert {wheel.name for wheel in wheels} == set(PYPI)
            assert all(wheel.hashes.sha256 for wheel in wheels)
    names = bundle.names
    assert found == {
        (names["cu126"], "linux-64"): "12.6.85",
        (names["cu128"], "linux-64"): "12.8.93",
        (names["cu128"], "linux-aarch64"): "12.8.93",
        (names["cu130"], "linux-aarch64"): "13.0.88",
    }
    assert (bundle.folder / "pixi/pixi.lock").read_text().startswith("version: 6\n")
    import tomllib

    project = tomllib.loads((bundle.folder.parent / "project/pixi.toml").read_text())
    assert project["feature"][names["cu126"]]["system-requirements"] == {"libc": "2.34", "cuda": "12.6"}
    assert sorted(project["environments"]) == sorted(names.values())


def test_the_same_packages_make_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    wheels = [WheelFile(path.name, path.name.split("-")[0], path.name.split("-")[1], hashlib.sha256(path.read_bytes()).hexdigest())
              for path in sorted((bundle.folder / "wheels").glob("[pd][ai]*.whl"))]  # fmt: skip
    for name in ("one", "two"):
        fill(tmp_path / name, bundle.upstream, bundle.minor, wheels)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one", "conda") == digests(bundle.folder, "conda")


@pytest.mark.parametrize("level", ["12.4", ""])
def test_a_cuda_that_no_package_serves_is_refused(bundle: Bundle, tmp_path: Path, level: str) -> None:
    channel = CondaChannel(tmp_path, [str(bundle.upstream)])
    with pytest.raises(SolveError, match="cuda-nvcc-impl"):
        channel.environment("x", "x86_64", bundle.minor, level or "11.0", "2.34")


def test_a_package_that_differs_from_its_index_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """py-rattler would take it: a package at a file:// place is not compared with its hash."""
    changed = tmp_path / "upstream"
    shutil.copytree(bundle.upstream, changed)
    victim = changed / "linux-64/ninja-1.0-0.tar.bz2"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(FetchError, match=r"ninja-1\.0-0\.tar\.bz2: the channel names sha256"):
        CondaChannel(tmp_path / "conda", [str(changed)]).environment(
            "x", "x86_64", bundle.minor, "12.8", "2.34"
        )
    assert not (tmp_path / "conda/linux-64/ninja-1.0-0.tar.bz2").exists()


@pytest.fixture
def place() -> Iterator[Path]:
    path = Path(f"/opt/bsl-{os.getpid()}")
    yield path
    for name in path.parent.glob(f"{path.name}*"):
        shutil.rmtree(name)


def install(bundle: Bundle, dest: Path, conda: dict[str, str] | None = None) -> dict[str, Any]:
    """One run of both modules where there is no network at all; `conda` is what the list says of that folder."""
    listed = {}
    for below in ("wheels", "locks", "pixi"):
        listed |= digests(bundle.folder, below)
    listed |= digests(bundle.folder, "conda") if conda is None else conda
    pins = {pin.name: pin.version for pin in parse_lock((bundle.folder / "locks" / bundle.lock).read_text())}
    files = [
        {"path": name, "sha256": digest, "size": (bundle.folder / name).stat().st_size}
        for name, digest in listed.items()
    ]
    content = {
        "store": f"{dest}-store",
        "source_on_host": str(bundle.folder),
        "files": files,
    }
    arguments = {
        "dest": str(dest),
        "store": content["store"],
        "files": files,
        "lock": bundle.lock,
        "lock_sha256": listed[f"locks/{bundle.lock}"],
        "installer": next(path for path in listed if path.startswith("wheels/uv-")),
        "python": sys.executable,
        "imports": ["packaging", "sqlite3"],
        "versions": {"distro": pins["distro"]},
        "conda": {
            "environment": bundle.names["cu128"],
            "arch": "x86_64",
            "script": "{{ lookup('ansible.builtin.file', script) }}",
        },
    }
    answer = bundle.folder.parent / "answer.json"
    answer.unlink(missing_ok=True)
    book = bundle.folder.parent / "play.yml"
    said = "{{ (brought if brought is failed else made) | to_json }}"
    tasks = [{"baremetal.sglang.artifact_store": content, "register": "brought", "ignore_errors": True},
             {"baremetal.sglang.environment": arguments, "register": "made", "ignore_errors": True,
              "when": "brought is not failed"},
             {"ansible.builtin.copy": {"content": said, "dest": str(answer), "mode": "0644"}}]  # fmt: skip
    book.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        ["unshare", "-n", REPOSITORY / ".venv/bin/ansible-playbook", book, "-i", "localhost,", "-c", "local",
         "-e", f"ansible_python_interpreter={sys.executable} script={REPOSITORY}/roles/runtime/files/install_conda.py"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.exists(), done.stdout + done.stderr
    return dict(json.loads(answer.read_text()))


def test_installed_without_a_way_out(bundle: Bundle, place: Path) -> None:
    made = install(bundle, place)
    assert made["changed"], made.get("msg")
    assert not made.get("failed"), made["msg"]
    python = f"{place}/bin/python"
    asked = "import sys, packaging, distro; print(sys.prefix, packaging.__file__)"
    said = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == str(place)
    assert said[1].startswith(str(place))
    nvcc = subprocess.run([f"{place}/cuda/bin/nvcc"], capture_output=True, text=True, check=True).stdout
    assert nvcc == "release 12.8, V12.8.93\n"
    assert str(place) in (place / "bin/nvcc").read_text()
    assert (place / "cuda/lib64/libcudart.so").read_text() == "runtime"
    assert (place / "cuda/lib64/stubs/libcuda.so").read_text() == "stub"
    first = (place / "bin/distro").read_text().splitlines()[0]
    assert first.startswith(f"#!{place}/bin/python")
    assert subprocess.run([place / "bin/distro"], capture_output=True, check=False).returncode == 0
    again = install(bundle, place)
    assert again["changed"] is False
    assert list(place.parent.glob(f"{place.name}.*")) == []


@pytest.mark.parametrize("listed", [True, False])
def test_a_flipped_byte_is_refused_before_rattler_reads_it(bundle: Bundle, place: Path, listed: bool) -> None:
    """By the bundle's own list; and by the lock, should the list have been made of the damaged file."""
    victim = bundle.folder / "conda/linux-64/ninja-1.0-0.tar.bz2"
    before, good = victim.read_bytes(), digests(bundle.folder, "conda")
    victim.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    try:
        made = install(bundle, place, good if listed else None)
    finally:
        victim.write_bytes(before)
    assert made["failed"]
    assert "ninja-1.0-0.tar.bz2: content differs" in made["msg"]
    assert not place.exists()


def channel_play(
    bundle: Bundle, dest: Path, channels: list[str], environments: bool = True
) -> dict[str, Any]:
    """The action as role bundle calls it."""
    entry = {"environment": bundle.names["cu128"], "lock": str(bundle.folder / "locks" / bundle.lock),
             "python": bundle.minor, "arch": "x86_64", "glibc": "2.34", "level": "12.8", "compiler": True}  # fmt: skip
    arguments = {"dest": str(dest), "cache_dir": str(CACHE), "channels": channels,
                 "rattler_lock": str(REPOSITORY / "requirements/rattler.txt"),
                 "environments": [entry] if environments else []}  # fmt: skip
    done = subprocess.run(
        [REPOSITORY / ".venv/bin/ansible", "localhost", "-m", "baremetal.sglang.conda_channel", "-a", json.dumps(arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "localhost | " in done.stdout, done.stdout + done.stderr
    answer, _end = json.JSONDecoder().raw_decode(done.stdout.split("localhost | ")[1].partition("=> ")[2])
    return dict(answer)


def test_the_action_says_what_a_bundle_takes_and_when_nothing_is_new(bundle: Bundle, tmp_path: Path) -> None:
    made = channel_play(bundle, tmp_path / "made", [str(bundle.upstream)])
    assert made["changed"], made
    assert {tree["kind"] for tree in made["trees"]} == {"conda", "pixi", "wheel"}
    assert all(Path(tree["source"]).exists() for tree in made["trees"])
    assert channel_play(bundle, tmp_path / "made", [str(bundle.upstream)])["changed"] is False
    assert channel_play(bundle, tmp_path / "none", [], environments=False)["trees"] == []


def test_no_channel_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    made = channel_play(bundle, tmp_path, [])
    assert "REFUSED  a plan says runtime_backend: pixi, and bundle_conda_channels is empty" in made["msg"]
