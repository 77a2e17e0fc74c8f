# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle does not decide what runs as root: locks and tools are those that the plan and the collection know."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.action import bundle as bundle_action
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import BundleError, bundled
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.maker_host import Asked, Maker
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import bundle_environments
from ansible_collections.baremetal.sglang.tests.lab.engine_host import make_plan

ROOT = Path(__file__).resolve().parents[2]
LOCK = "0.5.23-cu130-x86_64-py3.12.txt"
UV = "wheels/uv-0.13.8-py3-none-manylinux_2_17_x86_64.whl"
RATTLER = "wheels/py_rattler-0.22.0-cp38-abi3-manylinux_2_17_x86_64.whl"
KIT = "python/cpython-3.12.tar.gz"
TORCH = "wheels/torch-2.9.1-cp312-cp312-manylinux_2_28_x86_64.whl"


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def manifest(**changed: str) -> dict[str, Any]:
    """`changed`: the hash of a file by the part that names it."""
    paths = {
        **{"lock": f"locks/{LOCK}", "uv": UV, "rattler": RATTLER, "kit": KIT},
        **{"torch": TORCH, "pixi": "pixi/pixi.lock"},
    }
    files = {
        path: {"kind": "x", "size": 1, "sha256": changed.get(part, digest(part))}
        for part, path in paths.items()
    }
    environment = {
        **{"abi": [], "arch": "x86_64", "cuda": "cu130", "glibc": "2.35", "lock": f"locks/{LOCK}"},
        **{"python": changed.get("python", "3.12"), "release": "0.5.23", "wheels": [TORCH]},
    }
    return bundle_manifest.build(files, {LOCK: environment}, {}, {"x86_64": UV}, {"3.12-x86_64": KIT})


def item(**more: Any) -> dict[str, Any]:
    usual = {
        **{"lock": LOCK, "lock_sha256": digest("lock"), "arch": "x86_64", "python": "3.12"},
        **{"interpreter_from": "bundle", "conda": {"environment": "x"}},
    }
    return {"kind": "environment", "name": "x", "item": {**usual, **more}}


TOOLS = {
    "uv": f"uv==0.13.8 \\\n    --hash=sha256:{digest('uv')} \\\n    --hash=sha256:{digest('uv for arm')}\n",
    "rattler": f"py-rattler==0.22.0 \\\n    --hash=sha256:{digest('rattler')}\n",
}
PYTHONS = [
    {"python": "3.12", "arch": "x86_64", "sha256": digest("kit")},
    {"python": "3.11", "arch": "x86_64"},
]


def test_what_the_plan_and_the_collection_know_is_taken() -> None:
    (found,) = bundled(manifest(), [item()], TOOLS, PYTHONS)
    assert found["item"]["installer"] == UV
    assert found["item"]["python_kit"] == KIT
    assert {UV, RATTLER, KIT, TORCH, f"locks/{LOCK}"} <= {entry["path"] for entry in found["item"]["files"]}


@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"lock": digest("stale")}, {}, f"locks/{LOCK}: its sha256 in the bundle is {digest('stale')}"),
        ({}, {"lock_sha256": ""}, "the plan was made with no such lock"),
        ({"uv": digest("foreign")}, {}, f"{UV}: its sha256 {digest('foreign')} is not one of those"),
        (
            {"rattler": digest("foreign")},
            {},
            f"{RATTLER}: its sha256 {digest('foreign')} is not one of those",
        ),
        ({"kit": digest("foreign")}, {}, f"{KIT}: its sha256 is {digest('foreign')}, bundle_pythons wants"),
        ({"python": "3.11"}, {}, "is for python 3.11, the plan wants 3.12"),
    ],
)
def test_what_they_do_not_know_is_refused(changed: dict[str, str], more: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError) as refused:
        bundled(manifest(**changed), [item(**more)], TOOLS, PYTHONS)
    assert said in str(refused.value)


def test_all_of_it_is_said_at_once_and_once_for_all_hosts() -> None:
    changed = dict.fromkeys(("lock", "uv", "rattler", "kit"), digest("foreign"))
    with pytest.raises(BundleError) as refused:
        bundled(manifest(**changed), [item(), item()], TOOLS, PYTHONS)
    for path in (f"locks/{LOCK}", UV, RATTLER, KIT):
        assert str(refused.value).count(f"{path}: ") == 1


