# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where weights come from, as the inventory says it, and which files of a model are taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from ..core.refusals import Refusal, RefusedError, did_you_mean

TOKEN_KEYS = ("token_env", "token_file")
KEYS: dict[str, tuple[str, ...]] = {
    "modelscope": ("id", "revision", "endpoint", *TOKEN_KEYS),
    "huggingface": ("id", "revision", "endpoint", *TOKEN_KEYS),
    "http": ("url", "files", *TOKEN_KEYS),
    "directory": ("path",),
    "bundle": ("path",),
}
REQUIRED = {"http": "url", "directory": "path", "bundle": "path"}
HUBS = ("modelscope", "huggingface")


@dataclass(frozen=True)
class Source:
    type: str
    where: str
    """The inventory key that says it, for messages."""
    id: str = ""
    revision: str = ""
    """Commit, tag or branch; empty means the hub's default branch."""
    endpoint: str = ""
    url: str = ""
    path: str = ""
    files: tuple[str, ...] = ()
    token_env: str = ""
    token_file: str = ""

    @property
    def name(self) -> str:
        return f"{self.type} {self.id or self.url or self.path}"


@dataclass(frozen=True)
class Wanted:
    """One model at one revision that some host needs."""

    model: str
    revision: str
    sources: tuple[Source, ...]
    take: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    hosts: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.model}/{self.revision}"


def read_sources(given: Any, known: Iterable[str]) -> tuple[dict[str, list[Source]], list[Refusal]]:
    """`weights_sources` of the inventory, typed, with every slip in it."""
    if not given:
        return {}, []
    if not isinstance(given, Mapping):
        return {}, [
            _refusal(
                "weights_sources",
                "must be a mapping of models",
                "write: {MODEL: [{type: directory, path: ...}]}",
            )
        ]
    names, found, refusals = list(known), {}, []
    for model, entries in given.items():
        where = f"weights_sources.{model}"
        if model not in names:
            refusals.append(
                _refusal(where, "no such model in the catalogue or the plan", did_you_mean(str(model), names))
            )
        if not isinstance(entries, list) or not entries:
            refusals.append(
                _refusal(where, "must be a list of sources", f"give a list; types: {', '.join(KEYS)}")
            )
            continue
        sources = []
        for number, entry in enumerate(entries):
            source, problems = _source(f"{where}[{number}]", entry)
            refusals += problems
            if source is not None:
                sources.append(source)
        found[str(model)] = sources
    return found, refusals


def _source(where: str, entry: Any) -> tuple[Source | None, list[Refusal]]:
    if not isinstance(entry, Mapping):
        return None, [_refusal(where, "must be a mapping", "write {type: modelscope}, or another type")]
    kind = str(entry.get("type", ""))
    if kind not in KEYS:
        return None, [_refusal(f"{where}.type = {kind}", "no such type of source", did_you_mean(kind, KEYS))]
    refusals = []
    for key in entry:
        if key == "token":
            fix = "put it into an environment variable and name that with token_env, or into a file with token_file"
            refusals.append(_refusal(f"{where}.token", "a token in the inventory ends up in logs", fix))
        elif key != "type" and key not in KEYS[kind]:
            refusals.append(
                _refusal(f"{where}.{key}", f"unknown key of {kind}", did_you_mean(str(key), KEYS[kind]))
            )
    needed = REQUIRED.get(kind)
    if needed and not entry.get(needed):
        refusals.append(_refusal(f"{where}.{needed}", "is missing", f"{kind} needs {needed}"))
    if all(entry.get(key) for key in TOKEN_KEYS):
        refusals.append(_refusal(where, "names two tokens", "keep token_env or token_file"))
    for key in ("url", "endpoint"):
        refusals += _address(f"{where}.{key}", entry.get(key))
    if refusals:
        return None, refusals
    values = {key: str(entry[key]) for key in KEYS[kind] if key != "files" and entry.get(key)}
    return Source(type=kind, where=where, files=tuple(map(str, entry.get("files") or ())), **values), []


def _address(where: str, value: Any) -> list[Refusal]:
    if not value:
        return []
    parts = urlsplit(str(value))
    if parts.username or parts.password:
        shown = f"{parts.scheme}://...@{parts.hostname}"
        fix = "take them out; use token_env, token_file or the machine's netrc"
        return [_refusal(f"{where} = {shown}", "holds a name or password, which ends up in logs", fix)]
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [_refusal(f"{where} = {value}", "must be an http(s) address", "write http://HOST/PATH")]
    return []


def _refusal(where: str, what: str, fix: str) -> Refusal:
    return Refusal("weights-source", "", where, what, fix)


def wanted_of_plans(
    plans: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, list[Source]],
    files_of: Mapping[str, Mapping[str, Any]],
    remote_code: Iterable[str],
    policy: Mapping[str, Any],
) -> list[Wanted]:
    """Each model once, however many hosts need it; raises what no source is known for."""
    hosts: dict[tuple[str, str], list[str]] = {}
    items: dict[tuple[str, str], Mapping[str, Any]] = {}
    for host, plan in plans.items():
        for instance in plan["instances"].values():
            weights = instance["weights"]
            key = (weights["model"], weights["revision"])
            items[key] = weights
            if host not in hosts.setdefault(key, []):
                hosts[key].append(host)
    code, found, refusals = set(remote_code), [], []
    for (model, revision), weights in sorted(items.items()):
        chosen = _with_defaults(sources.get(model) or _default(model), weights)
        if not chosen:
            refusals.append(
                _refusal(
                    f"weights_sources.{model}",
                    f"nothing says where the weights of {model} come from: no hub publishes them",
                    f"add weights_sources: {{{model}: [{{type: directory, path: /where/they/are}}]}} to the inventory",
                )
            )
            continue
        own = files_of.get(model, {})
        take = (*policy["take"], *own.get("take", ()), *(policy["take_remote_code"] if model in code else ()))
        leave = (*policy["leave"], *own.get("leave", ()))
        found.append(Wanted(model, revision, tuple(chosen), take, leave, tuple(hosts[model, revision])))
    if refusals:
        raise RefusedError(refusals)
    return found


def _default(model: str) -> list[Source]:
    if model.startswith("/"):
        return [Source("directory", f"serve: model = {model}", path=model)]
    return [Source(hub, f"files/models: {model}") for hub in HUBS]


def _with_defaults(sources: Iterable[Source], weights: Mapping[str, Any]) -> list[Source]:
    """Hubs get the catalogue's names, and its commit wins over what the inventory says."""
    ids, revisions = weights.get("sources", {}), weights.get("revisions", {})
    found = []
    for source in sources:
        if source.type not in HUBS:
            found.append(source)
            continue
        repository = source.id or ids.get(source.type, "")
        if repository:
            revision = revisions.get(source.type) or source.revision
            found.append(
                Source(**{**source.__dict__, "id": repository, "revision": revision}),
            )
    return found


def selected(names: Iterable[str], take: Iterable[str], leave: Iterable[str]) -> list[str]:
    """The files that an engine needs; never pickles beside safetensors."""
    taken, left = list(take), list(leave)
    return sorted(
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in taken)
        and not any(fnmatchcase(name, pattern) for pattern in left)
    )
