# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway and what watches it, on two real hosts without a route; a small server stands in for the engines.

Two replicas of `tiny`, one behind the internal listener of the other host, and `other` beside them. Packages come from a bundle.
The tests follow each other: what the first one brings up, the later ones attack.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.dashboard import ROWS
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.series import filled
from ansible_collections.baremetal.sglang.plugins.plugin_utils.deb_folder import DebFolder
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS

from .conftest import REPOSITORY, lab_name, write_inventory

PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
ENGINE = Path(__file__).parent / "streaming_engine.py"
CLIENT = Path(__file__).parent / "gateway_client.py"
NAMES = {key: [name] for key, name in METRICS.items()}
RULES = Path(__file__).parent / "rules_test.yml"
TINY = {"model": "glm-4.7-tiny", "device": "cpu"}
SERVE = {
    "a": {**TINY, "hosts": ["g1"], "served_model_name": "tiny"},
    "b": {**TINY, "hosts": ["g2"], "served_model_name": "tiny"},
    "other": {**TINY, "hosts": ["g1"], "port": 30010},
}
ENGINES = {"a": ("g1", 30000), "b": ("g2", 30000), "other": ("g1", 30010)}
GATEWAY = {
    "hosts": ["g1"],
    "names": ["llm.example"],
    "limits": {
        "header_seconds": 2,
        "body_seconds": 2,
        "client_seconds": 3,
        # A busy machine's engine answers late, and is not broken.
        "check_limit_seconds": 10,
        "body_mib": 2,
        # Two files each, and a host in the lab may have as few as 20,000.
        "connections": 4000,
        "inner_connections": 4000,
        "connections_of_source": 300,
        "connections_of_source_10s": 10_000,
    },
}
ARCH = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()


def bundle(folder: Path) -> Path:
    """As far as a bundle goes that carries packages alone."""
    names = ["haproxy", "openssl", "prometheus", "prometheus-node-exporter"]
    fetched = DebFolder(folder / "fetched", "bookworm", ARCH, print).fetch(names, [])
    shutil.copytree(fetched, folder / f"bundle/debs/bookworm-{ARCH}")
    files = {
        str(path.relative_to(folder / "bundle")): {
            "size": path.stat().st_size,
            "sha256": sha256(path.read_bytes()).hexdigest(),
            "kind": "debs",
        }
        for path in sorted((folder / "bundle").glob("debs/**/*"))
        if path.is_file()
    }
    text = bundle_manifest.rendered(bundle_manifest.build(files, {}, {}, {}, {}))
    (folder / "bundle/manifest.json").write_text(text)
    return folder / "bundle"


