# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own catalogues, as the planner gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Hardware, Model, Nic
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import (
    load_hardware,
    load_nics,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.models import load_models

FILES = Path(__file__).parents[2] / "files"
SGLANG = FILES / "engines/sglang"


def documents(kind: str) -> dict[str, Any]:
    return {
        path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted((FILES / kind).glob("*.yml"))
    }


def shipped_models() -> dict[str, Model]:
    models, refusals = load_models(documents("models"))
    assert refusals == []
    return models


def shipped_hardware() -> dict[str, Hardware]:
    hardware, refusals = load_hardware(documents("hardware"))
    assert refusals == []
    return hardware


def shipped_nics() -> dict[str, Nic]:
    nics, refusals = load_nics(documents("nics"))
    assert refusals == []
    return nics
