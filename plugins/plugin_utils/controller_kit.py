# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as an archive for controllers without a net: the same files, the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import kept
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError

EXECUTABLE, PLAIN = 0o755, 0o644


def collection_archive(root: Path, dest: Path) -> Path:
    """Packs the collection whose root this is, a clone or an installed one, into that folder."""
    files = _installed(root) if (root / "FILES.json").is_file() else _built(root)
    listing = json.loads(files["FILES.json"][0])
    listing["files"] = sorted(listing["files"], key=lambda entry: entry["name"])
    manifest = json.loads(files["MANIFEST.json"][0])
    files["FILES.json"] = (_json(listing), PLAIN)
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(files["FILES.json"][0]).hexdigest()
    files["MANIFEST.json"] = (_json(manifest), PLAIN)
    about = manifest["collection_info"]
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=packed, mode="wb", mtime=0, compresslevel=6) as raw,
        tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            content, mode = files[name]
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    name = f"{about['namespace']}-{about['name']}-{about['version']}.tar.gz"
    # By its hash: clones that differ share a cache.
    return kept(dest / hashlib.sha256(packed.getvalue()).hexdigest() / name, packed.getvalue())


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _installed(root: Path) -> dict[str, tuple[bytes, int]]:
    listed = json.loads((root / "FILES.json").read_text(encoding="utf-8"))["files"]
    names = ["FILES.json", "MANIFEST.json", *(item["name"] for item in listed if item["ftype"] == "file")]
    return {
        name: ((root / name).read_bytes(), EXECUTABLE if (root / name).stat().st_mode & 0o100 else PLAIN)
        for name in names
    }


def _built(root: Path) -> dict[str, tuple[bytes, int]]:
    with tempfile.TemporaryDirectory() as place:
        galaxy = Path(sys.executable).with_name("ansible-galaxy")
        command = [str(galaxy) if galaxy.exists() else "ansible-galaxy", "collection", "build"]
        done = subprocess.run(
            [*command, "--output-path", place, str(root)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
        )
        if done.returncode:
            raise FetchError(f"{root}: the collection cannot be packed: {done.stderr.strip()[-500:]}")
        (made,) = Path(place).glob("*.tar.gz")
        found = {}
        with tarfile.open(made) as archive:
            for member in archive:
                if content := archive.extractfile(member) if member.isfile() else None:
                    found[member.name] = (content.read(), EXECUTABLE if member.mode & 0o100 else PLAIN)
        return found