class Room:
    def __init__(self, lab: Any, inventory: Path, folder: Path) -> None:
        self.lab, self.inventory, self.folder = lab, inventory, folder
        self.said = ""
        """All that the playbooks printed, for the search for secrets."""
        self.keys: dict[str, str] = {}

    def play(self, name: str, *words: str, status: int = 0, **extra: Any) -> str:
        done = subprocess.run(
            [PLAYBOOK, f"playbooks/{name}.yml", "-i", self.inventory, *words, "-e", json.dumps(extra)],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )
        self.said += done.stdout
        assert (done.returncode == 0) == (status == 0), done.stdout[-6000:]
        return done.stdout

    def key(self, name: str, state: str = "present", **extra: Any) -> str:
        file = self.folder / f"{name}.key"
        file.unlink(missing_ok=True)
        self.play("keys", key=name, key_state=state, key_file=str(file), **extra)
        if file.exists():
            assert file.stat().st_mode & 0o077 == 0
            self.keys[f"{name}-{len(self.keys)}"] = file.read_text().strip()
            return file.read_text().strip()
        return ""

    def ssh(self, command: str, host: str = "g1", check: bool = True, **how: Any) -> str:
        return str(self.lab.host(host).ssh(command, check=check, **how).stdout)

    def client(self, what: str, **said: Any) -> Any:
        """One of the attacks and questions of gateway_client.py, from the host itself."""
        answer = self.ssh(f"python3 /srv/client.py {what}", text_input=json.dumps(said))
        return json.loads(answer)

    def ask(self, path: str, key: str = "", **said: Any) -> Any:
        return self.client("ask", path=path, key=key, **said)

    def behave(self, name: str, how: str) -> None:
        self.ssh(f"echo {how} >/srv/behave-{name}", ENGINES[name][0])

    def seen(self, name: str) -> list[dict[str, Any]]:
        host, port = ENGINES[name]
        words = f"import urllib.request as u;print(u.urlopen('http://127.0.0.1:{port}/seen').read().decode())"
        return list(json.loads(self.ssh(f'python3 -c "{words}"', host)))

    def servers(self) -> dict[str, bool]:
        """Which engines the gateway sends requests to."""
        rows = self.ssh("echo 'show servers state' | python3 /srv/client.py admin").splitlines()
        fields = [row.split() for row in rows if row.strip()[:1].isdigit() and len(row.split()) > 5]
        # Columns: backend, its name, server, its name, address, 2 where its check passes. Others have no check.
        return {
            row[3]: row[5] == "2" for row in fields if row[1] not in (f"local-{row[3]}", f"metrics-{row[3]}")
        }

    def until_servers(self, **wanted: bool) -> None:
        end = time.monotonic() + 600
        while not wanted.items() <= (found := self.servers()).items():
            assert time.monotonic() < end, f"the gateway's servers are {found} and not {wanted}"
            time.sleep(0.3)

    def engine(self, action: str, name: str) -> None:
        self.ssh(f"systemctl {action} sglang-{name}", ENGINES[name][0])


def changed(said: str) -> int:
    return sum(int(number) for number in re.findall(r"(?m)^g\d .* changed=(\d+) ", said))


@pytest.fixture(scope="module")
def room(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    from lab import Lab

    folder = tmp_path_factory.mktemp("gateway")
    hosts = {
        name: {"ansible_host": f"10.95.0.1{name[1]}", "lab": {"kind": "nspawn", "image": "debian-12"}}
        for name in ("g1", "g2")
    }
    told = {"serve": SERVE, "gateway": GATEWAY, "bundle_dir": str(bundle(folder))}
    told["monitoring"] = {"prometheus": "g2", "scrape_seconds": 1, "files_dir": str(folder / "prometheus")}
    told["certificates_dir"] = str(folder / "authority")
    inventory = write_inventory(folder, lab_name("gateway"), hosts, **told)
    lab = Lab.from_inventory(inventory)
    try:
        lab.up()
        made = Room(lab, inventory, folder)
        for host in hosts:
            made.ssh("cat >/srv/engine.py", host, text_input=ENGINE.read_text())
        made.ssh("cat >/srv/client.py", text_input=CLIENT.read_text())
        for name, (host, port) in ENGINES.items():
            unit = f"[Service]\nType=notify\nExecStart=/usr/bin/python3 /srv/engine.py {port} {name} /srv/behave-{name}\n"
            made.ssh(f"cat >/etc/systemd/system/sglang-{name}.service", host, text_input=unit)
            made.engine("start", name)
        yield made
    finally:
        lab.down()


@pytest.mark.long
def test_check_mode_on_bare_hosts_leaves_them_bare(room: Room) -> None:
    room.play("monitoring", "--check", "--diff")
    assert room.ssh(
        "ls /etc/sglang /etc/sglang-monitoring 2>&1; systemctl is-active sglang-gateway", check=False
    ).count("No such file")


def test_it_comes_up_and_a_second_run_changes_nothing(room: Room) -> None:
    assert changed(room.play("monitoring")) > 20
    assert changed(room.play("monitoring")) == 0
    for host in ("g1", "g2"):
        assert "OK" in room.ssh(
            "cd /etc/sglang/gateway/tls && openssl verify -CAfile ca.crt internal.crt && openssl verify -x509_strict "
            "-crl_check_all -CRLfile crl.pem -purpose sslserver -verify_hostname $(hostname) -CAfile ca.crt internal.crt",
            host,
        )
        # Good for nothing but its role.
        assert "error" in room.ssh(
            "cd /etc/sglang/gateway/tls && openssl verify -purpose sslclient -CAfile ca.crt internal.crt 2>&1",
            host,
            check=False,
        )
        # The packages' own services, which would answer everybody, never ran.
        assert (
            room.ssh("systemctl is-enabled haproxy prometheus-node-exporter", host, check=False).split()
            == ["masked"] * 2
        )
        listening = room.ssh("ss -Htln | awk '{print $4}'", host).split()
        assert "127.0.0.1:9100" in listening and not any(
            item.endswith(":9100") for item in listening if "127.0.0.1" not in item
        )


def test_the_process_that_reads_what_clients_send_has_no_capability(room: Room) -> None:
    found = room.ssh("for pid in $(pgrep -u haproxy haproxy); do grep CapEff /proc/$pid/status; done").split()
    assert found and set(found[1::2]) == {"0" * 16}, found
    limits = room.ssh("systemctl show sglang-gateway -P MemoryMax -P ProtectProc -P ProcSubset").split()
    assert limits == [str(8192 * 2**20), "invisible", "pid"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"key": "alice\n"}, "cannot be the name of a key"),
        ({"key": "alice", "key_rate": -1, "key_concurrency": "0"}, "invalid rate '-1'"),
        ({"key": "alice", "key_days": "9O"}, "invalid days '9O'"),
        ({"key": "alice", "key_rate": ""}, "invalid rate ''"),
    ],
)
def test_keys_without_limits_by_mistake_are_refused(room: Room, asked: dict[str, Any], words: str) -> None:
    assert words in room.play("keys", status=1, **asked)
    assert room.ssh("cat /etc/sglang/gateway/keys/keys.map") == ""


