#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: environment
short_description: A virtual environment made offline from verified wheels
description:
  - Compares every wheel with its SHA-256, unpacks uv from its own wheel, makes a virtual environment beside the final place,
    installs the lock into it without asking any index, imports what must import, and only then renames it to its final name.
  - An environment that is there is never changed.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder of the environment.
    type: path
    required: true
  bundle:
    description: Folder on the host with the wheels, the lock and uv, as the bundle lays them out.
    type: path
    required: true
  files:
    description: What to verify below O(bundle) before anything reads it.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Name relative to the bundle.
        type: str
        required: true
      size:
        description: Bytes.
        type: int
        required: true
      sha256:
        description: SHA-256 of the content.
        type: str
        required: true
  lock:
    description: Name of the lock file below V(locks/) in O(bundle).
    type: str
    required: true
  python:
    description: The interpreter that the environment is made for.
    type: path
    required: true
  python_kit:
    description: Archive below O(bundle) that holds the interpreter, unpacked to O(python_home) when that is not there.
    type: str
    default: ""
  python_home:
    description: Where O(python_kit) is unpacked.
    type: path
  conda:
    description:
      - The conda half of the environment, for C(runtime_backend=pixi). Its packages lie below V(conda/) in O(bundle),
        its lock is V(pixi/pixi.lock), and the wheel of py-rattler is among O(files).
      - Left out, a virtual environment of O(python) is made.
    type: dict
    suboptions:
      environment:
        description: Name of the environment in the lock.
        type: str
        required: true
      arch:
        description: Machine, such as V(x86_64).
        type: str
        required: true
      script:
        description: The program that installs, as text; O(python) runs it.
        type: str
        required: true
  imports:
    description: Modules that must import in the finished environment.
    type: list
    elements: str
    default: []
  import_environment:
    description: Environment variables for that check.
    type: dict
    default: {}
  versions:
    description: Installed versions that must be met, by distribution name.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says that the environment would be made, and makes nothing.
    support: full
  diff_mode:
    description: Names the environment.
    support: full
"""

EXAMPLES = r"""
- name: The environment of the planned release
  baremetal.sglang.environment:
    dest: /opt/sglang/envs/0123456789abcdef
    bundle: /mnt/bundle
    files: "{{ runtime_files }}"
    lock: 0.5.23-cu130-x86_64-py3.11.txt
    python: /usr/bin/python3.11
    imports: [torch, sglang]
"""

RETURN = r"""
dest:
  description: The folder of the environment.
  returned: always
  type: str
seconds:
  description: Time of each step of an installation.
  returned: when something was installed
  type: dict
"""

import json
import os
import shutil
import tarfile
import time
import zipfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils import conda_tree, toolchain_tree
from ansible_collections.baremetal.sglang.plugins.module_utils import published_tree as tree

STAMP = ".environment.json"
CHECK = """
import importlib, importlib.metadata, json, sys
modules, versions = json.loads(sys.argv[1])
problems = []
for name, wanted in versions.items():
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "nothing"
    if found != wanted:
        problems.append(f"{name}: {wanted} was planned, {found} is installed")
for name in modules:
    try:
        importlib.import_module(name)
    except BaseException as error:
        problems.append(f"import {name}: {type(error).__name__}: {error}")
