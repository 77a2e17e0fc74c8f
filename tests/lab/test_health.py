# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health watch on a booted host. Pretended: nvidia-smi and the kernel log, by programs in /usr/local/bin."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.health.settings import health_settings

from .conftest import REPOSITORY, lab_name, write_inventory
from .engine_host import PATIENCE, EngineHost, fake_environment, make_plan, publish_weights

pytestmark = pytest.mark.long

WEIGHTS = "/opt/sglang/weights/glm-4.7-tiny/local"
EDGE = "/run/edge"
VERDICT = "/var/lib/sglang-health/verdict.json"
NVIDIA_SMI = f"""#!/usr/bin/python3
import sys
if sys.argv[1] == "nvlink":
    sys.exit(0)
said = open("{EDGE}/gpu").read().strip()
values = {{"index": "0", "pci.bus_id": "00000000:18:00.0", "gpu_recovery_action": said, "remapped_rows.pending": "No",
    "remapped_rows.failure": "No", "ecc.errors.uncorrected.volatile.total": "0",
    "clocks_throttle_reasons.active": "0x0000000000000004"}}
print(", ".join(values[name] for name in sys.argv[1].partition("=")[2].split(",")))
"""
JOURNALCTL = f"""#!/usr/bin/python3
import os, sys
if "--dmesg" not in sys.argv:
    os.execv("/usr/bin/journalctl", sys.argv)
lines = open("{EDGE}/kernel.log").read().splitlines()
after = next((int(word.rpartition("=")[2]) for word in sys.argv if word.startswith("--after-cursor")), 0)
print(*lines[after:], sep="\\n")
print(f"-- cursor: n={{len(lines)}}")
"""
RULES = yaml.safe_load((REPOSITORY / "files/health.yml").read_text(encoding="utf-8"))
XIDS = yaml.safe_load((REPOSITORY / "files/xids.yml").read_text(encoding="utf-8"))
QUICK = {**RULES, "seconds": 1, "quiet_seconds": 1}
PLANNED = {"instances": {"toy": {"service": {"checks": {"gpus": [{"index": 0}]}}}}}


def settings(mode: str) -> dict[str, Any]:
    return health_settings(PLANNED, QUICK, XIDS, {"mode": mode})


