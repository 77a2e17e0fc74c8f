# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host's part in a fan-out: seeds what it has verified, fetches the rest, ends by itself.

Called with a folder that holds order.json (what to do, and where libtorrent lies) and content.torrent, and one that it
writes status.json and resume.data into, so that a killed agent goes on where it was; without the second, the first is
both. Speaks to the planned addresses only. Exit status: 0 all hosts are complete or it was told to end, 1 a failure that status.json names.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import Any

HOME = sys.argv[1]
NOTES = sys.argv[2] if len(sys.argv) > 2 else HOME
with open(os.path.join(HOME, "order.json"), encoding="utf-8") as order_file:
    ORDER = json.load(order_file)
# In front of all, and this program's own folder, which an isolated interpreter leaves out.
sys.path[:0] = [ORDER["library"], os.path.dirname(os.path.abspath(__file__))]

# The folder is left as it was.
sys.dont_write_bytecode = True

import libtorrent as lt
from judge import Judge

TICK = 0.2
STATUS_EVERY = 1.0
RESUME_EVERY = 1.0
CONNECT_EVERY = 0.5
OTHER_SIDE_CALLS = 0.1
ORDER_EVERY = 0.5
# When nothing came for so long, a host that left the source to the others turns back to it, and who is cut off without
# proof is let in again.
SILENCE = 2.0
# A complete agent stays this long after it has seen the others complete, so that they see it too.
LINGER = 3.0
WANTED, OURS = 1, 7
# The protocol's. swarm_metainfo has it too; the agent runs without the collection.
BLOCK = 16 << 10
KINDS = lt.alert.category_t
ALERTS = int(
    KINDS.error_notification
    | KINDS.status_notification
    | KINDS.storage_notification
    | KINDS.peer_notification
    | KINDS.ip_block_notification
    | KINDS.piece_progress_notification
)
# Where a damaged piece has come: who gave which block (thousands of lines a second), and whole pieces from one peer.
CAREFUL = {
    "alert_mask": ALERTS | int(KINDS.block_progress_notification),
    "whole_pieces_threshold": 3600,
}
EVERYBODY = (("0.0.0.0", "255.255.255.255"), ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))


def in_home(name: str) -> str:
    return os.path.join(HOME, name)


def in_notes(name: str) -> str:
    return os.path.join(NOTES, name)


def write(name: str, content: bytes) -> None:
    with open(in_notes(name + ".new"), "wb") as stream:
        stream.write(content)
    os.replace(in_notes(name + ".new"), in_notes(name))


def boot() -> str:
    """Of the order, because a confined agent does not see the kernel's own word."""
    if "boot" in ORDER:
        return str(ORDER["boot"])
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def settings(order: dict[str, Any]) -> dict[str, Any]:
    """Every way to be found or to find others is off; what is left is TCP to the planned addresses."""
    address = order["address"]
    shown = f"[{address}]" if ":" in address else address
    no_encryption = int(lt.enc_policy.pe_disabled)
    return {
        "listen_interfaces": f"{shown}:{order['port']}",
        "outgoing_interfaces": address,
        "listen_system_port_fallback": False,
        "max_retry_port_bind": 0,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_ip_notifier": False,
        "dht_bootstrap_nodes": "",
        "webtorrent_stun_server": "",
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "in_enc_policy": no_encryption,
        "out_enc_policy": no_encryption,
        "user_agent": "baremetal-sglang-swarm",
        # Everybody may fetch from everybody all the time: the hosts work together.
        "unchoke_slots_limit": -1,
        "connections_limit": len(order["peers"]) * 3 + 10,
        "close_redundant_connections": False,
        "min_reconnect_time": 1,
        "max_failcount": 1_000_000,
        "peer_connect_timeout": 5,
        "handshake_timeout": 10,
        "peer_timeout": 20,
        "inactivity_timeout": 60,
        "piece_timeout": 10,
        "request_timeout": 15,
        "smooth_connects": False,
        "upload_rate_limit": order["rate_limit"],
        "download_rate_limit": order["rate_limit"],
        # Bounds of the memory that is used beside the page cache.
        # Little is kept back before it is written: a piece is passed on, and survives a kill, once it is on disk.
        "max_queued_disk_bytes": 4 << 20,
        "send_buffer_watermark": 1 << 20,
        "send_buffer_low_watermark": 128 << 10,
        # What a host has asked of the source it does not ask of the others: short queues, no whole pieces at once.
        # The other side's bound counts too: each tells the other how much it takes.
        "max_out_request_queue": 64,
        "max_allowed_in_request_queue": 64,
        "request_queue_time": 1,
        "whole_pieces_threshold": 0,
        # A disk that failed is not tried again: the run says so.
        "optimistic_disk_retry": 1_000_000,
        "file_pool_size": 64,
        "aio_threads": 4,
        "hashing_threads": 2,
        "suggest_mode": 0,
        "alert_queue_size": 20_000,
        "alert_mask": ALERTS,
        **order.get("settings", {}),
    }


