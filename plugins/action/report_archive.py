# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the archive of a report on the controller; the documentation is the module's."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                "dest": {"type": "path", "required": True},
                "hosts": {"type": "dict", "required": True},
                "names": {"type": "dict", "default": {}},
            }
        )
        dest = Path(given["dest"])
        names: dict[str, str] = plain(given["names"])
        hosts: dict[str, dict[str, str]] = {
            names.get(host, host): files for host, files in plain(given["hosts"]).items()
        }
        if dest.exists():
            return {
                "failed": True,
                "msg": f"REFUSED  report_file = {dest}\n  this file is there already\n  "
                "give another name, or remove it\nNothing was changed.",
            }
        silent = sorted(host for host, files in hosts.items() if not files)
        lines = [
            f"{host}: {len(files)} files, {sum(map(len, files.values())) / 1e6:.1f} MB"
            for host, files in sorted(hosts.items())
            if files
        ]
        lines += [f"{host}: gave nothing; see the run above" for host in silent]
        if not self._task.check_mode:
            try:
                _write(dest, hosts)
            except OSError as error:
                dest.unlink(missing_ok=True)
                return {"failed": True, "msg": f"{dest} cannot be written: {error.strerror}"}
        return {"changed": True, "summary": [*lines, f"{dest}: read it before you give it away"]}


def _write(dest: Path, hosts: dict[str, dict[str, str]]) -> None:
    """Only for the owner: what was taken out is what is known to be secret."""
    dest.touch(mode=0o600)
    now = int(time.time())
    with tarfile.open(dest, "w:gz") as archive:
        for host, files in sorted(hosts.items()):
            for name, text in sorted(files.items()):
                data = text.encode()
                member = tarfile.TarInfo(f"report/{host}/{name}")
                member.size, member.mtime, member.mode = len(data), now, 0o600
                archive.addfile(member, io.BytesIO(data))
