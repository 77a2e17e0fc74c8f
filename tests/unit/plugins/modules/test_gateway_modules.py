# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates through their modules, run as Ansible runs them; a map behind a socket stands for HAProxy."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

COLLECTIONS = Path(__file__).parents[4] / "collections"


def run_module(module: str, check: bool = False, /, **options: Any) -> dict[str, Any]:
    arguments = {**options, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.baremetal.sglang.plugins.modules.{module}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


class Proxy:
    """As much of HAProxy's admin socket as keys take: one line of commands, one answer, closed."""

    def __init__(self, path: Path, map_path: Path) -> None:
        self.map_path, self.entries = str(map_path), {}
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                link = self.server.accept()[0]
            except OSError:
                return
            with link:
                line = link.makefile().readline().strip()
                link.sendall("\n".join(map(self.do, line.split("; "))).encode())

    def do(self, command: str) -> str:
        words = command.split()
        if words[2] != self.map_path:
            return "Unknown map identifier.\n"
        if words[0] == "show":
            return "".join(
                f"0x{number:x} {key} {value}\n" for number, (key, value) in enumerate(self.entries.items())
            )
        if words[0] == "del":
            del self.entries[words[3]]
        elif words[0] == "add" or words[3] in self.entries:
            self.entries[words[3]] = words[4]
        return ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    # A path of a socket is short.
    short = tempfile.mkdtemp(prefix="keys-", dir="/tmp")
    (tmp_path / "keys").mkdir()
    yield {"folder": str(tmp_path / "keys"), "socket": f"{short}/admin.sock"}
    shutil.rmtree(short)


@pytest.fixture
def proxy(place: dict[str, str]) -> Iterator[Proxy]:
    made = Proxy(Path(place["socket"]), Path(place["folder"]) / "keys.map")
    yield made
    made.server.close()


def test_a_key_is_returned_once_and_told_to_the_gateway(place: dict[str, str], proxy: Proxy) -> None:
    planned = run_module("gateway_keys", True, **place, state="present", name="alice", rate=5)
    assert planned["changed"] and "key" not in planned and not list(Path(place["folder"]).iterdir())

    made = run_module("gateway_keys", **place, state="present", name="alice", rate=5)
    assert made["changed"] and made["live"] and made["key"].startswith("sk-") and len(made["key"]) > 40
    assert list(proxy.entries.values()) == ["alice:5:0:0"]
    for path in Path(place["folder"]).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600 and made["key"] not in path.read_text()

    again = run_module("gateway_keys", **place, state="present", name="alice", rate=5)
    assert not again["changed"] and "key" not in again
    limited = run_module("gateway_keys", **place, state="present", name="alice", rate=6)
    assert limited["changed"] and "key" not in limited and list(proxy.entries.values()) == ["alice:6:0:0"]

    new = run_module("gateway_keys", **place, state="rotated", name="alice", grace_seconds=60)
    assert new["key"] != made["key"] and len(proxy.entries) == 2
    assert run_module("gateway_keys", **place, state="absent", name="alice")["changed"]
    assert proxy.entries == {} and (Path(place["folder"]) / "keys.map").read_text() == ""


def test_what_only_one_side_knows_is_put_right(place: dict[str, str], proxy: Proxy) -> None:
    run_module("gateway_keys", **place, state="present", name="alice")
    told = dict(proxy.entries)
    proxy.entries = {"F" * 64: "stranger:0:0:0"}
    content = run_module("gateway_keys", **place)["content"]
    assert run_module("gateway_keys", **place, state="same", content=content)["changed"]
    assert proxy.entries == told
    assert not run_module("gateway_keys", **place, state="same", content=content)["changed"]


def test_without_a_running_gateway_the_file_alone_is_written(place: dict[str, str]) -> None:
    first = run_module("gateway_keys", **place, state="same", content="")
    assert first["changed"] and not first["live"]
    assert sorted(path.name for path in Path(place["folder"]).iterdir()) == ["keys.json", "keys.map"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "rotated", "name": "nobody"}, "there is no key nobody"),
        ({"state": "present", "name": "a b"}, "cannot be the name of a key"),
        ({"state": "present", "name": "alice\n"}, "cannot be the name of a key"),
        ({"state": "absent", "name": "alice\n"}, "cannot be the name of a key"),
        ({"state": "present", "name": "x", "rate": -1}, "invalid rate '-1'"),
        ({"state": "present", "name": "x", "concurrency": 0}, "invalid concurrency '0'"),
        ({"state": "present", "name": "x", "days": -1}, "invalid days '-1'"),
        ({"state": "rotated", "name": "x", "grace_seconds": "6O"}, "invalid grace_seconds '6O'"),
        ({"state": "present", "name": "x", "folder": "/nowhere/keys"}, "run playbooks/gateway.yml first"),
        ({"state": "same", "content": "{"}, "cannot be read"),
    ],
)
def test_refusals_of_keys(place: dict[str, str], options: dict[str, Any], words: str) -> None:
    assert words in run_module("gateway_keys", **{**place, **options})["msg"]


def test_a_host_makes_keys_and_installs_what_was_signed(tmp_path: Path) -> None:
    from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import Wanted
    from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import Authority

    (tmp_path / "tls").mkdir()
    folder = {"folder": str(tmp_path / "tls")}
    names = {"names": ["internal"]}
    assert run_module("certificate_files", True, state="requested", **folder, **names)["requests"] == {}
    assert list((tmp_path / "tls").iterdir()) == []
    csr = run_module("certificate_files", state="requested", **folder, **names)["requests"]["internal"]
    # Nothing of the host is in it but the key.
    assert (tmp_path / "tls/internal.key.new").stat().st_mode & 0o777 == 0o600
    authority = Authority(tmp_path / "authority")
    with authority.open(create=True):
        made = authority.issue(Wanted("internal", "gpu-01", ("gpu-01", "10.0.0.1")), csr)
        trust, revocations = authority.texts()
    put = {"certificates": {"internal": made}, "trust": trust, "revocations": revocations}
    assert run_module("certificate_files", state="installed", **folder, **put)["changed"]
    there = run_module("certificate_files", state="read", **folder, **names)
    assert there["fitting"] == ["internal"] and there["certificates"]["internal"] == made
    assert (there["trust"], there["revocations"]) == (trust, revocations)
    again = {"trust": trust, "revocations": revocations}
    assert not run_module("certificate_files", state="installed", **folder, **again)["changed"]
    # A certificate for another key does not take the place of one that works.
    run_module("certificate_files", state="requested", **folder, **names)
    assert "another key" in run_module("certificate_files", state="installed", **folder, **put)["msg"]
    assert run_module("certificate_files", state="read", **folder, **names)["fitting"] == ["internal"]
    wrong = run_module("certificate_files", state="requested", **folder, names=["../x"])
    assert "invalid names" in wrong["msg"]