class Tally:
    """Bytes by address, kept when a connection ends and a new one begins."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        self._running: dict[tuple[str, int], int] = {}

    def see(self, connection: tuple[str, int], total: int) -> None:
        before = self._running.get(connection, 0)
        if total < before:
            self._ended[connection[0]] = self._ended.get(connection[0], 0) + before
        self._running[connection] = total

    def totals(self) -> dict[str, int]:
        found = dict(self._ended)
        for (address, _unused), total in self._running.items():
            found[address] = found.get(address, 0) + total
        return {address: total for address, total in sorted(found.items()) if total}


class Agent:
    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.started = time.monotonic()
        self.fetched, self.given = Tally(), Tally()
        self.seen_complete: set[str] = set()
        self.connected: set[str] = set()
        self.failed_pieces: list[int] = []
        self.strangers: dict[str, int] = {}
        self.problem = ""
        self.moved_at_release = 0
        self.progress_at = self.came_at = self.started
        self.came_before = 0
        self.complete_since = 0.0
        self.left_source = False
        with open(in_home("content.torrent"), "rb") as stream:
            self.parameters = lt.load_torrent_buffer(stream.read())
        self.info = self.parameters.ti
        self.paths = [os.path.join(order["folder"], path) for path in order["paths"]]
        self.session = self.make_session()
        self.torrent = self.add_torrent()
        self.judge = Judge(self.blocks_of)
        self.bytes_before = -1

    def make_session(self) -> Any:
        parameters = lt.session_params()
        parameters.settings = settings(self.order)
        # Plain reads and writes: mapped files would count as this process's memory and stay in the cache.
        parameters.disk_io_constructor = "pread_disk_io_constructor"
        parameters.ip_filter = self.only(self.order["peers"])
        session = lt.session(parameters)
        # Addresses of the local network would otherwise be free of the rate limit.
        for_all = lt.peer_class_type_filter()
        session.set_peer_class_type_filter(for_all)
        everyone = lt.ip_filter()
        for first, last in EVERYBODY:
            everyone.add_rule(first, last, 1 << session.global_peer_class_id)
        session.set_peer_class_filter(everyone)
        return session

    @staticmethod
    def only(peers: Any) -> Any:
        allowed = lt.ip_filter()
        for first, last in EVERYBODY:
            allowed.add_rule(first, last, 1)
        for peer in peers:
            allowed.add_rule(peer, peer, 0)
        return allowed

    def add_torrent(self) -> Any:
        order, parameters = self.order, self.parameters
        resumed = self.resumed()
        if resumed is not None:
            resumed.ti = parameters.ti
            parameters = resumed
        parameters.save_path = order["folder"]
        parameters.renamed_files = dict(zip(self.real_files(), order["paths"]))
        parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
        flags = lt.torrent_flags
        parameters.flags = flags.disable_dht | flags.disable_lsd | flags.disable_pex | flags.apply_ip_filter
        if order["verified"]:
            # Every piece is judged when it is first asked for; nothing is read before.
            # A source is never repaired by what others send: it only gives.
            parameters.flags |= flags.seed_mode | flags.upload_mode
        share, shares = order["share"]
        self.ours = {piece for piece in range(self.info.num_pieces()) if shares and piece % shares == share}
        self.shared = bool(shares)
        if shares:
            # Each receiver asks first for a part of its own, so that the source sends each piece about once.
            parameters.piece_priorities = [
                OURS if piece in self.ours else WANTED for piece in range(self.info.num_pieces())
            ]
        return self.session.add_torrent(parameters)

    def real_files(self) -> list[int]:
        """The library fills each file up to whole pieces with one that is not there; those have numbers too."""
        files = self.info.layout()
        padding = files.flag_pad_file
        return [index for index in range(files.num_files()) if not files.file_flags(index) & padding]

    def resumed(self) -> Any:
        """What an agent before this one had verified. After a new boot nothing is trusted: all is read again."""
        try:
            with open(in_notes("resume.data"), "rb") as stream:
                noted, content = stream.read().split(b"\n", 1)
            return lt.read_resume_data(content) if noted == self.notes_hold_for() else None
        except (OSError, ValueError, RuntimeError):
            return None

    def notes_hold_for(self) -> bytes:
        return f"{boot()} {self.order.get('place', self.order['folder'])}".encode()

    def run(self) -> int:
        signal.signal(signal.SIGTERM, self.ask_to_end)
        self.asked_to_end = False
        told = connected = ordered = 0.0
        # Not at once: notes that say "nothing yet" would hide what lies in the folder from the next agent.
        resumed = time.monotonic()
        was_complete = False
        while True:
            time.sleep(TICK)
            for alert in self.session.pop_alerts():
                self.hear(alert)
            now = time.monotonic()
            status = self.torrent.status()
            self.look_at_peers()
            if now - connected >= CONNECT_EVERY:
                connected = now
                self.connect()
            if status.total_payload_download != self.came_before:
                self.came_before, self.came_at = status.total_payload_download, now
            self.judge_the_banned(now, status)
            if self.shared and now - ordered >= ORDER_EVERY:
                ordered = now
                self.leave_what_others_have(status.pieces)
                self.turn_to_the_others(now, status)
            verdict = self.verdict(now, status)
            just_complete = status.is_seeding and not was_complete
            was_complete = status.is_seeding
            if now - told >= STATUS_EVERY or just_complete or verdict is not None:
                told = now
                self.tell(status, verdict)
                self.release_cache(status)
            if now - resumed >= RESUME_EVERY and not status.is_seeding:
                resumed = now
                self.torrent.save_resume_data(lt.save_resume_flags_t.only_if_modified)
            if verdict is not None:
                return self.end(verdict)

    def ask_to_end(self, *_unused: Any) -> None:
        self.asked_to_end = True

    def hear(self, alert: Any) -> None:
        if isinstance(alert, lt.save_resume_data_alert):
            write("resume.data", self.notes_hold_for() + b"\n" + lt.write_resume_data_buf(alert.params))
        elif isinstance(alert, (lt.file_error_alert, lt.torrent_error_alert, lt.listen_failed_alert)):
            self.problem = self.problem or alert.message()
        elif isinstance(alert, lt.peer_ban_alert):
            self.judge.banned(alert.endpoint[0])
        elif isinstance(alert, lt.block_finished_alert):
            self.judge.came(alert.piece_index, alert.block_index, alert.endpoint[0])
        elif isinstance(alert, lt.piece_finished_alert):
            self.judge.passed(alert.piece_index)
        elif isinstance(alert, lt.hash_failed_alert):
            if not self.failed_pieces:
                self.session.apply_settings(CAREFUL)
            self.failed_pieces.append(alert.piece_index)
            self.judge.failed(alert.piece_index)
            if self.order["verified"]:
                part = self.info.map_block(alert.piece_index, 0, 1)[0]
                name = self.order["paths"][self.real_files().index(part.file_index)]
                self.problem = (
                    self.problem or f"the source is damaged: {name} differs at byte {part.offset} or after"
                )
        elif isinstance(alert, lt.peer_blocked_alert) and alert.endpoint[0] not in self.order["peers"]:
            address = alert.endpoint[0]
            self.strangers[address] = self.strangers.get(address, 0) + 1

    def blocks_of(self, piece: int) -> int:
        return -(-self.info.piece_size(piece) // BLOCK)

    def judge_the_banned(self, now: float, status: Any) -> None:
        """An honest peer, a source above all, is not left outside for what another one sent."""
        if status.is_seeding:
            return
        again = self.judge.pardon(now - self.came_at > SILENCE)
        if again:
            # An address that the filter blocks is forgotten, with what it was blamed for.
            self.session.set_ip_filter(self.only(self.welcome - again))
            self.session.set_ip_filter(self.only(self.welcome))

    def look_at_peers(self) -> None:
        self.connected = set()
        for peer in self.torrent.get_peer_info():
            address, port = peer.ip
            if peer.flags & (peer.connecting | peer.handshake):
                continue
            self.connected.add(address)
            self.fetched.see((address, port), peer.total_download)
            self.given.see((address, port), peer.total_upload)
            if peer.flags & peer.seed:
                self.seen_complete.add(address)

    def leave_what_others_have(self, held: list[bool]) -> None:
        """A piece of our part that somebody fetched before us comes from them, not from the source again."""
        spread = self.torrent.piece_availability()
        sources = len(self.connected & self.seen_complete)
        elsewhere = [piece for piece in self.ours if spread and spread[piece] > sources]
        self.ours.difference_update(elsewhere)
        self.ours = {piece for piece in self.ours if not (held and held[piece])}
        if elsewhere:
            self.torrent.prioritize_pieces([(piece, WANTED) for piece in elsewhere])

    def turn_to_the_others(self, now: float, status: Any) -> None:
        """With our part done, the source is left to those who still need theirs; the rest comes from them.

        Not while somebody is away, and not when nothing comes: then the source is called again.
        """
        sources = set(self.order["sources"])
        others = set(self.order["peers"]) - sources
        enough = bool(others) and not self.ours and others <= self.connected
        leave = enough and not status.is_seeding and now - self.came_at < SILENCE
        if leave != self.left_source:
            self.left_source = leave
            self.session.set_ip_filter(self.only(self.welcome))

    @property
    def welcome(self) -> set[str]:
        """Whom this agent speaks to just now."""
        away = set(self.order["sources"]) if self.left_source else set()
        return set(self.order["peers"]) - away - set(self.judge.cut_off)

    def connect(self) -> None:
        """Peers that are away are called again and again, mostly by one side: two calls that cross end each other."""
        for peer in self.welcome - self.connected:
            if self.order["address"] < peer or random.random() < OTHER_SIDE_CALLS:
                self.torrent.connect_peer((peer, self.order["port"]))

    def verdict(self, now: float, status: Any) -> str | None:
        moved = status.total_payload_download + status.total_payload_upload
        if moved != self.bytes_before:
            self.bytes_before, self.progress_at = moved, now
        if self.problem:
            return "failed"
        if self.asked_to_end:
            return "ended"
        if now - self.started > self.order["lifetime"]:
            self.problem = f"its lifetime of {self.order['lifetime']} s is over"
            return "failed"
        if status.is_seeding and self.seen_complete >= set(self.order["peers"]):
            self.complete_since = self.complete_since or now
            return "complete" if now - self.complete_since > LINGER else None
        if now - self.progress_at > self.order["patience"]:
            return self.out_of_patience(status)
        return None

    def out_of_patience(self, status: Any) -> str:
        if status.is_seeding:
            return "complete"
        lacking = self.info.num_pieces() - status.num_pieces
        self.problem = (
            f"nothing came for {self.order['patience']} s and {lacking} of {self.info.num_pieces()} pieces lack; "
            f"connected: {', '.join(sorted(self.connected)) or 'nobody'}"
        )
        return "failed"

    def tell(self, status: Any, verdict: str | None) -> None:
        """The file that the controller reads: one small read tells all."""
        state = verdict or ("seeding" if status.is_seeding else str(status.state).rsplit(".", 1)[-1])
        guilty = self.judge.guilty()
        report = {
            "state": state,
            "problem": self.problem,
            "complete": bool(status.is_seeding),
            "bytes": status.total_done,
            "total": self.info.total_size(),
            "rate": status.download_payload_rate,
            "rate_up": status.upload_payload_rate,
            "seconds": round(time.monotonic() - self.started, 1),
            "from": self.fetched.totals(),
            "to": self.given.totals(),
            "connected": sorted(self.connected),
            "complete_peers": sorted(self.seen_complete),
            "refused": guilty,
            "suspected": sorted(set(self.judge.cut_off) - set(guilty)),
            "strangers": self.strangers,
            "failed_pieces": len(self.failed_pieces),
            "failed_bytes": status.total_failed_bytes,
            "pid": os.getpid(),
        }
        write("status.json", json.dumps(report).encode())

    def release_cache(self, status: Any) -> None:
        """Gives pages back that this agent filled: what is passed on must not push out what serves."""
        moved = status.total_payload_download + status.total_payload_upload
        if moved - self.moved_at_release >= self.order["cache"]:
            self.moved_at_release = moved
            self.forget_pages()

    def forget_pages(self) -> None:
        for path in self.paths:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def end(self, verdict: str) -> int:
        """Leaves the disk in a state that the next agent can trust."""
        self.session.pause()
        if verdict != "complete":
            self.torrent.save_resume_data(lt.save_resume_flags_t.flush_disk_cache)
            deadline = time.monotonic() + 5
            waiting = True
            while waiting and time.monotonic() < deadline:
                self.session.wait_for_alert(200)
                for alert in self.session.pop_alerts():
                    self.hear(alert)
                    waiting = waiting and not isinstance(
                        alert, (lt.save_resume_data_alert, lt.save_resume_data_failed_alert)
                    )
        self.forget_pages()
        return 1 if verdict == "failed" else 0


if __name__ == "__main__":
    sys.exit(Agent(ORDER).run())
