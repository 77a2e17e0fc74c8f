# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Input that cannot work, on a real bare host: one clear message, and nothing on the host is another."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from .conftest import INVENTORY, command, succeed

# What a login and a module's own work leave behind on any host.
NOISE = r"^/(proc|sys|dev|run|tmp|root/\.ansible|var/log|var/lib/systemd|var/tmp|etc/resolv\.conf)"


def on_host(host: str, words: str) -> str:
    return succeed("tools/lab", "-i", INVENTORY, "ssh", host, words)


def fingerprint(host: str) -> set[str]:
    listed = on_host(
        host, r"find / -xdev -not -type s -printf '%p %y %m %u %s %T@\n' 2>/dev/null; getent passwd"
    )
    return {line for line in listed.splitlines() if not re.match(NOISE, line)}


def serve(bundle_dir: str | None = None, **changes: Any) -> str:
    tiny = {"model": "glm-4.7-tiny", "hosts": ["bare-1"], "device": "cpu"}
    extra = {} if bundle_dir is None else {"bundle_dir": bundle_dir}
    return json.dumps({"serve": {"tiny": {**tiny, **changes}}, "bundle_on_host": "", **extra})


CASES = {
    "unknown key": (serve(contxt_length=4096), ["serve.tiny.contxt_length", "did you mean context_length?"]),
    "unknown model": (serve(model="glm-4.7-tinny"), ["glm-4.7-tinny", "glm-4.7-tiny"]),
    "host that is not there": (serve(hosts=["bare-2"]), ["serve.tiny.hosts", "bare-2"]),
    "misspelled flag": (
        serve(options={"max-runing-requests": 4}),
        ["max-runing-requests", "max-running-requests"],
    ),
    "parser of another kind": (serve(options={"reasoning-parser": "glm47"}), ["glm47", "glm45"]),
    "key among the flags": (serve(options={"api-key": "secret"}), ["api-key"]),
    "several at once": (
        serve(contxt_length=1, options={"reasoning-parser": "glm47"}),
        ["contxt_length", "nothing was changed"],
    ),
    "nothing to serve": ('{"serve": {}}', ["REFUSED", "serve"]),
    "no bundle": (serve(bundle_dir=""), ["bundle_dir is not set", "playbooks/bundle.yml"]),
    "no such bundle": (serve(bundle_dir="/nowhere"), ["/nowhere", "manifest.json"]),
}


# The planner says all of its refusals in the same way: one play shows it in `make test`.
OF_THE_PLANNER = ("unknown key", "unknown model", "host that is not there", "misspelled flag",
                  "parser of another kind", "key among the flags")  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name in OF_THE_PLANNER else ()) for name in CASES],
)
def test_refused_and_nothing_changed(bare_host: str, name: str) -> None:
    extra, said = CASES[name]
    before = fingerprint(bare_host)
    done = command("ansible-playbook", "site.yml", "-i", INVENTORY, "-e", extra)
    assert done.returncode != 0, done.stdout[-3000:]
    for words in said:
        assert words in done.stdout, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    assert fingerprint(bare_host) == before


def test_a_port_that_a_stranger_holds(bare_host: str) -> None:
    listen = "import socket,time; s=socket.create_server(('127.0.0.1', 30000)); time.sleep(600)"
    on_host(bare_host, f'systemd-run --unit stranger --collect python3 -c "{listen}"')
    try:
        done = command("ansible-playbook", "site.yml", "-i", INVENTORY, "-e", serve())
    finally:
        on_host(bare_host, "systemctl stop stranger")
    assert done.returncode != 0
    assert "30000" in done.stdout
    assert "REFUSED" in done.stdout
    assert on_host(bare_host, "ls /opt").strip() == ""


def test_a_disk_that_is_too_small(bare_host: str) -> None:
    on_host(bare_host, "mkdir -p /opt/sglang && mount -t tmpfs -o size=200M tmpfs /opt/sglang")
    try:
        done = command("ansible-playbook", "site.yml", "-i", INVENTORY, "-e", serve())
    finally:
        on_host(bare_host, "umount /opt/sglang && rmdir /opt/sglang")
    assert done.returncode != 0
    assert re.search(r"REFUSED.*/opt/sglang", done.stdout)
    assert re.search(r"\d+ GiB are needed", done.stdout)


def test_an_inventory_without_hosts(tmp_path: Any) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {}}\n", encoding="utf-8")
    done = command("ansible-playbook", "site.yml", "-i", tmp_path / "hosts.yml")
    assert done.returncode != 0
    assert "no host" in done.stdout.lower()


def test_a_host_without_python(bare_host: str) -> None:
    """Ansible itself cannot start there; the message must say what the host lacks."""
    on_host(bare_host, "mkdir /root/away && mv /usr/bin/python3* /root/away/")
    try:
        done = command("ansible-playbook", "site.yml", "-i", INVENTORY, "-e", serve())
    finally:
        on_host(bare_host, "mv /root/away/python3* /usr/bin/ && rmdir /root/away")
    assert done.returncode != 0
    assert "REFUSED  bare-1 could not be read" in done.stdout
    assert "apt-get install python3" in done.stdout


def test_debian_13_has_no_python_that_the_release_knows(bare_host: str) -> None:
    """Never refused by its name: what is missing is said, and what would bring it."""
    before = on_host("bare-13", "ls /opt /etc/systemd/system")
    done = command(
        "ansible-playbook",
        "site.yml",
        "-i",
        INVENTORY,
        "-e",
        serve(hosts=["bare-13"]),
        "-e",
        "declared_hardware={}",
    )
    assert done.returncode != 0
    assert "3.13" in done.stdout, done.stdout[-3000:]
    assert "runtime_python_kits" in done.stdout
    assert on_host("bare-13", "ls /opt /etc/systemd/system") == before
