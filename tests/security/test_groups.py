# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Local users of a member host and strangers against a group: the channel of the agents, and who may use the ports."""

from __future__ import annotations

import importlib.util
import json
import os
import select
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
from ansible_collections.baremetal.sglang.tests.unit.roles.test_group_agent import Cluster, in_session

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "roles/engine/files/launcher"
SECRET = bytes.fromhex("5a" * 32)
ADDRESSES = {"10.0.0.2": "g2", "10.0.0.3": "g3"}


@pytest.fixture(scope="module", autouse=True)
def launcher() -> Iterator[None]:
    sys.path.insert(0, str(LAUNCHER))
    yield
    sys.path.remove(str(LAUNCHER))
    for name in ("agent", "channel", "checks", "decisions", "fabric", "group", "processes", "notify"):
        sys.modules.pop(name, None)


class Wire:
    """Two ends and a hand on the cable between them: every byte passes through `carry`."""

    def __init__(self, member_secret: bytes = SECRET, host: str = "g2", address: str = "10.0.0.2") -> None:
        from channel import Channel

        inner, self.head_cable = socket.socketpair()
        outer, self.member_cable = socket.socketpair()
        self.head = Channel(_Tcp(inner), address, SECRET, server=True)
        self.member = Channel(_Tcp(outer), "10.0.0.1", member_secret, server=False, host=host)
        self.seen: list[bytes] = []
        for cable in (self.head_cable, self.member_cable):
            cable.setblocking(False)

    def carry(self) -> None:
        for source, target in ((self.head_cable, self.member_cable), (self.member_cable, self.head_cable)):
            try:
                block = source.recv(1 << 20)
            except BlockingIOError:
                continue
            self.seen.append(block)
            target.send(block)

    def at_head(self) -> list[dict[str, Any]]:
        import channel

        return self.head.receive(ADDRESSES, channel.FROM_MEMBER)

    def at_member(self) -> list[dict[str, Any]]:
        import channel

        return self.member.receive({}, channel.FROM_HEAD)

    def shake(self) -> Wire:
        for end in (self.at_member, self.at_head, self.at_member):
            self.carry()
            assert end() == []
        assert self.head.proven and self.member.proven
        return self


class _Tcp:
    """A socket pair that takes the options of TCP."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link

    def setsockopt(self, *_unused: object) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)


def refused(end: Any) -> str:
    from channel import ChannelError

    with pytest.raises(ChannelError) as said:
        end()
    return str(said.value)


def test_both_ends_prove_the_secret_and_it_never_travels() -> None:
    wire = Wire().shake()
    assert wire.head.host == "g2"
    wire.member.send({"group": "abc", "generation": 3})
    wire.head.send({"phase": "run", "generation": 3})
    wire.carry()
    assert wire.at_head()[0]["generation"] == 3
    assert wire.at_member()[0]["phase"] == "run"
    text = b"".join(wire.seen)
    assert SECRET not in text and SECRET.hex().encode() not in text


def test_another_secret_is_turned_away_by_either_end() -> None:
    wire = Wire(member_secret=bytes(32))
    wire.carry()
    wire.at_member()
    wire.carry()
    assert refused(wire.at_head) == "it does not have the secret of the group"
    wire.carry()
    assert refused(wire.at_member) == "the secrets of the group differ"


def test_a_head_without_the_secret_gets_no_message() -> None:
    """A program that took the first host's port while its agent was away."""
    wire = Wire()
    wire.member_cable.send(json.dumps({"nonce": "0" * 64}).encode() + b"\n")
    assert wire.at_member() == []
    wire.member.send({"group": "abc", "status": "loading"})
    wire.member_cable.send(json.dumps({"proof": "0" * 64}).encode() + b"\n")
    assert refused(wire.at_member) == "the secrets of the group differ"
    assert b"loading" not in wire.member_cable.recv(1 << 16)


def test_a_proof_that_was_heard_before_is_worth_nothing() -> None:
    first = Wire().shake()
    proof = next(block for block in first.seen if b'"host"' in block)
    second = Wire()
    second.head_cable.send(proof)
    assert refused(second.at_head) == "it does not have the secret of the group"


