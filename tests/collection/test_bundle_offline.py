# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bundle alone, in a network namespace without a route: a controller, verification, an import, a first stage."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .conftest import BIN, ROOT, command, succeed

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CACHE = os.environ.get("BAREMETAL_CACHE", str(Path.home() / ".cache/baremetal-sglang"))
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
OFFLINE = ("unshare", "--net")


def build(copy: Path, dest: Path, **more: object) -> None:
    """The module alone: what a bundle holds for hosts is shown elsewhere, with small stand-in wheels."""
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Build",
                "baremetal.sglang.bundle": {
                    "dest": str(dest),
                    "cache_dir": CACHE,
                    "uv_lock": str(copy / "requirements/uv.txt"),
                    "controllers": [{"python": PYTHON, "arch": platform.machine(), "glibc": "2.28"}],
                    "controller_lock": str(copy / "requirements/kit.txt"),
                    "controller_setup": str(copy / "roles/bundle/files/setup"),
                    **more,
                },
            }
        ],
    }
    path = dest.with_suffix(".yml")
    path.write_text(yaml.safe_dump([play]))
    succeed(BIN / "ansible-playbook", path, cwd=copy)


@pytest.fixture(scope="module")
def disk(copy: Path, workplace: Path) -> Path:
    """`bundle` and, one file later, `delta`; alice has signed both."""
    folder = workplace / "disk"
    folder.mkdir()
    key = folder / "alice"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().split()
    (folder / "allowed").write_text(f"alice@example.com {public[0]} {public[1]}\n")
    build(copy, folder / "bundle", sign_key=str(key))
    (folder / "moe").mkdir()
    (folder / "moe/E=161.json").write_text("{}")
    trees = [{"source": str(folder / "moe"), "name": "moe", "kind": "moe"}]
    build(copy, folder / "delta", sign_key=str(key), base=str(folder / "bundle/manifest.json"), trees=trees)
    return folder


@pytest.fixture(scope="module")
def room(disk: Path, workplace: Path) -> Path:
    """A controller that was made from the bundle, by nothing but sh and python3."""
    words = {"PYTHON": str(BIN / "python"), "PATH": "/usr/bin:/bin", "ALLOWED_SIGNERS": str(disk / "allowed")}
    shown = succeed(*OFFLINE, disk / "bundle/controller/setup", workplace / "room", cwd=workplace, **words)
    assert "signed by alice@example.com" in shown
    assert "is ready" in shown
    return workplace / "room"


def in_room(room: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    path = f"{room}/.venv/bin:/usr/bin:/bin"
    return command(*OFFLINE, *words, cwd=room, PATH=path, ANSIBLE_HOME=str(room / ".home"))


def test_a_controller_made_from_the_bundle_plans_and_verifies(room: Path, disk: Path) -> None:
    done = in_room(room, "ansible-playbook", "playbooks/plan.yml", "-i", "inventories/a800")
    assert done.returncode == 0 and "nothing was refused" in done.stdout, done.stdout
    words = ("-e", f"bundle_dir={disk / 'bundle'}", "-e", f"bundle_allowed_signers={disk / 'allowed'}")
    # With a --limit as without: to verify nothing would look like a success.
    limit = ("-i", "inventories/a800", "--limit", "gpu-01")
    done = in_room(room, "ansible-playbook", "playbooks/bundle_verify.yml", *limit, *words)
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"files listed, .* GB verified, .*; id [0-9a-f]{16}; signed by alice@example.com", done.stdout
    )
    assert "changed=0" in done.stdout


def test_setup_refuses_what_is_there_and_what_was_changed(disk: Path, room: Path, tmp_path: Path) -> None:
    words = {"PYTHON": str(BIN / "python"), "PATH": "/usr/bin:/bin"}
    done = command(*OFFLINE, disk / "bundle/controller/setup", room, cwd=tmp_path, **words)
    assert done.returncode == 1 and f"REFUSED  {room}: is here already" in done.stdout
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    (archive,) = bundle.glob("controller/*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1])
    done = command(*OFFLINE, bundle / "controller/setup", cwd=tmp_path, **words)
    assert done.returncode == 1, done.stdout
    assert f"{archive.relative_to(bundle)}: FAILED" in done.stdout
    assert "copy the bundle again" in done.stdout
    assert not list(tmp_path.glob("baremetal-sglang*"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "controllers": {}}))
    signers = {"ALLOWED_SIGNERS": str(disk / "allowed")}
    done = command(*OFFLINE, bundle / "controller/setup", cwd=tmp_path, **words, **signers)
    assert done.returncode == 1 and "manifest.json.sig: is not accepted" in done.stdout
    done = command(*OFFLINE, bundle / "controller/setup", cwd=tmp_path, **words)
    assert done.returncode == 1 and f"and not for {PYTHON}-{platform.machine()}" in done.stdout


def test_the_archive_of_the_collection_has_the_same_bytes_each_time(
    disk: Path, copy: Path, tmp_path: Path
) -> None:
    build(copy, tmp_path / "again")
    first, second = (
        (where / "manifest.json").read_bytes() for where in (disk / "bundle", tmp_path / "again")
    )
    assert first == second


