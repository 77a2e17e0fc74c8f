# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights on a real systemd host: from the connected side to a published folder, damaged, repaired, replaced, pruned."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source, Wanted
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_run import FetchJob, fetch_all
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import Settings
from ansible_collections.baremetal.sglang.tools.make_tiny_model import make_files

from .conftest import REPOSITORY, lab_name, write_inventory
from .engine_host import make_plan

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
PIECE = 1 << 16
DEST = "/opt/sglang/weights/glm-4.7-tiny/local"
SHARD = "model-00001-of-00002.safetensors"


PLAN = make_plan("h1")
TINY_PLAN = PLAN["instances"]["tiny"]
PLAN["instances"] = {
    "tiny": {
        **TINY_PLAN,
        "weights": {**TINY_PLAN["weights"], "model": "glm-4.7-tiny", "revision": "local", "path": DEST},
    }
}

# The roles as site.yml, verify.yml and weights_prune.yml call them, without reading and planning the host each time.
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "vars": {
            "plan_of_host": PLAN,
            "plan_result": {"plans": dict.fromkeys(("h1", "h2", "h3"), "{{ plan_of_host }}")},
        },
        "tasks": [
            {
                "name": entry,
                "ansible.builtin.include_role": {"name": "baremetal.sglang.weights", "tasks_from": entry},
                "when": f"'{entry}' in steps",
            }
            for entry in ("needed", "main", "verify", "prune")
        ],
    }
]