def test_the_proof_of_the_other_end_is_not_taken_for_ones_own() -> None:
    """The nonce and the proof of the first host, sent back to it."""
    wire = Wire()
    wire.carry()
    nonce = json.loads(wire.seen[0])["nonce"]
    other = Wire()
    other.member_cable.send(json.dumps({"nonce": nonce}).encode() + b"\n")
    other.at_member()
    hello = json.loads(other.member_cable.recv(4096))
    # The member answers anybody's nonce: with it a stranger is as far as the member itself, but has no session key.
    wire.head_cable.send(json.dumps(hello).encode() + b"\n")
    wire.at_head()
    wire.head_cable.send(b"0" * 64 + b' {"down": "x"}\n')
    assert refused(wire.at_head) == "it sent a message that is not authentic"


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"leave": false', b'"leave": true '),
        lambda line: line + b"\n" + line,
        lambda line: line[:64].upper() + line[64:] if line[:64] != line[:64].upper() else b"0" + line[1:],
        lambda line: line[65:],
        lambda line: b"\xff" * 64 + line[64:],
        lambda _line: b"",
    ],
    ids=["changed", "twice", "spelled otherwise", "without a tag", "bytes", "empty"],
)
def test_a_message_that_was_touched_ends_the_connection(change: Any) -> None:
    wire = Wire().shake()
    wire.member.send({"group": "abc", "leave": False})
    line = wire.member_cable.recv(1 << 16).rstrip(b"\n")
    wire.head_cable.send(change(line) + b"\n")
    assert refused(wire.at_head) == "it sent a message that is not authentic"


def test_messages_in_another_order_are_refused() -> None:
    wire = Wire().shake()
    for number in (1, 2):
        wire.member.send({"generation": number})
    one, two = wire.member_cable.recv(1 << 16).splitlines()
    wire.head_cable.send(two + b"\n" + one + b"\n")
    assert refused(wire.at_head) == "it sent a message that is not authentic"


def test_a_member_speaks_for_its_own_address_only() -> None:
    wire = Wire(host="g3", address="10.0.0.2")
    wire.carry()
    wire.at_member()
    wire.carry()
    assert refused(wire.at_head) == "it is not at its planned address"
    wire.carry()
    assert refused(wire.at_member) == "the address is not the planned one of this host"


BEFORE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"[" * 900 + b"\n",
    b"x" * 2000,
    b"1" * 900 + b"\n",
    b'{"host": ["g2"], "nonce": "", "proof": ""}\n',
    b'{"host": "g2", "nonce": "\\ud800", "proof": "\\ud800"}\n',
    b'{"host": "g2"}\n',
    b"{}\n",
    b"\xff\xfe\n",
    b"NaN\n",
]


@pytest.mark.parametrize("said", BEFORE, ids=[str(item[:30]) for item in BEFORE])
def test_what_comes_before_a_proof_is_small_and_changes_nothing(said: bytes) -> None:
    wire = Wire()
    wire.head_cable.send(said)
    assert refused(wire.at_head)
    assert not wire.head.proven and wire.head.host == ""


@pytest.mark.parametrize(
    "message",
    [
        {"generation": float("inf")},
        {"generation": True},
        {"generation": 1 << 60},
        {"generation": -1},
        {"time": float("nan")},
        {"time": 1e300},
        {"time": "1"},
        {"truth": {"driver": ["580"]}},
        {"truth": {str(number): "" for number in range(100)}},
        {"truth": "driver"},
        {"down": {"a": 1}},
        {"ready": "yes"},
        [1],
    ],
    ids=str,
)
def test_a_member_that_says_what_no_agent_says_is_hung_up_on(message: Any) -> None:
    wire = Wire().shake()
    if isinstance(message, dict):
        wire.member.send(message)
        wire.carry()
    else:
        text = json.dumps(message).encode()
        wire.head_cable.send(wire.member._tag(False, 1, text) + b" " + text + b"\n")
    assert refused(wire.at_head).startswith("it sent a malformed message")


def test_a_message_without_end_and_too_many_messages_end_the_connection() -> None:
    wire = Wire().shake()
    with pytest.raises(Exception, match="too long"):
        for _block in range(4):
            wire.head_cable.send(b"x" * 30_000)
            wire.at_head()
    wire = Wire().shake()
    with pytest.raises(Exception, match="too many messages"):
        for number in range(600):
            wire.member.send({"generation": number})
            wire.carry()
            wire.at_head()


def test_a_long_text_is_cut_by_the_sender_and_refused_by_the_receiver() -> None:
    wire = Wire().shake()
    wire.member.send({"status": "x" * 5000})
    wire.carry()
    assert len(wire.at_head()[0]["status"]) == 1000


