# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Works on the authority's record on the controller; the documentation is the module's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.action.certificate import authority_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    PROMETHEUS_FILES,
    Settings,
    table,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import (
    ROTATIONS,
    Authority,
    AuthorityError,
)

ARGUMENTS: dict[str, Any] = {
    "authority": {"type": "path", "default": ""},
    "settings": {"type": "dict", "default": {}},
    "revoke": {"type": "str", "default": ""},
    "renew": {"type": "str", "default": ""},
    "rotate": {"type": "str", "choices": ["", *ROTATIONS], "default": ""},
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        variables = task_vars or {}
        hosts = [str(host) for host in variables["groups"]["all"]]
        authority = Authority(
            authority_folder(given["authority"], variables), Settings.from_dict(given["settings"])
        )
        try:
            return self._work(authority, given, hosts)
        except AuthorityError as error:
            return {"failed": True, "msg": str(error)}

    def _work(self, authority: Authority, given: dict[str, Any], hosts: Iterable[str]) -> dict[str, Any]:
        check = bool(self._task.check_mode)
        known = [*hosts, PROMETHEUS_FILES]
        with authority.open():
            if not authority.keys and (given["revoke"] or given["renew"] or given["rotate"]):
                raise AuthorityError(
                    f"certificates_dir = {authority.folder}",
                    "there is no authority on this controller yet",
                    "run playbooks/gateway.yml or playbooks/monitoring.yml first, or give the folder of the authority",
                )
            before = authority.rows(hosts)
            revoked: list[str] = []
            with authority.rehearsal(check):
                if given["rotate"]:
                    authority.rotate(given["rotate"])
                if given["revoke"]:
                    revoked = authority.revoke(given["revoke"])
                if given["renew"]:
                    authority.renew(given["renew"], known)
                after = authority.rows(hosts)
        lines = table(after) if after else ["no certificate has been issued yet"]
        return {
            "changed": authority.changed,
            "certificates": after,
            "table": lines,
            "revoked": revoked,
            "folder": str(authority.folder),
            "diff": {
                "before": "".join(f"{line}\n" for line in table(before)),
                "after": "".join(f"{line}\n" for line in table(after)),
            },
        }
