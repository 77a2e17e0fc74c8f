# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of HAProxy as text, out of one host's section of the plan. Decides nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .model import model_in_body
from .text import BY_HAPROXY, answer, body, quoted

Section = Mapping[str, Any]
INSTANCE = "X-Sglang-Instance"
LISTENERS = (("front", "connections"), ("inner", "inner_connections"))
LOG_FORMAT = "%{+Q}[var(txn.name)] %ci %{+Q}HM %{+Q,+E}[var(txn.seen)] %ST %B bytes %b/%s wait %TR/%Tw/%Tr/%Ta ms %ts %ac/%sc/%sq"


def backend_name(model: str) -> str:
    """Of a served model name, which may hold a slash."""
    return "model-" + re.sub(r"[^A-Za-z0-9._-]", "_", model)


def config_text(section: Section) -> str:
    """All of it; empty for a host that has neither a gateway nor an internal listener."""
    blocks = [_global(section), _defaults(section)]
    if section.get("front"):
        blocks += [_tables(section), _front(section), *_models(section)]
    if section.get("inner"):
        blocks += [_inner(section), *_locals(section)]
    return "\n".join([*blocks]) if len(blocks) > 2 else ""


def _global(section: Section) -> str:
    limits, paths = section["limits"], section["folders"]
    lines = [
        "global",
        "    log stdout format raw daemon",
        f"    user {section['account']['user']}",
        f"    group {section['account']['group']}",
        f"    stats socket {paths['run']}/admin.sock mode 600 level admin expose-fd listeners",
        # Each listener has a limit of its own, so that a full one leaves the other alone.
        f"    maxconn {sum(limits[name] for listener, name in LISTENERS if section.get(listener))}",
        f"    hard-stop-after {limits['stream_seconds']}s",
        # What of a body is looked at for the model's name, and the longest that comes without a length.
        f"    tune.bufsize {_buffer(section)}",
        "    tune.maxrewrite 4096",
        # Each holds a buffer, and connections of a source have a limit already.
        "    tune.h2.max-concurrent-streams 20",
        "    tune.ssl.cachesize 20000",
        "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
        "    ssl-default-server-options ssl-min-ver TLSv1.2",
        "    ssl-load-extra-files key",
        "    ssl-load-extra-del-ext",
    ]
    return "\n".join(lines) + "\n"


def _buffer(section: Section) -> int:
    """Bytes that a connection's buffer holds: large ones cost each request time, and only a choice of models needs them."""
    several = len((section.get("front") or {}).get("models", ())) > 1
    return int(section["limits"]["body_buffer_kib" if several else "buffer_kib"]) * 1024


def _defaults(section: Section) -> str:
    limits = section["limits"]
    retry = f" hdr Retry-After {limits['retry_after_seconds']}"
    lines = [
        "defaults",
        "    mode http",
        "    log global",
        f"    log-format {quoted(LOG_FORMAT)}",
        "    option http-no-delay",
        "    option dontlognull",
        "    option abortonclose",
        "    option redispatch 1",
        "    retries 3",
        # Only what reached no engine is sent again: a request that ends one engine would end every replica. 425 comes from
        # an inner listener that could not connect; an engine never answers it.
        "    retry-on conn-failure 425",
        # Each request has a connection to its engine of its own: none is lost on one that the engine is just closing, and
        # what is left over on one never belongs to another client.
        "    option http-server-close",
        f"    timeout connect {limits['connect_seconds']}s",
        f"    timeout http-request {limits['header_seconds']}s",
        f"    timeout http-keep-alive {limits['idle_seconds']}s",
        f"    timeout client {limits['client_seconds']}s",
        f"    timeout client-fin {limits['connect_seconds']}s",
        f"    timeout server {limits['answer_seconds']}s",
        f"    timeout queue {limits['queue_seconds']}s",
        f"    timeout check {limits['check_limit_seconds']}s",
        *(
            f"    http-error status {status} content-type application/json string {quoted(body(status))}"
            + (retry if status == 503 else "")
            for status in BY_HAPROXY
        ),
    ]
    return "\n".join(lines) + "\n"


def _tables(section: Section) -> str:
    size = section["limits"]["table_entries"]
    return "\n".join(
        [
            "backend keys",
            f"    stick-table type string len 64 size {size} expire 10m store http_req_rate(60s),conn_cur",
            "",
            "backend sources",
            f"    stick-table type ipv6 size {size} expire 10m store conn_cur,conn_rate(10s),gpc0_rate(10s)",
            "",
        ]
    )


