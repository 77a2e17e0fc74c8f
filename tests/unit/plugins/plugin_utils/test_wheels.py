# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import wheels

RANKS = wheels.wheel_tags("3.11", "x86_64", "2.36")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["a-1-py3-none-any.whl"], "a-1-py3-none-any.whl"),
        (
            ["a-1-py3-none-any.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"],
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (
            ["a-1-cp310-abi3-manylinux2014_x86_64.whl", "a-1-py3-none-any.whl"],
            "a-1-cp310-abi3-manylinux2014_x86_64.whl",
        ),
        (["a-1-cp312-cp312-manylinux_2_28_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_28_aarch64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_39_x86_64.whl"], None),
        (["a-1-cp311-cp311-win_amd64.whl", "no wheel.whl"], None),
    ],
)
def test_best_wheel_is_what_an_installer_would_take(offered: list[str], chosen: str | None) -> None:
    best = wheels.best_wheel([wheels.Wheel("a", name, "") for name in offered], RANKS)
    assert (best.filename if best else None) == chosen


def test_parse_lock_reads_pins_with_all_their_hashes() -> None:
    hashes = [f"--hash=sha256:{letter * 64}" for letter in "abc"]
    lines = [
        "one==1.0 \\",
        f"  {hashes[0]} \\",
        f"  {hashes[1]}",
        f"two[x]==2 ; python_version > '3' {hashes[2]}",
    ]
    text = "\n".join(lines)
    assert wheels.parse_lock(text) == [
        wheels.Pin("one", "1.0", frozenset({"a" * 64, "b" * 64})),
        wheels.Pin("two", "2", frozenset({"c" * 64})),
    ]


@pytest.mark.parametrize("as_json", [True, False])
def test_wheels_of_page_reads_json_and_html(as_json: bool) -> None:
    digest = "d" * 64
    page = "http://index.invalid/simple/a/"
    if as_json:
        files = [
            {
                "filename": "a-1-py3-none-any.whl",
                "url": "../../f/a-1-py3-none-any.whl",
                "hashes": {"sha256": digest},
            },
            {"filename": "a-1.tar.gz", "url": "x/a-1.tar.gz", "hashes": {}},
        ]
        text = json.dumps({"files": files})
    else:
        text = f'<html><a href="../../f/a-1-py3-none-any.whl#sha256={digest}">a</a><a href="x/a-1.tar.gz">b</a></html>'
    assert wheels.wheels_of_page("a", page, text, as_json) == [
        wheels.Wheel("a", "a-1-py3-none-any.whl", digest, "http://index.invalid/f/a-1-py3-none-any.whl")
    ]


class Handler(http.server.SimpleHTTPRequestHandler):
    """An index in HTML; `server.broken` files end early once."""

    def do_GET(self) -> None:
        path = Path(self.directory) / self.path.lstrip("/")
        if self.path.endswith("/"):
            links = "".join(
                f'<a href="/files/{file.name}#sha256={hashlib.sha256(file.read_bytes()).hexdigest()}">f</a>'
                for file in (Path(self.directory) / "files").iterdir()
            )
            body, start = links.encode(), 0
        else:
            body = path.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.server.asked.append((path.name, start))
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if path.name in self.server.broken:
            self.server.broken.remove(path.name)
            self.wfile.write(body[start : start + 1000])
            return
        self.wfile.write(body[start:])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "files").mkdir()
    for name in ("one", "two"):
        (tmp_path / "files" / f"{name}-1-py3-none-any.whl").write_bytes(name.encode() * 5000)
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(tmp_path))
    )
    server.asked, server.broken = [], set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setattr(wheels, "BACK_OFF_SECONDS", 0.01)
    monkeypatch.setattr(wheels, "CHUNK", 500)
    yield server
    server.shutdown()


def pins_of(folder: Path) -> list[wheels.Pin]:
    return [
        wheels.Pin(file.name.split("-")[0], "1", frozenset({hashlib.sha256(file.read_bytes()).hexdigest()}))
        for file in sorted((folder / "files").iterdir())
    ]


def test_fetches_once_and_then_needs_no_index(index, tmp_path: Path) -> None:
    said: list[str] = []
    cache = wheels.WheelCache(tmp_path / "cache", said.append)
    paths = cache.complete(pins_of(tmp_path), RANKS)
    assert [path.name for path in paths] == ["one-1-py3-none-any.whl", "two-1-py3-none-any.whl"]
    assert any("2 of 2 wheels" in line for line in said)
    index.asked.clear()
    assert cache.complete(pins_of(tmp_path), RANKS) == paths
    assert index.asked == []


def test_a_download_that_broke_off_goes_on_where_it_stopped(index, tmp_path: Path) -> None:
    index.broken.add("one-1-py3-none-any.whl")
    wheels.WheelCache(tmp_path / "cache", print).complete(pins_of(tmp_path), RANKS)
    starts = [start for name, start in index.asked if name.startswith("one")]
    assert starts[0] == 0
    assert starts[-1] > 0


def test_another_content_than_the_lock_names_is_refused_with_all_names(index, tmp_path: Path) -> None:
    pins = pins_of(tmp_path)
    page = wheels.Index.files

    def lying(self: wheels.Index, name: str) -> list[wheels.Wheel]:
        other = "two" if name == "one" else "one"
        wanted = next(pin for pin in pins if pin.name == name)
        return [
            wheels.Wheel(name, f"{name}-1-py3-none-any.whl", next(iter(wanted.sha256)), wheel.url)
            for wheel in page(self, name)
            if wheel.filename.startswith(other)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheels.Index, "files", lying)
        with pytest.raises(wheels.FetchError, match=r"(?s)one==1.*sha256 differs.*two==1.*sha256 differs"):
            wheels.WheelCache(tmp_path / "cache", print).complete(pins, RANKS)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_wheel_that_the_index_lacks_is_named(index, tmp_path: Path) -> None:
    pin = wheels.Pin("three", "3", frozenset({"e" * 64}))
    with pytest.raises(wheels.FetchError, match="three==3: the index has no wheel with a hash of the lock"):
        wheels.WheelCache(tmp_path / "cache", print).complete([pin], RANKS)
