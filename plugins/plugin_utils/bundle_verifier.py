# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a bundle is what its manifest says and who signed it; every problem is found, not only the first."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import cyclonedx
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import BundleError
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content, bundle_signature
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    SignatureError,
    SignaturePolicy,
    Signed,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import Progress
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Pin, Target, pins_for, wheel_tags

SCHEMA_FILE = Path(__file__).resolve().parents[2] / "files/schemas/bundle.schema.json"
SHOWN_SCHEMA_PROBLEMS = 20
LARGEST_MANIFEST = 256 << 20
LARGEST_SIGNATURE = 1 << 20
UNSIGNED = Signed("")


@dataclass
class Verified:
    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    data: bytes = field(default=b"", repr=False)
    """The manifest as it was read and judged; nothing reads the file again."""
    signature: bytes | None = field(default=None, repr=False)
    signed: Signed = UNSIGNED
    problems: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Listed files whose content is another."""
    bytes: int = 0

    def message(self) -> str:
        return "\n".join(
            [
                f"REFUSED  bundle {self.folder}: {len(self.problems)} problem{'s'[: len(self.problems) != 1]}",
                *(f"  {problem}" for problem in self.problems),
                "  Copy the bundle again from where it was whole, or build it again. Nothing was changed.",
            ]
        )


def read_manifest(folder: Path, policy: SignaturePolicy) -> Verified:
    """The manifest of a bundle: signature, form, and whether it contradicts itself.

    The only way in which anything of this collection learns what a bundle says. There is no manifest in the result
    unless all of that is right.
    """
    found = _inspected(folder, policy)
    if found.problems:
        found.manifest = {}
        found.problems = [_shown(problem) for problem in found.problems]
    return found


def _shown(problem: str) -> str:
    """Names come from whoever wrote the manifest, and end up on a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in problem)


def _inspected(folder: Path, policy: SignaturePolicy) -> Verified:
    """The same for a report: a manifest of the right form is there beside the problems."""
    found = Verified(folder)
    try:
        found.data = _bytes_of(folder / bundle_manifest.MANIFEST, LARGEST_MANIFEST)
        found.signature = _signature_of(folder)
    except FileNotFoundError:
        cut = (folder / bundle_manifest.UNFINISHED).exists()
        why = "a build of it was cut off: run it again" if cut else "that folder is not a bundle"
        found.problems.append(f"{bundle_manifest.MANIFEST}: is not there: {why}")
        return found
    except OSError as error:
        found.problems.append(f"{Path(error.filename).name}: cannot be read: {error.strerror}")
        return found
    if wrong := policy.problems(folder):
        found.problems += wrong
    else:
        try:
            found.signed = bundle_signature.check(found.signature, found.data, policy)
        except SignatureError as error:
            found.problems.append(str(error))
    try:
        manifest = bundle_manifest.parsed(found.data)
    except BundleError as error:
        found.problems.append(str(error))
        return found
    wrong = _schema_problems(manifest)
    found.problems += wrong
    if not wrong:
        found.manifest = manifest
        found.problems += bundle_manifest.problems_of(manifest)
    return found


def _signature_of(folder: Path) -> bytes | None:
    try:
        return _bytes_of(folder / bundle_manifest.SIGNATURE, LARGEST_SIGNATURE)
    except FileNotFoundError:
        return None


