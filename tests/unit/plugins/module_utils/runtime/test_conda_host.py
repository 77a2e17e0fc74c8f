# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conda half on a host: what is asked of py-rattler, how its answers are read, scripts that name their place."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import conda_host as conda_tree

CONDA = {"environment": "v1", "arch": "x86_64", "script": "print()"}
RATTLER = "wheels/py_rattler-1-cp310-abi3-manylinux_2_17_x86_64.whl"


def places(tmp_path: Path) -> dict[str, str]:
    wheel = tmp_path / "rattler.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("rattler/__init__.py", "")
    return {
        RATTLER: str(wheel),
        "pixi/pixi.lock": "/store/pixi.lock",
        "conda/noarch/a.conda": "/store/1/a.conda",
    }


def test_what_is_asked(tmp_path: Path) -> None:
    seen = []

    def run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
        seen.append((command, environment))
        return 0, '{"packages": 7}\n', ""

    work = tmp_path / "work"
    work.mkdir()
    there = places(tmp_path)
    assert conda_tree.install(run, str(work), "/env.partial", "/env", "/usr/bin/python3", CONDA, there) == 7
    ((command, environment),) = seen
    asked = json.loads(Path(command[2]).read_text())
    assert (asked["prefix"], asked["dest"], asked["platform"]) == ("/env.partial", "/env", "linux-64")
    assert asked["places"] == there
    assert (Path(environment["PYTHONPATH"]) / "rattler/__init__.py").exists()
    assert Path(command[1]).read_text() == "print()"


@pytest.mark.parametrize(
    ("left_out", "told"),
    [(RATTLER, "no wheel of py-rattler for x86_64"), ("pixi/pixi.lock", "no pixi/pixi.lock")],
)
def test_what_a_bundle_lacks(tmp_path: Path, left_out: str, told: str) -> None:
    there = places(tmp_path)
    del there[left_out]
    with pytest.raises(conda_tree.CondaError, match=told):
        conda_tree.install(lambda *_unused: (0, "", ""), str(tmp_path), "e", "d", "p", CONDA, there)


@pytest.mark.parametrize(
    ("out", "err", "told"),
    [
        ("", "GLIBC_2.34 not found", "GLIBC_2.34 not found"),
        ('{"problem": "a.conda: content differs"}', "", "a.conda: content differs"),
        ("not json", "", "not json"),
    ],
)
def test_problems(out: str, err: str, told: str) -> None:
    with pytest.raises(conda_tree.CondaError, match=told):
        conda_tree.answer_of(out, err)


def test_only_scripts_of_the_environment_are_changed(tmp_path: Path) -> None:
    env = tmp_path / "e.partial/env"
    (env / "bin").mkdir(parents=True)
    texts = {
        "torchrun": f"#!{env}/bin/python3.11\nprint()\n",
        "other": "#!/bin/sh\n",
        "program": "\x7fELF",
    }
    for name, text in texts.items():
        (env / "bin" / name).write_text(text)
        (env / "bin" / name).chmod(0o755)
    (env / "bin/link").symlink_to("torchrun")
    assert conda_tree.repair_scripts(str(env), "/opt/e") == 1
    assert (env / "bin/torchrun").read_text() == "#!/opt/e/bin/python3.11\nprint()\n"
    assert (env / "bin/torchrun").stat().st_mode & 0o777 == 0o755
    assert (env / "bin/other").read_text() == texts["other"]
    assert (env / "bin/link").is_symlink()