print(json.dumps(problems))
"""


class Maker:
    """The steps, in order; each either succeeds or ends the module with what went wrong."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.dest = module.params["dest"]
        self.bundle = module.params["bundle"]
        self.work = self.dest + ".partial"
        self.seconds: dict[str, float] = {}

    def timed(self, name, step) -> None:
        started = time.monotonic()
        step()
        self.seconds[name] = round(time.monotonic() - started, 1)

    def run(self, what: str, command: list[str], environment: dict[str, str]) -> str:
        rc, out, err = self.module.run_command(command, environ_update=environment)
        if rc != 0:
            self.module.fail_json(
                msg=f"{what} failed, {self.dest} was not made: {(err or out).strip()[-3000:]}"
            )
        return out

    def verify(self) -> None:
        problems = tree.damaged(self.bundle, self.module.params["files"])
        if problems:
            self.module.fail_json(
                msg=f"the bundle at {self.bundle} is damaged, nothing was installed from it: "
                + "; ".join(problems[:10])
            )

    def unpack_python(self) -> None:
        kit, home = self.module.params["python_kit"], self.module.params["python_home"]
        if not kit or os.path.exists(home):
            return
        partial = home + ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(os.path.join(self.bundle, kit)) as archive:
            archive.extractall(partial, filter="data") if hasattr(
                tarfile, "data_filter"
            ) else archive.extractall(partial)
        os.rename(partial, home)

    def install(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work, mode=0o755)
        uv = self.unpack_uv()
        environment = {
            "UV_CACHE_DIR": os.path.join(self.work, "cache"),
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
        }
        env = os.path.join(self.work, "env")
        python = self.module.params["python"]
        conda = bool(self.module.params["conda"])
        if conda:
            self.install_conda(python, env)
        else:
            command = [uv, "venv", "--quiet", "--relocatable", "--python", python, env]
            self.run("uv venv", command, environment)
        wheels = os.path.join(self.bundle, "wheels")
        lock = os.path.join(self.bundle, "locks", self.module.params["lock"])
        install = [uv, "pip", "sync", "--quiet", "--python", os.path.join(env, "bin", "python")]
        source = [
            "--no-index",
            "--find-links",
            wheels,
            "--require-hashes",
            "--no-build",
            "--link-mode",
            "hardlink",
            *(["--break-system-packages"] if conda else []),
        ]
        self.run("uv pip sync", [*install, *source, lock], environment)

    def install_conda(self, python: str, env: str) -> None:
        places = {
            entry["path"]: os.path.join(self.bundle, entry["path"]) for entry in self.module.params["files"]
        }

        def run(command, environment):
            return self.module.run_command(command, environ_update=environment)

        try:
            conda_tree.install(run, self.work, env, self.dest, python, self.module.params["conda"], places)
        except conda_tree.CondaError as error:
            self.module.fail_json(
                msg=f"the conda packages were not installed, {self.dest} was not made: {error}"
            )

    def unpack_uv(self) -> str:
        names = [entry["path"] for entry in self.module.params["files"] if "/uv-" in entry["path"]]
        if not names:
            self.module.fail_json(msg=f"the bundle at {self.bundle} lists no wheel of uv")
        target = os.path.join(self.work, "uv")
        with zipfile.ZipFile(os.path.join(self.bundle, names[0])) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".data/scripts/uv"))
            with wheel.open(member) as source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
        os.chmod(target, 0o755)
        return target

    def lay_out(self) -> None:
        toolchain_tree.lay_out(os.path.join(self.work, "env"))

    def check(self) -> None:
        asked = json.dumps([self.module.params["imports"], self.module.params["versions"]])
        python = os.path.join(self.work, "env", "bin", "python")
        environment = {key: str(value) for key, value in self.module.params["import_environment"].items()}
        scratch = os.path.join(self.work, "scratch")
        os.makedirs(scratch)
        out = self.run(
            "the import check",
            [python, "-c", CHECK, asked],
            {"HOME": scratch, "TMPDIR": scratch, **environment},
        )
        problems = json.loads(out.strip().splitlines()[-1])
        if problems:
            self.module.fail_json(
                msg=f"the environment is not usable, {self.dest} was not made: " + "; ".join(problems)
            )

    def publish(self) -> None:
        env = os.path.join(self.work, "env")
        with open(os.path.join(env, STAMP), "w", encoding="utf-8") as stream:
            json.dump({"lock": self.module.params["lock"], "python": self.module.params["python"]}, stream)
        # uv leaves a lock that anybody may write; an environment that is never changed needs none.
        if os.path.exists(os.path.join(env, ".lock")):
            os.unlink(os.path.join(env, ".lock"))
        if self.module.params["conda"]:
            conda_tree.repair_scripts(env, self.dest)
        os.rename(env, self.dest)
        shutil.rmtree(self.work)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "bundle": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "lock": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "python_kit": {"type": "str", "default": ""},
            "python_home": {"type": "path"},
            "conda": {
                "type": "dict",
                "options": {
                    "environment": {"type": "str", "required": True},
                    "arch": {"type": "str", "required": True},
                    "script": {"type": "str", "required": True},
                },
            },
            "imports": {"type": "list", "elements": "str", "default": []},
            "import_environment": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    dest = module.params["dest"]
    if os.path.exists(os.path.join(dest, STAMP)):
        module.exit_json(changed=False, dest=dest)
    diff = {"before": "", "after": f"{dest}: environment of {module.params['lock']}\n"}
    if module.check_mode:
        module.exit_json(changed=True, dest=dest, diff=diff)
    maker = Maker(module)
    for name in ("verify", "unpack_python", "install", "lay_out", "check", "publish"):
        maker.timed(name, getattr(maker, name))
    module.exit_json(changed=True, dest=dest, diff=diff, seconds=maker.seconds)


if __name__ == "__main__":
    main()