def _of_source(table: str, most: int, rate: int) -> list[str]:
    """Limits of one address, or of one /64 of IPv6, which a single client has as a whole."""
    return [
        # A listener for both has IPv4 addresses in this form, and all of them are in one /64.
        "    acl mapped src -m ip ::ffff:0:0/96",
        f"    tcp-request connection track-sc1 src table {table} if mapped",
        f"    tcp-request connection track-sc1 src,ipmask(32,64) table {table} if !mapped",
        f"    tcp-request connection reject if {{ sc1_conn_cur gt {most} }}",
        f"    tcp-request connection reject if {{ sc1_conn_rate gt {rate} }}",
    ]


def _front(section: Section) -> str:
    front, limits, folders = section["front"], section["limits"], section["folders"]
    most = limits["body_mib"] * 2**20
    retry = f"Retry-After {limits['retry_after_seconds']}"
    shown = "given" if front["given"] else "front"
    lines = [
        "frontend front",
        f"    bind {front['address']}:{front['port']} ssl crt {folders['tls']}/{shown}.crt alpn h2,http/1.1",
        f"    maxconn {limits['connections']}",
        *_of_source("sources", limits["connections_of_source"], limits["connections_of_source_10s"]),
        "    http-request set-var(txn.seen) path",
        *_key(folders),
        # Neither work nor lines of the log for a source that only tries.
        "    http-request sc-inc-gpc0(1) if !{ var(txn.entry) -m found }",
        f"    acl tries sc1_gpc0_rate gt {limits['keyless_of_source_10s']}",
        "    http-request set-log-level silent if tries !{ var(txn.entry) -m found }",
        "    http-request reject if tries !{ var(txn.entry) -m found }",
        answer(431, f"if {{ req.hdrs,length gt {limits['header_kib'] * 1024} }}"),
        *_health(section, retry),
        # The model in the path: then the body need not be looked at.
        "    http-request set-var(txn.model) path,field(3,/) if { path_reg ^/models/[^/]+/v1/ }",
        "    http-request set-path %[path,regsub(^/models/[^/]+,)] if { var(txn.model) -m found }",
        *_only_open(front["endpoints"]),
        answer(401, "if !{ var(txn.entry) -m found }", "", "WWW-Authenticate Bearer"),
        # name:requests a minute:requests at once:end of its time; 0 means unlimited.
        "    http-request set-var(txn.name) var(txn.entry),field(1,:)",
        "    http-request set-var(txn.rate) var(txn.entry),field(2,:),add(0)",
        "    http-request set-var(txn.most) var(txn.entry),field(3,:),add(0)",
        "    http-request set-var(txn.until) var(txn.entry),field(4,:),add(0)",
        answer(
            401,
            "if { var(txn.until) -m int gt 0 } { date,sub(txn.until) gt 0 }",
            "this key has run out",
            "WWW-Authenticate Bearer",
        ),
        answer(
            429,
            "if { var(txn.rate) -m int gt 0 } { var(txn.name),table_http_req_rate(keys),sub(txn.rate) ge 0 }",
            "this key has no request left in this minute",
            "Retry-After 10",
        ),
        answer(
            429,
            "if { var(txn.most) -m int gt 0 } { var(txn.name),table_conn_cur(keys),sub(txn.most) ge 0 }",
            "this key has as many requests under way as it may",
            retry,
        ),
        "    http-request track-sc0 var(txn.name) table keys",
        answer(413, f"if {{ req.body_size gt {most} }}", f"the limit is {limits['body_mib']} MiB"),
        answer(411, "if !METH_GET !{ req.hdr(content-length) -m found }"),
        # What follows a body of chunks would come as headers to an engine; over HTTP/2 a body of no length becomes chunks.
        answer(411, "if { req.hdr(transfer-encoding) -m found }"),
        answer(400, "if METH_GET !{ internal.htx.has_eom }", "a GET request has no body"),
        answer(400, "if METH_GET !{ internal.htx_blk.type(tail) HTX_BLK_EOH }", "a GET request has no body"),
        f"    http-request wait-for-body time {limits['body_seconds']}s if !METH_GET",
        *_as_ours(front["headers"]),
        "    http-response del-header Server",
        "    http-response set-status 503 if { status 425 }",
        # An engine that began to drain since the last look at it says 503 itself.
        f"    http-response set-header {retry} if {{ status 503 }}",
        *_routes(section),
    ]
    return "\n".join(lines) + "\n"


