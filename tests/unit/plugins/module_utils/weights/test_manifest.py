# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest

DIGEST = hashlib.sha256(b"").hexdigest()
SCHEMA = json.loads(
    (Path(__file__).parents[5] / "files/schemas/weights.schema.json").read_text(encoding="utf-8")
)


def entry(path: str = "config.json", size: int = 5, **more: Any) -> dict[str, Any]:
    return {"path": path, "size": size, "sha256": DIGEST, **more}


def made(*files: dict[str, Any]) -> dict[str, Any]:
    origin = {"type": "modelscope", "id": "maker/model", "commit": "0" * 40}
    return manifest.build(
        "model", "rev", origin, files or (entry(),), {"count": 0, "bytes": 0, "dtypes": {}}, 10
    )


def test_order_does_not_matter_and_text_is_stable() -> None:
    one, two = entry("a"), entry("b", 25, pieces=[DIGEST] * 3)
    text = manifest.to_text(made(one, two))
    assert text == manifest.to_text(made(two, one))
    assert manifest.from_text(text) == made(one, two)
    jsonschema.validate(json.loads(text), SCHEMA)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value.update(schema=9), "has schema 9"),
        (lambda value: value.update(files=[]), "names no files"),
        (lambda value: value.update(piece_bytes=0), "no piece_bytes"),
        (lambda value: value["files"][0].update(path="../evil"), "would leave the folder"),
        (lambda value: value["files"][0].update(path="/etc/passwd"), "not a name relative"),
        (lambda value: value["files"][0].update(path="a//b"), "would leave"),
        (lambda value: value["files"][0].update(path=".weights.json"), "that the collection uses"),
        (lambda value: value["files"][0].update(size=-1), "has no size"),
        (lambda value: value["files"][0].update(sha256="F" * 64), "has no sha256"),
        (lambda value: value["files"][0].update(size=11), "needs 2 piece hashes"),
        (lambda value: value["files"][0].update(header={"bytes": 1}), "has a header without"),
        (lambda value: value["files"].append(dict(value["files"][0])), "is named twice"),
        (lambda value: value["files"].append("text"), "has no path"),
    ],
)
def test_a_manifest_is_not_taken_on_trust(change: Any, said: str) -> None:
    value = copy.deepcopy(made())
    change(value)
    with pytest.raises(manifest.ManifestError, match=said):
        manifest.from_text(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_manifest(text: str) -> None:
    with pytest.raises(manifest.ManifestError):
        manifest.from_text(text)


def test_a_bundle_s_entry_by_name() -> None:
    bundle = {
        "weights": {"m/r": {"folder": "weights/m/r", "files": ["weights/m/r/a", "weights/m/r/b/c"]}},
        "files": {"weights/m/r/a": {"size": 1}, "weights/m/r/b/c": {"size": 2}},
    }
    assert manifest.bundle_entry(bundle, "m", "r") == {"a": {"size": 1}, "b/c": {"size": 2}}
    assert manifest.bundle_entry(bundle, "m", "other") == {}
