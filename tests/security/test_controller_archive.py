# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of the collection in a bundle holds the collection, and nothing that its owner keeps beside it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.plugin_utils import controller_kit
from ansible_collections.baremetal.sglang.plugins.plugin_utils.controller_kit import collection_archive
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError
from distlib.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "what nobody but the owner may read"
OURS = {
    **dict.fromkeys(("README.md", "LICENSE", "site.yml", "ansible.cfg", "meta/runtime.yml"), "x"),
    **dict.fromkeys(("plugins/modules/a.py", "roles/r/tasks/main.yml", "files/policy.yml"), "{}"),
    **{"roles/bundle/files/setup": "#!/bin/sh\n", "requirements/uv.txt": "uv==1\n"},
    **{"inventories/a800/hosts.yml": "all: {}\n", "inventories/a800/group_vars/all/serve.yml": "serve: {}\n"},
}
# Where people keep what they must not lose, in a clone that they work with.
KEPT_BESIDE = [
    *(".vault_pass", ".vault-password", ".env", ".env.local", ".netrc", "vault_pass.txt", "password.txt"),
    *(
        "id_ed25519",
        ".ssh/id_rsa",
        "keys/alice",
        "signing.key",
        "gateway.pem",
        "roles/gateway/files/server.key",
    ),
    *(
        "roles/gateway/files/id_rsa",
        "plugins/modules/.netrc",
        "kubeconfig",
        ".kube/config",
        "files/kubeconfig",
    ),
    *("inventories/mine/hosts.yml", "inventories/mine/group_vars/all/secrets.yml", "inventories/hosts.ini"),
    *("inventories/a800/group_vars/all/vault.yml", "inventories/a800/group_vars/all/become.yml"),
    *(
        "inventories/a800/host_vars/gpu-01.yml",
        "inventories/a800/facts/gpu-01.json",
        "group_vars/all/vault.yml",
    ),
    *("group_vars/all.yml", "host_vars/gpu-01.yml", "facts/gpu-01.json", "plans/gpu-01.json", "hub_token"),
    *(
        "roles/gateway/files/hub_token",
        "tools/token",
        "files/.vault_pass",
        "tests/output/log.txt",
        "keys.csv",
    ),
    *(".git-credentials", ".aws/credentials", "roles/r/vars/vault.yml", "bundle_weights.json", "site.retry"),
]
# What only git can tell from our own files.
CALLED_LIKE_OURS = [
    *("roles/r/vars/secrets.yml", "files/models/token.json", "docs/passwords.md", "tests/hosts.yml"),
    *("playbooks/group_vars/all.yml", "tools/deploy.py", "plugins/modules/mine.py", "changelogs/x.yml"),
]


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def git(root: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    subprocess.run(["git", "-C", str(root), *author, *words], check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small collection with the real list of what it is."""
    root = tmp_path / "sglang"
    for name, text in OURS.items():
        write(root, name, text)
    write(root, "galaxy.yml", (ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    return root


@pytest.fixture
def clone(folder: Path) -> Path:
    write(folder, ".gitignore", "*.json\n")
    git(folder, "init", "-q")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "x")
    return folder


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as packed:
        return {
            member.name: stream.read()
            for member in packed
            if (stream := packed.extractfile(member)) is not None
        }


def test_none_of_the_secrets_that_lie_in_a_folder_is_packed(folder: Path, tmp_path: Path) -> None:
    assert len(KEPT_BESIDE) > 10
    for name in KEPT_BESIDE:
        write(folder, name, SECRET)
    (folder / "files/link.yml").symlink_to(folder / ".vault_pass")
    (folder / "docs").symlink_to(folder / "keys")
    found = contents(collection_archive(folder, tmp_path / "out"))
    assert [name for name, data in found.items() if SECRET.encode() in data] == []
    assert set(found) == {*OURS, "FILES.json", "MANIFEST.json"}


def test_what_git_does_not_track_is_refused_with_all_names(clone: Path, tmp_path: Path) -> None:
    for name in CALLED_LIKE_OURS:
        write(clone, name, SECRET)
    with pytest.raises(FetchError, match="git does not track") as refused:
        collection_archive(clone, tmp_path / "out")
    for name in CALLED_LIKE_OURS:
        assert name in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_inventory_of_ours_that_somebody_filled_in_is_refused(clone: Path) -> None:
    names = sorted(OURS)
    controller_kit._refuse_foreign(clone, names)
    write(clone, "inventories/a800/hosts.yml", f"all: {{vars: {{ansible_become_password: {SECRET}}}}}\n")
    with pytest.raises(FetchError, match=r"inventories/a800/hosts\.yml") as refused:
        controller_kit._refuse_foreign(clone, names)
    assert "Keep your own inventory outside" in str(refused.value)
    assert SECRET not in str(refused.value)
    git(clone, "add", "--all")
    with pytest.raises(FetchError, match="were changed"):
        controller_kit._refuse_foreign(clone, names)
    git(clone, "commit", "-q", "-m", "ours")
    controller_kit._refuse_foreign(clone, names)


def test_a_clone_that_git_cannot_read_is_refused(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / ".git/HEAD").unlink()
    with pytest.raises(FetchError, match="git does not say what belongs"):
        controller_kit._refuse_foreign(clone, sorted(OURS))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FetchError, match="install git"):
        controller_kit._refuse_foreign(clone, sorted(OURS))


@pytest.mark.parametrize("how", ["filled in", "link", "gone"])
def test_an_installed_collection_is_packed_as_it_was_installed(tmp_path: Path, how: str) -> None:
    root = tmp_path / "installed"
    for name, text in OURS.items():
        write(root, name, text)
    listed = [
        {"name": name, "ftype": "file", "chksum_sha256": hashlib.sha256(text.encode()).hexdigest()}
        for name, text in OURS.items()
    ]
    about = {"namespace": "baremetal", "name": "sglang", "version": "1.0.0"}
    write(root, "FILES.json", json.dumps({"files": listed}))
    write(root, "MANIFEST.json", json.dumps({"collection_info": about, "file_manifest_file": {}}))
    write(root, "inventories/mine/hosts.yml", SECRET)
    found = contents(collection_archive(root, tmp_path / "out"))
    assert set(found) == {*OURS, "FILES.json", "MANIFEST.json"}
    target = root / "inventories/a800/hosts.yml"
    target.unlink()
    if how == "filled in":
        target.write_text(SECRET)
    elif how == "link":
        write(tmp_path, "elsewhere", SECRET)
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchError, match=r"inventories/a800/hosts\.yml"):
        collection_archive(root, tmp_path / "out")


# Links, and what is of use in a clone only.
NOT_PACKED = {
    *(".ci/run", ".gitignore", "galaxy.yml", "collections/ansible_collections/baremetal/sglang"),
    *(
        "molecule/refuses_bad_input/inventory/group_vars/lab/lab.yml",
        "molecule/serves_a_token/inventory/group_vars/lab/lab.yml",
        "tests/site/inventory/group_vars/lab/lab.yml",
    ),
}


def test_the_list_is_what_git_tracks() -> None:
    """A new file that is not in the list would be missing where a bundle makes a controller."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is not a clone")
    tracked = {name for name in done.stdout.split("\0") if name and os.path.lexists(ROOT / name)}
    control = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert control["manifest"]["omit_default_directives"] is True
    assert "build_ignore" not in control, "two lists are one too many"
    manifest = Manifest(str(ROOT))
    manifest.allfiles = [str(ROOT / name) for name in tracked if not (ROOT / name).is_symlink()]
    for directive in control["manifest"]["directives"]:
        manifest.process_directive(directive)
    packed = {str(Path(path).relative_to(ROOT)) for path in manifest.files}
    assert tracked - packed == NOT_PACKED
    assert packed <= tracked