def _key(folders: Section) -> list[str]:
    return [
        # Not http_auth_bearer, which HAProxy has since 2.5 only.
        "    http-request set-var(txn.bearer) req.fhdr(authorization),word(2,' ') "
        "if { req.fhdr_cnt(authorization) eq 1 } { req.fhdr(authorization) -m reg -i '^bearer [^ ]+$' }",
        f"    http-request set-var(txn.entry) var(txn.bearer),sha2(256),hex,map_str({folders['key_files']}/keys.map) "
        "if { var(txn.bearer) -m found }",
        "    http-request unset-var(txn.bearer)",
    ]


def _health(section: Section, retry: str) -> list[str]:
    """Without a key; says nothing but whether requests are taken."""
    names = [backend_name(model) for model in section["front"]["models"]]
    good = '    http-request return status 200 content-type application/json string \'{"status": "ok"}\' if'
    lines = [f"    acl served nbsrv({name}) gt 0" for name in names]
    lines += [
        "    acl asks_health path /health",
        f"{good} METH_GET asks_health served",
        answer(503, "if asks_health", "", retry),
    ]
    for model, name in zip(section["front"]["models"], names):
        lines += [
            f"{good} METH_GET {{ path {quoted(f'/health/{model}')} }} {{ nbsrv({name}) gt 0 }}",
            answer(503, f"if METH_GET {{ path {quoted(f'/health/{model}')} }}", "", retry),
        ]
    return lines


def _only_open(endpoints: Iterable[str]) -> list[str]:
    """Exact and in the case that was said: what is spelled in any other way is another path, and closed."""
    lines = [f"    acl open var(txn.asked) -m str {quoted(entry)}" for entry in endpoints]
    return [
        "    http-request set-var(txn.path) path",
        "    http-request set-var(txn.asked) method,concat(' ',txn.path)",
        *lines,
        answer(404, "if !open"),
        # A key in an address would stay in logs and histories.
        answer(
            400,
            "if { query -m reg -i (^|&)[a-z_-]*(key|token|authorization)= }",
            "a key in the address is never looked at: send Authorization: Bearer KEY, and rotate this one",
        ),
    ]


def _as_ours(headers: Iterable[str]) -> list[str]:
    """What an engine gets of a request: the named headers alone, our Host, and a path without host and query."""
    passed = "|".join(re.escape(name.lower()) for name in ("content-length", "transfer-encoding", *headers))
    return [
        # An engine takes proxy headers from this address for the truth, and others for orders.
        f"    http-request del-header {quoted(f'^(?!(?:{passed})$)')} -m reg",
        "    http-request set-header Host engine",
        "    http-request set-uri %[path]",
    ]


def _routes(section: Section) -> list[str]:
    models = list(section["front"]["models"])
    listed = [
        {"id": model, "object": "model", "created": 0, "owned_by": "baremetal.sglang"} for model in models
    ]
    text = json.dumps({"object": "list", "data": listed}, sort_keys=True)
    lines = [
        f"    http-request return status 200 content-type application/json string {quoted(text)} "
        "if METH_GET { path /v1/models }"
    ]
    names = ", ".join(models)
    if len(models) > 1:
        lines += [
            *model_in_body(models),
            answer(
                400,
                "if !{ var(txn.model) -m found } !{ var(txn.spelled) -m found }",
                f"the first {section['limits']['body_buffer_kib']} KiB of the body must be a JSON object that names one model "
                f"once: {names}; or ask /models/NAME/v1/...",
            ),
        ]
    known = " ".join(quoted(model) for model in models)
    lines += [
        answer(
            404,
            f"if {{ var(txn.model) -m found }} !{{ var(txn.model) -m str {known} }}"
            if len(models) == 1
            else f"if !{{ var(txn.model) -m str {known} }}",
            f"no such model here; served are {names}",
        )
    ]
    lines += [
        f"    use_backend {backend_name(model)} if {{ var(txn.model) -m str {quoted(model)} }}"
        for model in models[1:]
    ]
    return [*lines, f"    default_backend {backend_name(models[0])}"]


def _models(section: Section) -> list[str]:
    return [_backend(section, model, servers) for model, servers in section["front"]["models"].items()]


def _backend(section: Section, model: str, servers: Iterable[Section]) -> str:
    limits, tls = section["limits"], section["folders"]["tls"]
    servers = list(servers)
    lines = [
        f"backend {backend_name(model)}",
        "    balance leastconn",
        # The server's own word for itself: an idle engine makes a token for it, a draining one says 503.
        "    option httpchk",
        "    http-check connect default",
        f"    http-check send meth GET uri {servers[0]['check']} ver HTTP/1.1 hdr Host gateway hdr {INSTANCE} %[srv_name]",
        "    http-check expect status 200",
        f"    http-send-name-header {INSTANCE}",
        f"    default-server check inter {limits['check_seconds']}s fastinter 1s downinter 1s fall 1 rise 1 "
        f"maxconn {limits['requests_of_backend']}",
    ]
    for server in servers:
        where = f"{server['address']}:{server['port']}"
        inside = (
            f" ssl verify required ca-file {tls}/ca.crt crl-file {tls}/crl.pem crt {tls}/gateway.crt "
            f"verifyhost {server['host']}"
            if server["tls"]
            else ""
        )
        lines.append(f"    server {server['instance']} {where}{inside}")
    return "\n".join(lines) + "\n"


