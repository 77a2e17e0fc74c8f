# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian packages from a bundle, on real Debian 12 hosts without a route, a repository and python3-apt."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.deb_folder import DebFolder

from .conftest import REPOSITORY, lab_name, write_inventory

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
STORE = "/opt/sglang/store/packages"
ARCH = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()
FOLDER = f"debs/bookworm-{ARCH}"
# What apt, dpkg and the engine's part of a host are, byte by byte.
STATE = "dpkg-query -W | sha256sum; find /etc/apt /var/lib/apt/lists /opt /etc/passwd -type f -exec sha256sum {} + | sort"
# The script of a package that dpkg runs, and the module above apt.
SCRIPT = "dpkg/(tmp.c[i]/preinst|info/zz-[a-z]*.postins[t])"
KILL_RUN = "kill -9 $(ps -o ppid= -C apt-get | head -1)"
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "vars": {
            "plan_of_host": {
                "host_settings": {
                    "packages": "{{ names }}",
                    "paths": {"store": "/opt/sglang/store", "state": "/var/lib/sglang"},
                    "user": "sglang",
                    "group": "sglang",
                    "supplementary_groups": [],
                    "swap": "as it is",
                    "directories": [{"path": "/opt/sglang", "owner": "root", "mode": "0755"}],
                },
                "instances": {},
            },
            "bundle_wanted": [],
        },
        "tasks": [
            {
                "name": role,
                "ansible.builtin.include_role": {"name": f"baremetal.sglang.{role}", "tasks_from": entry},
                "when": f"'{role}' in steps",
            }
            for role, entry in (("bundle", "needed"), ("host", "main"))
        ],
    }
]


def built(folder: Path, name: str, control: str = "", **scripts: str) -> None:
    """A small package made here, added to the folder and its index."""
    root = folder.parent / name
    (root / "DEBIAN").mkdir(parents=True)
    text = f"Package: {name}\nVersion: 1:1.0\nArchitecture: all\nMaintainer: m <m@example.com>\n{control}"
    (root / "DEBIAN/control").write_text(f"{text}Description: {name}\n")
    for script, words in scripts.items():
        (root / "DEBIAN" / script).write_text(f"#!/bin/sh\n{words}\n")
        (root / "DEBIAN" / script).chmod(0o755)
    deb = folder / f"{name}_1+epoch+1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, deb], check=True, capture_output=True)
    digest = sha256(deb.read_bytes()).hexdigest()
    with (folder / "Packages").open("a") as index:
        index.write(
            f"\n{text}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\nDescription: x\n"
        )


def listed(bundle: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": str(path.relative_to(bundle)),
            "size": path.stat().st_size,
            "sha256": sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(bundle.glob("debs/**/*"))
        if path.is_file()
    ]


def sealed(bundle: Path) -> Path:
    files = {
        entry["path"]: {"size": entry["size"], "sha256": entry["sha256"], "kind": "debs"}
        for entry in listed(bundle)
    }
    manifest = bundle_manifest.build(files, {}, {}, {}, {})
    (bundle / "manifest.json").write_text(bundle_manifest.rendered(manifest))
    return bundle


