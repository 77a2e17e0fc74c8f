# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive holds what it must and nothing of this machine; installed elsewhere, it works as it does here."""

from __future__ import annotations

import json
import re
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from .conftest import BIN, ROOT, command, listing, succeed

PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path.parent.parent.name for path in ROOT.glob("roles/*/tasks/main.yml"))
PLUGINS = {
    "module": sorted(path.stem for path in (ROOT / "plugins/modules").glob("[!_]*.py")),
    "filter": sorted(path.stem for path in (ROOT / "plugins/filter").glob("*.yml")),
    "callback": sorted(path.stem for path in (ROOT / "plugins/callback").glob("[!_]*.py")),
    "role": ROLES,
}
# Top folders and files of what `ansible-galaxy collection build` packs; a new one is a decision.
PACKED = {
    *(".ansible-lint", ".config", ".pre-commit-config.yaml", ".yamllint", "FILES.json", "MANIFEST.json"),
    *(
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "README.zh-CN.md",
        "SECURITY.md",
        "ansible.cfg",
        "bindep.txt",
        "pyproject.toml",
    ),
    *("changelogs", "docs", "files", "inventories", "meta", "molecule", "playbooks", "plugins"),
    *("requirements", "requirements.txt", "requirements.yml", "roles", "site.yml", "tests", "tools"),
}


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as packed:
        return [member.name for member in packed.getmembers() if member.isfile()]


def test_the_archive_holds_what_plays_read_by_path(built: Path) -> None:
    held = set(names(built))
    for path in [*ROOT.glob("files/**/*.*"), ROOT / "requirements/uv.txt", ROOT / "meta/runtime.yml"]:
        if path.is_file():
            assert str(path.relative_to(ROOT)) in held
    # A changelog is there from the first release on.
    assert {name.split("/")[0] for name in held} - {"CHANGELOG.md"} == PACKED


def test_the_real_root_packs_the_same_as_a_clean_copy(built: Path, tmp_path: Path) -> None:
    """Environments, labs, caches and downloads that lie in a work tree stay out of the archive."""
    succeed(BIN / "ansible-galaxy", "collection", "build", "--output-path", tmp_path, ROOT, cwd=tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert sorted(set(names(archive)) - set(names(built))) == []


def test_requirements_yml_is_installed_from_a_clone(copy: Path, tmp_path: Path) -> None:
    """In the clone the collection counts as installed; another path gets a built copy."""
    galaxy = (BIN / "ansible-galaxy", "collection", "install", "-r", "requirements.yml")
    environment = {"ANSIBLE_HOME": str(tmp_path / "home")}
    before = listing(copy)
    for offline in ((), ("--offline",)):
        assert "already installed" in succeed(*galaxy, *offline, cwd=copy, **environment)
    assert listing(copy) == before
    succeed(*galaxy, cwd=copy, ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "here"), **environment)
    assert (tmp_path / "here/ansible_collections/baremetal/sglang/MANIFEST.json").is_file()