def test_keys_are_given_out_and_taken_back_without_a_dropped_stream(room: Room) -> None:
    alice, bob = room.key("alice"), room.key("bob", key_concurrency=1)
    assert room.ask("/v1/models", alice)["status"] == 200
    assert room.ask("/v1/models", alice)["version"] == 2, "HTTP/2 where the client can"
    for bad in ("", "sk-wrong", alice[:-1], alice.upper()):
        assert room.ask("/v1/models", bad)["status"] == 401
    for key in ("", alice):
        assert room.ask(f"/v1/models?api_key={alice}", key)["status"] == 400
    assert "api_key" not in str(room.seen("a"))

    # A stream of bob's runs while his key is rotated, then taken back; a second one at once is too much for it.
    said = room.client("around", key=bob, tokens=60, pause=0.1)
    assert said["second"] == 429 and said["tokens"] == 60
    pid = room.ssh("systemctl show sglang-gateway -P MainPID")
    said = json.dumps({"key": bob, "tokens": 50, "pause": 0.1, "held": True})
    # What runs on behind a shell reads nothing from it.
    room.ssh("cat >/srv/said.json", text_input=said)
    room.ssh("nohup python3 /srv/client.py stream </srv/said.json >/srv/stream.json 2>&1 &")
    new = room.key("bob", "rotated")
    assert new and new != bob
    # The stream of the old one is his one at a time.
    assert room.ask("/v1/models", bob)["status"] == 401 and room.ask("/v1/models", new)["status"] == 429
    room.key("bob", "absent")
    assert room.ask("/v1/models", new)["status"] == 401
    for host in ("g1", "g2"):
        room.ssh("touch /srv/enough", host)
    room.ssh("timeout 600 sh -c 'until grep -q tokens /srv/stream.json; do sleep 0.2; done'")
    assert json.loads(room.ssh("cat /srv/stream.json"))["tokens"] == 50
    assert room.ssh("systemctl show sglang-gateway -P MainPID") == pid
    # What only the running gateway was told, or only the file, is put right.
    room.ssh("echo 'clear map /etc/sglang/gateway/keys/keys.map' | python3 /srv/client.py admin")
    assert room.ask("/v1/models", alice)["status"] == 401
    assert changed(room.play("gateway")) == 1
    assert room.ask("/v1/models", alice)["status"] == 200


