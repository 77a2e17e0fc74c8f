# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small stand-in wheels of the right names, tags and variants, and package indexes that offer them."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
import zipfile
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder

X86, ARM = "manylinux_2_28_x86_64", "manylinux_2_28_aarch64"
UV = "uv-0.13.8-py3-none-manylinux_2_17_{arch}.manylinux2014_{arch}.whl"
BULK = 40_000


def wheel(folder: Path, filename: str, licence: str = "License-Expression: MIT", salt: str = "") -> Path:
    """A real archive with metadata; its content follows from its name and the salt alone."""
    name, version = filename.split("-")[:2]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / filename
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{licence}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (
            (f"{name}/__init__.py", (filename + salt) * (BULK // len(filename))),
            (f"{name}-{version}.dist-info/METADATA", metadata),
        ):
            archive.writestr(zipfile.ZipInfo(member), content)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock(path: Path, wheels: list[Path]) -> Path:
    """Pins as a resolver writes them: all hashes of one version together, and no address."""
    pins: dict[str, list[str]] = {}
    for item in wheels:
        name, version = item.name.removesuffix(".tar.gz").split("-")[:2]
        pins.setdefault(f"{name.replace('_', '-')}=={version}", []).append(f"--hash=sha256:{sha256(item)}")
    lines = [" \\\n    ".join([pin, *hashes]) for pin, hashes in sorted(pins.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


class Handler(http.server.BaseHTTPRequestHandler):
    """`/INDEX/NAME/` lists, `/INDEX/files/FILE` sends; the server's `broken` files end early once each time listed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(send=True)

    def do_HEAD(self) -> None:
        self._answer(send=False)

    def _answer(self, send: bool) -> None:
        root: Path = self.server.root
        path = root / self.path.lstrip("/")
        self.server.asked.append((self.command, self.path, self.headers.get("Range", "")))
        if self.path.endswith("/"):
            files = sorted(path.parent.glob("files/*"))
            mine = [item for item in files if item.name.split("-")[0].replace("_", "-") == path.name]
            if not mine:
                self._head(404, 0)
                return
            links = "".join(f'<a href="../files/{item.name}#sha256={sha256(item)}">f</a>' for item in mine)
            body, start = links.encode(), 0
        elif not path.is_file() or path.name in self.server.gone:
            self._head(404, 0)
            return
        else:
            body = path.read_bytes()
            start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self._head(206 if start else 200, len(body) - start)
        if not send:
            return
        if path.name in self.server.broken:
            self.server.broken.remove(path.name)
            self.wfile.write(body[start : start + 1000])
            self.close_connection = True
            return
        for at in range(start, len(body), 4096):
            self.wfile.write(body[at : at + 4096])
            self.server.slowly.wait(self.server.pause)

    def _head(self, status: int, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Market(http.server.ThreadingHTTPServer):
    """Several indexes on one port of this machine, each a folder with `files/`."""

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.asked: list[tuple[str, str, str]] = []
        self.broken: list[str] = []
        self.gone: set[str] = set()
        self.pause, self.slowly = 0.0, threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that is gone is what some tests are about."""

    def url(self, index: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{index}"

    def indexes(self, *names: str) -> list[dict[str, str]]:
        return [{"name": name, "url": self.url(name)} for name in names]

    def sent(self) -> list[str]:
        return [path for method, path, _unused in self.asked if method == "GET" and not path.endswith("/")]


VARIANTS = [
    ("cu126", "x86_64", "3.11"),
    ("cu128", "x86_64", "3.11"),
    ("cu130", "x86_64", "3.12"),
    ("cu128", "aarch64", "3.11"),
]


class World:
    """The indexes `default`, `pytorch-cu126`, `-cu128` and `-cu130`, a lock for each variant, and one for uv."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.market = Market(folder / "market")
        files = folder / "market/default/files"
        self.uv_lock = lock(
            folder / "uv.txt", [wheel(files, UV.format(arch=arch)) for arch in ("x86_64", "aarch64")]
        )
        self.common = [
            wheel(files, "sglang-0.5.7-py3-none-any.whl", "License-Expression: Apache-2.0"),
            wheel(files, "some_text-1.0-py3-none-any.whl", "License: " + "word " * 100),
            wheel(files, "orjson-3.1-cp311-cp311-manylinux_2_17_x86_64.whl", "License: BSD\nLicense: x"),
            wheel(files, "orjson-3.1-cp312-cp312-manylinux_2_17_x86_64.whl"),
            wheel(files, "orjson-3.1-cp311-cp311-manylinux_2_17_aarch64.whl"),
        ]
        self.locks = {variant: self._lock(*variant) for variant in VARIANTS}

    def _lock(self, cuda: str, arch: str, python: str) -> Path:
        tag = f"cp{python.replace('.', '')}"
        torch = wheel(
            self.folder / f"market/pytorch-{cuda}/files",
            f"torch-2.9.1+{cuda}-{tag}-{tag}-manylinux_2_28_{arch}.whl",
        )
        return lock(self.folder / f"locks/0.5.7-{cuda}-{arch}-py{python}.txt", [*self.common, torch])

    def builder(self, name: str = "bundle", base: dict[str, Any] | None = None, **more: Any) -> BundleBuilder:
        indexes = self.market.indexes("default", "pytorch-cu126", "pytorch-cu128", "pytorch-cu130")
        return BundleBuilder(
            self.folder / name, self.folder / more.get("cache", "cache"), print, indexes, base
        )

    def add(self, builder: BundleBuilder, *variants: tuple[str, str, str]) -> BundleBuilder:
        for cuda, arch, python in variants or VARIANTS:
            where = self.locks[cuda, arch, python]
            builder.add_environment(where, python, arch, "2.35", cuda, f"pytorch-{cuda}", "0.5.7")
            builder.add_installer(self.uv_lock, arch, "2.35")
        return builder

    def upgraded(self, cuda: str = "cu128", arch: str = "x86_64", python: str = "3.11") -> None:
        """The lock of a release one patch away: one wheel is another."""
        newer = wheel(
            self.folder / "market/default/files",
            "sglang-0.5.8-py3-none-any.whl",
            "License-Expression: Apache-2.0",
        )
        torch = next((self.folder / f"market/pytorch-{cuda}/files").glob(f"*{arch}.whl"))
        lock(self.locks[cuda, arch, python], [newer, *self.common[1:], torch])

    def run(self, builder: BundleBuilder, sign_key: Path | None = None) -> bool:
        with builder.place.alone():
            builder.prepare()
            builder.fill()
            return builder.finish(sign_key)

    def bundle(
        self, name: str = "bundle", *variants: tuple[str, str, str], sign_key: Path | None = None
    ) -> Path:
        self.run(self.add(self.builder(name), *variants), sign_key)
        return self.folder / name

    def close(self) -> None:
        self.market.shutdown()
        self.market.server_close()


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(source: Path, dest: Path) -> Path:
    return Path(shutil.copytree(source, dest))