class Room:
    def __init__(self, lab: Any, bundle: Path) -> None:
        self.lab, self.bundle = lab, bundle

    def play(
        self,
        *names: str,
        steps: str = "bundle host",
        limit: str = "h1",
        words: tuple[str, ...] = (),
        **extra: Any,
    ) -> subprocess.CompletedProcess[str]:
        play = self.lab.inventory.with_name("play.yml")
        play.write_text(yaml.safe_dump(PLAY), encoding="utf-8")
        given = {"names": list(names), "steps": steps.split(), "bundle_dir": str(self.bundle), **extra}
        return subprocess.run(
            [
                PLAYBOOK,
                play,
                "-i",
                self.lab.inventory,
                "--limit",
                limit,
                "-v",
                "-e",
                json.dumps(given),
                *words,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )

    def works(self, *names: str, **how: Any) -> str:
        done = self.play(*names, **how)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def refused(self, *names: str, **how: Any) -> str:
        done = self.play(*names, **how)
        assert done.returncode != 0, done.stdout[-5000:]
        assert "Traceback" not in done.stdout
        return re.sub(r"\s+", " ", done.stdout.replace("\\n", " "))

    def on_host(self, words: str, host: str = "h1", check: bool = True) -> str:
        return str(self.lab.host(host).ssh(words, check=check).stdout)

    def wait_for_script(self) -> None:
        self.on_host(f"for i in $(seq 300); do pgrep -f '{SCRIPT}' && exit; sleep 0.2; done; exit 1")

    def status(self, name: str, host: str = "h1") -> str:
        return self.on_host(f"dpkg-query -W -f '${{db:Status-Status}}' {name} 2>/dev/null", host, check=False)


def archives(said: str) -> list[str]:
    """Names of the packages whose archives the host asked for."""
    found = re.findall(r'"lacking": (\[[^\]]*\])', said)
    return sorted(path.split("_")[0] for path in json.loads(found[-1]))


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    work = tmp_path_factory.mktemp("packages")
    # Real packages of this machine's own archive: jq needs two libraries, and a libc that the hosts have.
    fetched = DebFolder(work / "fetched", "bookworm", ARCH, print).fetch(["jq", "tree", "python3-apt"], [])
    folder = work / "bundle" / FOLDER
    shutil.copytree(fetched, folder)
    wait = "i=0; until [ -e /srv/pass ] || [ $i = 100 ]; do sleep 0.3; i=$((i+1)); done"
    built(folder, "zz-preinst", "Depends: tree\n", preinst=wait)
    built(folder, "zz-postinst", "Depends: tree\n", postinst=wait)
    built(folder, "zz-orphan", postinst=wait)
    built(folder, "zz-misfit", "Depends: dpkg (= 0.1)\n")
    built(folder, "zz-jealous", "Conflicts: nftables\n")
    built(folder, "zz-small")
    hosts = {f"h{n}": {"ansible_host": f"10.77.0.{20 + n}", "lab": {"kind": "nspawn"}} for n in (1, 2)}
    lab = Lab.from_inventory(inventory := write_inventory(work, lab_name("packages"), hosts))
    lab.inventory = inventory
    try:
        lab.up()
        yield Room(lab, sealed(work / "bundle"))
    finally:
        lab.down()


def test_what_the_bundle_lacks_is_refused_on_all_hosts_before_any_is_changed(room: Room) -> None:
    before = [room.on_host(STATE, host) for host in ("h1", "h2")]
    said = room.refused("jq", "strace", limit="all")
    for host in ("h1", "h2"):
        assert f"packages missing on {host} (jq, strace), and {FOLDER} of the bundle lacks strace" in said
        assert f"or install on {host}: apt-get install --no-install-recommends jq strace" in said
    assert f"bundle_debs: [{{release: bookworm, arch: {ARCH}, packages: [strace]}}]" in said
    said = room.refused("jq", bundle_dir="", limit="all")
    assert "bundle_dir is not set: something has to be installed on h2" in said and "(packages jq)" in said
    assert [room.on_host(STATE, host) for host in ("h1", "h2")] == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zz-misfit", "zz-misfit : Depends: dpkg (= 0.1)"),
        ("zz-jealous", "Packages need to be removed but remove is disabled"),
    ],
)
def test_what_does_not_go_with_the_host_is_refused_before_any_change(
    room: Room, name: str, words: str
) -> None:
    before = room.on_host(STATE)
    said = room.refused("jq", name)
    assert "the bundle's packages do not fit this host" in said and words in said, said[-3000:]
    assert room.on_host(STATE) == before


def test_check_mode_and_diff_say_what_would_be_installed(room: Room) -> None:
    before = room.on_host(STATE)
    said = room.works("jq", words=("--check", "--diff"))
    assert re.search(r"^\+jq 1\.6", said, re.MULTILINE) and re.search(
        r"^\+libjq1 1\.6", said, re.MULTILINE
    ), said
    assert room.on_host(STATE) == before


def test_damage_is_refused_before_dpkg_reads_it(room: Room, tmp_path: Path) -> None:
    """On the controller by the stage before; on the way or on a mounted disk by the host itself."""
    bundle = Path(shutil.copytree(room.bundle, tmp_path / "bundle"))
    (archive,) = bundle.glob(f"{FOLDER}/libonig5_*.deb")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    before = room.on_host(STATE)
    assert f"{archive.name}: its sha256 is" in room.refused("jq", bundle_dir=str(bundle))
    assert room.on_host(STATE) == before
    files = [{**entry, "path": Path(entry["path"]).name} for entry in listed(room.bundle)]
    given = {"archive": FOLDER.split("/")[1], "files": files}
    said = room.refused("jq", steps="host", bundle_dir=str(bundle), host_package_files=given)
    assert f"{archive.name}: content differs (sha256)" in said and "sent again" in said
    # The bundle of the controller is whole, the disk that the host reads is not.
    room.on_host("mkdir -p /mnt/disk")
    shutil.copytree(bundle, room.lab.host("h1").mounted_root() / "mnt/disk/bundle")
    said = room.refused("jq", bundle_on_host="/mnt/disk/bundle")
    assert f"{archive.name}: content differs (sha256)" in said
    room.on_host(f"echo >> /mnt/disk/bundle/{FOLDER}/Packages")
    assert "Packages is not what the manifest says" in room.refused("jq", bundle_on_host="/mnt/disk/bundle")
    assert [room.status(name) for name in ("jq", "libjq1", "libonig5")] == ["", "", ""]
    assert room.on_host(STATE.split(";", maxsplit=1)[0]) == before.splitlines(keepends=True)[0]
    room.on_host(f"rm -r /mnt/disk/bundle; find {STORE}/content -name 'libonig5*' | grep . && exit 1 || true")


