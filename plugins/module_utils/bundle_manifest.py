# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle's manifest says, and the questions the roles ask of it."""

from __future__ import annotations

from typing import Any

from . import pixi_project
from .refusal import did_you_mean

SCHEMA = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"


class BundleError(Exception):
    """The bundle does not hold what is asked of it."""


def build(
    files: dict[str, dict[str, Any]],
    environments: dict[str, dict[str, Any]],
    weights: dict[str, dict[str, Any]],
    installers: dict[str, str],
    pythons: dict[str, str],
) -> dict[str, Any]:
    """The manifest of a bundle; every path in it is relative to the bundle's folder."""
    return {
        "schema": SCHEMA,
        "environments": environments,
        "files": files,
        "installers": installers,
        "pythons": pythons,
        "weights": weights,
    }


def sums(files: dict[str, dict[str, Any]]) -> str:
    """The text that `sha256sum --check` reads."""
    return "".join(f"{entry['sha256']}  {path}\n" for path, entry in sorted(files.items()))


def _listed(manifest: dict[str, Any], paths: list[str], below: str = "") -> list[dict[str, Any]]:
    prefix = f"{below}/" if below else ""
    return [
        {
            "path": path[len(prefix) :],
            "size": manifest["files"][path]["size"],
            "sha256": manifest["files"][path]["sha256"],
        }
        for path in sorted(paths)
    ]


def bundled(manifest: dict[str, Any], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a host lacks, each with the files that it takes; every gap of the bundle is named at once."""
    found, problems = [], []
    for entry in wanted:
        item = entry["item"]
        try:
            if entry["kind"] == "environment":
                more = _environment(manifest, item)
            else:
                more = {"files": _weights(manifest, item["model"], item["revision"])}
            found.append({**entry, "item": {**item, **more}})
        except BundleError as error:
            problems.append(str(error))
    if problems:
        raise BundleError("; ".join(problems))
    return found


def _environment(manifest: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    lock, arch = item["lock"], item["arch"]
    environment = manifest["environments"].get(lock)
    if environment is None:
        raise BundleError(
            f"the bundle has no environment for {lock or 'a release without a lock'} "
            f"({did_you_mean(lock, manifest['environments'])}): build it again with playbooks/bundle.yml and this inventory"
        )
    if arch not in manifest["installers"]:
        raise BundleError(f"the bundle has no uv for {arch}: {did_you_mean(arch, manifest['installers'])}")
    paths = [*environment["wheels"], environment["lock"], manifest["installers"][arch]]
    kit = ""
    if item["interpreter_from"] == "bundle":
        key = f"{item['python']}-{arch}"
        kit = manifest["pythons"].get(key, "")
        if not kit:
            raise BundleError(
                f"the bundle has no Python {item['python']} for {arch} ({did_you_mean(key, manifest['pythons'])}): "
                "give one in bundle_pythons and build it again"
            )
        paths.append(kit)
    if item.get("conda"):
        paths += pixi_project.bundle_paths(manifest["files"], arch)
        if "pixi/pixi.lock" not in paths:
            raise BundleError("the bundle has no pixi/pixi.lock: build it again with runtime_backend: pixi")
    return {"files": _listed(manifest, paths), "python_kit": kit}


def _weights(manifest: dict[str, Any], model: str, revision: str) -> list[dict[str, Any]]:
    """The files of one model, relative to its own folder in the bundle."""
    key = f"{model}/{revision}"
    entry = manifest["weights"].get(key)
    if entry is None:
        raise BundleError(
            f"the bundle has no weights {key} ({did_you_mean(key, manifest['weights'])}): "
            "say where they are in bundle_weights and build it again"
        )
    return _listed(manifest, entry["files"], entry["folder"])
