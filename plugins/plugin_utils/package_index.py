# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Package indexes: which there are, what they offer, and reading files from them.

The default one comes from the configuration of pip on this machine, others from `bundle_indexes`; nothing here
knows a host name, and no message shows an address, which may hold a password.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Pin, Wheel

SIMPLE_API = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
DEFAULT = "default"
ATTEMPTS = 4
BACK_OFF_SECONDS = 1.0
TIMEOUT_SECONDS = 60
POOL = 16
CHUNK = 1 << 20
BUSY = (429, 500, 502, 503, 504)


@cache
def pip_settings() -> dict[str, str]:
    """What pip is configured with on this machine, files and environment together."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
    ranked = sorted(found, key=lambda entry: ("global", "install", ":env:").index(entry[0]))
    return {name: value for _unused, name, value in ranked}


def default_addresses(settings: Mapping[str, str]) -> list[str]:
    """The default index of pip and uv, then the further ones that pip is told of."""
    address = os.environ.get("UV_DEFAULT_INDEX") or settings.get("index-url")
    if not address:
        from pip._internal.models.index import PyPI

        address = PyPI.simple_url
    return [address, *re.split(r"\s+|\\n", settings.get("extra-index-url", ""))]


class _Links(HTMLParser):
    """The links of an index page in HTML, which is all that many mirrors speak."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]


def files_of_page(name: str, page: str, text: str, is_json: bool) -> list[Wheel]:
    """The files that a project's page of the simple API offers, source archives too."""
    if is_json:
        links = [
            (entry["url"], entry["hashes"].get("sha256", ""), entry.get("size") or 0)
            for entry in json.loads(text)["files"]
        ]
    else:
        parser = _Links()
        parser.feed(text)
        parts = [link.partition("#sha256=") for link in parser.found]
        links = [(link, digest[:64], 0) for link, _unused, digest in parts]
    return [
        Wheel(name, unquote(urlsplit(link).path.rsplit("/", 1)[-1]), digest, urljoin(page, link), size)
        for link, digest, size in links
    ]


def session_of(settings: Mapping[str, str]) -> Any:
    """Certificates and proxies as pip has them; requests itself heeds the usual variables and ~/.netrc."""
    import requests
    from urllib3.util import Retry

    session = requests.Session()
    session.verify = settings.get("cert", True)
    if proxy := settings.get("proxy"):
        session.proxies = {"http": proxy, "https": proxy}
    retries = Retry(
        total=ATTEMPTS,
        backoff_factor=BACK_OFF_SECONDS,
        status_forcelist=BUSY,
        allowed_methods=["GET", "HEAD"],
        raise_on_status=False,
    )
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=POOL, max_retries=retries)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class Web:
    """Reads pages and files of http, https and file addresses."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.session = session_of(settings)

    def page(self, address: str) -> tuple[str, bool] | None:
        """A page and whether it is JSON; None where there is none."""
        if address.startswith("file:"):
            path = local(address) / "index.html"
            return (path.read_text(encoding="utf-8"), False) if path.is_file() else None
        answer = self.session.get(address, headers={"Accept": SIMPLE_API}, timeout=TIMEOUT_SECONDS)
        if answer.status_code in (404, 410):
            return None
        if not answer.ok:
            raise FetchError(f"the package index answered {answer.status_code}")
        return answer.text, "json" in answer.headers.get("Content-Type", "")

    def size(self, address: str) -> int:
        """0 where it is not said."""
        if address.startswith("file:"):
            return local(address).stat().st_size
        answer = self.session.head(
            address,
            headers={"Accept-Encoding": "identity"},
            allow_redirects=True,
            timeout=TIMEOUT_SECONDS,
        )
        return int(answer.headers.get("Content-Length") or 0) if answer.ok else 0

    def read(self, address: str, offset: int) -> Iterator[bytes]:
        if address.startswith("file:"):
            with local(address).open("rb") as stream:
                stream.seek(offset)
                while chunk := stream.read(CHUNK):
                    yield chunk
            return
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with self.session.get(address, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
            if offset and answer.status_code in (200, 416):
                raise EOFError("the server starts again from the beginning; so must we")
            if not answer.ok:
                raise FetchError(f"the server answered {answer.status_code}")
            yield from answer.iter_content(CHUNK)


def local(address: str) -> Path:
    return Path(url2pathname(urlsplit(address).path))


class Indexes:
    """The indexes by name. Several addresses of one name are mirrors: the next is asked where one has nothing."""

    def __init__(self, named: Iterable[Mapping[str, str]] = ()) -> None:
        settings = pip_settings()
        self.web = Web(settings)
        self.addresses: dict[str, list[str]] = {}
        for entry in named:
            self.addresses.setdefault(entry["name"], []).append(entry["url"])
        if DEFAULT not in self.addresses:
            self.addresses[DEFAULT] = [item for item in default_addresses(settings) if item]

    def offered(self, pin: Pin, index: str) -> list[Wheel]:
        """The files with a hash of the lock, from the named index or else from the default one.

        An index of one vendor's builds holds few packages. The hashes say what is right, so who is asked first
        decides nothing.
        """
        failures = []
        for address in dict.fromkeys([*self.addresses[index], *self.addresses[DEFAULT]]):
            try:
                found = [file for file in self._files(address, pin.name) if file.sha256 in pin.sha256]
            except (FetchError, OSError) as error:
                failures.append(_without_address(error))
                continue
            if found:
                return found
        if failures:
            raise FetchError("; ".join(dict.fromkeys(failures)))
        return []

    def _files(self, address: str, name: str) -> list[Wheel]:
        normal = re.sub(r"[-_.]+", "-", name).lower()
        page = f"{address.rstrip('/')}/{normal}/"
        answer = self.web.page(page)
        return files_of_page(name, page, *answer) if answer else []


def _without_address(error: Exception) -> str:
    if isinstance(error, FetchError):
        return str(error)
    return f"the package index cannot be reached ({type(error).__name__})"
