#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: toolchain
short_description: Compile a test of what an engine compiles at its start
description:
  - Compiles, as the user of the service and with its variables, one small example of each kind that the plan names,
    for the compute capability of the plan.
  - Needs no GPU; where there is one, what was compiled is run as well.
  - The result is kept beside the environment, so that a second run does nothing until the compiler, the compute
    capability or the list changes.
  - Fails with the compiler's own words.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  environment:
    description: The folder of the environment.
    type: path
    required: true
  capability:
    description: Compute capability, such as V(9.0).
    type: str
    required: true
  proofs:
    description: What to compile.
    type: list
    elements: str
    choices: [triton, cuda, flashinfer, tvm-ffi]
    required: true
  cuda_home:
    description: The CUDA_HOME that the service is given; empty when nothing needs nvcc.
    type: str
    default: ""
  variables:
    description: Environment variables of the service.
    type: dict
    default: {}
  cache:
    description:
      - The service's own cache folder. The proof works in a folder beside it, on the same file system,
        and variables that lead into the cache lead there.
    type: path
    required: true
  user:
    description: User of the service.
    type: str
    required: true
  proof:
    description: The program that compiles, as text; the environment's own Python runs it.
    type: str
    required: true
attributes:
  check_mode:
    description: Says that something would be proven, and compiles nothing.
    support: full
  diff_mode:
    description: Names what is proven.
    support: full
"""

EXAMPLES = r"""
- name: Compile a test of each toolchain of the plan
  baremetal.sglang.toolchain:
    environment: /opt/sglang/envs/0123456789abcdef
    capability: "9.0"
    proofs: [triton, cuda, flashinfer]
    cuda_home: /opt/sglang/envs/0123456789abcdef/cuda
    cache: /var/cache/sglang/glm-4.7
    user: sglang
    proof: "{{ lookup('ansible.builtin.file', 'prove_toolchain.py') }}"
"""

RETURN = r"""
answers:
  description: What each proof made, and in how many seconds.
  returned: when something was compiled
  type: list
  elements: dict
kept:
  description: The file that keeps the result.
  returned: always
  type: str
"""

import json
import os
import pwd
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import toolchain
from ansible_collections.baremetal.sglang.plugins.module_utils.service.folders_host import (
    make_folder,
    remove_tree,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.user_host import UserError, as_user

MOST_SAID = 256 * 1024


def compiler(module: AnsibleModule) -> str:
    """The first line of what nvcc's host compiler says of itself."""
    for program in ("c++", "cc"):
        path = module.get_bin_path(program)
        if path:
            _unused, out, _unused = module.run_command([path, "--version"])
            return out.splitlines()[0].strip() if out else path
    return ""


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def keep(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(path + ".new", path)


def prove(module: AnsibleModule) -> tuple:
    """Answers and all that was said, from a run as the service's user in a folder that goes away."""
    params = module.params
    cache = params["cache"].rstrip("/")
    above = os.path.dirname(cache)
    account = pwd.getpwnam(params["user"])
    # The program and the folder that it is in are root's; the user writes to a folder beside it.
    make_folder(above, os.geteuid(), os.getegid(), 0o755)
    place = os.path.join(above, f".proof-{secrets.token_hex(8)}")
    proof, scratch = os.path.join(place, "proof.py"), os.path.join(place, "scratch")
    try:
        make_folder(place, os.geteuid(), os.getegid(), 0o755)
        with open(proof, "w", encoding="utf-8") as stream:
            stream.write(params["proof"])
            os.fchmod(stream.fileno(), 0o644)
        make_folder(scratch, account.pw_uid, account.pw_gid, 0o700)
        variables = {name: str(value) for name, value in params["variables"].items()}
        if params["cuda_home"]:
            variables.setdefault("CUDA_HOME", params["cuda_home"])
        variables.setdefault("PATH", f"{params['environment']}/bin:/usr/local/bin:/usr/bin:/bin")
        found = toolchain.proof_environment(variables, cache, scratch)
        wanted = {"folder": scratch, "capability": params["capability"], "proofs": params["proofs"]}
        python = os.path.join(params["environment"], "bin", "python")
        command = [python, "-B", proof, json.dumps(wanted)]
        groups = os.getgrouplist(params["user"], account.pw_gid)
        out, err = as_user(
            account.pw_uid, account.pw_gid, lambda: compiled(command, found, scratch), groups=groups
        )
    finally:
        remove_tree(place)
    return toolchain.answers_of(out), f"{out}\n{err}"


def compiled(command: list, variables: dict, folder: str) -> list:
    """What the proof printed, the end of it where that is too long. Runs as the service's user."""
    paths = [os.path.join(folder, name) for name in ("out", "err")]
    os.chdir(folder)
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions: list = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_OPEN, number, path, writing, 0o600) for number, path in enumerate(paths, 1)),
    ]
    # run_command would run it as root; this process has become the service user.
    # pylint: disable-next=ansible-bad-function
    os.waitpid(os.posix_spawn(command[0], command, variables, file_actions=actions), 0)
    said = []
    for path in paths:
        with open(path, "rb") as stream:
            stream.seek(max(os.path.getsize(path) - MOST_SAID, 0))
            said.append(stream.read(MOST_SAID).decode("utf-8", "replace"))
    return said


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "environment": {"type": "path", "required": True},
            "capability": {"type": "str", "required": True},
            "proofs": {
                "type": "list",
                "elements": "str",
                "required": True,
                "choices": ["triton", "cuda", "flashinfer", "tvm-ffi"],
            },
            "cuda_home": {"type": "str", "default": ""},
            "variables": {"type": "dict", "default": {}},
            "cache": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "proof": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    path = params["environment"].rstrip("/") + ".toolchain.json"
    kept = read(path)
    wanted = toolchain.asked(params["capability"], params["proofs"], params["cuda_home"], compiler(module))
    if toolchain.is_proven(kept, wanted):
        module.exit_json(changed=False, kept=path)
    words = f"{path}: {', '.join(params['proofs'])} for compute capability {params['capability']}\n"
    diff = {"before": "", "after": words}
    if module.check_mode:
        module.exit_json(changed=True, kept=path, diff=diff)
    try:
        answers, said = prove(module)
    except (UserError, OSError) as error:
        module.fail_json(msg=f"{params['environment']}: the compilers could not be proven: {error}")
    problem = toolchain.refusal(wanted, answers, said, params["proofs"])
    if problem:
        module.fail_json(msg=problem, answers=answers)
    keep(path, toolchain.with_result(kept, wanted, answers))
    module.exit_json(changed=True, kept=path, answers=answers, diff=diff)


if __name__ == "__main__":
    main()
