# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role runtime on a bare host: over ssh, cut off, tampered with, full, busy; with stand-in wheels and the real uv."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.tests.unit.fixtures import stand_in_wheels as stand_in

from .conftest import REPOSITORY, lab_name, write_inventory
from .engine_host import make_plan

SUBNET = "10.92.0"
KIT = "python/python-3.11.tar.gz"
ROOT = "/opt/sglang"
PATHS = {"environments": f"{ROOT}/envs", "store": f"{ROOT}/store", "releases": f"{ROOT}/releases"}
PLAY = [{"hosts": "all", "gather_facts": False, "roles": ["baremetal.sglang.runtime"]}]
Files = list[dict[str, Any]]


@dataclass
class Room:
    """A host and a bundle for it; a test changes copies of what is said."""

    lab: Any
    inventory: Path
    folder: Path
    files: Files
    name: str = "r1"
    more: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=lambda: make_plan("r1"))

    def environment(self, name: str, **changes: Any) -> dict[str, Any]:
        listed = {entry["path"]: entry["sha256"] for entry in self.files}
        usual = {
            "id": name,
            "path": f"{PATHS['environments']}/{name}",
            "files": self.files,
            "lock": stand_in.LOCK,
            "lock_sha256": listed.get(f"locks/{stand_in.LOCK}", ""),
            "installer": next((path for path in listed if path.startswith("wheels/uv-")), ""),
            "interpreter": "/usr/bin/python3",
            "python": "3.11",
            "python_kit": "",
            "python_home": "",
            "imports": ["torch", "sglang.launch_server"],
            "import_environment": {},
            "versions": {"sglang": "1.0"},
            "cuda": "cu130",
            "gpus": 0,
        }
        return {**usual, **changes}

    def play(self, name: str, *words: str, keep: int = 9, **changes: Any) -> subprocess.CompletedProcess[str]:
        item = self.environment(name, **changes)
        there = (
            self.lab.host(self.name.split(",", maxsplit=1)[0])
            .ssh(f"test -e {item['path']}/.environment.json", check=False)
            .returncode
            == 0
        )
        said = {
            "bundle_dir": str(self.folder),
            "runtime_missing": [] if there else [item],
            "plan_of_host": {
                **self.plan,
                "host_settings": {**self.plan["host_settings"], "paths": PATHS},
                "keep": {"environments": keep},
                "instances": {
                    "tiny": {**self.plan["instances"]["tiny"], "environment": item, "compiles": {}}
                },
            },
            **self.more,
        }
        playbook, variables = self.inventory.with_name("play.yml"), self.inventory.with_name("said.json")
        playbook.write_text(json.dumps(PLAY), encoding="utf-8")
        variables.write_text(json.dumps(said), encoding="utf-8")
        return subprocess.run(
            [
                Path(sys.prefix) / "bin" / "ansible-playbook",
                "-i",
                self.inventory,
                "--limit",
                self.name,
                playbook,
                "-e",
                f"@{variables}",
                *words,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_FAILED_STDERR": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )

    def works(self, name: str, *words: str, **changes: Any) -> str:
        done = self.play(name, *words, **changes)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    def refused(self, name: str, said: str, **changes: Any) -> None:
        done = self.play(name, **changes)
        assert done.returncode != 0, done.stdout[-4000:]
        text = re.sub(r"\s+", " ", done.stdout.replace("\\n", " "))
        assert re.search(said, text), done.stdout[-4000:]
        assert "Traceback" not in text
        assert self.ssh(f"find {PATHS['environments']} -maxdepth 1 -name '{name}*'", check=False).stdout == ""

    def ssh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab.host(self.name).ssh(command, check=check)  # type: ignore[no-any-return]

    def file(self, part: str) -> dict[str, Any]:
        return next(entry for entry in self.files if part in entry["path"])

    def put(self, target: str, data: bytes) -> None:
        root = Path(self.lab.paths.host(self.name).root)
        (root / target.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / target.lstrip("/")).write_bytes(data)


def changed(output: str) -> int:
    found = re.search(r"changed=(\d+)", output)
    assert found, output
    return int(found[1])


@pytest.fixture(scope="module")
def booted(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("runtime")
    hosts = {
        "r1": {"ansible_host": f"{SUBNET}.11", "lab": {"kind": "nspawn", "image": "debian-12"}},
        "r2": {"ansible_host": f"{SUBNET}.12", "lab": {"kind": "nspawn", "image": "debian-12"}},
        "r13": {"ansible_host": f"{SUBNET}.13", "lab": {"kind": "nspawn", "image": "debian-13"}},
    }
    inventory = write_inventory(folder, lab_name("runtime"), hosts)
    # As many files as the real engine has, most of them small.
    many = {f"small{number}": {f"small{number}/__init__.py": ""} for number in range(170)}
    files = stand_in.bundle(folder / "bundle", many, megabytes=32)
    lab = Lab.from_inventory(inventory)
    lab.up()
    yield Room(lab, inventory, folder / "bundle", files)
    lab.down()


@pytest.fixture
def room(booted: Room) -> Iterator[Room]:
    booted.ssh(f"umount {ROOT} 2>/dev/null; rm -rf {ROOT}", check=False)
    yield Room(booted.lab, booted.inventory, booted.folder, list(booted.files))


def test_over_ssh_then_nothing_to_do_then_old_ones_go(room: Room) -> None:
    assert changed(room.works("one", "--check")) == 2
    assert room.ssh(f"test -e {ROOT}", check=False).returncode != 0
    assert changed(room.works("one")) == 2
    assert changed(room.works("one")) == 0
    # What the host has is not sent again, and its files are shared.
    shown = room.works("two", "-v")
    assert changed(shown) == 1
    inodes = room.ssh(
        f"stat -c %i {PATHS['environments']}/*/lib/python3.11/site-packages/bulk0/0.bin"
    ).stdout.split()
    assert len(inodes) == 2
    assert len(set(inodes)) == 1
    room.ssh(f"mkdir -p {ROOT}/releases/r/i && ln -s {ROOT}/envs/one {ROOT}/releases/r/i/env")
    assert changed(room.works("two", keep=1)) == 0
    room.ssh(f"rm -r {ROOT}/releases")
    shown = room.works("two", "--check", "--diff", keep=1)
    assert f"-{ROOT}/envs/one" in shown
    assert changed(shown) == 1
    assert changed(room.works("two", keep=1)) == 1
    assert changed(room.works("two", keep=1)) == 0
    assert room.ssh(f"ls {ROOT}/envs").stdout == "two\n"
    assert room.ssh(f"{ROOT}/envs/two/bin/python -c 'import sglang'").returncode == 0
    assert room.ssh(f"find {ROOT} -name '*.partial'; ls {ROOT}/store/incoming").stdout == ""
    assert room.ssh(f"find {ROOT} -perm /0022 ! -type l").stdout == ""


@pytest.mark.long
def test_a_cut_off_transfer_goes_on_where_it_stopped(room: Room) -> None:
    whole, damaged = room.file("bulk0"), room.file("bulk1")
    content = (room.folder / whole["path"]).read_bytes()
    room.put(f"{PATHS['store']}/incoming/{whole['sha256']}", content[: len(content) // 2])
    other = bytearray((room.folder / damaged["path"]).read_bytes()[:1000])
    other[10] ^= 1
    room.put(f"{PATHS['store']}/incoming/{damaged['sha256']}", bytes(other))
    shown = room.works("one", "-v")
    brought = re.search(r'"bytes": (\d+)', shown)
    total = sum(entry["size"] for entry in room.files)
    assert brought
    assert int(brought[1]) == total - len(content) // 2 - 1000
    assert f"sent again: {damaged['path']}: content differs (sha256)" in shown


def test_a_bundle_that_the_host_reads_itself(room: Room, tmp_path: Path) -> None:
    root = Path(room.lab.paths.host(room.name).root)
    subprocess.run(["cp", "-r", room.folder, root / "srv" / "bundle"], check=True)
    room.more = {"runtime_bundle_on_host": "/srv/bundle", "bundle_dir": str(tmp_path)}
    entry = room.file("bulk0")
    content = bytearray((room.folder / entry["path"]).read_bytes())
    content[1000] ^= 1
    room.put(f"/srv/bundle/{entry['path']}", bytes(content))
    (root / "srv" / "bundle" / room.file("bulk1")["path"]).unlink()
    room.refused("one", r"/srv/bundle is not what the manifest says.*bulk0.*differs.*bulk1.*No such file")
    subprocess.run(["cp", "-r", f"{room.folder}/.", root / "srv" / "bundle"], check=True)
    assert changed(room.works("one")) == 2
    room.ssh("rm -r /srv/bundle")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lock": "other.txt"}, "REFUSED .*lists no lock other.txt"),
        ({"imports": ["torch", "nonsense"]}, "REFUSED .*import nonsense: ModuleNotFoundError"),
        ({"cuda": "cu128"}, "REFUSED .*cu128 was planned, this build is for cu130"),
        ({"gpus": 2}, "REFUSED .*torch.cuda sees 0 GPUs, the plan has 2"),
        ({"interpreter": "/usr/bin/python3.9"}, "REFUSED .*there is no /usr/bin/python3.9 on this host"),
    ],
)
def test_what_does_not_fit_the_plan(room: Room, change: dict[str, Any], said: str) -> None:
    room.refused("one", said, **change)


def test_wheels_of_another_machine_and_missing_ones(room: Room) -> None:
    torch = room.folder / room.file("torch-")["path"]
    foreign = torch.with_name("torch-1.0-cp311-cp311-manylinux_2_28_aarch64.whl")
    foreign.write_bytes(torch.read_bytes())
    missing = room.file("small7-")["path"]
    files = [
        {**entry, "path": f"wheels/{foreign.name}"} if "torch-" in entry["path"] else entry
        for entry in room.files
        if entry["path"] != missing
    ]
    room.refused(
        "one",
        r"built for another machine than x86_64: torch-1.0.*aarch64.*no wheel here is: small7==1.0",
        files=files,
    )
    foreign.unlink()


def test_a_disk_that_is_too_small_or_becomes_full(room: Room) -> None:
    room.ssh(f"mkdir {ROOT} && mount -t tmpfs -o size=60m small {ROOT}")
    room.refused("one", r"REFUSED .*store has 6\d\.\d MB free and \d+\.\d MB are needed for the files")
    room.ssh(f"mount -o remount,size=120m {ROOT}")
    room.refused("one", r"REFUSED .*store has \d+\.\d MB free and \d+\.\d MB are needed for the environment")
    # Room for the bytes, and none for the names: it becomes full while uv works.
    room.ssh(f"mount -o remount,size=900m,nr_inodes=1200 {ROOT}")
    room.refused(
        "one", r"REFUSED .*the disk of .*store became full while .*envs/one was made: .* are needed and"
    )
    room.ssh(f"mount -o remount,size=900m,nr_inodes=90000 {ROOT}")
    assert changed(room.works("one")) == 1


def test_two_runs_at_once(room: Room) -> None:
    lock = f"{PATHS['store']}/lock"
    record = json.dumps({"pid": 1, "since": "noon", "what": "/opt/sglang/envs/other", "from": "192.0.2.1"})
    room.ssh(f"mkdir -p {PATHS['store']}; echo '{record}' >{lock}")
    room.ssh(f"systemd-run --unit=holder flock {lock} sleep 600")
    room.refused(
        "one", "another run works on this host: process 1, started from 192.0.2.1 at noon, makes .*envs/other"
    )
    room.ssh("systemctl stop holder")
    room.works("one")


@pytest.fixture(scope="module")
def kit(labs_directory: Path, booted: Room) -> dict[str, Any]:
    """The relocatable Python, made once for all runs on this machine."""
    cache = os.environ.get("BAREMETAL_CACHE") or Path.home() / ".cache" / "baremetal-sglang"
    made, target = Path(cache) / "kits" / "python-3.11.tar.gz", booted.folder / KIT
    if not made.exists():
        subprocess.run([sys.executable, REPOSITORY / "tools" / "python_kit.py", made], check=True)
    target.parent.mkdir()
    target.write_bytes(made.read_bytes())
    return stand_in.listed(booted.folder, [target])[0]


@pytest.fixture
def newer(booted: Room, kit: dict[str, Any]) -> Room:
    """A host whose only Python is too new, and what its plan says of the one that is brought."""
    found = Room(booted.lab, booted.inventory, booted.folder, [*booted.files, kit], "r13")
    found.ssh(f"rm -rf {ROOT}")
    return found


HOME = f"{ROOT}/python/3.11"
BROUGHT = {"python_kit": KIT, "python_home": HOME, "interpreter": f"{HOME}/bin/python3"}


def test_a_python_is_brought_to_a_host_whose_own_is_too_new(newer: Room) -> None:
    assert newer.ssh("ls /usr/bin/python3.*").stdout == "/usr/bin/python3.13\n"
    assert changed(newer.works("one", **BROUGHT)) == 2
    assert changed(newer.works("one", **BROUGHT)) == 0
    modules = "ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib, uuid, readline, multiprocessing, sglang"
    code = f"import {modules}, sys; print(sys.version_info[:2], sys.base_prefix)"
    assert newer.ssh(f'{ROOT}/envs/one/bin/python -c "{code}"').stdout == f"(3, 11) {HOME}\n"
    # A newer environment takes the one that is there.
    assert changed(newer.works("two", **BROUGHT)) == 1
    assert newer.ssh(f"find {ROOT} -name '*.partial'; find {HOME} ! -user root").stdout == ""


def test_an_archive_that_is_no_fitting_python(newer: Room) -> None:
    newer.refused("one", r"REFUSED .*is Python 3\.11\.\d+ and the plan wants 3\.12", **BROUGHT, python="3.12")
    assert newer.ssh(f"ls {ROOT}/python").stdout == ""


@pytest.mark.long
def test_hosts_bring_content_to_each_other_and_a_late_one_takes_it_from_them(
    room: Room, swarm_wheels: Path
) -> None:
    other = Room(room.lab, room.inventory, room.folder, room.files, name="r2")
    other.ssh(f"rm -rf {ROOT}", check=False)
    item = room.environment("e1")
    together = {"runtime_transport": "swarm", "swarm_wheels": str(swarm_wheels), "environment_item": item}
    both = Room(room.lab, room.inventory, room.folder, room.files, name="r1,r2", more={
        **together, "runtime_missing": ["{{ environment_item }}"],
    })  # fmt: skip
    said = both.works("e1")
    assert "r2  content" in said and "from the others" in said, said[-4000:]
    for host in (room, other):
        assert host.ssh(f"{item['path']}/bin/python -c 'import sglang'").returncode == 0
        assert host.ssh(f"ls {PATHS['store']}/shared", check=False).returncode != 0, "moved into the store"
    # The controller no longer has the bytes; the host that has them gives them.
    other.ssh(f"rm -rf {ROOT}")
    both.more["runtime_missing"] = "{{ [] if inventory_hostname == 'r1' else [environment_item] }}"
    both.folder = Path("/nonexistent")
    said = both.works("e1")
    assert "r1  content" in said or "r2  content" in said, said[-4000:]
    assert other.ssh(f"{item['path']}/bin/python -c 'import sglang'").returncode == 0
    both.more["runtime_missing"] = []
    assert set(re.findall(r"changed=(\d+)", both.works("e1"))) == {"0"}