def test_tokens_come_one_by_one_and_by_name(room: Room) -> None:
    alice = room.keys["alice-0"]
    said = room.client("stream", key=alice, tokens=20, pause=0.25, before=4)
    assert said["tokens"] == 20, said
    # Longer than client_seconds without a byte; and the first token was here long before the last was sent.
    assert said["late_ms"][0] < 19 * 250, said["late_ms"]
    engines = {room.client("stream", key=alice, tokens=1)["engine"] for _number in range(6)}
    assert engines == {"a", "b"}, room.ssh("echo 'show servers state' | python3 /srv/client.py admin")
    assert room.client("stream", key=alice, model="other", tokens=1)["engine"] == "other"
    assert room.client("stream", key=alice, model="other", tokens=1, padding=900_000)["engine"] == "other"
    assert (
        room.ask("/models/other/v1/completions", alice, body={"max_tokens": 1})["json"]["engine"] == "other"
    )
    assert room.ask("/v1/completions", alice, body={"model": "nobody"})["status"] == 404
    assert room.ask("/v1/completions", alice, body={})["status"] == 400
    assert not any("authorization" in entry["headers"] for name in ENGINES for entry in room.seen(name))


CLOSED = [
    "/server_info",
    "//server_info",
    "/./server_info",
    "/v1/../server_info",
    "/%73erver_info",
    "/v1/chat/completions/%2e%2e/%2e%2e/server_info",
    "/v1/chat/completions/../../flush_cache",
    "/V1/CHAT/COMPLETIONS",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat/completions/",
    "/metrics",
    "/metrics/gateway",
    "/generate",
    "/update_weights_from_disk",
    "/docs",
    "/health_generate",
    "/v1/chat/completions;x",
    "/models/tiny/server_info",
    "/models/../v1/chat/completions",
    "/models/tiny//server_info",
    "/models/tiny/v1/../../server_info",
    "/get_model_info",
    "/v1/models/tiny",
    "%2fserver_info",
]


def test_closed_paths_stay_closed(room: Room) -> None:
    alice = room.keys["alice-0"]
    before = {name: len(room.seen(name)) for name in ENGINES}
    said = room.client("paths", key=alice, paths=CLOSED)
    assert {path: status for path, status in said.items() if status not in (400, 404)} == {}
    assert before == {name: len(room.seen(name)) for name in ENGINES}, "not one of them reached an engine"


@pytest.mark.long
def test_smuggled_slow_and_oversized_requests(room: Room) -> None:
    alice = room.keys["alice-0"]
    before = {name: len(room.seen(name)) for name in ENGINES}
    for status in room.client("smuggle", key=alice).values():
        assert status == [] or set(status) <= {400, 404, 411, 200}
    paths = [entry["path"] for name in ENGINES for entry in room.seen(name)[before[name] :]]
    assert set(paths) <= {"/v1/chat/completions"}, paths
    slow = room.client("slow", key=alice)
    assert slow["headers"] < 5 and slow["body"] < 5, slow
    assert slow["served_meanwhile"] == 200
    assert room.client("large", key=alice, mib=3)["status"] == 413
    assert room.client("large", key=alice, mib=3, chunked=True)["status"] in (411, 413)
    assert room.ask("/v1/models", alice, headers={"X-Long": "a" * 60000})["status"] == 431


