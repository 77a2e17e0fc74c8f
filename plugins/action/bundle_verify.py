# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies a bundle on the controller, or what is about to be read of it; the documentation is the module's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    POLICY_ARGUMENTS,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import (
    read_manifest,
    verify,
    verify_listed,
)


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                "src": {"type": "path", "required": True},
                "files": {"type": "list", "elements": "str"},
                **POLICY_ARGUMENTS,
            }
        )
        folder = Path(given["src"])
        policy = SignaturePolicy.from_arguments(given)
        started = time.monotonic()
        if given["files"] is None:
            found = verify(folder, self._display.display, policy)
        else:
            found = read_manifest(folder, policy)
            if not found.problems:
                verify_listed(found, given["files"], self._display.display)
        seconds = max(time.monotonic() - started, 0.001)
        if found.problems:
            return {"failed": True, "msg": found.message(), "problems": found.problems}
        return {
            "changed": False,
            "manifest": found.manifest,
            "signed": found.signed.words,
            "summary": f"{folder}: {len(found.manifest['files'])} files listed, {found.bytes / 1e9:.2f} GB verified, "
            f"{found.bytes / 1e9 / seconds:.1f} GB/s; id {found.manifest['id'][:16]}; {found.signed.words}",
        }