@pytest.mark.parametrize(
    "text", ["a\ud800b", "a\x1b[2Jb", "a\x00b", "a\u202eb", "a\u2066b", "a\x9bb"], ids=ascii
)
def test_nothing_that_a_terminal_acts_on_or_that_cannot_be_printed_is_printed(
    text: str, capfdbinary: Any
) -> None:
    import notify

    notify.Systemd("").status(text)
    sys.stdout.flush()
    assert (
        capfdbinary.readouterr().out.decode()
        == "launcher: a\ufffd" + ("[2J" if "[2J" in text else "") + "b\n"
    )


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    import channel

    path = tmp_path / "key"
    for text in ("", "00", "z" * 64, "0" * 63, "0" * 65):
        path.write_text(text)
        with pytest.raises(ValueError, match="does not hold a secret"):
            channel.read_secret(str(path))
    path.write_text("0" * 64 + "\n")
    assert channel.read_secret(str(path)) == bytes(32)


def test_a_connection_that_was_ended_at_the_same_moment_does_not_end_the_agent() -> None:
    """Two were readable at once, and the first one's message ended the second."""
    from types import SimpleNamespace

    import agent

    first = object.__new__(agent.First)
    first.peers, first.listener = {}, None
    first.hear(SimpleNamespace(fileobj=object()))
    assert first.peers == {}


# --- who may use the ports, as the kernel has it ---

ENGINE, LOCAL = 61990, 61991
HERE, AWAY, OTHER_ADDRESS = "10.11.0.1", "10.11.0.2", "10.12.0.1"
TRIAL = """
import json, os, socket, sys
asked = json.loads(sys.argv[1])
# Loaded while the interpreter's own folder can still be read.
"x".encode("idna")

def answer(uid, work):
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            work()
            said = b"yes"
        except OSError:
            said = b"no"
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    return os.read(reader, 9).decode()

found = []
for listener, caller, target, source, port in asked:
    kept = {}
    def listen():
        kept["ear"] = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        kept["ear"].listen(8)
    # The owner of a socket is who opened it: the listener stays in this process, opened with that user's rights.
    os.seteuid(listener)
    listen()
    os.seteuid(0)
    def call():
        if source == "mptcp":
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as link:
                link.settimeout(0.5)
                link.connect((target, port))
            return
        socket.create_connection((target, port), 0.5, source_address=(source, 0) if source else None).close()
    found.append(answer(caller, call))
    kept["ear"].close()
print(json.dumps(found))
"""


def owner(**changes: Any) -> dict[str, Any]:
    return {
        "ports": [32000], "what": "it: group", "user": "sglang", "addresses": [HERE], "own": HERE, "here": True, **changes,
    }  # fmt: skip


def allowed(owners: list[dict[str, Any]], trials: list[tuple[int, int, str, str, int]]) -> list[str]:
    """In a network namespace of its own: listener, caller, target, source and port of each trial."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.firewall.table import table_text

    rule = {"port": 32000, "what": "it", "sources": [HERE, AWAY]}
    table = table_text([rule], owners, {"sglang": ENGINE})
    setup = f"ip link set lo up; ip address add {HERE}/24 dev lo; ip address add {OTHER_ADDRESS}/24 dev lo; nft -f -"
    words = ["unshare", "--net", "sh", "-c", f'{setup} && exec "$@"', "-", sys.executable, "-c", TRIAL]
    done = subprocess.run(
        [*words, json.dumps(trials)], input=table, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="a table of nftables needs root and nft"
)


@needs_nft
def test_on_the_first_host_only_root_and_the_engine_use_the_ports_of_the_group() -> None:
    """A listener on all addresses, as torch.distributed opens one, by each of the addresses that it has."""
    for target in (HERE, "127.0.0.1", OTHER_ADDRESS):
        trials = [
            (ENGINE, 0, target, "", 32000),
            (ENGINE, ENGINE, target, "", 32000),
            (ENGINE, LOCAL, target, "", 32000),
        ]
        assert allowed([owner()], trials) == ["yes", "yes", "no"], target


@needs_nft
def test_who_takes_a_port_of_the_group_first_is_not_heard() -> None:
    """Else the members would unpickle what a local user's rendezvous sends."""
    trials = [(LOCAL, ENGINE, HERE, "", 32000), (LOCAL, 0, HERE, "", 32000), (0, ENGINE, HERE, "", 32000)]
    assert allowed([owner()], trials) == ["no", "no", "yes"]


@needs_nft
def test_on_another_member_a_local_user_reaches_no_address_of_the_first_host() -> None:
    """By its planned address, or by another one with the member's address as the source."""
    member = owner(addresses=[OTHER_ADDRESS], here=False)
    trials = [
        (0, ENGINE, OTHER_ADDRESS, "", 32000),
        (0, LOCAL, OTHER_ADDRESS, "", 32000),
        (0, LOCAL, "127.0.0.1", HERE, 32000),
        (0, LOCAL, "127.0.0.1", "", 32000),
        (0, LOCAL, OTHER_ADDRESS, "", 32001),
    ]
    # Its own services on the same number, and other ports, are left alone.
    assert allowed([member], trials) == ["yes", "no", "no", "yes", "yes"]