def test_only_what_lacks_is_sent_and_a_second_run_changes_nothing(room: Room) -> None:
    sources = room.on_host("find /etc/apt /var/lib/apt/lists -type f -exec sha256sum {} + | sort")
    # A carrier was cut off in the middle of a file.
    (archive,) = room.bundle.glob(f"{FOLDER}/libjq1_*.deb")
    data = archive.read_bytes()
    part = room.lab.host("h1").mounted_root() / STORE[1:] / "incoming" / sha256(data).hexdigest()
    room.on_host(f"rm -rf {STORE}; mkdir -p {STORE}/incoming")
    part.write_bytes(data[:50_000])
    said = room.works("jq")
    assert archives(said) == ["jq", "libjq1", "libonig5"], "libc6 is in the bundle and on the host"
    sent = sum(next(room.bundle.glob(f"{FOLDER}/{name}_*.deb")).stat().st_size for name in archives(said))
    assert f'"bytes": {sent - 50_000}' in said
    assert room.on_host("echo '{\"a\": 7}' | jq .a") == "7\n"
    assert room.on_host("apt-mark showauto jq libjq1").split() == ["libjq1"]
    assert room.on_host("find /etc/apt /var/lib/apt/lists -type f -exec sha256sum {} + | sort") == sources
    assert room.on_host(f"ls -d {STORE} 2>&1; ls /root/.ansible/tmp", check=False).split("\n")[1:] == [""]
    for how in ({}, {"words": ("--check",)}, {"bundle_dir": "/nowhere"}):
        assert re.search(r"^h1 .*changed=0 .*failed=0", room.works("jq", **how), re.MULTILINE)


def test_a_disk_that_the_host_reads(room: Room) -> None:
    shutil.copytree(room.bundle, room.lab.host("h2").mounted_root() / "mnt/bundle")
    said = room.works("jq", "zz-small", limit="h2", bundle_on_host="/mnt/bundle")
    assert archives(said) == ["jq", "libjq1", "libonig5", "zz-small"]
    assert room.status("jq", "h2") == room.status("zz-small", "h2") == "installed"
    assert room.on_host(f"test -e {STORE} || echo gone", "h2") == "gone\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "status"), [("zz-preinst", "half-installed"), ("zz-postinst", "half-configured")]
)
def test_an_installation_that_was_killed_is_finished_by_the_next_run(
    room: Room, name: str, status: str
) -> None:
    room.on_host("rm -f /srv/pass")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(room.play, name)
        room.wait_for_script()
        room.on_host(
            f"{KILL_RUN}; pkill -9 -x apt-get; pkill -9 -x dpkg; pkill -9 -f '{SCRIPT}'", check=False
        )
        assert running.result().returncode != 0
    assert room.status(name) == status
    room.on_host("touch /srv/pass")
    check = room.works(name, words=("--check",))
    assert re.search("changed=[1-9]", check) and room.status(name) == status
    said = room.works(name)
    assert archives(said) == [], "what arrived is not sent again"
    assert room.status(name) == room.status("tree") == "installed"
    assert room.on_host(f"dpkg --audit; test -e {STORE} || echo gone") == "gone\n"
    assert "changed=0" in room.works(name)
    room.on_host(f"dpkg --purge {name} tree")


@pytest.mark.long
def test_an_apt_that_outlives_its_run_is_waited_for(room: Room) -> None:
    room.on_host("rm -f /srv/pass")
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(room.play, "zz-orphan")
        room.wait_for_script()
        room.on_host(KILL_RUN)
        assert running.result().returncode != 0
        again = pool.submit(room.play, "zz-orphan", steps="host")
        room.on_host("sleep 6; touch /srv/pass")
        done = again.result()
    assert done.returncode == 0, done.stdout[-4000:]
    assert room.status("zz-orphan") == "installed"
    assert room.on_host(f"dpkg --audit; test -e {STORE} || echo gone") == "gone\n"
    assert "changed=0" in room.works("zz-orphan")


def test_what_somebody_else_left_half_done_is_refused_by_name(room: Room) -> None:
    room.on_host("rm -f /srv/pass")
    name = "zz-postinst_1+epoch+1.0_all.deb"
    shutil.copy(room.bundle / FOLDER / name, room.lab.host("h1").mounted_root() / "srv")
    room.on_host(f"dpkg --force-depends --unpack /srv/{name}")
    before = room.on_host(STATE)
    said = room.refused("zz-small")
    assert "dpkg was interrupted on this host while something else installed: zz-postinst (unpacked)" in said
    assert "dpkg --configure -a" in said
    assert room.on_host(STATE) == before
    assert "changed=0" in room.works("nftables"), "where nothing is missing, nothing is asked of dpkg"
    room.on_host("dpkg --purge zz-postinst")


def test_a_room_with_a_mirror_uses_the_hosts_own_package_manager(room: Room) -> None:
    assert "changed=0" in room.works("nftables", host_package_source="repository", bundle_dir="")
    mirror = room.lab.host("h2").mounted_root() / "srv/mirror"
    shutil.copytree(room.bundle / FOLDER, mirror)
    room.on_host("echo 'deb [trusted=yes] file:/srv/mirror ./' > /etc/apt/sources.list.d/mirror.list", "h2")
    room.works("tree", limit="h2", host_package_source="repository", bundle_dir="")
    assert room.status("tree", "h2") == "installed"
    said = room.works("tree", limit="h2", host_package_source="repository", bundle_dir="")
    assert re.search(r"^h2 .*changed=0", said, re.MULTILINE)
