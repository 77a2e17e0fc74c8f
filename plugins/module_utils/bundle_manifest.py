# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bundle's manifest says, and the questions the roles ask of it."""

from __future__ import annotations

from typing import Any

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


def environment_files(
    manifest: dict[str, Any], lock: str, arch: str, python_kit: str = ""
) -> list[dict[str, Any]]:
    """Everything that a host needs to make the environment of one lock."""
    environment = manifest["environments"].get(lock)
    if environment is None:
        raise BundleError(
            f"the bundle has no environment for {lock}: {did_you_mean(lock, manifest['environments'])}; "
            "build it again with playbooks/bundle.yml and this inventory"
        )
    if arch not in manifest["installers"]:
        raise BundleError(f"the bundle has no uv for {arch}: {did_you_mean(arch, manifest['installers'])}")
    paths = [*environment["wheels"], environment["lock"], manifest["installers"][arch]]
    if python_kit:
        kit = f"{python_kit}-{arch}"
        if kit not in manifest["pythons"]:
            raise BundleError(
                f"the bundle has no Python {python_kit} for {arch}: {did_you_mean(kit, manifest['pythons'])}"
            )
        paths.append(manifest["pythons"][kit])
    return _listed(manifest, paths)


def weight_files(manifest: dict[str, Any], model: str, revision: str) -> list[dict[str, Any]]:
    """The files of one model, relative to its own folder in the bundle."""
    entry = manifest["weights"].get(f"{model}/{revision}")
    if entry is None:
        raise BundleError(
            f"the bundle has no weights {model}/{revision}: {did_you_mean(f'{model}/{revision}', manifest['weights'])}"
        )
    return _listed(manifest, entry["files"], entry["folder"])
