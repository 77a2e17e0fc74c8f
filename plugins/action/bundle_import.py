# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Completes a delta, or brings a bundle from another disk; the documentation is the module's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_import import BundleImport
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    POLICY_ARGUMENTS,
    SignaturePolicy,
)


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                "src": {"type": "path", "required": True},
                "dest": {"type": "path", "default": ""},
                "base": {"type": "path", "default": ""},
                **POLICY_ARGUMENTS,
            }
        )
        source = Path(given["src"]).absolute()
        dest = Path(given["dest"]).absolute() if given["dest"] else source
        work = BundleImport(
            source,
            dest,
            Path(given["base"]).absolute() if given["base"] else None,
            self._display.display,
            SignaturePolicy.from_arguments(given),
        )
        found = work.refusals()
        if found.problems:
            return {"failed": True, "msg": found.message(), "problems": found.problems}
        if self._task.check_mode:
            return {"changed": True}
        try:
            changed = work.run(found)
        except (ContentError, OSError) as error:
            words = (
                str(error)
                if str(error).startswith("REFUSED")
                else f"REFUSED  {dest} is not a bundle yet\n  {error}"
            )
            return {
                "failed": True,
                "msg": f"{words}\nThe old bundle is as it was; run the import again to go on.",
            }
        return {"changed": changed, "id": found.manifest["id"], "signed": found.signed.words}