@needs_nft
def test_neither_another_protocol_over_tcp_nor_another_family_goes_around_it() -> None:
    trials = [(ENGINE, LOCAL, "127.0.0.1", "mptcp", 32000), (ENGINE, LOCAL, "::1", "", 32000)]
    assert allowed([owner()], trials) == ["no", "no"]
    # The listener is reached that way by whoever may.
    assert allowed([owner()], [(ENGINE, ENGINE, "::1", "", 32000)]) == ["yes"]


@needs_nft
def test_a_user_that_the_host_does_not_know_leaves_the_ports_to_root() -> None:
    trials = [(0, 0, HERE, "", 32000), (0, ENGINE, HERE, "", 32000)]
    assert allowed([owner(user="nobody-here")], trials) == ["yes", "no"]


# --- real agents ---


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="grp"))
    found = Cluster(folder)
    yield found
    found.stop()
    shutil.rmtree(folder)


def call(cluster: Cluster, source: str = "127.0.0.12") -> socket.socket:
    address = ("127.0.0.11", cluster["g1"].launch["group"]["channel_port"])
    return socket.create_connection(address, 5, source_address=(source, 0))


def test_a_local_user_of_a_member_cannot_end_the_group_nor_its_agents(cluster: Cluster) -> None:
    """From the member's own address, which is all that was asked for once."""
    cluster.start()
    cluster.until(cluster.serving(1))
    agents = {host: cluster[host].process for host in ("g1", "g2", "g3")}
    claims = [
        {"host": "g2", "group": "abc", "truth": {}, "down": "it is over"},
        {"host": "g2", "group": "abc", "truth": {}, "leave": True},
        {"host": "g2", "group": "abc", "truth": {}, "status": "\ud800", "generation": 1},
        {"host": "g2", "group": "abc", "truth": {}, "generation": float("inf")},
    ]
    for claim in claims:
        with call(cluster) as stranger:
            stranger.sendall(json.dumps(claim).encode() + b"\n")
            while stranger.recv(4096):
                pass
    # Held open without a word, more of them than the agent keeps.
    silent = [call(cluster) for _number in range(60)]
    cluster.until(
        lambda: sum(bool(select.select([one], [], [], 0)[0] and not _rest(one)) for one in silent) > 20
    )
    for one in silent:
        one.close()
    assert cluster.serving(1)()
    assert {host: cluster[host].process for host in agents} == agents
    assert all(process is not None and process.poll() is None for process in agents.values())
    log = (cluster["g1"].folder / "log").read_text()
    assert "a connection from 127.0.0.12 was ended" in log
    assert log.count("a connection from 127.0.0.12 was ended") == 1


def _rest(link: socket.socket) -> bytes:
    """What is left to read after the nonce; empty where the connection was ended."""
    link.setblocking(False)
    found = b""
    try:
        while block := link.recv(4096):
            found += block
    except BlockingIOError:
        return b"open"
    except OSError:
        return b""
    return b""


def test_what_a_real_member_says_is_printed_whatever_it_is(cluster: Cluster) -> None:
    """With the secret, as an engine that was taken over has it: the group starts anew, its agents live on."""
    import channel

    cluster.start()
    cluster.until(cluster.serving(1))
    first = cluster["g1"].process
    with call(cluster, "127.0.0.13") as link:
        member = channel.Channel(link, "127.0.0.11", SECRET, server=False, host="g3")

        def proven() -> bool:
            if select.select([link], [], [], 0)[0]:
                member.receive({}, channel.FROM_HEAD)
            return member.proven

        cluster.until(proven)
        member.send({"group": "abc", "truth": {"driver": "\ud800"}, "down": "\ud800 \x1b[2J it is over"})
        cluster.until(lambda: any("generation 1 ended: g3:" in said for said in cluster["g2"].said))
    cluster.until(cluster.serving(2), 30)
    assert not any("agent failed" in said for said in cluster["g1"].said), cluster["g1"].said
    assert not any(letter in said for said in cluster["g1"].said for letter in "\ud800\x1b")
    assert first is not None and in_session(cluster["g1"].session)


def test_an_agent_without_the_secret_says_so_and_does_not_start(cluster: Cluster) -> None:
    Path(cluster["g1"].launch["group"]["secret"]).unlink()
    cluster.start("g1")
    cluster.until(lambda: cluster["g1"].code == 79)
    cluster.until(lambda: "the secret of the group is not usable" in cluster["g1"].status)