@pytest.mark.long
def test_an_engine_in_trouble_gets_no_new_requests(room: Room) -> None:
    alice = room.keys["alice-0"]
    for how in ("draining", "wedged"):
        room.behave("a", how)
        room.until_servers(a=False, b=True)
        assert {room.client("stream", key=alice, tokens=1)["engine"] for _number in range(5)} == {"b"}, how
    room.behave("b", "starting")
    room.until_servers(a=False, b=False)
    said = room.ask("/v1/chat/completions", alice, body={"model": "tiny"})
    assert said["status"] == 503 and said["headers"]["retry-after"] == "5", said
    assert room.ask("/health")["status"] == 200 and room.ask("/health/tiny")["status"] == 503
    for name in ("a", "b"):
        room.behave(name, "serving")
    room.until_servers(a=True, b=True)
    assert room.ask("/health/tiny")["status"] == 200
    # An upgrade of one of two: drain, stop, start, under load.
    load = json.dumps({"key": alice, "workers": 8})
    room.ssh("rm -f /srv/enough; cat >/srv/said.json", text_input=load)
    room.ssh("nohup python3 /srv/client.py load </srv/said.json >/srv/load.json 2>&1 &")
    time.sleep(2)
    room.behave("a", "draining")
    room.until_servers(a=False)
    # Those that it has are answered before it stops, as its launcher would do.
    time.sleep(4)
    room.engine("stop", "a")
    time.sleep(2)
    room.behave("a", "serving")
    room.engine("start", "a")
    room.until_servers(a=True)
    time.sleep(2)
    room.ssh("touch /srv/enough")
    room.ssh("timeout 600 sh -c 'until grep -q failed /srv/load.json; do sleep 0.2; done'")
    said = json.loads(room.ssh("cat /srv/load.json"))
    assert said["failed"] == [] and said["done"] > 100 and set(said["engines"]) == {"a", "b"}, said


@pytest.mark.long
def test_a_killed_gateway_comes_back_and_a_bad_configuration_does_not_come_in(room: Room) -> None:
    alice = room.keys["alice-0"]
    room.ssh("systemctl kill --signal=KILL sglang-gateway")
    room.ssh("timeout 600 sh -c 'until ss -Htln sport = :443 | grep -q .; do sleep 0.1; done'")
    assert room.ask("/v1/models", alice)["status"] == 200
    before = room.ssh("sha256sum /etc/sglang/gateway/haproxy.cfg")
    said = room.play("gateway", status=1, gateway={**GATEWAY, "address": "203.0.113.999"})
    assert changed(said) == 0 and "203.0.113.999" in said
    # What HAProxy itself refuses is not laid down.
    assert "haproxy.cfg" in room.play("gateway", status=1, gateway_text="no configuration\n")
    assert room.ssh("sha256sum /etc/sglang/gateway/haproxy.cfg") == before
    assert room.ask("/v1/models", alice)["status"] == 200


def made_certificate(folder: Path, name: str, days: int) -> dict[str, str]:
    key, crt = folder / f"{name}.key", folder / f"{name}.crt"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", str(key), "-out", str(crt), "-subj", "/CN=llm.example"]
    words += ["-addext", "subjectAltName=DNS:llm.example", "-days", str(days)]
    subprocess.run(words, check=True, capture_output=True)
    return {"certificate": str(crt), "key": str(key)}


@pytest.mark.long
def test_certificates_that_are_given(room: Room) -> None:
    room.play("gateway", gateway={**GATEWAY, **made_certificate(room.folder, "given", 90)})
    shown = "echo | openssl s_client -connect 127.0.0.1:443 2>/dev/null | openssl x509 -noout -issuer"
    assert "llm.example" in room.ssh(shown)
    # Back to our own. One that is lost, or close to its end, is made anew; the authority stays.
    authority = room.ssh("sha256sum /etc/sglang/gateway/tls/ca.crt")
    room.ssh("rm /etc/sglang/gateway/tls/internal.crt", "g2")
    room.play("gateway")
    assert "baremetal.sglang authority" in room.ssh(shown)
    assert room.ssh("sha256sum /etc/sglang/gateway/tls/ca.crt") == authority
    room.until_servers(a=True, b=True)
    assert {room.client("stream", key=room.keys["alice-0"], tokens=1)["engine"] for _number in range(6)} == {
        "a",
        "b",
    }


