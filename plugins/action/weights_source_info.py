# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks on the controller for the weights of the plans; the documentation is the module's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as weights_files
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest as weights_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    POLICY_ARGUMENTS,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import Verified, read_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_fetch import folder_of

WITHOUT_PIECES = 1 << 60
SHOWN = 5


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(
            {
                "plans": {"type": "dict", "required": True},
                "weights_dir": {"type": "path", "default": ""},
                "bundle_dir": {"type": "path", "default": ""},
                **POLICY_ARGUMENTS,
            }
        )
        given = plain(given)
        wanted = {
            (instance["weights"]["model"], instance["weights"]["revision"])
            for plan in given["plans"].values()
            for instance in plan["instances"].values()
        }
        offers, problems = {}, []
        # Also where nothing of it is needed: who hears nothing takes the bundle for verified.
        found = _bundle(given["bundle_dir"], SignaturePolicy.from_arguments(given))
        if found and found.problems:
            return {"failed": True, "msg": found.message(), "problems": found.problems}
        bundle = found.manifest if found else {}
        for model, revision in sorted(wanted):
            try:
                offer = _fetched(given["weights_dir"], model, revision) or self._bundled(
                    given["bundle_dir"], bundle, model, revision
                )
            except (OSError, weights_manifest.ManifestError) as error:
                problems.append(f"REFUSED  weights of {model}: {error}")
                continue
            if offer:
                offers[f"{model}/{revision}"] = offer
        if problems:
            return {"failed": True, "msg": "\n".join([*problems, "Nothing was changed."])}
        return {"changed": False, "offers": offers}

    def _bundled(
        self, folder: str, bundle: Mapping[str, Any], model: str, revision: str
    ) -> dict[str, Any] | None:
        listed = weights_manifest.bundle_entry(bundle, model, revision)
        if not listed:
            return None
        source = Path(folder).expanduser() / bundle["weights"][f"{model}/{revision}"]["folder"]
        own = listed.pop(weights_manifest.MANIFEST, None)
        path = source / weights_manifest.MANIFEST
        if own is not None:
            offer = _offer(source, path)
            if offer["manifest_sha256"] != own["sha256"]:
                raise weights_manifest.ManifestError(
                    f"{path} is not the one that the bundle's manifest names"
                )
            return {**offer, "below_bundle": bundle["weights"][f"{model}/{revision}"]["folder"]}
        # A bundle that was filled from a folder without a manifest: whole files are proven, pieces are not known.
        entries = [
            {"path": name, "size": entry["size"], "sha256": entry["sha256"]}
            for name, entry in listed.items()
            if name != weights_manifest.STAMP
        ]
        origin = {"type": "bundle", "id": f"{model}/{revision}"}
        made = weights_manifest.build(model, revision, origin, entries, {}, WITHOUT_PIECES)
        text = weights_manifest.to_text(made)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {
            **_checked(source, made),
            "manifest": "",
            "manifest_text": text,
            "manifest_sha256": digest,
            "below_bundle": bundle["weights"][f"{model}/{revision}"]["folder"],
        }


def _bundle(folder: str, policy: SignaturePolicy) -> Verified | None:
    """Nothing where there is no bundle: a host that has its weights needs none, and the disk may be gone again."""
    if not folder or not os.path.lexists(Path(folder).expanduser() / bundle_manifest.MANIFEST):
        return None
    return read_manifest(Path(folder).expanduser(), policy)


def _fetched(root: str, model: str, revision: str) -> dict[str, Any] | None:
    if not root:
        return None
    source = folder_of(Path(root).expanduser(), model, revision)
    path = source / weights_manifest.MANIFEST
    return {**_offer(source, path), "below_bundle": ""} if path.is_file() else None


def _offer(source: Path, path: Path) -> dict[str, Any]:
    text = path.read_bytes()
    manifest = weights_manifest.from_text(text.decode("utf-8", "replace"), str(path))
    return {
        **_checked(source, manifest),
        "manifest": str(path.absolute()),
        "manifest_text": "",
        "manifest_sha256": hashlib.sha256(text).hexdigest(),
    }


def _checked(source: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes and headers at once, before a host is touched; every byte is compared on the host."""
    damage, _touched = weights_files.quick_damage(str(source), manifest, {})
    if damage:
        told = "; ".join(str(item) for item in damage[:SHOWN])
        raise weights_manifest.ManifestError(f"{source}: {told}: fetch or bundle it again")
    return {"source": str(source.absolute()), "bytes": manifest["bytes"]}