def test_a_member_with_another_secret_is_waited_for_by_name(cluster: Cluster) -> None:
    other = cluster["g3"].folder / "other.key"
    other.write_text("a5" * 32)
    cluster["g3"].write(secret=str(other))
    cluster.start()
    cluster.until(lambda: "the secrets of the group differ" in cluster["g3"].status)
    cluster.until(lambda: "2 of 3 members, waiting for g3" in cluster["g1"].status)
    assert os.path.exists(other)


# --- the measurements between hosts ---

GATE_HOSTS = {"a": "127.0.0.2", "b": "127.0.0.3"}


def gate_spec(port: int, me: str, token: str = SECRET.hex()) -> dict[str, Any]:
    return {
        "me": me, "token": token,
        "hosts": {host: {"address": address, "devices": []} for host, address in GATE_HOSTS.items()},
        "rounds": [[["a", "b"]]], "measures": ["tcp"],
        "settings": {"ports": {"meet": port, "tcp": port + 100}, "seconds": 1, "tcp_seconds": 0.1, "tcp_streams": 1, "patience": 3},
    }  # fmt: skip


@pytest.fixture
def gate() -> Any:
    spec = importlib.util.spec_from_file_location("gate", ROOT / "roles/fabric/files/gate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gate_port() -> int:
    with socket.create_server((GATE_HOSTS["b"], 0)) as found:
        return int(found.getsockname()[1]) % 40000 + 2000


def reached(address: tuple[str, int], source: str) -> socket.socket:
    for _try in range(100):
        try:
            return socket.create_connection(address, 2, source_address=(source, 0))
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    raise AssertionError("nothing listens")


def test_who_does_not_know_the_token_is_not_taken_for_a_member(gate: Any, gate_port: int) -> None:
    """It comes from the member's address, says the member's name, and first."""
    rows: dict[str, Any] = {}
    follower = threading.Thread(
        target=lambda: rows.update(b=gate.Tournament(gate_spec(gate_port, "b")).run()), daemon=True
    )
    follower.start()
    address = (GATE_HOSTS["b"], gate_port)
    silent = [reached(address, GATE_HOSTS["a"]) for _number in range(5)]
    claims = [
        {"host": "a", "round": 0},
        {"host": "a", "round": 0, "nonce": "0" * 64, "proof": "0" * 64},
        {"host": "a", "round": 0, "nonce": "", "proof": "\ud800"},
        {"host": "a", "round": "0", "nonce": [], "proof": None},
    ]
    for claim in claims:
        with reached(address, GATE_HOSTS["a"]) as stranger:
            stranger.sendall(json.dumps(claim).encode() + b"\n" + json.dumps({"do": "end"}).encode() + b"\n")
            heard = b""
            try:
                while block := stranger.recv(4096):
                    heard += block
            except ConnectionResetError:
                pass
            assert b"proof" not in heard
    with reached(address, GATE_HOSTS["a"]) as stranger:
        stranger.sendall(b"[" * 100_000)
    leader = gate.Tournament(gate_spec(gate_port, "a")).run()
    follower.join(30)
    assert [row["kind"] for row in leader] == ["tcp", "tcp"]
    assert all("error" not in row for row in leader), leader
    for one in silent:
        one.close()


def test_a_program_in_the_place_of_a_member_is_named(gate: Any, gate_port: int) -> None:
    """Its port is taken by somebody who does not know the token: no figure of its own is believed."""
    squatter = threading.Thread(
        target=lambda: gate.Tournament(gate_spec(gate_port, "b", "00" * 32)).run(), daemon=True
    )
    squatter.start()
    (row,) = gate.Tournament(gate_spec(gate_port, "a")).run()
    assert row["kind"] == "" and row["error"]


def test_the_bytes_of_a_stranger_are_not_counted(gate: Any, gate_port: int) -> None:
    measure = gate.Tcp(gate_spec(gate_port, "b"))
    measure.receive()
    address = (GATE_HOSTS["b"], gate_port + 100)
    for source, said in (("127.0.0.9", b"x" * 100), (GATE_HOSTS["a"], b"x" * 100), (GATE_HOSTS["a"], b"")):
        with socket.create_connection(address, 2, source_address=(source, 0)) as stranger:
            stranger.sendall(said)
    measure.settings["tcp_seconds"] = 0.1
    sender = gate.Tcp(gate_spec(gate_port, "a"))
    sender.send(gate_spec(gate_port, "a")["hosts"]["b"])
    measure.received()
    # What the real sender sent is whole blocks, but for the last one.
    assert measure.counted >= gate.BLOCK