def _bytes_of(path: Path, most: int) -> bytes:
    """A plain file, read once; a link, a pipe or a device of a disk that somebody brought is none."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        with open(handle, "rb", closefd=False) as stream:
            data = stream.read(most + 1)
    finally:
        os.close(handle)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB", str(path))
    return data


def is_bundle(folder: Path) -> bool:
    """Whether a build may write over what lies there: a manifest of any version, signed by anybody."""
    try:
        found = json.loads(_bytes_of(folder / bundle_manifest.MANIFEST, LARGEST_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"schema", "files"} <= set(found)


def _schema_problems(manifest: dict[str, Any]) -> list[str]:
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    problems = []
    for error in Draft202012Validator(schema).iter_errors(manifest):
        where = ".".join(str(step) for step in error.absolute_path) or "top"
        problems.append(f"{bundle_manifest.MANIFEST}: {where}: {error.message[:200]}")
        if len(problems) == SHOWN_SCHEMA_PROBLEMS:
            break
    return problems


def verify_listed(found: Verified, paths: Iterable[str], say: Callable[[str], None]) -> None:
    """Sizes and hashes of some listed files."""
    here: list[tuple[int, str]] = []
    for path in paths:
        entry = found.manifest["files"].get(path)
        if entry is None:
            found.problems.append(f"{path}: the manifest does not list it")
            continue
        target = found.folder / path
        if target.is_symlink() or (target.exists() and not target.is_file()):
            found.problems.append(f"{path}: is not a plain file")
        elif not target.exists():
            found.problems.append(f"{path}: is missing")
        elif target.stat().st_size != entry["size"]:
            found.problems.append(
                f"{path}: has {target.stat().st_size} bytes, the manifest says {entry['size']}"
            )
            found.damaged.append(path)
        else:
            here.append((entry["size"], path))

    def one(path: str, progress: Progress) -> None:
        try:
            sha256 = bundle_content.hash_of(found.folder / path, progress.add)
        except OSError as error:
            found.problems.append(f"{path}: cannot be read: {error.strerror}")
            return
        if sha256 != (wanted := found.manifest["files"][path]["sha256"]):
            found.problems.append(f"{path}: its sha256 is {sha256}, the manifest says {wanted}")
            found.damaged.append(path)

    bundle_content.in_parallel(here, one, say, "files verified")
    found.bytes += sum(size for size, _unused in here)


def verify(
    folder: Path,
    say: Callable[[str], None],
    policy: SignaturePolicy,
    importing: bool = False,
) -> Verified:
    """The whole bundle. A delta is refused as incomplete, unless it is one that an import has just filled."""
    found = _inspected(folder, policy)
    if not found.manifest:
        found.problems = [_shown(problem) for problem in found.problems]
        return found
    files = found.manifest["files"]
    if (folder / bundle_manifest.DELTA).exists() and not importing:
        found.problems.append(
            f"{bundle_manifest.DELTA}: this is a delta, which holds only what another bundle lacks: complete it with "
            "playbooks/bundle_import.yml and the bundle_base that it was built for (site.yml does it by itself)"
        )
        carried = set(read_delta(folder).get("carries", []))
        files = {path: entry for path, entry in files.items() if path in carried}
    if (folder / bundle_manifest.UNFINISHED).exists():
        found.problems.append(f"{bundle_manifest.UNFINISHED}: a build of it was cut off: run it again")
    found.problems += _strangers(folder, files)
    found.problems += _sums_problems(found)
    verify_listed(found, sorted(path for path in files if not bundle_manifest.misplaced(path)), say)
    bad = {problem.split(":")[0] for problem in found.problems}
    for group in ("environments", "controllers"):
        for name, entry in sorted(found.manifest[group].items()):
            if entry["lock"] in files and entry["lock"] not in bad:
                found.problems += _closure(found, name, entry)
    sbom = bundle_manifest.SBOM
    if sbom not in found.manifest["files"]:
        found.problems.append(f"{sbom}: the bundle has no bill of materials")
    elif sbom in files and sbom not in bad:
        listed = {path: entry for path, entry in found.manifest["files"].items() if entry["kind"] != "sbom"}
        text = (folder / sbom).read_text(encoding="utf-8")
        found.problems += cyclonedx.problems_of(text, listed, sbom)
    found.problems = sorted(_shown(problem) for problem in found.problems)
    return found


def read_delta(folder: Path) -> dict[str, Any]:
    """What `delta.json` says of itself: nobody signs it, so it is only ever compared with the manifest."""
    try:
        delta = json.loads(_bytes_of(folder / bundle_manifest.DELTA, LARGEST_MANIFEST))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(delta, dict) or not isinstance(delta.get("carries"), list):
        return {}
    return {"base": str(delta.get("base", "")), "carries": [str(name) for name in delta["carries"]]}


def _strangers(folder: Path, files: dict[str, Any]) -> list[str]:
    return [
        f"{name}: the manifest does not know this file"
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or not path.is_dir())
        and (name := str(path.relative_to(folder))) not in files
        and name not in bundle_manifest.BESIDE
    ]


def _sums_problems(found: Verified) -> list[str]:
    wanted = bundle_manifest.sums_with_manifest(found.manifest, found.data).encode(errors="surrogatepass")
    try:
        there = _bytes_of(found.folder / bundle_manifest.SUMS, LARGEST_MANIFEST)
    except FileNotFoundError:
        return [f"{bundle_manifest.SUMS}: is missing"]
    except OSError as error:
        return [f"{bundle_manifest.SUMS}: cannot be read: {error.strerror}"]
    if there != wanted:
        return [f"{bundle_manifest.SUMS}: does not say the same as the manifest"]
    return []


def _closure(found: Verified, name: str, entry: dict[str, Any]) -> list[str]:
    """Every pin of the lock has exactly one wheel here, with a hash of the lock and tags that fit the target."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import Version

    target = Target(entry["python"], entry["arch"], entry["glibc"])
    pins = pins_for((found.folder / entry["lock"]).read_text(encoding="utf-8"), target)
    tags = wheel_tags(target.python, target.arch, target.glibc)
    problems = []
    wheels: dict[tuple[str, Version], list[tuple[str, bool]]] = {}
    for path in entry["wheels"]:
        try:
            project, version, _unused, own = parse_wheel_filename(path.rsplit("/", 1)[-1])
        except InvalidWheelFilename as error:
            problems.append(f"{path}: is named as no wheel is: {error}")
            continue
        wheels.setdefault((str(project), version), []).append((path, any(str(tag) in tags for tag in own)))
    for pin in pins:
        key = (str(canonicalize_name(pin.name)), Version(pin.version))
        problems += _pin_problems(found, name, pin, wheels.pop(key, []), target)
    problems += [
        f"{path}: {name} lists it and its lock pins no such version"
        for group in wheels.values()
        for path, _unused in group
    ]
    return problems


def _pin_problems(
    found: Verified, name: str, pin: Pin, wheels: list[tuple[str, bool]], target: Target
) -> list[str]:
    if len(wheels) != 1:
        return [f"{name}: its lock pins {pin}, and the bundle lists {len(wheels) or 'no'} wheels for it"]
    ((path, fits),) = wheels
    problems = []
    if not fits:
        problems.append(f"{path}: does not fit {target}, which {name} is for")
    if found.manifest["files"].get(path, {}).get("sha256") not in pin.sha256:
        problems.append(f"{path}: the lock {name} does not know its sha256")
    return problems
