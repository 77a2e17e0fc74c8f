# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second engine on a booted host: laid down, started, probed, drained and removed by the roles as they are."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.tests.unit.fixtures.toy_collection import TOY, plan_toy

from .conftest import REPOSITORY, lab_name, write_inventory
from .engine_host import EngineHost, publish_weights

ENVIRONMENT = "/opt/sglang/envs/toy"
WEIGHTS = "/opt/sglang/weights/glm-4.7-tiny/local"
PORT = 30000


def toy_environment(folder: Path) -> dict[str, Any]:
    """The server and the client library that the probe asks with; its Python is the host's."""
    env = folder / "toy"
    packages = env / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    (env / "bin").mkdir()
    (env / "bin/python").symlink_to("/usr/bin/python3.11")
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    shutil.copytree(TOY / "server/toyengine", packages / "toyengine")
    shutil.copytree(TOY / "client/openai", packages / "openai")
    shutil.copytree(REPOSITORY / "tests/lab/stand_in_engine/httpx", packages / "httpx")
    return {"source": str(env), "target": ENVIRONMENT, "read_only": True}


@pytest.fixture(scope="module")
def host(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("toy")
    planned = plan_toy(folder / "with-toy", PORT, "e1")["plans"]["e1"]
    mine = planned["instances"]["mine"]
    text = json.dumps({**planned, "instances": {"mine": mine}, "standbys": {}})
    plan = json.loads(text.replace(mine["environment"]["path"], ENVIRONMENT))
    inventory = write_inventory(
        folder,
        lab_name("toy"),
        {"e1": {"ansible_host": "10.91.7.11",
                "lab": {"kind": "nspawn", "image": "debian-12", "binds": [toy_environment(folder)]}}},
    )  # fmt: skip
    lab = Lab.from_inventory(inventory)
    lab.up()
    found = EngineHost(lab, inventory, plan)
    publish_weights(found.root() / WEIGHTS.lstrip("/"))
    yield found
    lab.down()


def play(host: EngineHost, roles: str, *words: str) -> str:
    done = host.play(roles, *words, plan={"instances": {"tiny": {}}}, plan_of_host=host.plan)
    assert done.returncode == 0, done.stdout[-6000:]
    return str(done.stdout)


@pytest.mark.long
def test_a_second_engine_is_started_probed_drained_and_removed(host: EngineHost) -> None:
    play(host, "host engine")
    host.until("mine", "active")
    assert "serving mine on 127.0.0.1:30000, first token after" in host.status("mine")
    counted = host.ssh(
        f"python3 -c 'import urllib.request as u;print(u.urlopen(\"http://127.0.0.1:{PORT}/numbers\").read().decode())'"
    )
    # The switch to the release was made with an answer of the server to the probe.
    assert 'toy_requests_total{who="toy"} 0' not in counted and "toy_requests_total" in counted
    assert "changed=0" in play(host, "host engine")
    begun = time.monotonic()
    host.ssh("systemctl stop sglang-mine")
    assert time.monotonic() - begun < host.plan["instances"]["mine"]["service"]["drain_seconds"]
    assert host.status("mine") == "stopped" and "toy: closed" in host.ssh("journalctl -u sglang-mine -o cat")
    host.tasks(
        [{"ansible.builtin.include_role": {"name": "baremetal.sglang.engine", "tasks_from": "remove"}}]
    )
    assert host.ssh("ls /etc/systemd/system/sglang-*.service 2>/dev/null", check=False) == ""
