# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The arguments that the modules of a swarm share."""

from __future__ import annotations

from typing import Any

FILES: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "required": True,
    "options": {
        "path": {"type": "str", "required": True},
        "size": {"type": "int", "required": True},
        "sha256": {"type": "str", "required": True},
        "source_path": {"type": "str", "default": ""},
    },
}
COMMON: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": FILES,
    "folder": {"type": "path", "required": True},
    "state_directory": {"type": "path", "default": "/var/lib/sglang-swarm"},
}