def _inner(section: Section) -> str:
    """For the other gateways and for monitoring: a certificate of the own authority is the key."""
    inner, tls, limits = section["inner"], section["folders"]["tls"], section["limits"]
    lines = [
        "backend inner-sources",
        f"    stick-table type ipv6 size {limits['table_entries']} expire 10m store conn_cur,conn_rate(10s)",
        "",
        "frontend inner",
        f"    bind {inner['address']}:{inner['port']} ssl crt {tls}/internal.crt ca-file {tls}/ca.crt "
        f"crl-file {tls}/crl.pem verify required",
        f"    maxconn {limits['inner_connections']}",
        *_of_source(
            "inner-sources", limits["inner_connections_of_source"], limits["inner_connections_of_source"] * 10
        ),
        "    http-request set-var(txn.seen) path",
        "    http-request set-var(txn.name) ssl_c_s_dn(CN)",
        # The role that the authority signed, and the hosts that the plan gives it to.
        "    acl of_gateway ssl_c_s_dn(OU) -m str gateway",
        "    acl of_monitoring ssl_c_s_dn(OU) -m str monitoring",
        _named("named_gateway", inner["gateways"]),
        _named("named_monitoring", inner["collectors"]),
        "    acl asks_metrics path_beg /metrics/",
        "    http-request set-log-level silent if asks_metrics"
        + (f" or {{ path {' '.join(inner['checks'])} }}" if inner["checks"] else ""),
        "    http-request set-var(txn.path) path",
        "    http-request set-var(txn.asked) method,concat(' ',txn.path)",
        *(f"    acl open var(txn.asked) -m str {quoted(entry)}" for entry in inner["endpoints"]),
        answer(404, "if asks_metrics !of_monitoring or asks_metrics !named_monitoring"),
        answer(404, "if !asks_metrics !of_gateway or !asks_metrics !named_gateway"),
        answer(404, "if !asks_metrics !open"),
        # Tells the gateway that no engine has seen the request, see retry-on.
        "    http-after-response set-status 425 if { status 503 } "
        "!{ var(txn.answered) -m found } !{ var(txn.path) -m beg /metrics/ }",
        "    http-request use-service prometheus-exporter if METH_GET { path /metrics/gateway }",
        "    use_backend node-exporter if METH_GET { path /metrics/node }",
        "    use_backend dcgm-exporter if METH_GET { path /metrics/gpu }",
    ]
    lines += [
        f"    use_backend metrics-{name} if METH_GET {{ path {quoted(f'/metrics/engine/{name}')} }}"
        for name in inner["instances"]
    ]
    lines += [
        f"    use_backend local-{name} if !asks_metrics {{ req.hdr({INSTANCE}) -m str {name} }}"
        for name in (*inner["instances"], *inner["standbys"])
    ]
    return "\n".join([*lines, "    default_backend nowhere", ""])


def _named(acl: str, hosts: Iterable[str]) -> str:
    names = " ".join(quoted(host) for host in hosts)
    return f"    acl {acl} ssl_c_s_dn(CN) -m str {names}" if names else f"    acl {acl} always_false"


def _locals(section: Section) -> list[str]:
    inner = section["inner"]
    # An instance that is not here: as if it did not answer.
    found = ["backend nowhere\n" + answer(503, "if TRUE", "no such instance here") + "\n"]
    found += [
        f"backend local-{name}\n    retries 0\n    http-request del-header {INSTANCE}\n"
        f"    http-response set-var(txn.answered) bool(true)\n    server {name} 127.0.0.1:{port}\n"
        for name, port in (*inner["instances"].items(), *inner["standbys"].items())
    ]
    found += [
        f"backend metrics-{name}\n    http-request set-path {inner['metrics'][name]}\n    server {name} 127.0.0.1:{port}\n"
        for name, port in inner["instances"].items()
    ]
    for name in ("node", "dcgm"):
        port = inner[f"{name}_exporter_port"]
        lines = [
            f"backend {name}-exporter",
            "    http-request set-path /metrics",
            f"    server {name} 127.0.0.1:{port}",
        ]
        found.append("\n".join([*lines, ""]))
    return found
