#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: temporary_instance
short_description: Run a temporary instance beside those that serve
description:
  - Starts a server from what P(baremetal.sglang.temporary_instance_definition#filter) gives, waits for a token, and
    removes it again with all that it left. Units, files and logs of the instances that serve are not touched.
  - The unit lies in C(/run), has no restart and a bounded life, so that a controller that goes away leaves nothing that lasts.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description:
      - V(looked) finds GPUs that nobody uses and a free port.
      - V(started) starts a server and waits for a token, V(stopped) takes it away.
      - V(paused) and V(resumed) stop and start O(unit), an instance that serves.
    type: str
    choices: [looked, started, stopped, paused, resumed]
    required: true
  name:
    description: Name of the server.
    type: str
  unit:
    description: Its systemd unit.
    type: str
  unit_text:
    description: Contents of the unit.
    type: str
  port:
    description: Its port on loopback; with O(state=looked) the first one to try.
    type: int
  alive:
    description: Path that answers 200 once the server listens.
    type: str
    default: /health
  token:
    description: Path that answers 200 only when a token was made.
    type: str
    default: /health
  serves:
    description: The name that its API answers to.
    type: str
  python:
    description: Interpreter of its environment.
    type: path
  probe:
    description: The probe on the host.
    type: path
  files:
    description: Texts by their path below its folder.
    type: dict
    default: {}
  links:
    description: Targets by the path of the link below its folder.
    type: dict
    default: {}
  folders:
    description: Empty folders below its folder.
    type: list
    elements: str
    default: []
  writable:
    description: Folders that it may write to; they go away with it.
    type: list
    elements: path
    default: []
  user:
    description: Who it runs as.
    type: str
    default: sglang
  group:
    description: Group of the folders.
    type: str
    default: sglang
  keep_writable:
    description: Leave the folders that it wrote to, for its next start.
    type: bool
    default: false
  life_seconds:
    description: The end of a server that nobody takes away.
    type: int
    default: 21600
  gpu_used_mib:
    description: A GPU with more memory in use is not free.
    type: float
    default: 1500
  timeout:
    description: Seconds until a server that gives no token counts as failed; as its unit says, with V(0).
    type: int
    default: 0
attributes:
  check_mode:
    description: Starts and stops nothing.
    support: full
  diff_mode:
    description: What it makes does not last, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look up free ports and GPUs
  baremetal.sglang.temporary_instance:
    state: looked
    port: 31000

- name: Stop and remove the temporary instance
  baremetal.sglang.temporary_instance:
    state: stopped
    name: smoke
    unit: sglang-smoke.service
"""

RETURN = r"""
gpus:
  description: Indexes of GPUs that nobody uses.
  returned: when O(state=looked)
  type: list
  elements: int
port:
  description: A free port.
  returned: when O(state=looked)
  type: int
answer:
  description: What the probe found.
  returned: when O(state=started)
  type: dict
report:
  description: The same in lines for people.
  returned: when O(state=started)
  type: list
  elements: str
"""

import grp
import os
import pwd
import re
import shutil
import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.service.folders_host import (
    make_folder,
    remove_tree,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.serving_host import (
    NotServingError,
    Question,
    Watch,
    report,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.temporary_instance import (
    PLACE,
    gpus_free,
)

UNITS = "/run/systemd/system"
NAME = re.compile(r"^[a-z0-9][a-z0-9.-]*\Z")


def free_port(first: int) -> int:
    for port in range(first, 65536):
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                with socket.socket(family) as found:
                    found.bind((address, port))
            except OSError as error:
                if family == socket.AF_INET or error.errno == 98:
                    break
        else:
            return port
    raise OSError("no port is free")


def looked(module: AnsibleModule) -> dict[str, Any]:
    smi, gpus = shutil.which("nvidia-smi"), []
    if smi:
        query = [smi, "--format=csv,noheader,nounits"]
        _rc, listed, _err = module.run_command([*query, "--query-gpu=index,uuid,memory.used"])
        _rc, used, _err = module.run_command([*query, "--query-compute-apps=gpu_uuid"])
        gpus = gpus_free(listed, used, module.params["gpu_used_mib"])
    return {"gpus": gpus, "port": free_port(module.params["port"] or 31000)}


def systemctl(module: AnsibleModule, *words: str) -> None:
    rc, _out, err = module.run_command(["systemctl", *words])
    if rc:
        module.fail_json(msg=f"systemctl {' '.join(words)}: {err.strip()}")


def owned(path: str, user: str, group: str) -> None:
    """The parent is root's, on a host of an earlier version only from now on."""
    make_folder(os.path.dirname(path), 0, 0, 0o755)
    make_folder(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid, 0o750)


def started(module: AnsibleModule) -> dict[str, Any]:
    given = module.params
    take_away(module, keep_writable=True)
    folder = os.path.join(PLACE, given["name"])
    for name in given["folders"]:
        os.makedirs(os.path.join(folder, name))
    for name, text in given["files"].items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
    for name, target in given["links"].items():
        os.symlink(target, os.path.join(folder, name))
    for path in given["writable"]:
        owned(path, given["user"], given["group"])
    dropins = os.path.join(UNITS, f"{given['unit']}.d")
    os.makedirs(dropins)
    with open(os.path.join(UNITS, given["unit"]), "w", encoding="utf-8") as stream:
        stream.write(given["unit_text"])
    with open(os.path.join(dropins, "scratch.conf"), "w", encoding="utf-8") as stream:
        stream.write(f"[Service]\nRestart=no\nRuntimeMaxSec={given['life_seconds']}\n")
    systemctl(module, "daemon-reload")
    systemctl(module, "start", "--no-block", given["unit"])
    url = f"http://127.0.0.1:{given['port']}"
    words = [given["python"], given["probe"], "--base-url", url, "--model", given["serves"]]
    words += ["--alive", given["alive"], "--token", given["token"]]
    words += ["--prompt", "Say hi in one short sentence.", "--max-tokens", "48"]
    question = Question(given["unit"], url, tuple(words), given["alive"])
    answer = Watch(module.run_command, given["timeout"]).all([question], fresh=[given["unit"]])[given["unit"]]
    return {"changed": True, "answer": answer, "report": report(answer)}


def take_away(module: AnsibleModule, keep_writable: bool) -> bool:
    given = module.params
    there = [
        os.path.join(UNITS, given["unit"]),
        os.path.join(UNITS, f"{given['unit']}.d"),
        os.path.join(PLACE, given["name"]),
    ]
    if not keep_writable:
        there += given["writable"]
    found = [path for path in there if os.path.lexists(path)]
    if os.path.exists(there[0]):
        systemctl(module, "stop", given["unit"])
    for path in found:
        remove_tree(path)
    if there[0] in found or there[1] in found:
        module.run_command(["systemctl", "reset-failed", given["unit"]])
        systemctl(module, "daemon-reload")
    if os.path.isdir(PLACE) and not os.listdir(PLACE):
        os.rmdir(PLACE)
    return bool(found)


def stopped(module: AnsibleModule) -> dict[str, Any]:
    return {"changed": take_away(module, module.params["keep_writable"])}


def paused(module: AnsibleModule) -> dict[str, Any]:
    systemctl(module, "stop", module.params["unit"])
    return {"changed": True}


def resumed(module: AnsibleModule) -> dict[str, Any]:
    """Returns when it has given a token: its unit is ready no earlier."""
    systemctl(module, "start", module.params["unit"])
    return {"changed": True}


STATES = {"looked": looked, "started": started, "stopped": stopped, "paused": paused, "resumed": resumed}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "name": {"type": "str"},
            "unit": {"type": "str"},
            "unit_text": {"type": "str"},
            "port": {"type": "int"},
            "alive": {"type": "str", "default": "/health"},
            "token": {"type": "str", "default": "/health", "no_log": False},
            "serves": {"type": "str"},
            "python": {"type": "path"},
            "probe": {"type": "path"},
            "files": {"type": "dict", "default": {}},
            "links": {"type": "dict", "default": {}},
            "folders": {"type": "list", "elements": "str", "default": []},
            "writable": {"type": "list", "elements": "path", "default": []},
            "user": {"type": "str", "default": "sglang"},
            "group": {"type": "str", "default": "sglang"},
            "keep_writable": {"type": "bool", "default": False},
            "life_seconds": {"type": "int", "default": 21600},
            "gpu_used_mib": {"type": "float", "default": 1500},
            "timeout": {"type": "int", "default": 0},
        },
        required_if=[
            ("state", "started", ("name", "unit", "unit_text", "port", "serves", "python", "probe")),
            ("state", "stopped", ("name", "unit")),
            ("state", "paused", ("unit",)),
            ("state", "resumed", ("unit",)),
        ],
        supports_check_mode=True,
    )
    given = module.params
    if given["name"] and not NAME.match(given["name"]):
        module.fail_json(
            msg=f"REFUSED  {given['name']!r} is not a name of a temporary instance. Nothing was changed."
        )
    if module.check_mode and given["state"] != "looked":
        module.exit_json(changed=True, skipped=True)
    try:
        result = STATES[given["state"]](module)
    except NotServingError as error:
        module.fail_json(msg=str(error), last_lines=error.lines)
    except (OSError, KeyError) as error:
        module.fail_json(msg=f"{given['state']} {given['name'] or ''}: {error}")
    module.exit_json(**{"changed": False, **result})


if __name__ == "__main__":
    main()
