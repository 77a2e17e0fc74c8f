# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user asked for under `serve:`, one value per instance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any, Callable

from ..core.refusals import Refusal, did_you_mean

UNIT_NAME = re.compile(r"^[a-z0-9][a-z0-9.-]*\Z")
HIGHEST_PORT = 65535
REQUIRED = ("model", "hosts")


@dataclass(frozen=True)
class Instance:
    """`serve.<name>` as written, types checked, nothing derived yet."""

    name: str
    model: str
    """A key of files/models, or a directory that holds a config.json."""
    hosts: tuple[str, ...]
    """Rank order; the first is the head."""
    port: int = 30000
    engine: str = "sglang"
    release: str = ""
    """Pinned by the user: a release key or a bare version; "" lets the planner choose."""
    device: str = ""
    """"cuda", "cpu" or "" for what the host has."""
    gpus: tuple[int, ...] = ()
    """Indexes of the GPUs to use on each host; empty means all, or as many as the sizes need."""
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    context_length: int | None = None
    kv_cache_dtype: str = ""
    memory_fraction: float | None = None
    speculative: bool | None = None
    """MTP/EAGLE with the model's own settings; None lets the planner choose."""
    thinking_budget: bool = False
    preserved_thinking: bool = False
    """Earlier thoughts stay in the prompt unless a request says otherwise."""
    checksum_at_start: bool = False
    """The engine itself compares every weight file with its hash before it loads."""
    standby: bool | None = None
    """Whether a second server takes its requests while it is exchanged; None: where there is room for both."""
    served_model_name: str = ""
    """Name that the API answers to; the instance's own name when empty."""
    dist_port: int | None = None
    """Port of the head where the ranks meet; the API port + 1000 when not given."""
    options: dict[str, Any] = field(default_factory=dict)
    """Any further server flag without its leading dashes."""
    environment: dict[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()
    """Files on the host, of root alone, that systemd reads further variables from: keys and passwords."""
    accept: tuple[str, ...] = ()
    """Risks taken by name."""

    def where(self, key: str, value: object = None) -> str:
        """The place in the inventory, as refusals name it."""
        shown = getattr(self, key, None) if value is None else value
        return f"serve.{self.name}.{key} = {shown}"


@dataclass(frozen=True)
class _Kind:
    words: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_port(value: Any) -> bool:
    return _is_int(value) and 1 <= value <= HIGHEST_PORT


def _is_size(value: Any) -> bool:
    return _is_int(value) and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1


def _is_names(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, list) and bool(value) and all(map(_is_text, value)))


def _is_indexes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_int(item) and item >= 0 for item in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _environment_fits(value: Any) -> bool:
    return _is_mapping(value) and all(isinstance(item, (str, int, float)) for item in value.values())


_TEXT = _Kind("text", _is_text)
_SIZE = _Kind("a whole number of at least 1", _is_size)
# Far more than any group has, and soon planned: a slip of the keyboard must not keep the planner busy.
_RANKS = _Kind("a whole number from 1 to 1024", lambda value: _is_size(value) and value <= 1024)
_PORT = _Kind("a port number from 1 to 65535", _is_port)
_TRUTH = _Kind("true or false", lambda value: isinstance(value, bool))

_KINDS: dict[str, _Kind] = {
    "model": _TEXT,
    "hosts": _Kind("a host or a list of hosts", _is_names, _names),
    "port": _PORT,
    "engine": _TEXT,
    "release": _TEXT,
    "device": _Kind("cuda or cpu", lambda value: value in ("cuda", "cpu")),
    "gpus": _Kind("a list of GPU indexes such as [0, 1]", _is_indexes, tuple),
    "tensor_parallel": _RANKS,
    "pipeline_parallel": _RANKS,
    "context_length": _SIZE,
    "kv_cache_dtype": _TEXT,
    "memory_fraction": _Kind("a number between 0 and 1", _is_fraction, float),
    "speculative": _TRUTH,
    "thinking_budget": _TRUTH,
    "preserved_thinking": _TRUTH,
    "checksum_at_start": _TRUTH,
    "standby": _TRUTH,
    "served_model_name": _TEXT,
    "dist_port": _PORT,
    "options": _Kind(
        "a mapping of server flags",
        _is_mapping,
        lambda value: {key.lstrip("-"): item for key, item in value.items()},
    ),
    "environment": _Kind(
        "a mapping of variable names to text",
        _environment_fits,
        lambda value: {key: str(item) for key, item in value.items()},
    ),
    "environment_files": _Kind("a path on the host or a list of paths", _is_names, _names),
    "accept": _Kind("a name or a list of names", lambda value: value == [] or _is_names(value), _names),
}


def known_keys() -> tuple[str, ...]:
    return tuple(item.name for item in dataclass_fields(Instance) if item.name != "name")


def instances_on(serve: Any, host: str) -> list[str]:
    """Names of the entries that name the host; what else is wrong with them is for the planner to say."""
    if not isinstance(serve, Mapping):
        return []
    given = {
        str(name): wanted.get("hosts", ()) for name, wanted in serve.items() if isinstance(wanted, Mapping)
    }
    return sorted(
        name
        for name, hosts in given.items()
        if isinstance(hosts, (str, list, tuple)) and host in _names(hosts)
    )


