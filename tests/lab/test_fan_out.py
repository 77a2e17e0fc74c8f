# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role swarm on three Debian 12 hosts: over ssh to the first, from it and each other to the rest."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import REPOSITORY, lab_name, write_inventory

sys.path.insert(0, str(REPOSITORY / "collections"))
PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")
STAGING = "/srv/staging/model"
PLAY = {
    "hosts": "all",
    "gather_facts": False,
    "any_errors_fatal": True,
    "tasks": [
        {"name": "Fan out", "ansible.builtin.include_role": {"name": "baremetal.sglang.swarm"}},
    ],
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    (folder / "part").mkdir()
    for number, (name, size) in enumerate({"model.safetensors": 12_000_000, "part/config.json": 500}.items()):
        (folder / name).write_bytes(random.Random(number).randbytes(size))
    return folder


@pytest.fixture(scope="module")
def lab(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from lab import Lab

    hosts = {f"h{n}": {"ansible_host": f"10.77.0.{10 + n}", "lab": {"kind": "nspawn"}} for n in (1, 2, 3)}
    inventory = write_inventory(tmp_path_factory.mktemp("inventory"), lab_name("fan"), hosts)
    made = Lab.from_inventory(inventory)
    made.inventory = inventory
    made.up()
    yield made
    made.down()


class Play:
    def __init__(self, lab: Any, wheels: Path, source: Path, work: Path) -> None:
        self.lab, self.source, self.work = lab, source, work
        self.variables: dict[str, Any] = {
            "swarm_name": "model",
            "swarm_files": [
                {
                    "path": str(path.relative_to(source)),
                    "size": path.stat().st_size,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                }
                for path in sorted(source.rglob("*"))
                if path.is_file()
            ],
            "swarm_hosts": ["h1", "h2", "h3"],
            "swarm_staging": STAGING,
            "swarm_wheels": str(wheels),
            "swarm_source": str(source),
            "swarm_patience": 300,
        }

    def __call__(self, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        playbook = self.work / "play.yml"
        playbook.write_text(yaml.safe_dump([PLAY | {"vars": self.variables | variables}]))
        environment = os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        return subprocess.run(
            [PLAYBOOK, "-i", str(self.lab.inventory), str(playbook), *words],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=3600,
        )

    def holds(self, host: str) -> bool:
        listed = "".join(f"{e['sha256']}  {STAGING}/{e['path']}\n" for e in self.variables["swarm_files"])
        done = self.lab.host(host).ssh("sha256sum --check --quiet", text_input=listed, check=False)
        return bool(done.returncode == 0)

    def wipe(self, *hosts: str) -> None:
        for host in hosts:
            self.lab.host(host).ssh(f"rm -rf {STAGING} /var/lib/sglang-swarm")

    def nothing_remains(self, host: str) -> bool:
        done = self.lab.host(host).ssh(
            "ss -Htuln | grep 29310; pgrep -f '[a]gent.py'; systemctl list-units --all --no-legend 'sglang-swarm-*'",
            check=False,
        )
        return bool(done.stdout == "")


@pytest.fixture(scope="module")
def play(lab: Any, swarm_wheels: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Play:
    return Play(lab, swarm_wheels, source, tmp_path_factory.mktemp("play"))


def test_check_mode_says_what_would_be_moved(play: Play) -> None:
    done = play("--check")
    assert done.returncode == 0, done.stdout
    assert "h1  model  0.01 GB over ssh, then gives them to the others" in done.stdout
    assert "h3  model  0.01 GB from the others, port 29310" in done.stdout
    assert "changed=1" in done.stdout
    assert play.lab.host("h1").ssh(f"test -e {STAGING}", check=False).returncode != 0


def test_all_hosts_get_all_and_a_second_run_does_nothing(play: Play) -> None:
    done = play()
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(play.holds(host) and play.nothing_remains(host) for host in ("h1", "h2", "h3"))
    assert "(GB from h" in done.stdout and "h1  0.00 GB in" in done.stdout
    again = play()
    assert again.returncode == 0 and again.stdout.count("changed=0") == 3, again.stdout
    assert "Show what will be copied" not in again.stdout


@pytest.mark.long
def test_an_agent_that_is_killed_goes_on_and_the_run_does_not_notice(play: Play) -> None:
    play.wipe("h1", "h2", "h3")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(play, swarm_rate_limit=1_500_000)
        host = play.lab.host("h2")
        host.ssh(
            "until grep -q '\"bytes\": [1-9]' /var/lib/sglang-swarm/*/notes/status.json; do sleep 0.2; done",
            check=False,
        )
        assert host.ssh("pkill -9 -f '[s]warm/agent.py'", check=False).returncode == 0
        done = running.result()
    assert done.returncode == 0, done.stdout
    assert all(play.holds(name) and play.nothing_remains(name) for name in ("h1", "h2", "h3"))


@pytest.mark.long
def test_a_host_added_later_is_served_by_those_that_published_it(play: Play) -> None:
    """No source on the controller; h2 has moved it to its final place meanwhile."""
    play.wipe("h3")
    play.lab.host("h2").ssh(f"mv {STAGING} /srv/published")
    seeds = {"h1": STAGING, "h2": "/srv/published"}
    done = play(swarm_source="", swarm_seed_hosts=seeds, swarm_hosts=["h3"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert play.holds("h3") and play.nothing_remains("h1") and play.nothing_remains("h3")
    play.lab.host("h2").ssh(f"mv /srv/published {STAGING}")


@pytest.mark.long
def test_a_full_disk_fails_the_run_with_its_name_and_the_others_are_served(play: Play) -> None:
    play.wipe("h1", "h2", "h3")
    play.lab.host("h3").ssh(f"mkdir -p {STAGING} && mount -t tmpfs -o size=5m none {STAGING}")
    done = play()
    play.lab.host("h3").ssh(f"umount {STAGING}")
    assert done.returncode != 0
    assert "h3: model was not brought" in done.stdout, done.stdout
    assert "0.01 GB are needed and 0.01 GB are free; free 0.01 GB" in done.stdout
    assert play.holds("h1") and play.holds("h2") and play.nothing_remains("h2")


def test_names_that_leave_the_folder_are_refused(play: Play) -> None:
    names = ["../outside", "/etc/passwd", "a//b"]
    done = play("--check", swarm_files=[{"path": name, "size": 1, "sha256": "0" * 64} for name in names])
    assert done.returncode != 0
    assert all(f"the name '{name}' would leave the folder" in done.stdout for name in names), done.stdout


def test_a_link_where_a_file_should_be_is_refused(play: Play) -> None:
    play.wipe("h1", "h2", "h3")
    play.lab.host("h2").ssh(f"mkdir -p {STAGING} && ln -s /etc/passwd {STAGING}/model.safetensors")
    done = play("--check")
    assert done.returncode != 0 and "is a symbolic link" in done.stdout
    assert play.lab.host("h2").ssh("head -c 4 /etc/passwd").stdout == "root"


def test_a_python_without_a_wheel_gets_a_plain_copy(play: Play, tmp_path: Path) -> None:
    play.wipe("h1", "h2", "h3")
    done = play("--limit", "h1,h2", swarm_wheels=str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "as a plain copy: no libtorrent for cp311" in done.stdout
    assert play.holds("h1") and play.holds("h2")
