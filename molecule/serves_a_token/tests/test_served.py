# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stranger sees on the host. Shares no code with the roles."""

from __future__ import annotations

import json
import time
from typing import Any

ASK = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Say hi."}],
    "max_tokens": 16,
    "temperature": 0,
}


def ask(host: Any) -> dict[str, Any]:
    """A chat completion, with nothing but a POST from the host's own Python."""
    code = (
        "import json,sys,urllib.request as u;"
        "r=u.Request('http://127.0.0.1:30000/v1/chat/completions',sys.argv[1].encode(),{'Content-Type':'application/json'});"
        "print(u.urlopen(r,timeout=600).read().decode())"
    )
    return dict(json.loads(host.check_output("python3 -c %s %s", code, json.dumps(ASK))))


def wait_until_healthy(host: Any, seconds: float) -> None:
    code = "import urllib.request as u;u.urlopen('http://127.0.0.1:30000/health',timeout=30)"
    end = time.monotonic() + seconds
    while not answers(host, code):
        assert time.monotonic() < end, host.check_output(
            "journalctl --unit sglang-tiny --lines 30 --no-pager"
        )
        time.sleep(2)


def answers(host: Any, code: str) -> bool:
    try:
        return bool(host.run("python3 -c %s", code).rc == 0)
    except RuntimeError:  # ssh itself failed
        return False


def test_real_tokens_come_back(host: Any) -> None:
    answer = ask(host)
    assert answer["usage"]["completion_tokens"] > 0
    message = answer["choices"][0]["message"]
    assert message["content"] or message["reasoning_content"]


def test_the_unit_runs_as_its_own_user_and_starts_at_boot(host: Any) -> None:
    service = host.service("sglang-tiny")
    assert service.is_running
    assert service.is_enabled
    pid = host.check_output("systemctl show sglang-tiny --property MainPID --value")
    assert host.process.get(pid=int(pid)).user == "sglang"


def test_its_interface_listens_on_loopback_only(host: Any) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -H -t -l -n").splitlines()]
    assert "127.0.0.1:30000" in listening
    open_to_others = [
        one for one in listening if not one.startswith(("127.", "[::1]")) and not one.endswith(":22")
    ]
    # torch's rendezvous store binds every interface, whatever address it is given: one port, for a firewall to close.
    assert len(open_to_others) <= 1


def test_what_was_installed_cannot_be_written_by_the_service(host: Any) -> None:
    found = host.check_output(
        "find /opt/sglang -user sglang -o -group sglang -o -perm /0022 ! -type l | head"
    )
    assert found == ""


def test_weights_are_what_was_bundled(host: Any) -> None:
    manifest = json.loads(host.file("/mnt/bundle/manifest.json").content_string)
    (entry,) = manifest["weights"].values()
    for path in entry["files"]:
        name = path[len(entry["folder"]) + 1 :]
        on_host = host.file(f"/opt/sglang/weights/glm-4.7-tiny/local/{name}")
        assert on_host.sha256sum == manifest["files"][path]["sha256"]


def test_the_host_keeps_the_plan_that_it_serves(host: Any) -> None:
    plan = json.loads(host.file("/opt/sglang/current/plan.json").content_string)
    assert plan["instances"]["tiny"]["release"]["version"] == "0.5.23"
    current = host.file("/opt/sglang/current").linked_to
    assert current.startswith("/opt/sglang/releases/")
    for part, target in (
        ("env", plan["instances"]["tiny"]["environment"]),
        ("weights", plan["instances"]["tiny"]["weights"]),
    ):
        assert host.file(f"{current}/tiny/{part}").linked_to == target["path"]


def test_nothing_half_made_lies_about(host: Any) -> None:
    assert host.check_output("find /opt/sglang -name '*.partial' -o -name '*.bundle' | head") == ""


def boot_of(host: Any) -> str:
    """Tells one boot from the next: a container shares the machine's boot_id, so the start of PID 1 counts.

    Empty while the host goes down or comes up: its sshd may answer in the one and not yet in the other.
    """
    try:
        said = host.run("stat -c %Y /proc/1 && systemctl is-system-running").stdout.split()
    except RuntimeError:  # ssh itself failed
        return ""
    return said[0] if len(said) == 2 and said[1] in ("running", "degraded", "starting") else ""


def test_it_serves_again_after_a_reboot(host: Any) -> None:
    before = boot_of(host)
    assert before, "the host does not say that it is up"
    host.run("systemd-run --on-active=1 systemctl reboot")
    end = time.monotonic() + 900
    while boot_of(host) in ("", before):
        assert time.monotonic() < end, "the host did not come back"
        time.sleep(1)
    wait_until_healthy(host, 900)
    assert ask(host)["usage"]["completion_tokens"] > 0