def test_a_delta_is_refused_until_it_is_imported(room: Path, disk: Path, tmp_path: Path) -> None:
    delta = Path(shutil.copytree(disk / "delta", tmp_path / "delta"))
    signers = ("-e", f"bundle_allowed_signers={disk / 'allowed'}")
    words = ("-e", f"bundle_dir={delta}", "-e", f"bundle_base={disk / 'bundle'}", *signers)
    verify = ("ansible-playbook", "playbooks/bundle_verify.yml", *signers, "-e", f"bundle_dir={delta}")
    done = in_room(room, *verify)
    assert done.returncode != 0 and "playbooks/bundle_import.yml" in done.stdout
    done = in_room(room, "ansible-playbook", "playbooks/bundle_import.yml", *words)
    assert done.returncode == 0 and "complete and verified; signed by alice@example.com" in done.stdout
    assert in_room(room, *verify).returncode == 0
    again = in_room(room, "ansible-playbook", "playbooks/bundle_import.yml", *words)
    assert "changed=0" in again.stdout


STAGE = """
- hosts: hosts
  gather_facts: false
  tasks:
    - name: Check that the bundle has all missing artifacts
      ansible.builtin.import_role:
        name: baremetal.sglang.bundle
        tasks_from: needed
"""


@pytest.fixture
def stage(tmp_path: Path, disk: Path) -> tuple[Path, Path]:
    """Two hosts that lack the weights `m/r`, and a bundle that has them."""
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    (bundle / "weights/m/r").mkdir(parents=True)
    (bundle / "weights/m/r/a.safetensors").write_bytes(b"weights")
    (tmp_path / "stage.yml").write_text(STAGE)
    wanted = {"kind": "weights", "name": "m", "stamp": "/nowhere", "item": {"model": "m", "revision": "r"}}
    hosts = {"ansible_connection": "local", "bundle_wanted": [wanted], "plan_of_host": {"instances": {}}}
    hosts["ansible_python_interpreter"] = "{{ ansible_playbook_python }}"
    inventory = {"all": {"children": {"hosts": {"hosts": {"one": hosts, "two": hosts}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    return tmp_path / "stage.yml", bundle


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("", ""),
        ("weights", "weights/m/r/a.safetensors: its sha256 is"),
        ("signature", "manifest.json.sig: does not belong to this manifest.json"),
        ("none", "manifest.json: is not there"),
    ],
)
def test_a_stage_verifies_what_it_is_about_to_read(
    stage: tuple[Path, Path], disk: Path, copy: Path, fault: str, said: str
) -> None:
    play, bundle = stage
    sign(copy, bundle, disk / "alice")
    if fault == "weights":
        (bundle / "weights/m/r/a.safetensors").write_bytes(b"changed")
    elif fault == "signature":
        with (bundle / "manifest.json").open("a") as stream:
            stream.write(" ")
    elif fault == "none":
        (bundle / "manifest.json").unlink()
    words = ("-e", f"bundle_dir={bundle}", "-e", f"bundle_allowed_signers={disk / 'allowed'}")
    hosts = play.with_name("hosts.yml")
    done = command(*OFFLINE, BIN / "ansible-playbook", play, "-i", hosts, *words, cwd=copy)
    assert (done.returncode == 0) is (not said), done.stdout
    assert said in done.stdout
    assert "changed=0" in done.stdout


@pytest.mark.parametrize("words", [(), ("--check",)])
def test_a_stage_completes_a_delta_that_lies_beside_its_base(
    stage: tuple[Path, Path], disk: Path, copy: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    play, hosts = stage[0], stage[0].with_name("hosts.yml")
    delta = Path(shutil.copytree(disk / "delta", tmp_path / "carried/new"))
    said = ("-e", f"bundle_dir={delta}", "-e", f"bundle_allowed_signers={disk / 'allowed'}", *words)
    run = (*OFFLINE, BIN / "ansible-playbook", play, "-i", hosts, *said)
    alone = command(*run, cwd=copy)
    assert alone.returncode != 0 and "name its folder as bundle_base" in alone.stdout
    assert (delta / "delta.json").exists()

    shutil.copytree(disk / "bundle", tmp_path / "carried/old")
    done = command(*run, cwd=copy)
    # What the hosts want is in neither of them.
    assert done.returncode != 0 and "m/r" in done.stdout and "delta" not in done.stdout.split("REFUSED")[-1]
    assert not (delta / "delta.json").exists()
    verify = ("ansible-playbook", "playbooks/bundle_verify.yml", "-e", f"bundle_dir={delta}")
    assert command(*OFFLINE, BIN / verify[0], *verify[1:], cwd=copy).returncode == 0


SIGN = """
import sys
from pathlib import Path
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content, bundle_signature
bundle, key = map(Path, sys.argv[1:])
manifest = bundle_manifest.parsed((bundle / "manifest.json").read_bytes())
path = "weights/m/r/a.safetensors"
manifest["files"][path] = {
    "kind": "weights", "sha256": bundle_content.hash_of(bundle / path), "size": (bundle / path).stat().st_size
}
manifest["weights"]["m/r"] = {"files": [path], "folder": "weights/m/r"}
manifest["id"] = bundle_manifest.identity(manifest)
text = bundle_manifest.rendered(manifest)
(bundle / "manifest.json").write_text(text)
bundle_signature.sign(bundle, key, text.encode())
"""


def sign(copy: Path, bundle: Path, key: Path) -> None:
    succeed(BIN / "python", "-c", SIGN, bundle, key, cwd=copy, PYTHONPATH=str(ROOT / "collections"))
