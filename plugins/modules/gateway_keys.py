#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_keys
short_description: Issue, rotate and revoke keys of the gateway
description:
  - Keeps names, limits and hashes of keys in a file of root's own. A key itself is returned once and kept nowhere.
  - Tells a running HAProxy over its admin socket, so that nothing is reloaded and no stream ends.
  - Finds a running HAProxy that knows other keys than the file, and puts it right.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  folder:
    description: Where C(keys.json) and C(keys.map) lie.
    type: path
    default: /etc/sglang/gateway/keys
  socket:
    description: Admin socket of the gateway.
    type: path
    default: /run/sglang-gateway/admin.sock
  state:
    description:
      - V(present) makes a key where the name has none, and sets its limits. V(rotated) makes a new one in any case. V(absent)
        takes all of a name back. V(listed) changes nothing. V(same) makes file and gateway hold exactly O(content).
    type: str
    choices: [present, rotated, absent, listed, same]
    default: listed
  name:
    description: Whose key.
    type: str
    default: ""
  rate:
    description: Requests a minute, at least 1; V(none) means unlimited.
    type: str
    default: none
  concurrency:
    description: Requests at once, at least 1; V(none) means unlimited.
    type: str
    default: none
  days:
    description: How long a new key is good, more than 0; V(none) is for ever.
    type: str
    default: none
  grace_seconds:
    description: How long the old key goes on beside a new one, at least 1; with V(none) it ends at once.
    type: str
    default: none
  content:
    description: What RV(content) of another host said.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would change; no key is made.
    support: full
  diff_mode:
    description: Shows names and limits, with the first letters of hashes.
    support: full
"""

EXAMPLES = r"""
- name: Issue a key for alice with at most two requests at once
  baremetal.sglang.gateway_keys:
    state: present
    name: alice
    concurrency: 2
  register: made
  no_log: true
"""

RETURN = r"""
key:
  description: The new key. It is shown here and nowhere else.
  returned: when one was made
  type: str
listed:
  description: All keys in lines for people.
  returned: always
  type: list
  elements: str
content:
  description: The file of hashes, for other gateways.
  returned: always
  type: str
live:
  description: Whether a running gateway was told.
  returned: always
  type: bool
"""

import os
import secrets
import socket
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway import keys as gateway_keys
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.keys import Key, KeysError

WAIT = 10
FORGOTTEN = ("done", "entry not found", "key not found")


def read(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def write(path: str, text: str) -> None:
    handle, made = tempfile.mkstemp(prefix=".keys-", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(made, 0o600)
    os.rename(made, path)


def ask(path: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT)
        connection.connect(path)
        connection.sendall(command.encode() + b"\n")
        said = b""
        while piece := connection.recv(65536):
            said += piece
    return said.decode(errors="replace")


def live_entries(path: str, map_path: str) -> dict[str, str] | None:
    """What the gateway knows now; None where none runs."""
    try:
        said = ask(path, f"show map {map_path}")
    except OSError:
        return None
    if said.startswith("Unknown map"):
        return None
    return gateway_keys.listed(said)


def tell(path: str, lines: list[str]) -> None:
    for line in lines:
        said = " ".join(ask(path, line).split())
        if said and not any(word in said.lower() for word in FORGOTTEN):
            raise KeysError(
                f"the gateway did not take the change: {said}; systemctl reload sglang-gateway takes it from the file"
            )


def changed_keys(given: dict, keys: list[Key], now: int, make: bool) -> tuple[list[Key], str]:
    """(the keys as they should be, a new key or nothing)."""
    state, name = given["state"], given["name"]
    if state == "listed":
        return keys, ""
    if state == "same":
        return gateway_keys.parse(given["content"]), ""
    if state == "absent":
        gateway_keys.usable(name)
        return gateway_keys.revoked(keys, name), ""
    key = gateway_keys.PREFIX + (secrets.token_urlsafe(32) if make else "")
    asked = gateway_keys.numbers(given)
    digest = gateway_keys.digest_of(key)
    if state == "rotated":
        return gateway_keys.rotated(keys, name, digest, now, asked["grace_seconds"], asked["days"]), key
    until = now + asked["days"] if asked["days"] else 0
    wanted = Key(name, digest, asked["rate"], asked["concurrency"], until)
    found, new = gateway_keys.present(keys, wanted, now)
    return found, key if new else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "default": "/etc/sglang/gateway/keys"},
            "socket": {"type": "path", "default": "/run/sglang-gateway/admin.sock"},
            "state": {
                "type": "str",
                "choices": ["present", "rotated", "absent", "listed", "same"],
                "default": "listed",
            },
            "name": {"type": "str", "default": ""},
            "rate": {"type": "str", "default": "none"},
            "concurrency": {"type": "str", "default": "none"},
            "days": {"type": "str", "default": "none"},
            "grace_seconds": {"type": "str", "default": "none"},
            "content": {"type": "str", "default": "", "no_log": False},
        },
        required_if=[("state", state, ["name"]) for state in ("present", "rotated", "absent")],
        supports_check_mode=True,
    )
    given, now = module.params, int(time.time())
    path, map_path = (os.path.join(given["folder"], name) for name in ("keys.json", "keys.map"))
    try:
        before, map_before = read(path), read(map_path)
        keys = gateway_keys.parse(before)
        wanted, key = changed_keys(given, keys, now, not module.check_mode)
        after, map_after = gateway_keys.rendered(wanted), gateway_keys.map_text(wanted)
        live = live_entries(given["socket"], map_path)
        lines = (
            [] if live is None else gateway_keys.commands(map_path, live, gateway_keys.map_entries(wanted))
        )
        there = os.path.exists(path) and os.path.exists(map_path)
        changed = before != after or map_before != map_after or bool(lines) or not there
        if given["state"] == "listed":
            changed = False
        elif changed and not module.check_mode:
            if not os.path.isdir(given["folder"]):
                module.fail_json(msg=f"{given['folder']} is not there: run playbooks/gateway.yml first")
            write(path, after)
            write(map_path, map_after)
            tell(given["socket"], lines)
    except (KeysError, OSError) as error:
        module.fail_json(msg=f"keys: {error}")
    module.exit_json(
        changed=changed,
        listed=gateway_keys.shown(wanted, now),
        content=after,
        live=live is not None,
        diff={
            "before": "\n".join(gateway_keys.shown(keys, now)) + "\n",
            "after": "\n".join(gateway_keys.shown(wanted, now)) + "\n",
        },
        **({"key": key} if key and not module.check_mode else {}),
    )


if __name__ == "__main__":
    main()
