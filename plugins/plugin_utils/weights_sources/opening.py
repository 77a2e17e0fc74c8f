# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which program reads which type of source."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import SignaturePolicy
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import (
    Patience,
    Repository,
    Settings,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.folder import (
    Folder,
    from_bundle,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.hubs import (
    HuggingFace,
    ModelScope,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.over_http import Mirror


def open_source(
    source: Source, model: str, settings: Settings, patience: Patience, policy: SignaturePolicy
) -> Repository:
    if source.type == "modelscope":
        return ModelScope(source, settings, patience)
    if source.type == "huggingface":
        return HuggingFace(source, settings, patience)
    if source.type == "http":
        return Mirror(source, settings, patience)
    if source.type == "bundle":
        return from_bundle(source, model, policy)
    return Folder(Path(source.path))
