# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway and internal listener of each host, and the refusals that concern them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.device_nodes import NVIDIA_SMI
from ..core.refusals import Refusal, did_you_mean
from ..facts.schema import HostFacts
from ..gateway.certificates import PROMETHEUS_FILES
from ..gateway.spec import Gateway, Monitoring, parse_gateway, parse_monitoring
from . import gateway_names
from .case import Inputs
from .gateway_certificates import name_refusals, owner_refusals, planned_certificates
from .monitoring import gpu_source, metric_names, target
from .plan import InstancePlan, plain

Made = Mapping[str, Mapping[str, InstancePlan]]
"""Host -> instance -> plan."""
LISTENER_NAMES = {"front": "HTTPS port", "inner": "internal listener"}


@dataclass(frozen=True)
class Head:
    """The member of an instance that answers requests."""

    instance: str
    model: str
    host: str
    port: int
    standby: str = ""
    """The server that stands in while this one is exchanged."""
    standby_port: int = 0
    token: str = "/health"
    """Path that tells whether its engine makes tokens."""
    metrics: str = "/metrics"


def heads(made: Made, standbys: Made | None = None) -> list[Head]:
    found = []
    for host, plans in made.items():
        for name, plan in plans.items():
            if plan.parallel["node_rank"] == 0:
                second = (standbys or {}).get(host, {}).get(name)
                spare = (second.name, second.ports[0].port) if second else ("", 0)
                found.append(
                    Head(
                        name,
                        plan.served_model_name,
                        host,
                        plan.ports[0].port,
                        *spare,
                        plan.api.token,
                        plan.api.metrics,
                    )
                )
    return sorted(found, key=lambda head: (head.model, head.instance, head.host))


def gateway_sections(
    inputs: Inputs, made: Made, standbys: Made | None = None
) -> tuple[dict[str, Any], dict[str, Any], list[Refusal]]:
    """{host: section} of the gateway, the same of monitoring, and all that is wrong with what was asked for."""
    hosts = inputs.hosts or tuple(inputs.facts)
    policy = inputs.policy
    gateway, refusals = parse_gateway(inputs.gateway, hosts, policy["gateway"]["limits"])
    monitoring, said = parse_monitoring(inputs.monitoring, hosts)
    refusals += said
    if refusals or not (gateway or monitoring):
        return {}, {}, refusals
    asked = gateway or Gateway()
    found = heads(made, standbys)
    refusals += _certificate(inputs, asked)
    refusals += [*_unknown_instances(asked, found), *name_refusals(inputs, asked, hosts)]
    wanted = [head for head in found if not asked.instances or head.instance in asked.instances]
    if gateway and not wanted and not asked.instances:
        fix = "serve something, or take gateway out of the inventory"
        refusals.append(Refusal("front-instance", "", "gateway.hosts", "there is nothing behind it", fix))
    if gateway:
        refusals += gateway_names.models([(head.instance, head.model) for head in wanted])
    watched = _watched(monitoring, made, asked)
    refusals += gateway_names.hosts(inputs.addresses, {*asked.hosts, *_behind(asked, wanted), *watched})
    refusals += gateway_names.instances(
        name for head in found for name in (head.instance, head.standby) if name
    )
    collectors = [monitoring.prometheus] if monitoring and monitoring.prometheus else []
    refusals += _unread(inputs, {*asked.hosts, *watched, *collectors})
    sections = {}
    for host in sorted({*asked.hosts, *_behind(asked, wanted), *watched}):
        facts = inputs.facts.get(host)
        if facts is None:
            continue
        section = _section(inputs, asked, facts)
        if host in asked.hosts:
            section["front"] = _front(inputs, asked, host, wanted)
        if host in watched or host in _behind(asked, wanted):
            section["inner"] = {
                **_inner(inputs, asked, host, found),
                # Whose certificates are accepted, beside the role that they are issued for.
                "gateways": sorted(asked.hosts),
                "collectors": [
                    *collectors,
                    *([PROMETHEUS_FILES] if monitoring and monitoring.files_dir else []),
                ],
            }
        section["certificates"] = planned_certificates(inputs, asked, host, section)
        refusals += owner_refusals(host, section)
        refusals += [*_ports(asked, section, facts, made.get(host, {})), *_packages(section, facts)]
        sections[host] = section
    for section in sections.values():
        section["first"] = asked.hosts[0] if asked.hosts else ""
    watching = _monitoring(inputs, monitoring, sections, watched, found) if monitoring else {}
    for host, section in watching.items():
        refusals += _packages(section, inputs.facts[host])
    return plain(sections), plain(watching), refusals


def _unknown_instances(asked: Gateway, found: Iterable[Head]) -> list[Refusal]:
    known = {head.instance for head in found}
    return [
        Refusal(
            "front-instance", "", f"gateway.instances = {name}", "no such instance is served", did_you_mean(name, known)
        )
        for name in asked.instances
        if name not in known
    ]  # fmt: skip


