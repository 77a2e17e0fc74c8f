# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the acceptance program as the service's user, with the Python of an environment."""

from __future__ import annotations

import json
import os
import pwd
import secrets
from collections.abc import Mapping
from typing import Any

from ..service.folders_host import make_folder, remove_tree
from ..service.user_host import UserError, as_user

MOST_SAID = 4 << 20
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/nvidia/bin"


def options(device: str, settings: Mapping[str, Any]) -> list[str]:
    """The settings of files/acceptance.yml as words of the program."""
    return ["--device", device, *(f"--{name.replace('_', '-')}={value}" for name, value in settings.items())]


def measure(
    program: str, environment: str, cache: str, user: str, words: list[str], seconds: float
) -> dict[str, Any]:
    """What the program printed; UserError with its last words where that is no measurement."""
    account = pwd.getpwnam(user)
    # The program and the folder that it is in are root's; the user writes to a folder beside it.
    make_folder(cache, os.geteuid(), os.getegid(), 0o755)
    place = os.path.join(cache, f".acceptance-{secrets.token_hex(8)}")
    path, scratch = os.path.join(place, "acceptance.py"), os.path.join(place, "scratch")
    try:
        make_folder(place, os.geteuid(), os.getegid(), 0o755)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(program)
            os.fchmod(stream.fileno(), 0o644)
        make_folder(scratch, account.pw_uid, account.pw_gid, 0o700)
        python = os.path.join(environment, "bin", "python")
        variables = {
            "PATH": f"{environment}/bin:{PATH}",
            "HOME": scratch,
            "TMPDIR": scratch,
            "LANG": "C.UTF-8",
        }
        command = [python, "-I", "-B", path, *words]
        groups = os.getgrouplist(user, account.pw_gid)
        out, err = as_user(
            account.pw_uid, account.pw_gid, lambda: _said(command, variables, scratch), groups, seconds
        )
    finally:
        remove_tree(place)
    try:
        found = json.loads(out)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("gpus"), list):
        last = next((line.strip() for line in reversed(f"{out}\n{err}".splitlines()) if line.strip()), "")
        raise UserError(f"the acceptance program gave no measurement: {last or 'it said nothing'}")
    return found


def _said(command: list[str], variables: dict[str, str], folder: str) -> list[str]:
    """Standard output and error, the end of them where they are too long. Runs as the service's user."""
    paths = [os.path.join(folder, name) for name in ("out", "err")]
    os.chdir(folder)
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_OPEN, number, path, writing, 0o600) for number, path in enumerate(paths, 1)),
    ]
    # run_command would run it as root; this process has become the service user.
    # pylint: disable-next=ansible-bad-function
    os.waitpid(os.posix_spawn(command[0], command, variables, file_actions=actions), 0)
    said = []
    for path, most in zip(paths, (MOST_SAID // 2, 65536)):
        with open(path, "rb") as stream:
            stream.seek(max(os.path.getsize(path) - most, 0))
            said.append(stream.read(most).decode("utf-8", "replace"))
    return said
