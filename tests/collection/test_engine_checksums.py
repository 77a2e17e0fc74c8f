# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's own verifier of weights reads the file that is made out of our manifest."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VERIFIER = "sglang/srt/utils/model_file_verifier.py"


def checksums(manifest: Path, path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.baremetal.sglang.plugins.modules.weights_checksums"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"manifest": str(manifest), "path": str(path)}}),
        env={"PYTHONPATH": str(ROOT / "collections")}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("version", ["0.5.10.post1", "0.5.23"])
def test_the_engine_finds_a_damaged_file(
    version: str,
    engine_wheels: dict[str, zipfile.ZipFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "weights"
    (weights / "part").mkdir(parents=True)
    files = []
    for name in ("config.json", "part/model.safetensors"):
        (weights / name).write_text(name)
        files.append({"path": name, "size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()})
    (weights / ".weights.json").write_text(json.dumps({"files": files}))
    path = tmp_path / "checksums.json"
    assert checksums(weights / ".weights.json", path)["changed"]
    assert not checksums(weights / ".weights.json", path)["changed"]

    progress = types.ModuleType("tqdm")
    progress.tqdm = lambda found, **_words: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", progress)
    verifier = types.ModuleType("verifier")
    monkeypatch.setitem(sys.modules, "verifier", verifier)
    exec(compile(engine_wheels[version].read(VERIFIER).decode(), VERIFIER, "exec"), vars(verifier))
    verifier.verify(model_path=str(weights), checksums_source=str(path))
    (weights / "part/model.safetensors").write_text("part/model.safetensorz")
    with pytest.raises(verifier.IntegrityError, match=r"part/model\.safetensors"):
        verifier.verify(model_path=str(weights), checksums_source=str(path))
    assert "--tags weights" in checksums(tmp_path / "none.json", path)["msg"]
