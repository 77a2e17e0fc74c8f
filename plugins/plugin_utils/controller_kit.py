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
    """As it was installed: what was written into it afterwards may be somebody's password."""
    listed = json.loads((root / "FILES.json").read_text(encoding="utf-8"))["files"]
    digests = {item["name"]: item["chksum_sha256"] for item in listed if item["ftype"] == "file"}
    found, changed = {}, []
    for name in ("FILES.json", "MANIFEST.json", *digests):
        path = root / name
        data = path.read_bytes() if path.is_file() else b""
        if not path.is_file() or (name in digests and hashlib.sha256(data).hexdigest() != digests[name]):
            changed.append(name)
            continue
        found[name] = (data, EXECUTABLE if path.stat().st_mode & 0o100 else PLAIN)
    if changed:
        raise FetchError(
            f"{root}: files of the installed collection were changed or taken away, and would go into the bundle: "
            f"{_few(changed)}. Keep your own inventories and files outside of the collection, and install it again"
        )
    return found


def _built(root: Path) -> dict[str, tuple[bytes, int]]:
    """As galaxy.yml lists it, and git knows it."""
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
    _refuse_foreign(root, sorted(set(found) - {"FILES.json", "MANIFEST.json"}))
    return found


def _refuse_foreign(root: Path, names: list[str]) -> None:
    """In a clone: nothing that git does not track, and no inventory that somebody has filled in."""
    tracked = _git(root, "ls-files", "-z", "--cached")
    if tracked is None:
        return
    if foreign := sorted(set(names) - tracked):
        raise FetchError(
            f"{root}: files that git does not track would go into the bundle: {_few(foreign)}. Move them out of the "
            "collection, or add them to git if they belong to it"
        )
    if filled := sorted(_git(root, "diff", "--name-only", "-z", "HEAD", "--", "inventories") or ()):
        raise FetchError(
            f"{root}: inventories of the collection were changed and would go into the bundle: {_few(filled)}. Keep your "
            "own inventory outside of the collection, or commit the change"
        )


def _git(root: Path, *words: str) -> set[str] | None:
    """The names that git prints; nothing where this is no clone of its own."""
    if not (root / ".git").exists():
        return None
    # The clone may belong to somebody else than the one who builds.
    command = [
        "git",
        "-c",
        f"safe.directory={root.resolve()}",
        "-c",
        "core.fsmonitor=false",
        "-C",
        str(root),
        *words,
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise FetchError(
            f"{root}: is a clone, and git is not here to say what belongs to it: install git"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise FetchError(f"{root}: git does not say what belongs to the collection: {said}")
    return {name for name in done.stdout.decode(errors="surrogateescape").split("\0") if name}


def _few(names: list[str]) -> str:
    rest = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + rest