def parse_serve(serve: Any, inventory_hosts: Iterable[str]) -> tuple[list[Instance], list[Refusal]]:
    """Every instance that can be understood, and everything that is wrong with the rest."""
    hosts = tuple(inventory_hosts)
    refusals: list[Refusal] = []
    if not hosts:
        refusals.append(
            Refusal(
                "inventory-empty",
                "",
                "inventory",
                "the inventory has no host",
                "give an inventory with -i, such as -i inventories/a800, or add hosts to yours",
            )
        )
    if not isinstance(serve, dict) or not serve:
        shown = "is not set" if serve in (None, {}, "") else f"is {_type_name(serve)}"
        refusals.append(
            Refusal(
                "serve-empty",
                "",
                "serve",
                f"{shown}: nothing is asked for",
                "add one mapping per model: serve: {glm-4.7: {model: glm-4.7-awq, hosts: [gpu-01]}}",
            )
        )
        return [], refusals
    instances: list[Instance] = []
    for name, wanted in serve.items():
        instance, problems = _parse_instance(str(name), wanted, hosts)
        refusals += problems
        if instance is not None:
            instances.append(instance)
    return instances, refusals + collisions(instances)


def _type_name(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "a mapping" if isinstance(value, dict) else "empty")


def _parse_instance(name: str, wanted: Any, hosts: tuple[str, ...]) -> tuple[Instance | None, list[Refusal]]:
    place = f"serve.{name}"
    refusals: list[Refusal] = []
    if not UNIT_NAME.match(name):
        legal = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.") or "model"
        refusals.append(
            Refusal(
                "instance-name",
                "",
                place,
                f"{name!r} cannot be the name of a unit: only a-z, 0-9, dots and dashes",
                f"call it {legal}",
            )
        )
    if not isinstance(wanted, dict):
        refusals.append(
            Refusal(
                "serve-type",
                "",
                place,
                f"is {_type_name(wanted)}, not a mapping",
                f"write serve: {{{name}: {{model: ..., hosts: [...]}}}}",
            )
        )
        return None, refusals
    values: dict[str, Any] = {}
    for key, value in wanted.items():
        kind = _KINDS.get(key)
        if kind is None:
            refusals.append(_unknown_key(place, str(key), value))
        elif not kind.fits(value):
            refusals.append(
                Refusal(
                    "serve-type",
                    "",
                    f"{place}.{key} = {value!r}",
                    f"{_type_name(value)} does not fit here",
                    f"give {kind.words}{_unquoted(kind, value)}",
                )
            )
        else:
            values[key] = kind.convert(value)
    for key in REQUIRED:
        if key not in wanted:
            refusals.append(
                Refusal(
                    "serve-missing",
                    "",
                    f"{place}.{key}",
                    f"{key} is missing",
                    f"add {key}: {_KINDS[key].words}",
                )
            )
    refusals += _host_problems(place, values.get("hosts", ()), hosts)
    if not all(key in values for key in REQUIRED):
        return None, refusals
    return Instance(name=name, **values), refusals


def _unquoted(kind: _Kind, value: Any) -> str:
    """A number that only its quotes make text."""
    text = value.strip() if isinstance(value, str) else ""
    return f": {text} without quotes" if text.isdigit() and kind.fits(int(text)) else ""


def _unknown_key(place: str, key: str, value: Any) -> Refusal:
    dashed = key.lstrip("-").replace("_", "-")
    if key == "replicas":
        fix = "write each replica as an instance of its own: other hosts, the same served_model_name"
    elif dashed.replace("-", "_") in known_keys():
        fix = f"write {dashed.replace('-', '_')}"
    elif key.startswith("-") or "-" in key:
        fix = f"a server flag goes below options: {place}.options.{dashed}: {value}"
    else:
        fix = did_you_mean(key, known_keys())
    return Refusal("serve-unknown-key", "", f"{place}.{key}", f"unknown instance key {key}", fix)


def _host_problems(place: str, members: tuple[str, ...], hosts: tuple[str, ...]) -> list[Refusal]:
    refusals = []
    for position, member in enumerate(members):
        if member in members[:position]:
            refusals.append(
                Refusal(
                    "member-twice",
                    member,
                    f"{place}.hosts[{position}] = {member}",
                    "a host can be a member only once; the order of hosts is the rank order",
                    f"remove the second {member}",
                )
            )
        elif hosts and member not in hosts:
            refusals.append(
                Refusal(
                    "host-not-in-inventory",
                    "",
                    f"{place}.hosts[{position}] = {member}",
                    f"{member} is not in the inventory",
                    did_you_mean(member, hosts),
                )
            )
    return refusals


def collisions(instances: Iterable[Instance]) -> list[Refusal]:
    """Two instances that want the same API port on one host."""
    taken: dict[tuple[str, int], str] = {}
    refusals = []
    for instance in instances:
        for host in instance.hosts:
            other = taken.setdefault((host, instance.port), instance.name)
            if other != instance.name:
                refusals.append(
                    Refusal(
                        "port-twice",
                        host,
                        instance.where("port"),
                        f"serve.{other} already has port {instance.port} on this host",
                        f"give serve.{instance.name} another port, such as "
                        f"{_free_port(instance.port, host, taken)}",
                    )
                )
    return refusals


def _free_port(port: int, host: str, taken: Mapping[tuple[str, int], str]) -> int:
    while (host, port) in taken:
        port += 1
    return port