@pytest.fixture(scope="module")
def host(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    sys.path.insert(0, str(REPOSITORY))
    from lab import Lab

    folder = tmp_path_factory.mktemp("health")
    inventory = write_inventory(
        folder,
        lab_name("health"),
        {"e1": {"ansible_host": "10.91.0.11",
                "lab": {"kind": "nspawn", "image": "debian-12", "binds": [fake_environment(folder)]}}},
    )  # fmt: skip
    lab = Lab.from_inventory(inventory)
    lab.up()
    found = EngineHost(lab, inventory, make_plan("e1"))
    publish_weights(found.root() / WEIGHTS.lstrip("/"))
    done = found.play("host")
    assert done.returncode == 0, done.stdout[-3000:]
    found.ssh("install -d -o sglang -g sglang -m 0750 /var/lib/sglang/toy /var/cache/sglang/toy")
    found.install_stand_in()
    for name, text in (("nvidia-smi", NVIDIA_SMI), ("journalctl", JOURNALCTL)):
        found.ssh(f"cat >/usr/local/bin/{name} <<'END'\n{text}END\nchmod 755 /usr/local/bin/{name}")
    found.ssh(f"mkdir -p {EDGE}; echo None >{EDGE}/gpu; : >{EDGE}/kernel.log; chmod 644 {EDGE}/*")
    found.fresh()
    yield found
    lab.down()


def watch(host: EngineHost, mode: str) -> None:
    done = host.play("health", health_rules=QUICK, health_settings=settings(mode))
    assert done.returncode == 0, done.stdout[-4000:]


def kernel_says(host: EngineHost, number: int, words: str = "pid=1, name=x") -> None:
    host.ssh(f"echo '[   12.5] e1 kernel: NVRM: Xid (PCI:0000:18:00): {number}, {words}' >>{EDGE}/kernel.log")


def driver_says(host: EngineHost, recovery: str) -> None:
    host.ssh(f"echo '{recovery}' >{EDGE}/gpu")


def verdict(host: EngineHost) -> dict[str, Any]:
    return dict(json.loads(host.ssh(f"cat {VERDICT} 2>/dev/null || echo '{{}}'")))


def until_verdict(host: EngineHost, key: str, expected: dict[str, str]) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE
    while True:
        found = verdict(host)
        if {
            name: order["decision"] for name, order in found.get(key, {"": {"decision": ""}}).items()
        } == expected:
            return found
        assert time.monotonic() < end, f"{found}\n" + host.ssh("journalctl -u sglang-health -n 30", False)
        time.sleep(0.5)


def until_journal(host: EngineHost, part: str) -> None:
    end = time.monotonic() + PATIENCE
    while part not in (said := host.ssh("journalctl -u sglang-health --no-pager")):
        assert time.monotonic() < end, said[-4000:]
        time.sleep(0.5)


def test_observe_reports_enforce_drains_stops_and_lets_serve_again(host: EngineHost) -> None:
    host.ssh("systemctl start sglang-toy")
    watch(host, "observe")
    until_verdict(host, "would", {})
    engine = host.process("toy", "sglang.launch_server")

    # An Xid that asks for a reset: said, and nothing else.
    driver_says(host, "GPU Reset")
    kernel_says(host, 95)
    found = until_verdict(host, "would", {"toy": "drain"})
    assert found["instances"] == {}
    assert found["findings"][0]["gpu"] == 0
    until_journal(host, "drain instance toy (observe: nothing is done): GPU 0: ")
    until_journal(host, "drain: GPU 0: Xid 95, uncontained memory error -> ")
    assert host.show("toy", "ActiveState")["ActiveState"] == "active"
    assert host.process("toy", "sglang.launch_server") == engine

    # The same with enforce: requests finish, the engine ends, the unit says why and waits.
    watch(host, "enforce")
    said = host.until_status("toy", "stopped by the health watch, waits: GPU 0: Xid 95")
    assert "nvidia-smi --gpu-reset -i 0" in said
    assert not [words for words in host.processes("toy").values() if "sglang.launch_server" in words]
    assert re.search(
        r"draining: running requests have up to \d+ s", host.ssh("journalctl -u sglang-toy --no-pager")
    )

    # The table lets it come back once the driver says that nothing is left to do.
    driver_says(host, "None")
    host.until_status("toy", "serving")
    assert host.process("toy", "sglang.launch_server") != engine

    # Off the bus: stopped at once, and not before the host was restarted.
    kernel_says(host, 79, "GPU has fallen off the bus.")
    host.until("toy", "failed")
    assert "stopped by the health watch: GPU 0: Xid 79, GPU has fallen off the bus" in host.status("toy")
    assert host.show("toy", "ExecMainStatus")["ExecMainStatus"] == "79"
    host.ssh("systemctl reset-failed sglang-toy; systemctl start sglang-toy", check=False)
    host.until("toy", "failed")
    assert host.processes("toy") == {}

    # Until a person says that it was repaired.
    done = host.play(
        "health",
        health_rules=QUICK,
        health_settings=settings("enforce"),
        health_clear=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    until_verdict(host, "instances", {})
    host.ssh("systemctl reset-failed sglang-toy; systemctl start sglang-toy")
    host.until("toy", "active")


def test_it_is_confined_and_runs_as_a_user_of_its_own(host: EngineHost) -> None:
    watch(host, "observe")
    assert host.ssh("systemctl show sglang-health.service --property=User") == "User=sglang-health"
    level = host.ssh("systemd-analyze security --no-pager sglang-health.service | tail -n 1")
    found = re.search(r": ([\d.]+)", level)
    assert found and float(found[1]) <= 2.0, level
    assert host.ssh(f"stat -c '%U %a' {VERDICT}") == "sglang-health 644"
    owners = host.ssh("find /etc/sglang-health ! -user root -o -perm /022 ! -type l | wc -l")
    assert owners == "0"
    again = host.play(
        "health",
        health_rules=QUICK,
        health_settings=settings("observe"),
    )
    assert re.search(r"changed=0\b", again.stdout), again.stdout[-3000:]


def test_check_mode_changes_nothing_and_it_goes_without_a_trace(host: EngineHost) -> None:
    gone = host.play("health", health_rules=QUICK, health_settings={})
    assert gone.returncode == 0, gone.stdout[-4000:]
    traces = "ls -d /etc/sglang-health /var/lib/sglang-health /etc/systemd/system/sglang-health.*; getent passwd sglang-health"
    assert "sglang-health:" not in host.ssh(traces, check=False)
    assert host.ssh("systemctl list-units --all --plain --no-legend 'sglang-health*'") == ""
    checked = host.play(
        "health", "--check", "--diff", health_rules=QUICK, health_settings=settings("observe")
    )
    assert checked.returncode == 0, checked.stdout[-4000:]
    assert host.ssh("ls -d /etc/sglang-health", check=False) == ""