class Room:
    """An inventory with one host, and the folder on the controller that its weights come from."""

    def __init__(self, inventory: Path, lab: Any, folder: Path) -> None:
        self.inventory, self.lab, self.folder = inventory, lab, folder

    def command(
        self, play: str | Path, *words: str, limit: str = "h1", **extra: Any
    ) -> subprocess.CompletedProcess[str]:
        given = {"weights_dir": str(self.folder), **extra}
        return subprocess.run(
            [
                *(str(PLAYBOOK), str(play), "-i", str(self.inventory), "--limit", f"{limit},localhost"),
                *("-e", json.dumps(given), *words),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )

    def roles(self, steps: str, *words: str, **extra: Any) -> subprocess.CompletedProcess[str]:
        play = self.inventory.with_name("play.yml")
        play.write_text(yaml.safe_dump(PLAY), encoding="utf-8")
        return self.command(play, *words, steps=steps.split(), **extra)

    def brought(self, *words: str, **extra: Any) -> str:
        done = self.roles("needed main", *words, **extra)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def on_host(self, words: str, host: str = "h1") -> str:
        return str(self.lab.host(host).ssh(words).stdout)


def fetched(folder: Path, source: Path, seed: int) -> None:
    """As playbooks/weights.yml does it, with small pieces, so that a small model has many."""
    source.mkdir()
    for name, data in make_files(seed).items():
        (source / name).write_bytes(data)
    take = ("*.safetensors", "*.json")
    wanted = Wanted("glm-4.7-tiny", "local", (Source("directory", "test", path=str(source)),), take, ())
    settings = Settings(2, 2, 0.1, 1, 10, 1, 10, 10)
    fetch_all([wanted], FetchJob(folder, settings, print, {}, piece_bytes=PIECE))


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("weights")
    fetched(folder / "first", folder / "source-1", 7)
    fetched(folder / "second", folder / "source-2", 8)
    hosts = {
        name: {"ansible_host": f"10.77.0.{number}", "lab": {"kind": "nspawn"}}
        for name, number in (("h1", 11), ("h2", 12), ("h3", 13))
    }
    inventory = write_inventory(
        folder,
        lab_name("weights"),
        hosts,
        serve={"tiny": {"model": "glm-4.7-tiny", "hosts": ["h1"], "device": "cpu"}},
        weights_sources={"glm-4.7-tiny": [{"type": "directory", "path": str(folder / "source-1")}]},
    )
    lab = Lab.from_inventory(inventory)
    try:
        lab.up()
        yield Room(inventory, lab, folder / "first")
    finally:
        lab.down()


def test_nothing_at_hand_is_refused_before_the_host_is_touched(room: Room) -> None:
    done = room.command("site.yml", "--tags", "weights", weights_dir="")
    assert done.returncode != 0
    assert f"REFUSED  {DEST} on h1 is not there" in done.stdout
    assert "playbooks/weights.yml" in done.stdout
    assert room.on_host("ls /opt") == ""


def test_a_model_appears_read_only_and_a_second_run_changes_nothing(room: Room) -> None:
    done = room.command("site.yml", "--tags", "weights", "--check", "--diff")
    assert done.returncode == 0, done.stdout[-3000:]
    assert room.on_host("ls /opt") == ""
    done = room.command("site.yml", "--tags", "weights")
    assert "verified and published" in done.stdout, done.stdout[-3000:]
    listed = room.on_host(f"stat -c '%U %a %n' {DEST} {DEST}/{SHARD} {DEST}/.weights.json")
    assert [line.rsplit(" ", 1)[0] for line in listed.splitlines()] == ["root 755", "root 444", "root 444"]
    done = room.command("site.yml", "--tags", "weights")
    assert re.search(r"^h1 .*changed=0 .*failed=0", done.stdout, re.MULTILINE), done.stdout[-3000:]
    assert re.search(r"^h1 .*changed=0 ", room.brought("--check"), re.MULTILINE)


def test_rot_is_found_by_reading_and_repaired_by_its_piece(room: Room) -> None:
    before = room.on_host(f"sha256sum {DEST}/{SHARD}; stat -c %i {DEST}/model-00002-of-00002.safetensors")
    # A bit flips and the time of the file does not: only reading finds it.
    room.on_host(
        f"chmod u+w {DEST}/{SHARD}; touch -r {DEST}/{SHARD} /tmp/t; "
        f"printf x | dd of={DEST}/{SHARD} bs=1 seek=400000 conv=notrunc status=none; "
        f"touch -r /tmp/t {DEST}/{SHARD}; chmod 444 {DEST}/{SHARD}"
    )
    done = room.roles("verify")
    assert done.returncode != 0
    assert f"{SHARD}: content differs in 1 of" in done.stdout
    said = room.brought()
    assert f"{PIECE / 1000:.2f} kB of them brought" in said, said[-3000:]
    after = room.on_host(f"sha256sum {DEST}/{SHARD}; stat -c %i {DEST}/model-00002-of-00002.safetensors")
    assert after == before, "the intact shard is the same file still"
    done = room.roles("verify")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "whole" in done.stdout


@pytest.mark.long
def test_damage_that_a_quick_look_sees_is_mended_by_the_next_run(room: Room) -> None:
    """Truncated, overlong, missing, renamed to what an engine would load, replaced by a link."""
    room.on_host(
        f"cd {DEST} && truncate -s -100 {SHARD} && printf more >> model-00002-of-00002.safetensors && "
        "rm tokenizer.json && mv generation_config.json other.safetensors && "
        "rm config.json && ln -s /etc/passwd config.json"
    )
    said = room.brought()
    assert "verified and published" in said
    listed = room.on_host(f"cd {DEST} && ls -A && find . -type l").split()
    assert sorted(listed) == sorted([*make_files(7), ".weights.json", ".published.json"])
    assert re.search("^h1 .*changed=0 ", room.brought(weights_check="full"), re.MULTILINE)


@pytest.mark.long
def test_a_cut_off_transfer_is_taken_up_and_two_revisions_share_files(room: Room) -> None:
    """Another model under the same name: files that are equal are linked, half a shard is kept."""
    second = str(room.folder.parent / "second")
    staging = f"{DEST}.partial"
    room.on_host(f"mkdir -p {staging}; head -c 500000 {DEST}/{SHARD} > {staging}/{SHARD}")
    said = room.brought(weights_dir=second)
    assert "verified and published" in said
    assert room.on_host(f"ls -d {DEST}*").split() == [DEST]
    done = room.roles("verify")
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_full_disk_is_said_with_its_numbers_and_nothing_is_lost(room: Room) -> None:
    before = room.on_host(f"sha256sum {DEST}/{SHARD}")
    room.on_host(
        "mkdir -p /mnt/small && mount -t tmpfs -o size=1m small /mnt/small && mkdir /mnt/small/weights"
    )
    room.on_host("cp -a /opt/sglang/weights /opt/kept && mount --bind /mnt/small/weights /opt/sglang/weights")
    try:
        done = room.roles("needed main")
    finally:
        room.on_host("umount /opt/sglang/weights && umount /mnt/small && rm -r /opt/kept")
    assert done.returncode != 0
    assert "1.73 MB are needed" in done.stdout or "GiB are needed" in done.stdout, done.stdout[-2500:]
    assert room.on_host(f"sha256sum {DEST}/{SHARD}") == before


@pytest.mark.long
def test_a_full_disk_on_one_host_lets_the_other_finish(room: Room) -> None:
    """The one that is whole goes no further either: an instance of both would not start."""
    room.on_host(f"rm -rf {DEST}")
    room.on_host("mkdir -p /opt/sglang/weights && mount -t tmpfs -o size=1m small /opt/sglang/weights", "h2")
    done = room.roles("needed main", limit="h1,h2")
    assert done.returncode != 0
    assert re.search(r"fatal: \[h2\](?:(?!fatal:).)*1\.73 MB are needed", done.stdout, re.S), done.stdout[
        -3000:
    ]
    assert re.search(
        r"fatal: \[h1\](?:(?!fatal:).)*h2: the weights could not be published there", done.stdout, re.S
    )
    assert room.on_host(f"ls {DEST}/{SHARD}")
    room.on_host("umount /opt/sglang/weights", "h2")
    done = room.roles("needed main", limit="h1,h2")
    assert done.returncode == 0, done.stdout[-3000:]
    assert room.on_host(f"sha256sum {DEST}/{SHARD}") == room.on_host(f"sha256sum {DEST}/{SHARD}", "h2")


def test_hosts_bring_it_to_each_other_and_a_late_one_needs_no_source(room: Room, swarm_wheels: Path) -> None:
    """The controller sends it once, whatever the number of hosts."""
    for host in ("h1", "h2", "h3"):
        room.on_host(f"rm -rf {DEST}", host)
    together = {"weights_transport": "swarm", "swarm_wheels": str(swarm_wheels)}
    said = room.brought("--check", limit="h1,h2", **together)
    assert room.on_host(f"ls -d {DEST}* 2>/dev/null || true", "h2") == ""
    said = room.brought(limit="h1,h2", **together)
    assert "from the others, port" in said, said[-5000:]
    assert said.count("verified and published") == 2
    # The folder on the controller no longer holds the bytes: those that have them give them.
    poor = room.folder.parent / "poor"
    shutil.copytree(room.folder, poor)
    for shard in poor.rglob("*.safetensors"):
        data = shard.read_bytes()
        shard.write_bytes(data[:200_000] + bytes(len(data) - 200_000))
    said = room.brought(limit="h1,h2,h3", weights_dir=str(poor), **together)
    assert said.count("verified and published") == 1, said[-5000:]
    whole = room.on_host(f"sha256sum {DEST}/{SHARD}")
    assert all(room.on_host(f"sha256sum {DEST}/{SHARD}", host) == whole for host in ("h2", "h3"))
    assert room.on_host(f"stat -c %U:%a {DEST}/{SHARD}", "h3") == "root:444\n"
    # Nor need the controller hold it at all, or a file be damaged as a whole.
    room.on_host(f"rm -rf {DEST}", "h3")
    room.on_host(
        f"chmod u+w {DEST}/{SHARD}; printf x | dd of={DEST}/{SHARD} bs=1 seek=400000 conv=notrunc", "h2"
    )
    said = room.brought(limit="h1,h2,h3", weights_dir="", **together)
    assert said.count("verified and published") == 2, said[-5000:]
    assert all(room.on_host(f"sha256sum {DEST}/{SHARD}", host) == whole for host in ("h2", "h3"))
    again = room.brought(limit="h1,h2,h3", **together)
    assert again.count("changed=0") >= 3, again[-3000:]


def test_what_is_in_use_stays_when_unused_goes(room: Room) -> None:
    room.on_host(
        "cd /opt/sglang/weights/glm-4.7-tiny && cp -a local used && cp -a local open && cp -a local idle && "
        "mkdir -p /opt/sglang/releases/r1/tiny && ln -s /opt/sglang/weights/glm-4.7-tiny/used "
        "/opt/sglang/releases/r1/tiny/weights && "
        f"systemd-run --quiet --unit holder --collect sh -c 'exec sleep 300 < {os.path.dirname(DEST)}/open/config.json'"
    )
    done = room.roles("prune", weights_remove=["glm-4.7-tiny/used"])
    assert done.returncode != 0
    assert "is in use by release r1" in done.stdout
    done = room.roles("prune", "--check", weights_keep=0)
    assert "removed: glm-4.7-tiny/idle" in done.stdout, done.stdout[-3000:]
    done = room.roles("prune", weights_keep=0)
    assert done.returncode == 0, done.stdout[-3000:]
    assert room.on_host(f"ls {os.path.dirname(DEST)}").split() == ["local", "open", "used"]
    room.on_host("systemctl stop holder; rm -r /opt/sglang/releases")


def test_a_bundle_that_was_filled_from_a_folder_without_a_manifest(room: Room, tmp_path: Path) -> None:
    """Its own list of hashes is enough, sent by the controller or read by the host itself."""
    folder = tmp_path / "weights/glm-4.7-tiny/local"
    folder.mkdir(parents=True)
    listed = {}
    for name, data in make_files(9).items():
        (folder / name).write_bytes(data)
        listed[f"weights/glm-4.7-tiny/local/{name}"] = {
            "size": len(data), "sha256": sha256(data).hexdigest(), "kind": "weights",
        }  # fmt: skip
    weights = {"glm-4.7-tiny/local": {"folder": "weights/glm-4.7-tiny/local", "files": sorted(listed)}}
    manifest = bundle_manifest.build(listed, {}, weights, {}, {})
    (tmp_path / "manifest.json").write_text(bundle_manifest.rendered(manifest), encoding="utf-8")
    said = room.brought(weights_dir="", bundle_dir=str(tmp_path))
    assert "verified and published" in said
    mounted = room.lab.host("h1").mounted_root() / "mnt/bundle"
    shutil.copytree(tmp_path, mounted)
    room.on_host(f"rm {DEST}/tokenizer.json")
    said = room.brought(weights_dir="", bundle_dir=str(tmp_path), bundle_on_host="/mnt/bundle")
    assert "verified and published" in said
    assert "from the controller" not in said
    (folder / SHARD).write_bytes(b"cut")
    done = room.roles("needed main", weights_dir="", bundle_dir=str(tmp_path))
    assert done.returncode != 0
    assert f"{SHARD}: 3 bytes instead of" in done.stdout


def test_somebody_s_own_folder_is_never_replaced(room: Room) -> None:
    room.on_host(f"mv {DEST} {DEST}.mine; mkdir {DEST}; echo mine > {DEST}/notes")
    done = room.roles("needed main")
    assert done.returncode != 0
    assert "was not put there by this collection" in done.stdout
    assert room.on_host(f"cat {DEST}/notes") == "mine\n"
