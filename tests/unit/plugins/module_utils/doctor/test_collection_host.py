# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import collection_host


def test_plan_units_and_logs_are_collected_and_what_is_missing_is_left_out(tmp_path: Path) -> None:
    root, units = tmp_path / "opt", tmp_path / "units"
    (root / "releases/r1/glm").mkdir(parents=True)
    units.mkdir()
    (root / "current").symlink_to("releases/r1")
    (root / "releases/r1/plan.json").write_text('{"host": "h"}')
    (root / "releases/r1/glm/launch.json").write_text("{}")
    (units / "sglang-glm.service").write_text("[Service]\n")

    def run(words: list[str], **_how: Any) -> tuple[int, str, str]:
        if words[0] == "nvidia-smi":
            return 1, "", "no driver"
        if words[0] == "journalctl":
            return 0, "x" * (collection_host.MOST_BYTES + 10) + "end", ""
        return 0, f"said by {words[0]}\n", ""

    found = collection_host.collected(run, str(root), str(units))
    assert found["plan.json"] == '{"host": "h"}' and found["launch/glm.json"] == "{}"
    assert found["units/sglang-glm.service"] == "[Service]\n"
    log = found["logs/sglang-glm.txt"]
    assert (
        log.startswith("(the end of") and log.endswith("end") and len(log) < collection_host.MOST_BYTES + 100
    )
    assert "nvidia-smi.txt" not in found and "verified.json" not in found
    assert set(json.loads(found["files.json"])) == set(found) - {"files.json"}
