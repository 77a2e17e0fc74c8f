# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real compiler wheels on a real host without a GPU and without a way out, as the service's user.

The environment is that of the newest lock, whole: FlashInfer needs torch to be compiled.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.toolchain_host import lay_out

from .conftest import REPOSITORY, lab_name, tool, write_inventory
from .whole_environment import whole_environment

ENVIRONMENT = "/opt/sglang/envs/0123456789abcdef"
CAPABILITIES = ("8.0", "9.0", "12.1")

# Minutes of compilers, in an environment of gigabytes.
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the host's environment module lays it out, made here because the host has no index."""
    folder = tmp_path_factory.mktemp("compilers")
    env, whole = folder / "env", whole_environment(folder / "whole")
    # Links, as copies of gigabytes have no place here; what is laid out below is new files.
    try:
        shutil.copytree(whole / "lib", env / "lib", symlinks=True, copy_function=os.link)
    except shutil.Error:
        shutil.copytree(whole / "lib", env / "lib", symlinks=True, dirs_exist_ok=True)
    (env / "bin").mkdir()
    (env / "bin/python").symlink_to("/usr/bin/python3.11")
    shutil.copy(whole / "bin/ninja", env / "bin/ninja")
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    assert lay_out(str(env))
    return env


@pytest.fixture(scope="module")
def host(labs_directory: Path, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian 12 host with a C++ compiler; its inventory."""
    driver = tmp_path_factory.mktemp("driver")
    subprocess.run(
        [
            "/usr/bin/python3",
            REPOSITORY / "molecule/lab/stub_driver/build.py",
            driver / "usr/lib/x86_64-linux-gnu",
        ],
        check=True,
    )
    tool("images", "debian-12-build")
    inventory = write_inventory(
        tmp_path_factory.mktemp("inventory"),
        lab_name("compilers"),
        {"h1": {"ansible_host": "10.77.0.11",
                "lab": {"kind": "nspawn", "image": "debian-12-build", "layers": [str(driver)],
                        "binds": [{"source": str(environment), "target": ENVIRONMENT, "read_only": True}]}}},
    )  # fmt: skip
    tool("-i", inventory, "up")
    yield inventory
    tool("-i", inventory, "down")


def given(capability: str) -> dict[str, Any]:
    """What the plan says of a service that compiles all of it."""
    home = f"{ENVIRONMENT}/cuda"
    return {
        "environment": ENVIRONMENT,
        "capability": capability,
        "proofs": ["triton", "cuda", "tvm-ffi", "flashinfer"],
        "cuda_home": home,
        "variables": {
            "HOME": "/var/cache/sglang/m",
            "TRITON_CACHE_DIR": "/var/cache/sglang/m/triton",
            "FLASHINFER_WORKSPACE_BASE": "/var/cache/sglang/m/flashinfer",
            "FLASHINFER_NO_DOWNLOAD": "1",
            "CUDA_HOME": home,
            "LIBRARY_PATH": f"{home}/lib64:{home}/lib64/stubs",
            "PATH": f"{ENVIRONMENT}/bin:{home}/bin:/usr/bin:/bin",
        },
        "cache": "/var/cache/sglang/m",
        "user": "sglang",
    }


def play(inventory: Path, *capabilities: str, check: bool = False, **changed: Any) -> list[dict[str, Any]]:
    """A run of the module for each capability, with the variables that the plan gives the service."""
    arguments = given("{{ item }}") | changed
    tasks = [
        {"ansible.builtin.user": {"name": "sglang", "system": True, "create_home": False}},
        {"ansible.builtin.file": {"path": "/var/cache/sglang", "state": "directory", "owner": "root"}},
        {"baremetal.sglang.toolchain": arguments | {"proof": "{{ lookup('ansible.builtin.file', proof) }}"},
         "register": "made", "ignore_errors": True, "loop": list(capabilities)},
        {"ansible.builtin.copy": {"content": "{{ made.results | to_json }}", "dest": "{{ answer }}", "mode": "0644"},
         "delegate_to": "localhost", "check_mode": False, "vars": {"ansible_connection": "local"}},
    ]  # fmt: skip
    book, answer = inventory.parent / "play.yml", inventory.parent / "answer.json"
    answer.unlink(missing_ok=True)
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    proof = REPOSITORY / "roles/runtime/files/prove_toolchain.py"
    done = tool("-i", inventory, "exec", "--", REPOSITORY / ".venv/bin/ansible-playbook", book, "-i", inventory,
                "-e", f"proof={proof} answer={answer} ansible_python_interpreter=/usr/bin/python3", *(["--check"] if check else []),
                cwd=REPOSITORY, check=False)  # fmt: skip
    assert answer.exists(), done.stdout + done.stderr
    return json.loads(answer.read_text())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_everything_compiles_for_each_chip(host: Path, capability: str) -> None:
    (made,) = play(host, capability)
    assert not made.get("failed"), made.get("msg")
    answers = {answer["proof"]: answer["what"] for answer in made["answers"]}
    print(capability, made["answers"])
    suffix = "" if capability == "8.0" else "a"
    assert f"sm_{capability.replace('.', '')}{suffix}" in answers["cuda"]
    assert "cubin" in answers["triton"]
    assert made["changed"]


def test_a_second_run_and_a_look_do_nothing(host: Path) -> None:
    assert [made["changed"] for made in play(host, *CAPABILITIES)] == [False, False, False]
    assert [made["changed"] for made in play(host, "9.0", "8.9", check=True)] == [False, True]


def test_the_role_does_nothing_more(host: Path) -> None:
    book = host.parent / "role.yml"
    tasks = [
        {"ansible.builtin.include_role": {"name": "baremetal.sglang.runtime", "tasks_from": "toolchain"}}
    ]
    proofs = {"runtime_proofs": [given(capability) for capability in CAPABILITIES]}
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "vars": proofs, "tasks": tasks}]))
    done = tool("-i", host, "exec", "--", REPOSITORY / ".venv/bin/ansible-playbook", book, "-i", host,
                "-v", "-e", "ansible_python_interpreter=/usr/bin/python3", cwd=REPOSITORY)  # fmt: skip
    assert "changed=0" in done.stdout
    assert done.stdout.count("ok: [h1]") == len(CAPABILITIES)


def test_a_toolkit_that_cannot_link_is_refused_in_the_linkers_words(host: Path, environment: Path) -> None:
    """What the wheels look like without the unversioned links."""
    library = environment / "cuda/lib64/libcudart.so"
    target = os.readlink(library)
    library.unlink()
    try:
        (made,) = play(host, "8.9", proofs=["cuda"])
    finally:
        library.symlink_to(target)
    assert made["failed"]
    assert "cannot find -lcudart" in made["msg"]


def test_an_unknown_chip_is_refused_in_the_compilers_words(host: Path) -> None:
    (made,) = play(host, "19.9", proofs=["cuda"])
    assert made["failed"]
    assert "compute_199a" in made["msg"]