def query(room: Room, words: str) -> list[dict[str, Any]]:
    code = (
        "import json,sys,urllib.parse,urllib.request as u;"
        "print(u.urlopen('http://127.0.0.1:9090/api/v1/'+sys.stdin.read()).read().decode())"
    )
    said = json.loads(room.ssh(f'python3 -c "{code}"', "g2", text_input=words))
    assert said["status"] == "success", said
    return list(said["data"].get("result") or said["data"].get("activeTargets") or [said["data"]])


@pytest.mark.long
def test_a_live_prometheus_answers_every_query_of_the_dashboard(room: Room) -> None:
    from urllib.parse import quote

    end = time.monotonic() + 600
    while any(target["health"] != "up" for target in query(room, "targets?state=active")):
        assert time.monotonic() < end, query(room, "targets?state=active")
        time.sleep(1)
    targets = query(room, "targets?state=active")
    assert len(targets) == 7, targets
    room.ssh(
        "mkdir -p /opt/sglang/releases/r /opt/sglang/weights/tiny/local; ln -sfn releases/r /opt/sglang/current"
    )
    plan = {
        "facts": {"gpus": []},
        "instances": {
            "a": {
                "served_model_name": "tiny",
                "unit": "sglang-a.service",
                "release": {"version": "0.5.23"},
                "parallel": {"node_rank": 0, "nnodes": 1},
            }
        },
    }
    room.ssh("cat >/opt/sglang/current/plan.json", text_input=json.dumps(plan))
    room.ssh("""echo '{"damaged": ["x"]}' >/opt/sglang/weights/tiny/local/.published.json""")
    told = {"a": {"time": 1790000000, "passed": 20, "failed": ["api: chat"]}}
    room.ssh("cat >/opt/sglang/releases/.verified.json", text_input=json.dumps(told))
    room.ssh("systemctl start sglang-metrics.service")
    panels = [panel for row in ROWS.values() for panel in row]
    for panel in panels:
        query(room, f"query?query={quote(filled(panel.query, NAMES))}")
    panels = [panel for panel in panels if not panel.gpu]
    end = time.monotonic() + 600
    while panels := [
        panel for panel in panels if not query(room, f"query?query={quote(filled(panel.query, NAMES))}")
    ]:
        assert time.monotonic() < end, f"no answer for {[panel.title for panel in panels]}"
        time.sleep(1)
    (damaged,) = query(room, "query?query=sglang_weights_damaged_files")
    assert damaged["value"][1] == "1" and damaged["metric"]["host"] == "g1"
    assert room.ssh("systemctl is-failed sglang-metrics.service", check=False).strip() != "failed"
    # A disk that is full for metrics: the old page stays whole, the unit says so.
    page = "/var/lib/sglang-monitoring/page"
    room.ssh(f"mount -t tmpfs -o size=4k,uid=$(id -u sglang-metrics) none {page}")
    room.ssh(f"head -c 4096 /dev/zero >{page}/other")
    room.ssh("systemctl start sglang-metrics.service", check=False)
    assert room.ssh(f"ls -A {page}").split() == ["other"]
    assert "No space left" in room.ssh("journalctl -u sglang-metrics -n 20 -o cat")
    room.ssh(f"umount {page}")
    # The collector is a user of its own, and the exporter's folder is root's alone.
    assert room.ssh(
        "stat -c %U /var/lib/sglang-monitoring/textfiles /var/lib/sglang-monitoring/page/sglang.prom"
    ).split() == ["root", "sglang-metrics"]


@pytest.mark.long
def test_rules_do_what_they_say(room: Room) -> None:
    rules = filled((REPOSITORY / "roles/monitoring/files/rules.yml").read_text(), NAMES)
    room.ssh("mkdir -p /srv/rules && cat >/srv/rules/rules.yml", "g2", text_input=rules)
    room.ssh("cat >/srv/rules/rules_test.yml", "g2", text_input=RULES.read_text())
    assert "SUCCESS" in room.ssh("cd /srv/rules && promtool test rules rules_test.yml 2>&1", "g2")


