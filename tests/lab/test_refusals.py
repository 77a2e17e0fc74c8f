# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab says when it cannot begin: one message, and nothing made."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import CONNECTION, REPOSITORY, TOOL, lab_name, tool, write_inventory

HOST = {"h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspawn"}}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "small", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def refused(*words: str | Path, **environment: str) -> str:
    done = tool(*words, check=False, env=os.environ | environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_not_root(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from lab.cli import main; sys.exit(main(sys.argv[1:]))"
    package = tmp_path / "package"
    subprocess.run(
        ["cp", "-r", REPOSITORY / "molecule/lab", package / "lab"], check=False
    ) if package.mkdir() else None
    subprocess.run(["cp", "-r", REPOSITORY / "molecule/lab", package], check=True)
    for parent in (package, *package.parents):
        if parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c", code, package, "up"],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "REFUSED  The lab boots hosts and makes networks, which only root may. Run it again with sudo.\n",
    )


def test_no_lab_hosts(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, lab_name("none"), {"h1": {"ansible_host": "10.77.0.11"}})
    assert "has no lab hosts. A lab host carries two variables" in refused("-i", inventory, "up")


def test_no_inventory(tmp_path: Path) -> None:
    assert "There is no inventory" in refused("-i", tmp_path / "absent.yml", "up")
    assert "Name an inventory" in refused("up")


def test_a_typing_error(tmp_path: Path) -> None:
    hosts = {
        "h1": {"ansible_host": "10.77.0.11", "lab": {"kind": "nspwan", "image": "debian12", "memroy": "1G"}}
    }
    said = refused("-i", write_inventory(tmp_path, lab_name("typo"), hosts), "up")
    for near in ("did you mean nspawn?", "did you mean debian-12?", "did you mean memory?"):
        assert near in said


def test_missing_tools(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, lab_name("tools"), HOST)
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "lab", "-i", inventory, "up"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "molecule"), "PATH": str(tmp_path / "bin")},
    )  # fmt: skip
    assert done.returncode == 1
    assert "mmdebstrap" in done.stderr
    assert "\n  apt-get install --yes --no-install-recommends " in done.stderr


def test_too_little_space(images: None, tmp_path: Path, small_disk: Path) -> None:
    inventory = write_inventory(tmp_path, lab_name("space"), HOST)
    said = refused("-i", inventory, "up", BAREMETAL_LAB_DIR=str(small_disk))
    assert f"in {small_disk}" in said
    assert "300 MB are needed, 1 MB are free" in said or "300 MB are needed, 2 MB are free" in said
    said = refused("-i", inventory, "up", BAREMETAL_CACHE=str(small_disk))
    assert "900 MB are needed" in said
    assert not Path("/run/baremetal-sglang-lab", lab_name("space")).exists()


def test_unknown_names(images: None) -> None:
    assert "The lab 'absent' is not up. Start it:" in refused("--name", "absent", "ssh", "h1", "true")
    assert "There is no image debian-11; known: debian-12" in refused("images", "debian-11")


def test_a_playbook_is_told_that_the_lab_is_not_up(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, lab_name("asleep"), HOST)
    ansible = Path(sys.executable).parent / "ansible"
    done = subprocess.run(
        [ansible, "-i", inventory, "all", "-m", "ansible.builtin.ping"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"The lab '{lab_name('asleep')}' is not up. Start it: tools/lab -i INVENTORY up" in done.stdout


def test_a_proxy_used_by_hand_speaks_on_its_own() -> None:
    done = subprocess.run(
        [TOOL, "--name", "absent", "proxy", "10.77.0.11", "22"], capture_output=True, text=True, check=False
    )
    assert done.stderr == "The lab 'absent' is not up. Start it: tools/lab -i INVENTORY up\n"
    assert "ProxyUseFdpass" in CONNECTION["ansible_ssh_common_args"]
