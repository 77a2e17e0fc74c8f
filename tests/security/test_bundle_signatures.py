# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that reads a bundle asks one function, and that function asks who signed it."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_signature, bundle_verifier
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_import import BundleImport
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    ANYBODY,
    SignaturePolicy,
    sign,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import read_manifest, verify
from ansible_collections.baremetal.sglang.tests.lab.engine_host import make_plan
from ansible_collections.baremetal.sglang.tests.security.signed_bundle import (
    MODEL,
    REVISION,
    UV,
    WEIGHTS,
    act,
    allow,
    describe,
    digest,
    make_bundle,
    make_key,
    manifest_of,
    plans,
    tamper,
)

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
REASONS = {
    "old": "manifest.json.sig: does not belong to this manifest.json",
    "none": "manifest.json.sig: is missing",
    "other": "manifest.json.sig: unknown signer",
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`bundle`, signed by alice; `allowed` says who she is."""
    folder = tmp_path_factory.mktemp("disk")
    alice = make_key(folder / "keys", "alice")
    allow(folder / "allowed", "alice@example.com", alice)
    make_bundle(folder / "bundle", alice)
    yield folder


def given(disk: Path, **more: Any) -> dict[str, Any]:
    return {"allowed_signers": str(disk / "allowed"), "signer": "", **more}


def reading(action: str, bundle: Path, work: Path) -> dict[str, Any]:
    """The arguments with which each action reads that bundle."""
    base = {
        "bundle_verify": {"src": str(bundle)},
        "bundle_import": {"src": str(bundle), "dest": str(work / "imported")},
        "weights_source_info": {"plans": plans(), "bundle_dir": str(bundle)},
        "weights_fetch": {
            "dest": str(work / "weights"),
            "plans": plans(),
            "sources": {MODEL: [{"type": "bundle", "path": str(bundle)}]},
        },
        "bundle": {
            "dest": str(work / "new"),
            "cache_dir": str(work / "cache"),
            "uv_lock": str(ROOT / "requirements/uv.txt"),
            "base": str(bundle),
        },
    }
    return base[action]


ACTIONS = ("bundle", "bundle_import", "bundle_verify", "weights_fetch", "weights_source_info")


@pytest.mark.parametrize("signature", REASONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_bundle_changed_without_the_key_is_refused_by_every_action(
    disk: Path, tmp_path: Path, action: str, signature: str
) -> None:
    bundle = tamper(disk / "bundle", tmp_path / "bundle", signature)
    result = act(action, check=action == "bundle", **given(disk), **reading(action, bundle, tmp_path))
    assert result.get("failed"), result
    assert REASONS[signature] in result["msg"]
    for name in ("imported", "new"):
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_bundle_that_alice_signed_passes_the_signature_check(
    disk: Path, tmp_path: Path, action: str
) -> None:
    """Whatever else an action may miss in so small a bundle."""
    result = act(
        action, check=action == "bundle", **given(disk), **reading(action, disk / "bundle", tmp_path)
    )
    assert "manifest.json.sig" not in result.get("msg", ""), result


@pytest.mark.parametrize("where", ["given", "beside"])
def test_the_base_of_a_delta_must_be_signed_too(disk: Path, tmp_path: Path, where: str) -> None:
    (tmp_path / "carried").mkdir()
    delta = Path(shutil.copytree(disk / "bundle", tmp_path / "carried/delta"))
    carried = {"base": manifest_of(disk / "bundle")["id"], "carries": [], "id": ""}
    (delta / "delta.json").write_text(json.dumps(carried))
    (delta / WEIGHTS / "model.safetensors").unlink()
    base = Path(shutil.copytree(disk / "bundle", tmp_path / "carried/base"))
    words = {"base": str(base)} if where == "given" else {}
    (base / "manifest.json.sig").unlink()
    result = act("bundle_import", check=True, src=str(delta), **given(disk), **words)
    said = "bundle_base = " if where == "given" else "was built for the bundle with id"
    assert result.get("failed") and said in result["msg"]
    shutil.copy(disk / "bundle/manifest.json.sig", base)
    assert act("bundle_import", check=True, src=str(delta), **given(disk), **words) == {"changed": True}


def test_a_signer_without_keys_is_refused(disk: Path) -> None:
    found = read_manifest(disk / "bundle", SignaturePolicy(None, "alice@example.com"))
    (problem,) = found.problems
    assert "bundle_signer = alice@example.com" in problem and "set bundle_allowed_signers too" in problem
    assert found.manifest == {}


def test_keys_that_the_bundle_itself_brings_are_refused(disk: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    shutil.copy(disk / "allowed", bundle / "allowed")
    (tmp_path / "link").symlink_to(bundle / "allowed")
    for allowed in (bundle / "allowed", tmp_path / "link"):
        (problem,) = read_manifest(bundle, SignaturePolicy(allowed)).problems
        assert "lies in the bundle that it is to judge" in problem


def test_what_is_refused_gives_no_manifest(disk: Path, tmp_path: Path) -> None:
    bundle = tamper(disk / "bundle", tmp_path / "bundle")
    assert read_manifest(bundle, SignaturePolicy(disk / "allowed")).manifest == {}
    assert read_manifest(bundle, ANYBODY).manifest == {}


def test_the_bytes_that_were_verified_are_the_bytes_that_count(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever swaps files behind the check finds that nobody looks at them again."""
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    other = tamper(disk / "bundle", tmp_path / "other")
    check = bundle_signature.check

    def swap(*words: Any) -> Any:
        found = check(*words)
        for name in ("manifest.json", "SHA256SUMS"):
            shutil.copy(other / name, bundle / name)
        return found

    monkeypatch.setattr(bundle_verifier.bundle_signature, "check", swap)
    found = read_manifest(bundle, SignaturePolicy(disk / "allowed"))
    assert found.problems == []
    assert found.manifest == manifest_of(disk / "bundle")


def test_an_import_copies_the_manifest_that_was_verified(disk: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(disk / "bundle", tmp_path / "source"))
    other = tamper(disk / "bundle", tmp_path / "other")
    work = BundleImport(source, tmp_path / "dest", None, print, SignaturePolicy(disk / "allowed"))
    judged = work.refusals()
    assert judged.problems == []
    for name in ("manifest.json", "SHA256SUMS"):
        shutil.copy(other / name, source / name)
    with pytest.raises(ContentError, match="its sha256 is"):
        # What the verified manifest says of weights that were not swapped with it.
        shutil.copy(other / WEIGHTS / "model.safetensors", source / WEIGHTS)
        work.run(judged)
    shutil.copy(disk / "bundle" / WEIGHTS / "model.safetensors", source / WEIGHTS)
    assert work.run(judged) is True
    assert manifest_of(tmp_path / "dest") == manifest_of(disk / "bundle")


# -- nobody else reads a manifest


READERS = {"_inspected", "is_bundle"}
READS = {"read_text", "read_bytes", "open", "load", "loads", "parsed", "slurp"}


def mentions(node: ast.AST, names: set[str]) -> bool:
    """Whether a piece of code names a bundle's manifest."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and part.value == "manifest.json":
            return True
        if isinstance(part, ast.Name) and part.id in names:
            return True
        if isinstance(part, ast.Attribute) and ast.unparse(part) == "bundle_manifest.MANIFEST":
            return True
    return False


def manifest_readers(source: str) -> set[str]:
    """The functions of a file that name a bundle's manifest and read something."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).endswith("bundle_manifest")
        for alias in node.names
        if alias.name == "MANIFEST"
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and mentions(node, names):
            calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
            called = {
                call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls
            }
            if called & {*READS, "_bytes_of"}:
                found.add(node.name)
    return found


@pytest.mark.parametrize(
    "source",
    [
        'def f(b):\n    return json.loads((b / "manifest.json").read_text())',
        "def f(b):\n    path = b / bundle_manifest.MANIFEST\n    return path.read_bytes()",
        "from .bundle_manifest import MANIFEST as M\ndef f(b):\n    with open(b + M) as s: return s.read()",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert manifest_readers(source) == {"f"}


def test_no_other_code_reads_the_manifest_of_a_bundle() -> None:
    found = {
        str(path.relative_to(ROOT)): readers
        for path in sorted([*ROOT.glob("plugins/**/*.py"), *ROOT.glob("roles/**/*.py")])
        if (readers := manifest_readers(path.read_text(encoding="utf-8")))
    }
    # The one names a private copy for ssh-keygen so, the other its messages; both read something else.
    others = {"_signature", "_schema_problems"}
    found = {path: names - others for path, names in found.items() if names - others}
    assert found == {"plugins/plugin_utils/bundle_verifier.py": READERS}


def test_no_role_or_play_reads_it() -> None:
    hits = [
        str(path.relative_to(ROOT))
        for folder in ("roles", "playbooks")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and b"manifest.json" in path.read_bytes()
    ]
    # One reads what a bare machine has no collection for; the others are descriptions.
    assert hits == [
        "roles/bundle/README.md",
        "roles/bundle/files/setup",
        "roles/bundle/meta/argument_specs.yml",
    ]


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for item in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from tasks(item)


def test_every_task_that_reads_a_bundle_says_whose_signature_counts() -> None:
    seen = set()
    for path in sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]):
        for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
            defaults = task.get("module_defaults", {})
            for action in ACTIONS:
                words = task.get(f"baremetal.sglang.{action}")
                if words is None:
                    continue
                seen.add(action)
                if action == "bundle":
                    # The defaults of the block around it.
                    continue
                assert {"allowed_signers", "signer"} <= set(words), f"{path}: {task.get('name')}"
            if "baremetal.sglang.bundle" in defaults:
                assert {"allowed_signers", "signer"} <= set(defaults["baremetal.sglang.bundle"])
                seen.add("defaults of bundle")
    assert seen == {*ACTIONS, "defaults of bundle"}


# -- names, forms and files of a hostile manifest


HOSTILE: dict[str, Any] = {
    "a folder of weights elsewhere": (
        lambda m: m["weights"][f"{MODEL}/{REVISION}"].update(folder="../../etc"),
        "its files lie in another folder than",
    ),
    "files of other weights": (
        lambda m: m["weights"][f"{MODEL}/{REVISION}"].update(files=[UV]),
        "its files lie in another folder than",
    ),
    "another lock under this name": (
        lambda m: next(iter(m["environments"].values())).update(lock=UV),
        "must be locks/",
    ),
    "an installer that is not a wheel": (
        lambda m: m["installers"].update(x86_64=f"{WEIGHTS}/config.json"),
        "lies outside wheels/",
    ),
    "a Python that is no archive of a Python": (
        lambda m: m["pythons"].update({"3.11-x86_64": UV}),
        "lies outside python/",
    ),
    "a name with a NUL": (
        lambda m: m["files"].update({"locks/a\0b": m["files"][UV]}),
        "characters that no file of a bundle has in its name",
    ),
    "a name with a lone surrogate": (
        lambda m: m["files"].update({"locks/\ud800": m["files"][UV]}),
        "characters that no file of a bundle has in its name",
    ),
    "a name that moves the cursor": (
        lambda m: m["files"].update({"locks/\x1b[2J": m["files"][UV]}),
        "characters that no file of a bundle has in its name",
    ),
    "a name that ends with a newline": (
        lambda m: m["files"].update({f"{UV}\n": m["files"][UV]}),
        "does not match",
    ),
    "a hash that ends with a newline": (
        lambda m: m["files"][UV].update(sha256="0" * 64 + "\n"),
        "does not match",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_manifest_that_means_harm_is_refused_and_never_a_traceback(
    disk: Path, tmp_path: Path, case: str
) -> None:
    change, said = HOSTILE[case]
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    # The sums cannot hold every such name; the manifest does.
    with contextlib.suppress(UnicodeEncodeError):
        describe(bundle, change)
    (bundle / "manifest.json.sig").unlink()
    found = verify(bundle, print, ANYBODY)
    assert any(said in problem for problem in found.problems), found.problems
    assert all(problem.replace("\n", "").isprintable() for problem in found.problems)
    assert read_manifest(bundle, ANYBODY).manifest == {}


def test_no_file_outside_the_bundle_is_opened_for_a_hostile_path(disk: Path, tmp_path: Path) -> None:
    secret = b"what the controller's owner alone may read"
    (tmp_path / "secret").write_bytes(secret)
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    entry = {"kind": "lock", "size": len(secret), "sha256": "0" * 64}
    describe(bundle, lambda m: m["files"].update({"locks/../../secret": entry}))
    (bundle / "manifest.json.sig").unlink()
    found = verify(bundle, print, ANYBODY)
    assert found.problems
    assert not any(digest(secret) in problem for problem in found.problems)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "endless", "nested"])
@pytest.mark.parametrize("name", ["manifest.json", "manifest.json.sig"])
def test_what_is_no_plain_file_of_reasonable_size_is_refused(
    disk: Path, tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    target = bundle / name
    if kind == "link":
        target.rename(tmp_path / "real")
        target.symlink_to(tmp_path / "real")
    else:
        target.unlink()
        if kind == "pipe":
            os.mkfifo(target)
        elif kind == "folder":
            target.mkdir()
        elif kind == "nested":
            target.write_text('{"a":' * 100_000)
        else:
            monkeypatch.setattr(bundle_verifier, "LARGEST_MANIFEST", 10)
            monkeypatch.setattr(bundle_verifier, "LARGEST_SIGNATURE", 10)
            target.write_text("x" * 11)
    found = read_manifest(bundle, SignaturePolicy(disk / "allowed"))
    assert found.problems and found.manifest == {}
    assert all(name in problem or "manifest.json" in problem for problem in found.problems)


@pytest.mark.parametrize(
    "text", ["[]", '{"carries": 5}', '{"a":' * 100_000, "\xff", '{"carries": [[]], "base": {}}']
)
def test_a_damaged_delta_file_is_no_traceback(disk: Path, tmp_path: Path, text: str) -> None:
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    (bundle / "delta.json").write_bytes(text.encode("latin-1"))
    found = verify(bundle, print, SignaturePolicy(disk / "allowed"))
    assert any(problem.startswith("delta.json: this is a delta") for problem in found.problems)
    BundleImport(bundle, tmp_path / "new", None, print, SignaturePolicy(disk / "allowed")).refusals()


# -- site.yml


def weights_stage(
    disk: Path, bundle: Path, work: Path, hosts: dict[str, dict[str, Any]] | None = None
) -> subprocess.CompletedProcess[str]:
    """The play of site.yml that looks for weights, on this machine, with a plan of one model."""
    plays = yaml.safe_load((ROOT / "playbooks/site.yml").read_text(encoding="utf-8"))
    (play,) = [play for play in plays if play["name"] == "Weights preflight"]
    (work / "stage.yml").write_text(yaml.safe_dump([{**play, "hosts": "all"}]))
    planned = {"model": MODEL, "revision": REVISION, "path": str(work / "host" / MODEL)}
    plan = make_plan("h1")
    plan["instances"] = {"tiny": {**plan["instances"]["tiny"], "weights": planned}}
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "plan_of_host": plan,
        "plan_result": {"plans": {"h1": plan}},
    }
    policies = hosts or {"h1": {"bundle_allowed_signers": str(disk / "allowed")}}
    inventory = {name: {**host, **policy} for name, policy in policies.items()}
    (work / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": inventory}}))
    words = {"bundle_dir": str(bundle)}
    return subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible-playbook")), str(work / "stage.yml")),
            *("-i", str(work / "hosts.yml"), "-e", json.dumps(words)),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_weights_stage_of_site_refuses_a_bundle_that_was_changed_without_the_key(
    disk: Path, tmp_path: Path
) -> None:
    done = weights_stage(disk, disk / "bundle", tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    done = weights_stage(disk, tamper(disk / "bundle", tmp_path / "bundle"), tmp_path)
    assert done.returncode != 0, done.stdout[-3000:]
    assert REASONS["old"] in done.stdout
    assert not (tmp_path / "host").exists()


@pytest.mark.slow
def test_a_policy_of_some_hosts_only_is_refused(disk: Path, tmp_path: Path) -> None:
    """The bundle is read once, with the variables of the first host: the others would not notice."""
    policies: dict[str, dict[str, Any]] = {"h1": {}, "h2": {"bundle_allowed_signers": str(disk / "allowed")}}
    done = weights_stage(disk, tamper(disk / "bundle", tmp_path / "bundle", "none"), tmp_path, policies)
    assert done.returncode != 0, done.stdout[-3000:]
    assert "bundle_allowed_signers and bundle_signer differ between hosts" in done.stdout


def test_an_import_does_not_call_another_bundle_complete(disk: Path, tmp_path: Path) -> None:
    """Files of the same sizes under a manifest that nobody signed."""
    dest = tamper(disk / "bundle", tmp_path / "dest", "none")
    manifest = manifest_of(disk / "bundle")
    for name in (f"{WEIGHTS}/model.safetensors", f"{WEIGHTS}/.weights.json"):
        (dest / name).write_bytes(b"x" * manifest["files"][name]["size"])
    policy = SignaturePolicy(disk / "allowed")
    work = BundleImport(disk / "bundle", dest, None, print, policy)
    judged = work.refusals()
    assert judged.problems == []
    with contextlib.suppress(ContentError):  # a damaged file is taken away, and brought by the next run
        work.run(judged)
    assert manifest_of(dest) == manifest
    work.run(judged)
    assert verify(dest, print, policy).problems == []


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_sums_that_are_no_plain_file_are_refused(disk: Path, tmp_path: Path, kind: str) -> None:
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    sums = bundle / "SHA256SUMS"
    sums.rename(tmp_path / "sums")
    if kind == "link":
        sums.symlink_to(tmp_path / "sums")
    else:
        os.mkfifo(sums)
    (problem,) = verify(bundle, print, SignaturePolicy(disk / "allowed")).problems
    assert problem.startswith("SHA256SUMS: cannot be read")


def test_a_policy_is_made_from_the_arguments_of_a_task(disk: Path) -> None:
    words = {"allowed_signers": str(disk / "allowed"), "signer": "alice@example.com"}
    assert SignaturePolicy.from_arguments(words) == SignaturePolicy(disk / "allowed", "alice@example.com")
    assert SignaturePolicy.from_arguments({"allowed_signers": "", "signer": None}) == ANYBODY


def test_a_signature_of_another_purpose_is_none(disk: Path, tmp_path: Path) -> None:
    """The same key signs files of other kinds too."""
    bundle = Path(shutil.copytree(disk / "bundle", tmp_path / "bundle"))
    (bundle / "manifest.json.sig").unlink()
    words = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(disk / "keys/alice"), "-n", "git"]
    subprocess.run([*words, str(bundle / "manifest.json")], check=True)
    assert read_manifest(bundle, SignaturePolicy(disk / "allowed")).problems
    sign(bundle, disk / "keys/alice", (bundle / "manifest.json").read_bytes())
    assert read_manifest(bundle, SignaturePolicy(disk / "allowed")).problems == []
    assert bundle_manifest.NAMESPACE != "git"
