# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What no file of the project may hold, and how long and how old its code may be."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later"
LONGEST_PLUGIN = 400


def _joined(*pieces: str) -> str:
    """A name in pieces, so that this file does not hold it."""
    return re.escape("".join(pieces))


# Wherever packages come from is a setting of the machine that fetches them.
REGISTRIES = [
    *(_joined(name, ".org") for name in ("py" + "pi", "test.py" + "pi", "python" + "hosted", "py" + "torch")),
    *(_joined(name, ".io") for name in ("do" + "cker", "qu" + "ay", "gh" + "cr", "nv" + "cr")),
    *(_joined(name, ".com") for name in ("npm" + "js", "ali" + "yun", "galaxy.ansi" + "ble")),
    *(
        _joined(name)
        for name in ("hugging" + "face.co", "model" + "scope.cn", "edu" + ".cn", "deb.deb" + "ian")
    ),
]
# Of the machine that somebody works on; not /root itself, which is a place on hosts too.
MACHINE_PATHS = [
    *(r"(?<![\w.}])" + _joined("/", name, "/") for name in ("wo" + "rk", "Us" + "ers")),
    _joined("/.py", "env/versions"),
    *(_joined("/opt/", name) for name in ("py" + "pi", "whe" + "els")),
    r"/home/(?!\S*\{)" + "[a-z]+/",
]
EXCUSES = [r"ignore_errors: *(true|yes)", r"failed_when: *false", r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b"]
# Facts that Ansible puts among the variables; the newest core says that this goes away.
INJECTED_FACTS = [
    r"\bansible_(distribution|os_family|hostname|fqdn|architecture|kernel|memtotal_mb|processor|default_ipv4|env|pkg_mgr)\b"
]


# What only SGLang is called or reads; the name of the collection, its places, units and metrics are not among them.
ENGINE_NAMES = [
    r"(?<!baremetal\.)\bSGLang\b",
    r"\bSGLANG_(?!ENVIRONMENT\b)",
    r"\b(sgl|sglang)[-_]kernel\b",
    r"(?<!baremetal\.)(?<!M\(baremetal\.)\bsglang\.(launch_server|srt)\b",
    r"\bsglang::",
    r"\bsglang:(?!instance:|gateway:)[a-z_]",
    r"\bengines/sglang\b",
    r"\bsglang serve\b",
]
ENGINE_NAMES_ALLOWED = {
    # Variables and flags that a GPU or model needs, below the name of the engine.
    "files/hardware",
    "files/models",
    # Examples in documentation of a user's own command line and of a real lock.
    "plugins/modules/bundle.py",
    "plugins/modules/translate.py",
    "plugins/action/translate.py",
    "playbooks/translate.yml",
    # A distribution that several engines install.
    "tools/release_lock.py",
}


@cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """The files that git knows or would add."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this is not a clone")
    found = (ROOT / name for name in done.stdout.split("\0") if name)
    return tuple(path for path in found if path.is_file() and not path.is_symlink())


def hits(files: Iterable[Path], patterns: list[str]) -> list[str]:
    expression = re.compile("|".join(patterns))
    found = []
    for path in files:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if match := expression.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    return found


def test_the_patterns_find_what_they_are_for(tmp_path: Path) -> None:
    """A pattern with a slip in it would find nothing for ever."""
    samples = {
        "REGISTRIES": ("https://files.python" + "hosted.org/packages/", "do" + "cker.io/library/debian"),
        "MACHINE_PATHS": (
            "cd /wo" + "rk/main",
            "/ro" + "ot/.py" + "env/versions/3.12.1",
            "/opt/py" + "pi/simple",
        ),
        "EXCUSES": ("  ignore_errors: true", "  failed_when: false"),
        "ENGINE_NAMES": (
            "# SGLang reads it",
            "SGLANG_CACHE_DIR: x",
            "sgl_kernel",
            "python -m sglang.launch_server",
            "sglang::scheduler",
            "sglang:num_running_reqs",
            "below files/engines/sglang/",
            "sglang serve MODEL",
        ),
        "INJECTED_FACTS": ("when: ansible_distribution == 'Debian'",),
    }
    for name, lines in samples.items():
        for line in lines:
            assert re.search("|".join(globals()[name]), line), line
    for line in (
        "baremetal.sglang.release",
        "/opt/sglang",
        "sglang-glm.service",
        "sglang_planned",
        "sglang:instance:x",
    ):
        assert not re.search("|".join(ENGINE_NAMES), line), line
    for line in (
        "{{ playbook_dir }}/work/",
        "tests/work/x",
        "ansible_facts['distribution']",
        "ansible_env_file",
    ):
        assert not re.search("|".join([*MACHINE_PATHS, *INJECTED_FACTS]), line), line


def test_no_file_names_a_package_registry() -> None:
    assert hits(tracked(), REGISTRIES) == []


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    assert hits(tracked(), MACHINE_PATHS) == []


def test_locks_hold_hashes_and_no_addresses() -> None:
    locks = [
        path for path in tracked("files/engines/*/locks/*.txt", "requirements/*.txt") if path.stat().st_size
    ]
    assert len(locks) > 3
    assert hits(locks, [r"\w+://", r" @ ", r"^--(?!hash)"]) == []
    unpinned = [
        f"{path.name}: {entry.split()[0]}"
        for path in locks
        for entry in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8"))
        if entry.strip() and not entry.startswith("#")
        if not re.match(r"[\w.-]+(\[[\w,.-]+\])?==\S+", entry) or "--hash=sha256:" not in entry
    ]
    assert unpinned == []


def test_no_failure_is_waved_through() -> None:
    files = [path for path in tracked() if path.suffix in (".yml", ".yaml", ".py", ".sh", ".j2", "")]
    assert hits([path for path in files if path != Path(__file__).resolve()], EXCUSES) == []


def test_only_its_own_rooms_know_the_engine() -> None:
    """Another engine would have to change every other file that names this one."""
    files = [
        path
        for path in tracked("plugins", "roles", "files", "playbooks", "tools")
        if not (words := path.relative_to(ROOT).as_posix()).startswith(
            ("plugins/module_utils/engines/sglang/", "files/engines/sglang/", *sorted(ENGINE_NAMES_ALLOWED))
        )
        and not words.endswith("README.md")
    ]
    assert len(files) > 300
    assert hits(files, ENGINE_NAMES) == []


def test_plays_read_facts_where_they_will_stay() -> None:
    files = tracked("roles", "playbooks", "inventories", "molecule/*.yml", "site.yml")
    assert hits([path for path in files if path.suffix in (".yml", ".j2")], INJECTED_FACTS) == []


def test_plugins_stay_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("plugins/*.py", "molecule/*.py", "tools/*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_PLUGIN
    }
    assert long == {}


def test_every_python_file_names_its_licence() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for path in tracked("*.py")
        if (text := path.read_text(encoding="utf-8")) and LICENCE not in text[:600]
    ]
    assert bare == []


# Debian 12's neighbours still carry Python 3.9; a host has nothing but the standard library.
ON_HOSTS = tracked("plugins/modules/*.py", "plugins/module_utils/*.py")
ELSEWHERE = {"yaml", "jsonschema", "packaging", "requests", "elftools", "jinja2", "subprocess", "pip"}


@pytest.mark.parametrize("path", ON_HOSTS, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_code_for_hosts_keeps_to_old_python_and_its_library(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    assert imported & ELSEWHERE == set()
    assert len(tree.body) <= 1 or "annotations" in {
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    }


@pytest.mark.parametrize("role", sorted((ROOT / "roles").iterdir()), ids=lambda role: role.name)
def test_every_entry_of_a_role_checks_its_arguments(role: Path) -> None:
    """Files that a role only includes are no entries; those that others call from outside are."""
    spec: dict[str, Any] = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    called = {"main"} | {
        match
        for path in tracked("roles", "playbooks")
        if path.suffix == ".yml"
        for match in re.findall(
            rf"name: baremetal\.sglang\.{role.name}\n\s+tasks_from: (\w+)", path.read_text(encoding="utf-8")
        )
    }
    assert called & {path.stem for path in (role / "tasks").glob("*.yml")} <= set(spec["argument_specs"])
