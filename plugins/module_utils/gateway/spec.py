# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user asked for under `gateway:` and `monitoring:`; types checked, nothing derived yet."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from ..core.refusals import Refusal, did_you_mean
from .certificates import name_error

HIGHEST_PORT = 65535
ENDPOINT = re.compile(r"(GET|POST|PUT|DELETE|PATCH) /[A-Za-z0-9._/-]*")
GPU_SOURCES = ("auto", "dcgm", "nvidia-smi", "none")


@dataclass(frozen=True)
class Gateway:
    hosts: tuple[str, ...] = ()
    port: int = 0
    inner_port: int = 0
    address: str = "*"
    """Where the gateway listens: * for every address of the host."""
    names: tuple[str, ...] = ()
    """Names and addresses that a certificate of ours is made for, beside those of the hosts."""
    certificate: str = ""
    """A file on the controller with the certificate and its chain; empty: one of the own authority."""
    key: str = ""
    instances: tuple[str, ...] = ()
    """What is reached through it; empty: everything that is served."""
    endpoints: tuple[str, ...] = ()
    """Opened beside the OpenAI-style ones."""
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Monitoring:
    prometheus: str = ""
    """A host of the inventory that gets Prometheus; empty: none."""
    files_dir: str = ""
    """A folder on the controller for what an existing Prometheus needs; empty: nothing is written."""
    hosts: tuple[str, ...] = ()
    """Watched; empty: every host that serves, or is a gateway."""
    gpu: str = "auto"
    scrape_seconds: int = 0
    retention_days: int = 0
    retention_gib: int = 0


@dataclass(frozen=True)
class _Kind:
    words: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_address(value: Any) -> bool:
    # A number would be taken for an address as well, and a zone is nothing that HAProxy reads.
    if not isinstance(value, str) or "%" in value:
        return False
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: fits(value) or (isinstance(value, list) and bool(value) and all(map(fits, value)))


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_PORT = _Kind("a port number from 1 to 65535", lambda value: _is_int(value) and 1 <= value <= HIGHEST_PORT)
_NUMBER = _Kind("a whole number of at least 1", lambda value: _is_int(value) and value >= 1)
_TEXT = _Kind("text", _is_text)
_NAMES = _Kind("a name or a list of names", _list_of(_is_text), _tuple)

_GATEWAY: dict[str, _Kind] = {
    "hosts": _NAMES,
    "port": _PORT,
    "inner_port": _PORT,
    "address": _Kind(
        "an IPv4 or IPv6 address of the hosts, or *", lambda value: value == "*" or is_address(value)
    ),
    "names": _Kind(
        "host names or addresses, or a wildcard such as *.llm.example",
        _list_of(lambda value: not name_error(value, wildcard=True)),
        _tuple,
    ),
    "certificate": _TEXT,
    "key": _TEXT,
    "instances": _NAMES,
    "endpoints": _Kind(
        "entries such as POST /tokenize",
        _list_of(lambda value: isinstance(value, str) and bool(ENDPOINT.fullmatch(value))),
        _tuple,
    ),
    "limits": _Kind("a mapping of limits to whole numbers", lambda value: isinstance(value, dict)),
}
_MONITORING: dict[str, _Kind] = {
    "prometheus": _TEXT,
    "files_dir": _TEXT,
    "hosts": _NAMES,
    "gpu": _Kind(" or ".join(GPU_SOURCES), lambda value: value in GPU_SOURCES),
    "scrape_seconds": _NUMBER,
    "retention_days": _NUMBER,
    "retention_gib": _NUMBER,
}


def _parse(
    place: str, given: Mapping[Any, Any], kinds: Mapping[str, _Kind]
) -> tuple[dict[str, Any], list[Refusal]]:
    values, refusals = {}, []
    for key, value in given.items():
        kind = kinds.get(str(key))
        if kind is None:
            refusals.append(
                Refusal(
                    "front-unknown-key",
                    "",
                    f"{place}.{key}",
                    f"unknown key {key} of {place}",
                    did_you_mean(str(key), kinds),
                )
            )
        elif not kind.fits(value):
            refusals.append(
                Refusal(
                    "front-type",
                    "",
                    f"{place}.{key} = {value!r}",
                    "this does not fit here",
                    f"give {kind.words}",
                )
            )
        else:
            values[str(key)] = kind.convert(value)
    return values, refusals


def _hosts(place: str, named: Iterable[str], known: Iterable[str]) -> list[Refusal]:
    known = tuple(known)
    return [
        Refusal(
            "front-host",
            "",
            f"{place} = {name}",
            f"{name} is not in the inventory",
            did_you_mean(name, known),
        )
        for name in named
        if name not in known
    ]


def _no_mapping(place: str, given: Any, example: str) -> Refusal:
    return Refusal(
        "front-type",
        "",
        f"{place} = {given!r}",
        "must be a mapping of keys to values",
        f"write {place}: {example}",
    )


def parse_gateway(
    given: Any, hosts: Iterable[str], limits: Mapping[str, int]
) -> tuple[Gateway | None, list[Refusal]]:
    """None where no gateway is asked for, or where it cannot be understood."""
    if given in (None, {}):
        return None, []
    if not isinstance(given, Mapping):
        return None, [_no_mapping("gateway", given, "{hosts: [gpu-01]}")]
    values, refusals = _parse("gateway", given, _GATEWAY)
    if "hosts" not in given:
        fix = "add hosts: the hosts where clients come in, such as [gpu-01]"
        refusals.append(Refusal("front-missing", "", "gateway.hosts", "hosts is missing", fix))
    refusals += _hosts("gateway.hosts", values.get("hosts", ()), hosts)
    if bool(values.get("certificate")) != bool(values.get("key")):
        there, lacking = ("certificate", "key") if values.get("certificate") else ("key", "certificate")
        fix = f"give both, or none for a certificate of the own authority: gateway.{lacking}: FILE"
        refusals.append(
            Refusal(
                "front-missing", "", f"gateway.{lacking}", f"{lacking} is missing beside gateway.{there}", fix
            )
        )
    for name, value in values.get("limits", {}).items():
        if name not in limits:
            what, fix = "unknown limit of the gateway", did_you_mean(str(name), limits)
        elif not _is_int(value) or value < 1:
            what, fix = "does not fit here", "give a whole number of at least 1"
        else:
            continue
        refusals.append(Refusal("front-limit", "", f"gateway.limits.{name} = {value!r}", what, fix))
    return (None if refusals else Gateway(**values)), refusals


def parse_monitoring(given: Any, hosts: Iterable[str]) -> tuple[Monitoring | None, list[Refusal]]:
    known = tuple(hosts)
    if given in (None, {}):
        return None, []
    if not isinstance(given, Mapping):
        return None, [_no_mapping("monitoring", given, "{prometheus: gpu-01}")]
    values, refusals = _parse("monitoring", given, _MONITORING)
    refusals += _hosts("monitoring.hosts", values.get("hosts", ()), known)
    refusals += _hosts("monitoring.prometheus", filter(None, [values.get("prometheus", "")]), known)
    return (None if refusals else Monitoring(**values)), refusals
