# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small signed bundle, somebody who changes it without the key, and actions as a play runs them."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import cyclonedx
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest as weights_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import sign

ACTIONS = "ansible_collections.baremetal.sglang.plugins.action"
MODEL, REVISION = "glm-4.7-tiny", "local"
WEIGHTS = f"weights/{MODEL}/{REVISION}"
LOCK = "0.5.7-cu128-x86_64-py3.11.txt"
UV = "wheels/uv-0.13.8-py3-none-manylinux_2_17_x86_64.whl"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_key(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return path


def allow(path: Path, name: str, private: Path) -> Path:
    path.write_text(f"{name} {' '.join(private.with_suffix('.pub').read_text().split()[:2])}\n")
    return path


def weights(tensors: bytes) -> dict[str, bytes]:
    """The files of the model, with the manifest that a fetch writes beside them."""
    files = {"config.json": b"{}", "model.safetensors": tensors}
    entries = [
        {"path": name, "size": len(data), "sha256": digest(data)} for name, data in sorted(files.items())
    ]
    own = weights_manifest.build(MODEL, REVISION, {"type": "directory", "id": "x"}, entries, {})
    return {**files, weights_manifest.MANIFEST: weights_manifest.to_text(own).encode()}


def listed(folder: Path) -> dict[str, Any]:
    """The entries of a manifest for what lies there."""
    return {
        str(path.relative_to(folder)): {
            "kind": "sbom" if path.parent.name == "sbom" else "lock",
            "sha256": digest(path.read_bytes()),
            "size": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and str(path.relative_to(folder)) not in bundle_manifest.BESIDE
    }


def describe(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _manifest: None) -> bytes:
    """Writes bill of materials, manifest and sums for what lies there, as somebody who knows the format does."""
    sbom = folder / bundle_manifest.SBOM
    sbom.parent.mkdir(exist_ok=True)
    sbom.unlink(missing_ok=True)
    sbom.write_text(cyclonedx.document(listed(folder), {}))
    files = listed(folder)
    environment = {
        **{"abi": [], "arch": "x86_64", "cuda": "cu128", "glibc": "2.35", "lock": f"locks/{LOCK}"},
        **{"python": "3.11", "release": "0.5.7", "wheels": []},
    }
    carried = {"files": [name for name in files if name.startswith(WEIGHTS)], "folder": WEIGHTS}
    manifest = bundle_manifest.build(
        files, {LOCK: environment}, {f"{MODEL}/{REVISION}": carried}, {"x86_64": UV}, {}
    )
    change(manifest)
    manifest["id"] = bundle_manifest.identity(manifest)
    data = bundle_manifest.rendered(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "SHA256SUMS").write_text(bundle_manifest.sums_with_manifest(manifest, data))
    return data


def make_bundle(folder: Path, key: Path, tensors: bytes = b"as they were made") -> Path:
    contents = {f"{WEIGHTS}/{name}": data for name, data in weights(tensors).items()}
    for name, data in {**contents, UV: b"uv", f"locks/{LOCK}": b"# no package\n"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    sign(folder, key, describe(folder))
    return folder


def tamper(source: Path, dest: Path, signature: str = "old") -> Path:
    """Other weights and a manifest that fits them; the signature is the old one, another key's or none."""
    bundle = Path(shutil.copytree(source, dest))
    for name, data in weights(b"as somebody else wants them").items():
        (bundle / WEIGHTS / name).write_bytes(data)
    data = describe(bundle)
    if signature == "none":
        (bundle / "manifest.json.sig").unlink()
    elif signature == "other":
        sign(bundle, make_key(dest.with_name(f"{dest.name}-key"), "mallory"), data)
    return bundle


def manifest_of(bundle: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "manifest.json").read_bytes())
    return found


def plans() -> dict[str, Any]:
    planned = {"model": MODEL, "revision": REVISION, "path": f"/nowhere/{MODEL}"}
    return {"h1": {"instances": {"tiny": {"weights": planned}}}}


def act(name: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """What a task of this action returns; it touches no host."""
    task = SimpleNamespace(
        args=arguments, action=f"baremetal.sglang.{name}", async_val=0, check_mode=check, diff=False
    )
    shell = SimpleNamespace(tmpdir=None)
    connection = SimpleNamespace(_shell=shell, has_pipelining=True)
    module = importlib.import_module(f"{ACTIONS}.{name}")
    action = module.ActionModule(
        task=task, connection=connection, play_context=None, loader=None, templar=None, shared_loader_obj=None
    )
    result: dict[str, Any] = action.run(
        None, {"inventory_hostname": "localhost", "hostvars": {"localhost": {}}}
    )
    return result