def test_packages_of_an_execution_environment_are_those_of_the_controller() -> None:
    """requirements.txt names what plugins import; the kit that a bundle carries holds the same packages."""
    named = {
        line.split()[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"
    }
    locked = set(
        re.findall(r"^([\w.-]+)==", (ROOT / "requirements/controller.txt").read_text(), re.MULTILINE)
    )
    assert {name.replace("_", "-") for name in named} <= locked
    imported = {
        match
        for folder in ("action", "plugin_utils")
        for path in (ROOT / "plugins" / folder).rglob("*.py")
        for match in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    brought = {"yaml", "jinja2", "ansible", "ansible_collections", "__future__"}  # by ansible-core and by us
    packages = {"elftools": "pyelftools", "rattler": "py-rattler"}
    others = imported - brought - set(sys.stdlib_module_names)
    assert {packages.get(name, name) for name in others} <= named


def test_every_play_is_found_by_its_full_name(elsewhere: dict[str, str], tmp_path: Path) -> None:
    shown = succeed(
        BIN / "ansible-playbook",
        *(f"baremetal.sglang.{name}" for name in PLAYBOOKS),
        *("--list-tasks", "--inventory", ROOT / "inventories/a800"),
        cwd=tmp_path,
        **elsewhere,
    )
    assert [name for name in PLAYBOOKS if f"sglang/playbooks/{name}.yml" not in shown] == []
    assert str(ROOT) not in shown
    for stage in ("plan", "host", "runtime", "weights", "engine", "verify"):
        assert f"baremetal.sglang.{stage} : " in shown


def test_it_plans_from_its_own_catalogues(elsewhere: dict[str, str], tmp_path: Path) -> None:
    plans = tmp_path / "plans"
    shown = succeed(
        BIN / "ansible-playbook",
        *("baremetal.sglang.plan", "-i", ROOT / "inventories/a800", "-e", f"plan_dir={plans}"),
        cwd=tmp_path,
        **elsewhere,
    )
    assert "nothing was refused" in shown
    plan = json.loads((plans / "gpu-01.json").read_text(encoding="utf-8"))
    manifest = json.loads(
        (Path(elsewhere["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections/baremetal/sglang/MANIFEST.json")
        .read_text(encoding="utf-8")
    )  # fmt: skip
    assert plan["collection"] == manifest["collection_info"]["version"]
    (instance,) = plan["instances"].values()
    assert instance["release"]["key"] == "0.5.10.post1"


def test_its_bundle_reads_locks_and_uv_from_the_collection(elsewhere: dict[str, str], tmp_path: Path) -> None:
    """In check mode: everything is looked up, nothing is fetched."""
    succeed(
        BIN / "ansible-playbook",
        *("baremetal.sglang.bundle", "--check", "-i", ROOT / "inventories/a800"),
        *("-e", f"bundle_dir={tmp_path / 'bundle'}"),
        cwd=tmp_path,
        **elsewhere,
    )
    assert not (tmp_path / "bundle").exists()
    installed = Path(elsewhere["ANSIBLE_COLLECTIONS_PATH"]) / "ansible_collections/baremetal/sglang"
    defaults = yaml.safe_load((installed / "roles/bundle/defaults/main.yml").read_text(encoding="utf-8"))
    for name in ("bundle_uv_lock", "bundle_locks_dir"):
        assert Path(defaults[name].replace("{{ role_path }}", str(installed / "roles/bundle"))).exists()


@pytest.mark.parametrize("kind", PLUGINS)
def test_everything_is_documented(elsewhere: dict[str, str], tmp_path: Path, kind: str) -> None:
    assert PLUGINS[kind]
    names = [f"baremetal.sglang.{name}" for name in PLUGINS[kind]]
    shown = command(BIN / "ansible-doc", "--type", kind, "--json", *names, cwd=tmp_path, **elsewhere)
    assert shown.returncode == 0, shown.stdout
    entries = json.loads(shown.stdout[shown.stdout.index("{\n") :])
    for name in names:
        entry = entries[name]
        about = entry["entry_points"]["main"] if kind == "role" else entry["doc"]
        assert about["short_description"] and about["description"]
        assert kind in ("callback", "role") or entry["examples"], name


# All plays ask in the same way; one of them shows it in `make test`.
PLAYS = [
    pytest.param(name, marks=() if name == "plan" else pytest.mark.long)
    for name in PLAYBOOKS
    if name != "validate_inventory"
]
IN_A_CLONE = [
    "site.yml",
    *(pytest.param(f"playbooks/{play.values[0]}.yml", marks=pytest.mark.long) for play in PLAYS),
]


@pytest.mark.parametrize("play", PLAYS)
def test_an_ansible_that_is_too_old_is_named(
    too_old: Path, elsewhere: dict[str, str], tmp_path: Path, play: str
) -> None:
    """For one host here, for all of them below."""
    made = tmp_path / "made"
    done = command(
        too_old / "ansible-playbook",
        *(f"baremetal.sglang.{play}", "-i", ROOT / "inventories/a800", "--limit", "gpu-01"),
        *("-e", f"facts_dir={made} plan_dir={made} bundle_dir={made}"),
        cwd=tmp_path,
        **elsewhere,
    )
    assert_too_old(done.returncode, done.stdout)
    assert not made.exists()


@pytest.mark.parametrize("play", IN_A_CLONE)
def test_an_ansible_that_is_too_old_is_named_in_a_clone(
    too_old: Path, copy: Path, tmp_path: Path, play: str
) -> None:
    before = {entry for entry in listing(copy) if "__pycache__" not in entry[0]}
    done = command(
        too_old / "ansible-playbook",
        *(play, "-i", "inventories/a800", "-e", f"facts_dir={tmp_path} plan_dir={tmp_path}"),
        cwd=copy,
    )
    assert_too_old(done.returncode, done.stdout)
    assert {entry for entry in listing(copy) if "__pycache__" not in entry[0]} - before == set()
    assert list(tmp_path.iterdir()) == []


def assert_too_old(status: int, shown: str) -> None:
    assert status != 0, shown
    assert re.search(r"REFUSED  ansible-core 2\.19\.\d+ .* needs 2\.20\.0 or newer", shown), shown
    assert "make controller" in shown
    assert "Nothing was changed" in shown
    assert not re.search(r"changed=[1-9]", shown)
    assert "unreachable=1" not in shown


def test_a_controller_without_the_libraries_of_a_bundle_is_told_which(
    elsewhere: dict[str, str], installed: Path, workplace: Path, tmp_path: Path
) -> None:
    """An ansible-core of the user's own brings no client for a package index."""
    venv = workplace / "bare"
    succeed(BIN / "uv", "venv", "--quiet", "--python", BIN / "python", venv, cwd=workplace)
    succeed(
        BIN / "uv",
        *("pip", "install", "--quiet", "--python", venv / "bin/python", "ansible-core==2.20.0"),
        cwd=workplace,
    )
    done = command(
        venv / "bin/ansible-playbook",
        *("baremetal.sglang.bundle", "-i", ROOT / "inventories/a800"),
        *("-e", f"bundle_dir={tmp_path / 'bundle'} bundle_cache_dir={tmp_path / 'cache'}"),
        cwd=tmp_path,
        **elsewhere,
    )
    assert done.returncode != 0
    assert re.search(r"REFUSED  the bundle needs the Python package \w+ beside ansible-core", done.stdout)
    assert "pip install jsonschema packaging pip pyelftools requests" in done.stdout
    assert not (tmp_path / "bundle").exists()
