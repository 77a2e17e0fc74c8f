# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a data file on the controller; what is wrong with it becomes a refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(path: Path, refusals: list[Refusal]) -> Any:
    """One YAML or JSON file; what is wrong with it becomes a refusal."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.load(text, LOADER)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (yaml.YAMLError, ValueError) as error:
        problem = "is damaged: " + " ".join(str(error).split())
    refusals.append(Refusal("file-unreadable", "", str(path), problem, "mend the file, or take it away"))
    return None