def _unread(inputs: Inputs, wanted: Iterable[str]) -> list[Refusal]:
    return [
        Refusal(
            "front-facts",
            host,
            "gateway and monitoring",
            "nothing is known of this host",
            "read it (playbooks/facts.yml), or give declared_hardware",
        )
        for host in sorted(wanted)
        if host not in inputs.facts
    ]


def _behind(asked: Gateway, wanted: Iterable[Head]) -> set[str]:
    """Hosts whose engines some gateway reaches from another host: engines listen on the loopback address."""
    return {head.host for head in wanted for host in asked.hosts if head.host != host}


def _watched(monitoring: Monitoring | None, made: Made, asked: Gateway) -> list[str]:
    if monitoring is None:
        return []
    return sorted(monitoring.hosts or {*made, *asked.hosts})


def _section(inputs: Inputs, asked: Gateway, facts: HostFacts) -> dict[str, Any]:
    policy = inputs.policy["gateway"]
    base = policy["configuration"]
    return {
        "host": facts.host,
        "account": policy["account"],
        "limits": {**policy["limits"], **asked.limits},
        "folders": {
            "configuration": base,
            "run": policy["run"],
            "tls": f"{base}/tls",
            "key_files": f"{base}/keys",
        },
        "certificate": policy["certificate"],
        "certificates": [],
        "front": {},
        "inner": {},
        **_host(inputs, facts, policy["packages"]),
    }


def _host(inputs: Inputs, facts: HostFacts, packages: Iterable[str]) -> dict[str, Any]:
    """What role host and a bundle read of it; the same words as in a plan."""
    family = next((item["family"] for item in inputs.systems.values() if item.get("id") == facts.os.id), "")
    names = inputs.families.get(family, {}).get("packages", {})
    services = inputs.families.get(family, {}).get("services", {})
    wanted = list(packages)
    return {
        "facts": {"arch": facts.arch, "os": f"{facts.os.id} {facts.os.version_id}".strip()},
        "host_settings": {
            "packages": sorted(filter(None, (names.get(name, name) for name in wanted))),
            "paths": {"store": inputs.policy["directories"]["store"]},
        },
        "unpackaged": [name for name in wanted if names.get(name, name) == ""],
        "services": {name: services.get(name, name) for name in wanted},
    }


def _front(inputs: Inputs, asked: Gateway, host: str, wanted: Iterable[Head]) -> dict[str, Any]:
    policy = inputs.policy["gateway"]
    inner = asked.inner_port or policy["inner_port"]
    models: dict[str, list[dict[str, Any]]] = {}
    for head in wanted:
        here = head.host == host
        servers = [(head.instance, head.port, False)]
        if head.standby:
            servers.append((head.standby, head.standby_port, True))
        models.setdefault(head.model, []).extend(
            {
                "instance": name,
                "host": head.host,
                "address": "127.0.0.1" if here else inputs.addresses.get(head.host, head.host),
                "port": port if here else inner,
                "tls": not here,
                "check": head.token,
                # Down but for the time of an exchange.
                "standby": standby,
            }
            for name, port, standby in servers
        )
    return {
        "address": asked.address,
        "port": asked.port or policy["port"],
        "models": models,
        "endpoints": _endpoints(inputs, asked),
        "headers": policy["headers"],
        "given": {"certificate": asked.certificate, "key": asked.key} if asked.certificate else {},
    }


def _endpoints(inputs: Inputs, asked: Gateway) -> list[str]:
    return list(dict.fromkeys([*inputs.policy["gateway"]["endpoints"], *asked.endpoints]))


def _inner(inputs: Inputs, asked: Gateway, host: str, found: Iterable[Head]) -> dict[str, Any]:
    policy = inputs.policy
    checks = sorted({head.token for head in found if head.host == host})
    return {
        "address": "*",
        "port": asked.inner_port or policy["gateway"]["inner_port"],
        "instances": {head.instance: head.port for head in found if head.host == host},
        "standbys": {head.standby: head.standby_port for head in found if head.host == host and head.standby},
        "endpoints": [*(f"GET {path}" for path in checks), *_endpoints(inputs, asked)],
        "checks": checks,
        "metrics": {head.instance: head.metrics for head in found if head.host == host},
        "node_exporter_port": policy["monitoring"]["node_exporter_port"],
        "dcgm_exporter_port": policy["monitoring"]["dcgm_port"],
    }


def _certificate(inputs: Inputs, asked: Gateway) -> list[Refusal]:
    """What the controller read of the files that were given."""
    if not asked.certificate:
        return []
    where, seen = f"gateway.certificate = {asked.certificate}", inputs.certificate
    if seen.get("problem"):
        return [
            Refusal("front-certificate", "", where, str(seen["problem"]), "give PEM files that can be read")
        ]
    refusals = []
    if not seen["key_matches"]:
        what, fix = (
            f"it does not belong to the key {asked.key}",
            "give the key that the certificate was made for",
        )
        refusals.append(Refusal("front-certificate", "", where, what, fix))
    if seen["days_left"] <= 0:
        what = f"it ran out {-seen['days_left']} days ago"
        refusals.append(Refusal("front-certificate", "", where, what, "ask its authority for a new one"))
    if seen["days_to_start"] > 0:
        what = f"it is not valid before {seen['days_to_start']} days have passed"
        refusals.append(
            Refusal("front-certificate", "", where, what, "look at the controller's clock, or wait")
        )
    lacking = [name for name in asked.names if not _covered(name, seen["names"])]
    if lacking:
        what = f"it is for {', '.join(seen['names']) or 'no name'}, not for {', '.join(lacking)}"
        refusals.append(
            Refusal(
                "front-certificate", "", where, what, "take these out of gateway.names, or ask for a new one"
            )
        )
    return refusals


