# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a bundle on the controller and says how far it is; the documentation is the module's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import (
    BundleBuilder,
    FetchError,
    free_bytes,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import AbiError

SUBOPTIONS = {
    "environments": {
        "lock": {"type": "path", "required": True},
        "python": {"type": "str", "required": True},
        "arch": {"type": "str", "required": True},
        "glibc": {"type": "str", "required": True},
        "cuda": {"type": "str", "default": ""},
        "download_bytes": {"type": "int", "default": 0},
    },
    "pythons": {
        "archive": {"type": "path", "required": True},
        "python": {"type": "str", "required": True},
        "arch": {"type": "str", "required": True},
    },
    "weights": {
        "model": {"type": "str", "required": True},
        "revision": {"type": "str", "required": True},
        "source": {"type": "path", "required": True},
    },
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        lists = {
            name: {"type": "list", "elements": "dict", "options": options, "default": []}
            for name, options in SUBOPTIONS.items()
        }
        _unused, given = self.validate_argument_spec(
            {
                "dest": {"type": "path", "required": True},
                "cache_dir": {"type": "path", "required": True},
                "uv_lock": {"type": "path", "required": True},
                **lists,
            }
        )
        dest = Path(given["dest"])
        needed = sum(entry["download_bytes"] for entry in given["environments"])
        free = free_bytes(dest)
        if needed > free and not (dest / "manifest.json").exists():
            return {
                "failed": True,
                "msg": f"{dest}: {needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
                f"free {(needed - free) / 1e9:.1f} GB or give another bundle_dir. Nothing was fetched.",
            }
        if self._task.check_mode:
            return {"changed": True}
        builder = BundleBuilder(dest, Path(given["cache_dir"]), self._display.display)
        try:
            self._fill(builder, given)
        except ImportError as error:
            return {
                "failed": True,
                "msg": f"REFUSED  the bundle needs the Python package {(error.name or '').partition('.')[0]} beside "
                "ansible-core on the controller. In a clone, 'make controller' brings it. Elsewhere: "
                f"{sys.executable} -m pip install packaging pip pyelftools requests. The bundle was not written.",
            }
        except (AbiError, FetchError, OSError) as error:
            return {"failed": True, "msg": f"the bundle at {dest} is not complete: {error}"}
        if unproven := builder.unproven():
            return {"failed": True, "msg": "\n".join([*unproven, f"{dest} has no manifest of this run."])}
        return {
            "changed": builder.finish(),
            "files": len(builder.files),
            "bytes": sum(entry["size"] for entry in builder.files.values()),
        }

    def _fill(self, builder: BundleBuilder, given: dict[str, Any]) -> None:
        for entry in given["environments"]:
            builder.add_environment(
                Path(entry["lock"]), entry["python"], entry["arch"], entry["glibc"], entry["cuda"]
            )
            builder.add_installer(Path(given["uv_lock"]), entry["arch"], entry["glibc"])
        for entry in given["pythons"]:
            builder.add_python(Path(entry["archive"]), entry["python"], entry["arch"])
        for entry in given["weights"]:
            builder.add_weights(Path(entry["source"]), entry["model"], entry["revision"])
