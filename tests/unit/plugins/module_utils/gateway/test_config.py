# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of HAProxy's configuration; that HAProxy takes it, and what it does then, is tried on a real host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.config import (
    backend_name,
    body,
    config_text,
    quoted,
)

POLICY = yaml.safe_load((Path(__file__).parents[5] / "files/policy.yml").read_text(encoding="utf-8"))


def server(instance: str, tls: bool = False) -> dict[str, Any]:
    address = "10.0.0.2" if tls else "127.0.0.1"
    return {
        "instance": instance,
        "host": "h2",
        "address": address,
        "port": 30000,
        "tls": tls,
        "check": "/token",
    }


def section(models: Any = None, inner: bool = True, given: Any = None) -> dict[str, Any]:
    policy = POLICY["gateway"]
    front = {
        "address": "*",
        "port": 443,
        "models": models or {"tiny": [server("a"), server("b", True)]},
        "endpoints": policy["endpoints"],
        "headers": policy["headers"],
        "given": given or {},
    }
    behind = {
        "address": "*",
        "port": 8444,
        "instances": {"a": 30000},
        "standbys": {"a-standby": 34000},
        "endpoints": ["GET /token", *policy["endpoints"]],
        "checks": ["/token"],
        "metrics": {"a": "/metrics"},
        "node_exporter_port": 9100,
        "dcgm_exporter_port": 9400,
        "gateways": ["h1", "h3"],
        "collectors": ["h9"],
    }
    return {
        "account": policy["account"],
        "limits": policy["limits"],
        "folders": {"run": "/run/g", "tls": "/g/tls", "key_files": "/g/keys"},
        "front": front,
        "inner": behind if inner else {},
    }


def test_a_host_without_listeners_has_no_configuration() -> None:
    assert config_text({**section(), "front": {}, "inner": {}}) == ""


def test_the_order_of_checks_of_a_request() -> None:
    """Closed paths before keys, keys before limits, limits before the body is waited for."""
    text = config_text(section())
    places = [
        text.index(words)
        for words in (
            "if !open",
            "this key has run out",
            "table_http_req_rate",
            "track-sc0",
            "wait-for-body",
            "set-header Host engine",
        )
    ]
    assert places == sorted(places)


def test_one_model_is_not_looked_for_in_the_body() -> None:
    assert "req.body," not in config_text(section())
    two = config_text(section({"tiny": [server("a")], "zai/glm-4.7": [server("c")]}))
    assert "req.body,regsub(" in two
    assert "use_backend model-zai_glm-4.7 if { var(txn.model) -m str 'zai/glm-4.7' }" in two


def test_another_host_is_reached_with_certificates_on_both_sides() -> None:
    lines = config_text(section()).splitlines()
    (there,) = [line for line in lines if line.startswith("    server b ")]
    assert "ssl verify required" in there and "verifyhost h2" in there and "crt /g/tls/gateway.crt" in there
    (here,) = [line for line in lines if line.strip() == "server a 127.0.0.1:30000"][:1]
    assert "ssl" not in here


@pytest.mark.parametrize(("given", "name"), [({}, "front"), ({"certificate": "/x", "key": "/y"}, "given")])
def test_which_certificate_is_shown(given: Any, name: str) -> None:
    assert f"bind *:443 ssl crt /g/tls/{name}.crt alpn h2,http/1.1" in config_text(section(given=given))


def test_no_key_and_no_query_is_logged() -> None:
    text = config_text(section())
    (said,) = [line for line in text.splitlines() if "log-format" in line]
    assert not re.search(r"authorization|%r\b|%HU|capture", said, re.IGNORECASE)
    assert "capture" not in text


def test_a_status_without_an_engine_says_when_to_come_again() -> None:
    text = config_text(section())
    (line,) = [line for line in text.splitlines() if "http-error status 503" in line]
    assert line.endswith("hdr Retry-After 5")


@pytest.mark.parametrize("text", ["it's", "a b", '{"a": "b"}', "'"])
def test_quoted_words_stay_one_word(text: str) -> None:
    import shlex

    assert shlex.split(quoted(text)) == [text]


def test_bodies_are_json_as_clients_of_the_api_read_it() -> None:
    assert json.loads(body(401))["error"]["code"] == "invalid_api_key"


def test_names_of_backends_hold_no_slash() -> None:
    assert backend_name("zai-org/GLM-4.7") == "model-zai-org_GLM-4.7"


def test_both_sides_of_an_internal_connection_look_at_the_revocation_list() -> None:
    text = config_text(section())
    (bind,) = [line for line in text.splitlines() if "bind *:8444" in line]
    (there,) = [line for line in text.splitlines() if line.startswith("    server b ")]
    assert "crl-file /g/tls/crl.pem verify required" in bind and "crl-file /g/tls/crl.pem" in there
    assert "crt /g/tls/internal.crt" in bind


def test_internal_listeners_ask_for_role_and_host() -> None:
    text = config_text(section())
    assert "acl named_gateway ssl_c_s_dn(CN) -m str 'h1' 'h3'" in text
    assert "acl named_monitoring ssl_c_s_dn(CN) -m str 'h9'" in text
    nobody = section()
    nobody["inner"]["gateways"] = []
    assert "acl named_gateway always_false" in config_text(nobody)