def test_strangers_see_nothing_through_the_internal_listener(room: Room) -> None:
    said = room.client("inner", address="10.95.0.12:8444")
    assert said["without"] == "refused" and said["gateway_metrics"] == 404 and said["closed"] == 404
    assert said["health"] == 200


@pytest.mark.long
def test_certificates_are_listed_revoked_and_renewed_while_streams_run(room: Room) -> None:
    listed = room.play("certificates", "--check")
    assert re.search(r"g1 +gateway +valid", listed) and re.search(r"g2 +internal +valid", listed)
    assert changed(room.play("certificates")) == 0
    said = json.dumps({"key": room.keys["alice-0"], "tokens": 600, "pause": 0.1, "model": "other"})
    room.ssh("cat >/srv/said.json", text_input=said)
    room.ssh("nohup python3 /srv/client.py stream </srv/said.json >/srv/stream.json 2>&1 &")
    assert re.search(r"g1 +gateway +revoked", room.play("certificates", revoke="g1"))
    assert room.client("inner", address="10.95.0.12:8444")["health"] == "refused"
    # Nothing is issued to it before somebody says so; everything else goes on.
    assert "are revoked since" in room.play("gateway")
    assert room.client("inner", address="10.95.0.12:8444")["health"] == "refused"
    assert changed(room.play("certificates", renew="g1")) > 0
    assert room.client("inner", address="10.95.0.12:8444")["health"] == 200
    assert changed(room.play("certificates")) == 0
    room.ssh("timeout 120 sh -c 'until grep -q tokens /srv/stream.json; do sleep 0.5; done'")
    assert json.loads(room.ssh("cat /srv/stream.json"))["tokens"] == 600


def test_no_secret_is_left_anywhere(room: Room) -> None:
    secrets = {*room.keys.values()}
    assert len(secrets) >= 3
    assert [name for name in secrets if name in room.said] == []
    # The words come over standard input, so that the search does not find itself.
    look = (
        "cat >/run/secrets; for f in $(find / -xdev -type f -size -4M -perm -o=r -not -path '/proc/*' -not -path '/sys/*' "
        "-newer /etc/machine-id 2>/dev/null); do grep -lFf /run/secrets $f 2>/dev/null; done; "
        "journalctl --no-pager -o cat | grep -cFf /run/secrets; ps axww -o args | grep -cFf /run/secrets; "
        "grep -rlFf /run/secrets /etc/sglang /run/sglang-gateway 2>/dev/null; rm /run/secrets"
    )
    for host in ("g1", "g2"):
        room.ssh("umask 077; :>/run/secrets", host)
        found = room.ssh(look, host, text_input="\n".join(secrets) + "\n", check=False).split()
        assert [
            line for line in found if line not in ("0", "/run/secrets", "/srv/stream.json", "/srv/said.json")
        ] == []
    private = room.ssh("find /etc/sglang /etc/sglang-monitoring -name '*.key' -perm /o=rwx", check=False)
    assert private == ""
    # The authority's key is on the controller, for its owner alone.
    (key,) = (room.folder / "authority").glob("*.key")
    assert key.stat().st_mode & 0o777 == 0o600
    for host in ("g1", "g2"):
        words = f"grep -rlF '{key.read_text().splitlines()[1]}' /etc /var/lib /srv /root 2>/dev/null"
        assert room.ssh(words, host, check=False) == ""


def test_it_goes_without_a_trace(room: Room) -> None:
    room.ssh("rm -r /opt/sglang")
    room.play("remove")
    for host in ("g1", "g2"):
        away = " ".join(
            f"-not -path '{path}'"
            for path in ("*/journal/*", "/run/systemd/*", "*/sglang-[abo]*.service", "/run/*.lock")
        )
        left = f"find /etc /run /var/lib -xdev -name '*sglang*' {away}"
        assert room.ssh(left, host).split() == []
        assert (
            room.ssh("ss -Htln | awk '{print $4}' | grep -E ':(443|8444|9090|9100)$'", host, check=False)
            == ""
        )
        assert "masked" not in room.ssh("systemctl is-enabled haproxy", host, check=False)
