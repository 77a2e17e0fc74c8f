# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearsals: the inventories that users copy, from the bundle to removal, on hosts that look like the real ones.

What is pretended is printed first; between that edge and the operator's commands everything is the product.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .conftest import lab_name
from .rehearsed import PRETENDED, Rehearsal, changed

pytestmark = pytest.mark.long
HOST, INSTANCE, MODEL = "gpu-01", "glm-4.7", "glm-4.7-int8"


@pytest.fixture(scope="module")
def a800_580(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    from lab import Lab, pretend

    print("\n".join(("pretended:", *pretend.PRETENDED, *PRETENDED)))
    rehearsal = Rehearsal("a800-580", "a800x8-580", tmp_path_factory.mktemp("a800-580"), lab_name("a800"))
    rehearsal.write_inventory()
    rehearsal.make_weights(MODEL)
    rehearsal.lab = Lab.from_inventory(rehearsal.inventory)
    try:
        yield rehearsal
    finally:
        rehearsal.lab.down()


def test_planned_and_bundled_without_the_hosts(a800_580: Rehearsal) -> None:
    a800_580.works("weights", "-e", f"weights_dir={a800_580.weights}")
    said = a800_580.works("plan", "-e", f"plan_dir={a800_580.folder}/plans")
    assert "8x A800-SXM4-80GB  driver 580.95.05" in said
    assert "nothing was refused" in said
    carried = ("-e", f"@{a800_580.weights}/bundle_weights.json")
    a800_580.works("bundle", "-e", f"bundle_dir={a800_580.bundle}", *carried)
    a800_580.works("bundle_verify", "-e", f"bundle_dir={a800_580.bundle}")


def test_the_host_is_what_was_declared(a800_580: Rehearsal) -> None:
    a800_580.lab.up()
    a800_580.works("facts", "-e", f"facts_dir={a800_580.folder}/facts")
    facts = json.loads((a800_580.folder / f"facts/{HOST}.json").read_text())
    assert facts["faults"] == []
    assert (facts["driver"]["version"], facts["driver"]["flavour"]) == ("580.95.05", "open")
    assert [gpu["product"] for gpu in facts["gpus"]] == ["NVIDIA A800-SXM4-80GB"] * 8
    assert facts["fabric_manager"] == "running"


def test_a_bare_host_serves_and_a_second_run_changes_nothing(a800_580: Rehearsal) -> None:
    plan = json.loads((a800_580.folder / f"plans/{HOST}.json").read_text())
    a800_580.put_engine(HOST, plan)
    said = a800_580.works("site", *a800_580.room, "--check", "--diff")
    assert f"sglang-{INSTANCE}.service starts" in said
    assert a800_580.ssh(HOST, "ls /opt/sglang 2>/dev/null", check=False) == ""
    a800_580.works("site", *a800_580.room)
    assert changed(a800_580.works("site", *a800_580.room), HOST) == 0


def test_status_doctor_and_verify_find_nothing_wrong(a800_580: Rehearsal) -> None:
    assert f"{INSTANCE}  {HOST}  serving" in a800_580.works("status")
    a800_580.works("doctor")
    a800_580.works("verify")


def test_a_lost_gpu_is_named_by_doctor_and_refused_by_a_run(a800_580: Rehearsal) -> None:
    a800_580.state(HOST, lost=[3])
    a800_580.kernel_says(HOST, "[ 77.1] NVRM: Xid (PCI:0000:44:00): 79, pid=1, GPU has fallen off the bus.")
    try:
        said = a800_580.fails("site", *a800_580.room)
        assert "0000:44:00.0" in said
        assert "REFUSED" in said
    finally:
        a800_580.state(HOST)
        a800_580.kernel_says(HOST)
    a800_580.works("site", *a800_580.room)


def test_removal_leaves_weights_and_environments(a800_580: Rehearsal) -> None:
    a800_580.works("remove")
    left = a800_580.ssh(HOST, "ls /opt/sglang").split()
    assert {"envs", "weights"} <= set(left), left
    assert "releases" not in left
    assert a800_580.ssh(HOST, "getent passwd sglang", check=False) == ""
