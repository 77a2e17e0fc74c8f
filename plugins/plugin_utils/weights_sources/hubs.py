# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of a hub: its own client says which commit a revision is and what the files are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import (
    Interrupted,
    Patience,
    RemoteFile,
    Settings,
    SourceError,
    patiently,
    token_of,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.over_http import (
    FOR_NOW,
    HttpTransfer,
    bearer,
    retry_after,
)

COMMIT = re.compile(r"^[0-9a-f]{40}\Z")


def _translated(error: Exception, revision: str) -> Exception:
    """What a client's exception means for us; its text may hold addresses, so it is not repeated."""
    response = getattr(error, "response", None)
    code = getattr(response, "status_code", None) or getattr(error, "status_code", None)
    kind = type(error).__name__
    if code in FOR_NOW or (isinstance(code, int) and code >= 500):
        return Interrupted(f"the hub answered {code}", retry_after(getattr(response, "headers", {})))
    if code in (401, 403) or "Gated" in kind:
        return SourceError(f"the hub does not give it to this token ({kind})")
    if "Revision" in kind or code == 404:
        return SourceError(f"the hub has no such model, or no revision {revision or 'of the default branch'}")
    if "NotExist" in kind or "NotFound" in kind:
        return SourceError(f"the hub has no such model, or no revision {revision or 'of the default branch'}")
    if "Offline" in kind:
        return SourceError(f"the client was told to stay offline ({kind})")
    return Interrupted(f"the hub could not be asked ({kind})")


class HuggingFace:
    def __init__(self, source: Source, settings: Settings, patience: Patience) -> None:
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        token = token_of(source)
        api = HfApi(endpoint=source.endpoint or None, token=token or None)

        def ask() -> Any:
            try:
                return api.model_info(
                    source.id, revision=source.revision or None, files_metadata=True, timeout=60
                )
            except Exception as error:
                raise _translated(error, source.revision) from None

        info = patiently(source.name, patience, ask)
        commit = str(info.sha or "")
        if not COMMIT.match(commit):
            raise SourceError(f"the hub names no commit for revision {source.revision or 'main'}")
        self.origin = {"type": "huggingface", "id": source.id, "commit": commit}
        self.files = [
            RemoteFile(
                item.rfilename,
                int(item.size or 0),
                item.lfs.sha256 if item.lfs else "",
                "" if item.lfs else str(item.blob_id or ""),
            )
            for item in info.siblings or ()
        ]
        self._url = lambda name: hf_hub_url(
            source.id, name, revision=commit, endpoint=source.endpoint or None
        )
        self.transfer = HttpTransfer(settings, build_hf_headers(token=token or None))

    def read(self, name: str, offset: int) -> Iterator[bytes]:
        return self.transfer.read(self._url(name), offset)


class ModelScope:
    def __init__(self, source: Source, settings: Settings, patience: Patience) -> None:
        from modelscope.hub.api import HubApi

        token = token_of(source)
        self.client = HubApi(endpoint=source.endpoint or None, token=token or None)._api.legacy
        self.id, self.patience, self.name = source.id, patience, source.name
        entries = self._list(source.revision or "master")
        commit = source.revision if COMMIT.match(source.revision) else self._commit(entries, source)
        self.origin = {"type": "modelscope", "id": source.id, "commit": commit}
        self.files = [
            RemoteFile(str(entry["Path"]), int(entry.get("Size") or 0), str(entry.get("Sha256") or ""))
            for entry in entries
        ]
        held = self.client.token or ""
        self.transfer = HttpTransfer(settings, bearer(held))

    def _list(self, revision: str) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            try:
                found = self.client.list_repo_files(self.id, "model", revision=revision, recursive=True)
            except Exception as error:
                raise _translated(error, revision) from None
            return [entry for entry in found if entry.get("Type") != "tree"]

        return list(patiently(self.name, self.patience, ask))

    def _commit(self, entries: list[dict[str, Any]], source: Source) -> str:
        """The hub names the commit of each file only: the newest one must give this very list, or it is not it."""
        dated = [
            (int(entry.get("CommittedDate") or 0), str(entry.get("Revision") or ""))
            for entry in entries
            if COMMIT.match(str(entry.get("Revision") or ""))
        ]
        commit = max(dated)[1] if dated else ""
        if not commit or _content(self._list(commit)) != _content(entries):
            raise SourceError(
                f"revision {source.revision or 'master'} is not a commit of the hub; "
                f"say one in {source.where}.revision"
            )
        return commit

    def read(self, name: str, offset: int) -> Iterator[bytes]:
        url = self.client.get_download_url(self.id, "model", name, self.origin["commit"])
        return self.transfer.read(url, offset)


def _content(entries: list[dict[str, Any]]) -> set[tuple[str, str, int]]:
    return {
        (str(item["Path"]), str(item.get("Sha256") or ""), int(item.get("Size") or 0)) for item in entries
    }