def _covered(name: str, names: Iterable[str]) -> bool:
    parent = "*." + name.partition(".")[2]
    return any(item.lower() in (name.lower(), parent.lower()) for item in names)


def _ports(
    asked: Gateway, section: Mapping[str, Any], facts: HostFacts, plans: Mapping[str, InstancePlan]
) -> list[Refusal]:
    refusals = []
    taken = {
        port.port: f"serve.{name} ({port.purpose})" for name, plan in plans.items() for port in plan.ports
    }
    ours = ("haproxy", section["account"]["user"])
    others = {item.get("port"): item for item in facts.listening if item.get("process") not in ours}
    for listener, key in (("front", "port"), ("inner", "inner_port")):
        port = section[listener].get("port")
        if not port:
            continue
        where = f"gateway.{key} = {port}"
        if port in taken:
            fix = f"give gateway.{key} another port"
            refusals.append(
                Refusal("front-port", facts.host, where, f"it is a port of {taken[port]} on this host", fix)
            )
        elif port in others:
            who = others[port].get("process") or "another program"
            fix = f"stop it, or give gateway.{key} another port"
            refusals.append(Refusal("front-port", facts.host, where, f"{who} listens there already", fix))
        taken[port] = f"the gateway itself ({LISTENER_NAMES[listener]})"
    return refusals


def _packages(section: Mapping[str, Any], facts: HostFacts) -> list[Refusal]:
    return [
        Refusal(
            "front-package",
            facts.host,
            f"{facts.os.id} {facts.os.version_id}".strip(),
            f"its own archive has no {name}",
            "name another host, such as one with Debian or Ubuntu",
        )
        for name in section["unpackaged"]
    ]


def _monitoring(
    inputs: Inputs,
    monitoring: Monitoring,
    sections: Mapping[str, Any],
    watched: Iterable[str],
    found: list[Head],
) -> dict[str, Any]:
    policy = inputs.policy["monitoring"]
    seconds = monitoring.scrape_seconds or policy["scrape_seconds"]
    targets = [
        target(inputs, sections[host], found, gpu_source(monitoring, inputs.facts[host]))
        for host in watched
        if host in sections
    ]
    made = {}
    for host in sorted({*watched, *filter(None, [monitoring.prometheus])}):
        facts = inputs.facts.get(host)
        if facts is None:
            continue
        collector = host == monitoring.prometheus
        packages = [
            *(policy["packages"]["exporter"] if host in watched else ()),
            *(policy["packages"]["prometheus"] if collector else ()),
        ]
        made[host] = {
            "host": host,
            "folders": {key: policy[key] for key in ("configuration", "textfiles", "page", "data")},
            "metrics": metric_names(inputs),
            "gateway": inputs.policy["gateway"]["configuration"],
            "collector": {"user": policy["collector"], "service_group": inputs.policy["account"]["group"]},
            "exporter": {
                "port": policy["node_exporter_port"],
                "collect_seconds": policy["collect_seconds"],
            }
            if host in watched
            else {},
            "prometheus": {
                "port": policy["prometheus_port"],
                "scrape_seconds": seconds,
                "retention_days": monitoring.retention_days or policy["retention_days"],
                "retention_gib": monitoring.retention_gib or policy["retention_gib"],
                "targets": targets,
            }
            if collector
            else {},
            "files": {
                "folder": monitoring.files_dir,
                "targets": targets,
                "scrape_seconds": seconds,
                "certificates": [{"role": "monitoring", "owner": PROMETHEUS_FILES, "names": []}],
            }
            if monitoring.files_dir
            else {},
            "journal": policy["journal"],
            "certificate": inputs.policy["gateway"]["certificate"],
            "certificates": [{"role": "monitoring", "owner": host, "names": []}] if collector else [],
            "limits": policy["limits"],
            "key_group": policy["key_group"],
            "devices": list(NVIDIA_SMI) if gpu_source(monitoring, facts) == "nvidia-smi" else [],
            "collect": {
                **{key: inputs.policy["directories"][key] for key in ("root", "state", "weights")},
                "gateway": inputs.policy["gateway"]["configuration"],
                **{key: policy[key] for key in ("textfiles", "page", "snapshot")},
                "fabric": f"{inputs.policy['directories']['configuration']}/fabric/measured.json",
                "disks": [inputs.policy["directories"]["root"], "/var/lib", "/var/cache", "/var/log"],
                "driver": "/proc/driver/nvidia",
                "sys": "/sys",
                "gpu": gpu_source(monitoring, facts),
            },
            **_host(inputs, facts, packages),
        }
    return made
