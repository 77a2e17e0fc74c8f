# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller: the conda channel and the pixi project of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.plugin_utils.conda_channel import SolveError, build, digest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                "dest": {"type": "path", "required": True},
                "cache_dir": {"type": "path", "required": True},
                "channels": {"type": "list", "elements": "str", "required": True},
                "rattler_lock": {"type": "path", "required": True},
                "indexes": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {
                        "name": {"type": "str", "required": True},
                        "url": {"type": "str", "required": True},
                    },
                },
                "environments": {
                    "type": "list",
                    "elements": "dict",
                    "required": True,
                    "options": {
                        "environment": {"type": "str", "required": True},
                        "lock": {"type": "path", "required": True},
                        "python": {"type": "str", "required": True},
                        "arch": {"type": "str", "required": True},
                        "glibc": {"type": "str", "required": True},
                        "index": {"type": "str", "default": "default"},
                        "level": {"type": "str", "required": True},
                        "compiler": {"type": "bool", "required": True},
                    },
                },
            }
        )
        environments = [dict(entry) for entry in given["environments"]]
        if not environments:
            return {"changed": False, "trees": []}
        if not given["channels"]:
            return self._refused(
                "a plan says runtime_backend: pixi, and bundle_conda_channels is empty. Name the channels to take "
                "packages from, as addresses or folders, or leave the backend at uv."
            )
        if self._task.check_mode:
            return {"changed": True, "trees": []}
        try:
            cache = WheelCache(Path(given["cache_dir"]) / "wheels", self._display.display)
            dest = Path(given["dest"])
            before = digest(dest)
            trees = build(
                dest,
                [str(item) for item in given["channels"]],
                environments,
                Path(given["rattler_lock"]),
                cache,
                Indexes(given["indexes"]),
            )
        except ImportError as error:
            return self._refused(
                f"conda packages need the Python package {error.name} beside ansible-core on the controller. "
                "In a clone, 'make controller' brings it. Elsewhere: pip install py-rattler"
            )
        except SolveError as error:
            return self._refused(f"the channels have no packages that fit together: {error}")
        except (FetchError, OSError) as error:
            return self._refused(str(error))
        return {"changed": digest(dest) != before, "trees": trees}

    @staticmethod
    def _refused(why: str) -> dict[str, Any]:
        return {"failed": True, "msg": f"REFUSED  {why}"}