def test_an_empty_lock_of_a_tool_lets_nothing_run() -> None:
    with pytest.raises(BundleError, match="would run as root"):
        bundled(manifest(), [item()], {"uv": "", "rattler": ""})


def test_the_roles_compare_with_the_locks_of_the_collection() -> None:
    defaults = yaml.safe_load((ROOT / "roles/bundle/defaults/main.yml").read_text(encoding="utf-8"))
    for name in ("bundle_uv_lock", "bundle_rattler_lock"):
        path = Path(defaults[name].replace("{{ role_path }}", str(ROOT / "roles/bundle")))
        assert bundle_manifest._hashes(path.read_text(encoding="utf-8"))
    (task,) = [
        task
        for task in yaml.safe_load((ROOT / "roles/bundle/tasks/read.yml").read_text(encoding="utf-8"))
        if "bundle_missing" in task.get("ansible.builtin.set_fact", {})
    ]
    assert set(task["vars"]["bundle_tools"]) == {"uv", "rattler"}
    made = yaml.safe_load((ROOT / "roles/runtime/tasks/install.yml").read_text(encoding="utf-8"))[1]
    assert {"lock_sha256", "installer"} <= set(made["baremetal.sglang.environment"])


# -- on the host


def asked(tmp_path: Path, paths: list[str], **more: Any) -> Asked:
    files = [{"path": path, "size": 1, "sha256": digest(path)} for path in paths]
    return Asked(str(tmp_path / "env"), str(tmp_path / "store"), files, LOCK, "/usr/bin/python3", **more)


def no_run(*_words: Any) -> tuple[int, str, str]:
    raise AssertionError("nothing may run")


def test_a_host_refuses_another_lock(tmp_path: Path) -> None:
    paths = [UV, f"locks/{LOCK}"]
    with pytest.raises(RefusedError, match=f"its sha256 is {digest(paths[1])}, .* was planned with 0"):
        Maker(asked(tmp_path, paths, lock_sha256="0" * 64, installer=UV), no_run, print)
    Maker(asked(tmp_path, paths, lock_sha256=digest(paths[1]), installer=UV), no_run, print)


def test_a_host_runs_the_uv_that_is_named_and_none_that_is_called_so(tmp_path: Path) -> None:
    """An environment may list a uv of its own, which no collection pins."""
    other = "wheels/uv-0.0.1-py3-none-manylinux_2_17_x86_64.whl"
    paths = [other, UV, f"locks/{LOCK}"]
    maker = Maker(asked(tmp_path, paths, installer=UV), no_run, print)
    assert digest(UV) in maker.uv_wheel
    with pytest.raises(RefusedError, match="say which of them is the installer"):
        Maker(asked(tmp_path, paths), no_run, print)
    with pytest.raises(RefusedError, match="lists no wheel of uv"):
        Maker(asked(tmp_path, [other, f"locks/{LOCK}"], installer=UV), no_run, print)


@pytest.mark.parametrize("path", [f"elsewhere/locks/{LOCK}", f"locks/{LOCK}.txt"])
def test_a_host_takes_no_lock_that_is_only_called_alike(tmp_path: Path, path: str) -> None:
    with pytest.raises(RefusedError, match="lists no lock"):
        Maker(asked(tmp_path, [UV, path], installer=UV), no_run, print)


# -- on the connected side


def test_a_build_refuses_a_lock_that_hosts_would_refuse(tmp_path: Path) -> None:
    locks = tmp_path / "sglang/locks"
    locks.mkdir(parents=True)
    (locks / LOCK).write_text("torch==1\n")
    plan = Plan.from_dict(make_plan("h1"))
    for instance in plan.instances.values():
        instance.environment.update({"lock": LOCK, "lock_sha256": digest("planned")})
    (wanted,) = bundle_environments([plan], str(tmp_path))
    assert wanted["lock_sha256"] == digest("planned")
    names = ("controllers", "swarm_lock", "pythons", "weights", "trees", "sign_key")
    given = dict.fromkeys(names, ())
    builder = SimpleNamespace(add_environment=lambda **_: None, add_installer=lambda *_: None)
    action = bundle_action.ActionModule.__new__(bundle_action.ActionModule)
    (problem,) = action._add_parts(builder, {**given, "uv_lock": "uv.txt", "environments": [wanted]})
    assert "is another lock than the one that was planned with" in problem
