# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LightLLM on a booted host, with a stand-in for the engine alone: unit, confinement and roles are the product's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.tests.unit.fixtures import lightllm_stand_in
from ansible_collections.baremetal.sglang.tests.unit.fixtures.toy_collection import TOY

from .conftest import REPOSITORY, lab_name, write_inventory
from .engine_host import EngineHost, publish_weights

ENVIRONMENT = "/opt/sglang/envs/lightllm"
WEIGHTS = "/opt/sglang/weights/glm-4.7-flash/unpinned"
PORT = 8000
STATE = "/var/lib/sglang/flash"


def environment(folder: Path) -> dict[str, Any]:
    """The stand-in and the client library that the probe asks with; its Python is the host's."""
    env, packages = folder / "lightllm", "lib/python3.11/site-packages"
    lightllm_stand_in.lay_out(env, f"{ENVIRONMENT}/bin/python", packages)
    (env / "bin/python").symlink_to("/usr/bin/python3.11")
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    shutil.copytree(TOY / "client/openai", env / packages / "openai")
    shutil.copytree(REPOSITORY / "tests/lab/stand_in_engine/httpx", env / packages / "httpx")
    return {"source": str(env), "target": ENVIRONMENT, "read_only": True}


@pytest.fixture(scope="module")
def host(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("lightllm")
    planned = lightllm_stand_in.plan("e1", PORT)
    own = planned["instances"]["flash"]["environment"]["path"]
    plan = json.loads(json.dumps({**planned, "standbys": {}}).replace(own, ENVIRONMENT))
    inventory = write_inventory(
        folder,
        lab_name("lightllm"),
        {
            "e1": {"ansible_host": "10.91.9.11",
                   "lab": {"kind": "nspawn", "image": "debian-12", "binds": [environment(folder)]}},
        },
    )  # fmt: skip
    lab = Lab.from_inventory(inventory)
    lab.up()
    # Its weights are a small folder: nothing of the stand-in reads them.
    found = EngineHost(lab, inventory, plan)
    publish_weights(found.root() / WEIGHTS.lstrip("/"))
    yield found
    lab.down()


def play(host: EngineHost, roles: str, *words: str, fails: bool = False) -> str:
    done = host.play(roles, *words, plan={"instances": {"tiny": {}}}, plan_of_host=host.plan)
    assert (done.returncode != 0) is fails, done.stdout[-6000:]
    return str(done.stdout)


CLIENT = f"""
import json, urllib.request
body = {{"stream": True, "max_tokens": 40, "messages": [{{"role": "user", "content": "hi"}}]}}
asked = urllib.request.Request(
    "http://127.0.0.1:{PORT}/v1/chat/completions", json.dumps(body).encode(), {{"Content-Type": "application/json"}}
)
print(urllib.request.urlopen(asked, timeout=600).read().decode())
"""
"""A stream of eight seconds."""


@pytest.mark.long
def test_it_is_started_drained_restarted_and_removed(host: EngineHost) -> None:
    play(host, "host engine")
    host.until("flash", "active")
    assert "serving flash on 127.0.0.1:8000, first token after" in host.status("flash")
    assert "changed=0" in play(host, "host engine")
    names = " ".join(host.processes("flash").values())
    for role in (
        "metric_manager",
        "router_server",
        "model_infer:RANK0",
        "detokenization_server",
        "api_server",
    ):
        assert f"::{role}" in names

    # Nothing listens for other hosts, and what the engine tunes lies in the instance's cache.
    ports = host.ssh("ss -Hltnp | grep -E 'lightllm|hypercorn|python'")
    own = [line.split()[3] for line in ports.splitlines()]
    assert len(own) == 2 and all(address.startswith("127.0.0.1:") for address in own), ports
    for port in (address.rpartition(":")[2] for address in own):
        assert "open" not in host.ssh(
            f"timeout 5 bash -c '</dev/tcp/10.91.9.11/{port}' && echo open", check=False
        )
    assert "rotary" in host.ssh("find /var/cache/sglang/flash -name rotary")
    journal = host.ssh("journalctl -u sglang-flash -o cat")
    assert "monitor task queue is full" not in journal and "GET /health" not in journal
    assert "POST /generate" in journal

    # A stream that runs is served to its end: eight seconds, where the engine itself cuts after three.
    (host.root() / "root/client.py").write_text(CLIENT)
    host.ssh("python3 /root/client.py >/root/stream 2>&1 & sleep 2; systemctl stop sglang-flash; wait")
    assert host.status("flash") == "stopped"
    stream = host.ssh("cat /root/stream")
    assert stream.rstrip().endswith("data: [DONE]") and '"39 "' in stream

    # At once again, beside the connections that the server closed; names of shared memory are gone with the unit.
    host.ssh("systemctl start sglang-flash")
    host.until("flash", "active")
    assert "has been used" not in host.ssh("journalctl -u sglang-flash -o cat")
    assert host.ssh("ls /dev/shm") == ""


@pytest.mark.long
def test_a_failed_load_is_named_and_started_again(host: EngineHost) -> None:
    play(host, "host engine")
    host.until("flash", "active")
    host.ssh(f'systemctl stop sglang-flash; echo \'{{"load": "fails"}}\' >{STATE}/behave.json')
    host.ssh("systemctl start sglang-flash", check=False)
    host.until_status("flash", "waiting 20 s")
    assert "CUDA out of memory" in host.ssh("journalctl -u sglang-flash -o cat")
    assert not [words for words in host.processes("flash").values() if "lightllm::" in words]
    host.ssh(f"rm {STATE}/behave.json; systemctl stop sglang-flash; rm -f {STATE}/starts.json")
    host.ssh("systemctl reset-failed sglang-flash; systemctl start sglang-flash", check=False)
    host.until("flash", "active")
    main = host.show("flash", "MainPID")["MainPID"]
    host.ssh(f"kill -9 {host.process('flash', '::detokenization_server')}")
    host.until("flash", "active", main_not=main)
    host.tasks(
        [{"ansible.builtin.include_role": {"name": "baremetal.sglang.engine", "tasks_from": "remove"}}]
    )
    assert host.ssh("ls /etc/systemd/system/sglang-*.service 2>/dev/null", check=False) == ""
