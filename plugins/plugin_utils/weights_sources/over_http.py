# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights over HTTP: a mirror that serves plain files, and the transfer that hubs share."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import (
    MANIFEST,
    ManifestError,
    from_text,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import (
    FromTheStart,
    Interrupted,
    Patience,
    RemoteFile,
    Settings,
    SourceError,
    patiently,
    token_of,
)

READ = 1 << 18
CONNECT_SECONDS = 15
SUMS = "SHA256SUMS"
FOR_NOW = (408, 425, 429)
SUMS_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$", re.MULTILINE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, or a date: a server may say both."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\d+(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


class HttpTransfer:
    """Ranges of files over one pool of connections; proxies and netrc are those of the machine."""

    def __init__(
        self, settings: Settings, headers: Mapping[str, str], cookies: Mapping[str, str] | None = None
    ) -> None:
        import requests

        self.settings = settings
        self.errors = (requests.RequestException,)
        self.session = requests.Session()
        self.session.headers.update({"Accept-Encoding": "identity", **headers})
        self.session.cookies.update(cookies or {})
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=settings.parallel)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    def request(self, method: str, url: str, **options: Any) -> Any:
        """An answer that is good, or an error that says whether to ask again."""
        timeout = (CONNECT_SECONDS, self.settings.stall_seconds)
        try:
            answer = self.session.request(method, url, timeout=timeout, allow_redirects=True, **options)
        except self.errors as error:
            raise Interrupted(f"no answer ({type(error).__name__})") from error
        if answer.status_code < 400:
            return answer
        answer.close()
        code = answer.status_code
        if code in FOR_NOW or code >= 500:
            raise Interrupted(f"the server answered {code}", retry_after(answer.headers))
        if code == 416:
            raise FromTheStart
        words = {401: " (a token is needed, or this one is not good)", 403: " (not allowed with this token)"}
        raise SourceError(f"the server answered {code}{words.get(code, '')}")

    def read(self, url: str, offset: int) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self.request("GET", url, headers=headers, stream=True)
        with answer:
            if offset and answer.status_code != 206:
                raise FromTheStart
            since, moved = time.monotonic(), 0
            while True:
                try:
                    block = answer.raw.read1(READ)
                except (HTTPError, OSError) as error:
                    raise Interrupted(f"the connection broke ({type(error).__name__})") from error
                if not block:
                    return
                yield block
                moved += len(block)
                passed = time.monotonic() - since
                if passed >= self.settings.slow_seconds:
                    if moved / passed < self.settings.slow_bytes_per_second:
                        raise Interrupted(f"too slow: {moved / passed / 1e3:.1f} kB/s")
                    since, moved = time.monotonic(), 0


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


class Mirror:
    """Files below an address: listed by a manifest, by SHA256SUMS or in the inventory."""

    def __init__(self, source: Source, settings: Settings, patience: Patience) -> None:
        self.base = source.url.rstrip("/")
        self.transfer = HttpTransfer(settings, bearer(token_of(source)))
        self.patience = patience
        self.origin = {"type": "http", "id": self.base}
        self.files = (
            self._from_manifest() or self._from_sums() or [self._looked_up(name) for name in source.files]
        )
        if not self.files:
            raise SourceError(
                f"{self.base}: has neither {MANIFEST} nor {SUMS}; list the files in {source.where}.files"
            )

    def _address(self, name: str) -> str:
        return f"{self.base}/{quote(name)}"

    def _text(self, name: str) -> str:
        def ask() -> str:
            try:
                return str(self.transfer.request("GET", self._address(name)).text)
            except SourceError as error:
                if "answered 404" in str(error):
                    return ""
                raise

        return str(patiently(name, self.patience, ask))

    def _from_manifest(self) -> list[RemoteFile]:
        text = self._text(MANIFEST)
        if not text:
            return []
        try:
            manifest = from_text(text, self._address(MANIFEST))
        except ManifestError as error:
            raise SourceError(str(error)) from error
        self.origin = {**manifest["source"], "by": "http", "mirror": self.base}
        return [RemoteFile(entry["path"], entry["size"], entry["sha256"]) for entry in manifest["files"]]

    def _from_sums(self) -> list[RemoteFile]:
        return [
            self._looked_up(name.removeprefix("./"), digest)
            for digest, name in SUMS_LINE.findall(self._text(SUMS))
        ]

    def _looked_up(self, name: str, sha256: str = "") -> RemoteFile:
        answer = patiently(name, self.patience, lambda: self.transfer.request("HEAD", self._address(name)))
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise SourceError(f"{name}: the server does not say how long it is")
        return RemoteFile(name, int(length), sha256)

    def read(self, name: str, offset: int) -> Iterator[bytes]:
        return self.transfer.read(self._address(name), offset)
