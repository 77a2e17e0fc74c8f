# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a bundle can be damaged or be somebody else's is named; all of them at once."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import NAMESPACE
from ansible_collections.baremetal.sglang.plugins.plugin_utils import package_index
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    ANYBODY,
    SignatureError,
    SignaturePolicy,
    sign,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import (
    read_manifest,
    verify,
    verify_listed,
)
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import (
    World,
    contents,
    copied,
    lock,
    manifest_of,
    sha256,
    wheel,
)

TORCH = "wheels/torch-2.9.1+cu128-cp311-cp311-manylinux_2_28_x86_64.whl"
LOCK = "0.5.7-cu128-x86_64-py3.11.txt"


def key(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return path


def allowed(path: Path, line: str, private: Path) -> Path:
    path.write_text(f"{line} {' '.join(private.with_suffix('.pub').read_text().split()[:2])}\n")
    return path


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Path, Path]]:
    """A world, a bundle of it that alice signed, and the file that says who alice is."""
    folder = tmp_path_factory.mktemp("signed")
    world = World(folder / "world")
    alice = key(folder, "alice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package_index, "BACK_OFF_SECONDS", 0.01)
        bundle = world.bundle("bundle", sign_key=alice)
    yield world, bundle, allowed(folder / "allowed", "alice@example.com", alice)
    world.close()


def flipped(path: Path) -> None:
    """Written anew: the file may have a second name in the cache."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


def rewritten(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Somebody who knows the format changes the manifest, its id and the sums, but has no key."""
    manifest = manifest_of(bundle)
    change(manifest)
    manifest["id"] = bundle_manifest.identity(manifest)
    text = bundle_manifest.rendered(manifest)
    (bundle / "manifest.json").write_text(text)
    (bundle / "SHA256SUMS").write_text(bundle_manifest.sums_with_manifest(manifest, text.encode()))
    (bundle / "manifest.json.sig").unlink(missing_ok=True)


def replaced(bundle: Path, name: str, data: bytes) -> None:
    """Content and manifest changed together."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).write_bytes(data)
    kind = "wheel" if name.startswith("wheels/") else "lock"
    entry = {"kind": kind, "size": len(data), "sha256": sha256(bundle / name)}
    rewritten(bundle, lambda manifest: manifest["files"].update({name: entry}))


def swapped(bundle: Path) -> None:
    other = wheel(bundle.parent / "other", TORCH.split("/")[1], salt="another build")
    (bundle / TORCH).unlink()
    shutil.copy(other, bundle / TORCH)


FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "flipped byte in a wheel": (lambda b: flipped(b / TORCH), [f"{TORCH}: its sha256 is"]),
    "wheel swapped for another of its name": (swapped, [f"{TORCH}: ", "the manifest says"]),
    "truncated file": (lambda b: (b / TORCH).write_bytes(b"") if (b / TORCH).unlink() is None else 0,
                       [f"{TORCH}: has 0 bytes, the manifest says"]),
    "missing file": (lambda b: (b / TORCH).unlink(), [f"{TORCH}: is missing"]),
    "extra file": (
        lambda b: (b / "wheels/extra-1-py3-none-any.whl").write_text("x"),
        ["wheels/extra-1-py3-none-any.whl: the manifest does not know this file"],
    ),
    "extra file beside the manifest": (
        lambda b: (b / "notes.txt").write_text("x"), ["notes.txt: the manifest does not know this file"]
    ),
    "link out of the bundle": (
        lambda b: ((b / TORCH).rename(b.parent / "torch"), (b / TORCH).symlink_to(b.parent / "torch")),
        [f"{TORCH}: is not a plain file"],
    ),
    "flipped byte in the manifest": (
        lambda b: flipped(b / "manifest.json"),
        ["manifest.json.sig: does not belong to this manifest.json"],
    ),
    "flipped byte in the signature": (lambda b: flipped(b / "manifest.json.sig"),
                                      ["manifest.json.sig: does not belong to this manifest.json"]),
    "no signature": (lambda b: (b / "manifest.json.sig").unlink(), ["is missing: the bundle is not signed"]),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), ["manifest.json: is not there"]),
    "no sums": (lambda b: (b / "SHA256SUMS").unlink(), ["SHA256SUMS: is missing"]),
    "other sums": (lambda b: (b / "SHA256SUMS").write_text(""), ["SHA256SUMS: does not say the same"]),
    "build cut off": (lambda b: (b / "unfinished").touch(), ["unfinished: a build of it was cut off"]),
    "several at once": (
        lambda b: (flipped(b / TORCH), (b / "notes.txt").touch(), (b / f"locks/{LOCK}").unlink()),
        [f"{TORCH}: its sha256 is", "notes.txt: ", f"locks/{LOCK}: is missing"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(signed: tuple[World, Path, Path], tmp_path: Path, fault: str) -> None:
    _world, whole, signers = signed
    bundle = copied(whole, tmp_path / "bundle")
    assert verify(bundle, print, SignaturePolicy(signers)).problems == []
    damage, said = FAULTS[fault]
    damage(bundle)
    before = contents(bundle)
    found = verify(bundle, print, SignaturePolicy(signers))
    for words in said:
        assert any(words in problem for problem in found.problems), found.problems
    assert f"REFUSED  bundle {bundle}: {len(found.problems)} problem" in found.message()
    assert contents(bundle) == before


def without_wheel(bundle: Path) -> None:
    (bundle / TORCH).unlink()
    rewritten(
        bundle,
        lambda m: (m["files"].pop(TORCH), m["environments"][LOCK]["wheels"].remove(TORCH)),
    )


def for_another(bundle: Path, **values: str) -> None:
    rewritten(bundle, lambda manifest: manifest["environments"][LOCK].update(values))


UNSIGNED_FAULTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "content and manifest changed together": (
        lambda b: replaced(b, TORCH, b"another"),
        [f"{TORCH}: the lock {LOCK} does not know its sha256", "gives wheels/torch", "another sha256"],
    ),
    "a variant is not closed": (
        without_wheel,
        [f"{LOCK}: its lock pins torch==2.9.1+cu128, and the bundle lists no wheels for it"],
    ),
    "a wheel that no lock asks for": (
        lambda b: (
            replaced(b, "wheels/extra-1-py3-none-any.whl", b"x"),
            rewritten(
                b, lambda m: m["environments"][LOCK]["wheels"].append("wheels/extra-1-py3-none-any.whl")
            ),
        ),
        [f"wheels/extra-1-py3-none-any.whl: {LOCK} lists it and its lock pins no such version"],
    ),
    "wrong architecture": (
        lambda b: for_another(b, arch="aarch64"),
        [f"{TORCH}: does not fit Python 3.11 on aarch64 with glibc 2.35, which {LOCK} is for"],
    ),
    "wrong python": (lambda b: for_another(b, python="3.12"), [f"{TORCH}: does not fit Python 3.12"]),
    "wrong glibc": (lambda b: for_another(b, glibc="2.27"), [f"{TORCH}: does not fit", "glibc 2.27"]),
    "sources among the wheels": (
        lambda b: replaced(b, "wheels/a-1.tar.gz", b"x"),
        ["wheels/a-1.tar.gz: is not a wheel; a host cannot build from sources"],
    ),
    "a bill of materials of something else": (
        lambda b: replaced(b, "sbom/bundle.cdx.json", b'{"components": []}'),
        [f"sbom/bundle.cdx.json: does not name {TORCH}"],
    ),
    "no bill of materials": (
        lambda b: (
            (b / "sbom/bundle.cdx.json").unlink(),
            rewritten(b, lambda m: m["files"].pop("sbom/bundle.cdx.json")),
        ),
        ["sbom/bundle.cdx.json: the bundle has no bill of materials"],
    ),
    "a path that leads out": (
        lambda b: rewritten(b, lambda m: m["files"].update({"wheels/../../x.whl": m["files"][TORCH]})),
        ["wheels/../../x.whl: lies where no file of a bundle belongs"],
    ),
    "a file twice": (
        lambda b: (b / "manifest.json").write_text(
            (b / "manifest.json").read_text().replace('"files": {', f'"files": {{"{TORCH}": {{}},', 1)
        ),
        [f"manifest.json: {TORCH} stands in it twice"],
    ),
    "another id": (
        lambda b: (b / "manifest.json").write_text(
            (b / "manifest.json").read_text().replace(manifest_of(b)["id"], "0" * 64)
        ),
        ["its id is not that of its content"],
    ),
    "another form": (
        lambda b: rewritten(b, lambda m: (m.update(more=1), m["files"][TORCH].update(size=-1))),
        ["manifest.json: top: Additional properties", f"files.{TORCH}.size: -1 is less than"],
    ),
    "an older schema": (
        lambda b: rewritten(b, lambda m: m.update(schema=1)),
        ["manifest.json: has schema 1, this version reads schema 2: build the bundle again"],
    ),
    "no uv for a variant": (
        lambda b: rewritten(b, lambda m: m["installers"].pop("aarch64")),
        ["the bundle has no uv for aarch64"],
    ),
    "no JSON": (lambda b: (b / "manifest.json").write_text("{"), ["manifest.json: is damaged"]),
    "too deep": (lambda b: (b / "manifest.json").write_text("[" * 200_000), ["manifest.json: is damaged"]),
}


@pytest.mark.parametrize("fault", UNSIGNED_FAULTS)
def test_each_contradiction_is_named_where_nothing_is_signed(
    signed: tuple[World, Path, Path], tmp_path: Path, fault: str
) -> None:
    bundle = copied(signed[1], tmp_path / "bundle")
    (bundle / "manifest.json.sig").unlink()
    assert verify(bundle, print, ANYBODY).problems == []
    damage, said = UNSIGNED_FAULTS[fault]
    damage(bundle)
    found = verify(bundle, print, ANYBODY)
    for words in said:
        assert any(words in problem for problem in found.problems), found.problems


@pytest.mark.parametrize(
    ("line", "signer", "said"),
    [
        ("alice@example.com", "", ""),
        ("alice@example.com", "alice@example.com", ""),
        (
            "*@example.com",
            "bob@example.com",
            "signed by *@example.com, and bundle_signer wants bob@example.com",
        ),
        ('alice@example.com valid-before="20200101"', "", "is over:"),
        ('alice@example.com namespaces="git"', "", "not accepted from alice@example.com"),
        ("stranger", "", "unknown signer: key SHA256:"),
    ],
)
def test_who_may_sign(
    signed: tuple[World, Path, Path], tmp_path: Path, line: str, signer: str, said: str
) -> None:
    _world, bundle, signers = signed
    private = key(tmp_path, "stranger") if line == "stranger" else signers.with_name("alice")
    found = read_manifest(bundle, SignaturePolicy(allowed(tmp_path / "allowed", line, private), signer))
    if said:
        assert [said in problem for problem in found.problems] == [True], found.problems
    else:
        assert found.problems == []
        assert found.signed.words.startswith("signed by alice@example.com with key SHA256:")


def test_without_a_list_of_signers_it_is_said_plainly(
    signed: tuple[World, Path, Path], tmp_path: Path
) -> None:
    bundle = copied(signed[1], tmp_path / "bundle")
    assert "nothing was compared with" in read_manifest(bundle, ANYBODY).signed.words
    (bundle / "manifest.json.sig").unlink()
    assert read_manifest(bundle, ANYBODY).signed.words == "not signed: nobody vouches for it"
    missing = read_manifest(bundle, SignaturePolicy(tmp_path / "nowhere"))
    assert missing.problems == [f"bundle_allowed_signers = {tmp_path / 'nowhere'}: there is no such file"]


def test_a_signature_of_something_else_is_none(signed: tuple[World, Path, Path], tmp_path: Path) -> None:
    bundle = copied(signed[1], tmp_path / "bundle")
    (bundle / "manifest.json.sig").unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(signed[2].with_name("alice")), "-n", "file"]
    subprocess.run([*command, str(bundle / "manifest.json")], check=True)
    (problem,) = read_manifest(bundle, SignaturePolicy(signed[2])).problems
    assert "does not belong to this manifest.json" in problem
    assert NAMESPACE != "file"


def test_signing_again_keeps_the_signature_and_a_bad_key_is_named(
    signed: tuple[World, Path, Path], tmp_path: Path
) -> None:
    bundle = copied(signed[1], tmp_path / "bundle")
    data = (bundle / "manifest.json").read_bytes()
    assert sign(bundle, signed[2].with_name("alice"), data) is False
    assert sign(bundle, key(tmp_path, "bob"), data) is True
    with pytest.raises(SignatureError, match="bundle_sign_key = "):
        sign(bundle, tmp_path / "nowhere", data)
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(SignatureError, match="bundle_sign_key = "):
        sign(bundle, locked, data)


def test_what_is_about_to_be_read_is_verified_alone(signed: tuple[World, Path, Path], tmp_path: Path) -> None:
    bundle = copied(signed[1], tmp_path / "bundle")
    flipped(bundle / TORCH)
    found = read_manifest(bundle, SignaturePolicy(signed[2]))
    verify_listed(found, [f"locks/{LOCK}"], print)
    assert found.problems == []
    verify_listed(found, [TORCH], print)
    assert len(found.problems) == 1


def test_what_roles_ask_of_a_manifest(signed: tuple[World, Path, Path]) -> None:
    manifest = manifest_of(signed[1])
    digest = manifest["files"][f"locks/{LOCK}"]["sha256"]
    item = {
        **{"lock": LOCK, "lock_sha256": digest, "arch": "x86_64", "python": "3.11"},
        "interpreter_from": "host",
    }
    tools = {"uv": signed[0].uv_lock.read_text(), "rattler": ""}
    wanted = [{"kind": "environment", "item": item}]
    found = bundle_manifest.bundled(manifest, wanted, tools)
    paths = bundle_manifest.listed_paths(found)
    assert TORCH in paths and f"locks/{LOCK}" in paths
    weights = {"kind": "weights", "item": {"model": "m", "revision": "r", "files": [{"path": "a"}]}}
    assert bundle_manifest.listed_paths([*found, weights]) == sorted([*paths, "weights/m/r/a"])
    with pytest.raises(bundle_manifest.BundleError, match=r"no environment for x.*no weights m/r"):
        lost = [{"kind": "environment", "item": {**item, "lock": "x"}}, weights]
        bundle_manifest.bundled(manifest, lost, tools)


def test_the_schema_knows_every_key(signed: tuple[World, Path, Path]) -> None:
    manifest = manifest_of(signed[1])
    schema = json.loads((Path(__file__).parents[4] / "files/schemas/bundle.schema.json").read_text())
    assert set(schema["properties"]) == set(manifest)
    assert schema["properties"]["schema"]["const"] == bundle_manifest.SCHEMA


def test_the_script_of_the_kit_wants_the_same_namespace() -> None:
    script = (Path(__file__).parents[4] / "roles/bundle/files/setup").read_text()
    assert f"-n {NAMESPACE} " in script


def test_a_lock_of_two_lines_for_one_wheel_is_closed(world: World) -> None:
    """A pin lists the hashes of all machines; one of them is enough."""
    files = [*world.common, next((world.folder / "market/pytorch-cu128/files").glob("*x86_64.whl"))]
    lock(world.locks["cu128", "x86_64", "3.11"], files)
    assert verify(world.bundle("bundle", ("cu128", "x86_64", "3.11")), print, ANYBODY).problems == []
