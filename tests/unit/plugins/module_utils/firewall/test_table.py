# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables table as text."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.firewall.table import table_text

HEAD = "\n".join(
    [
        "table inet baremetal_sglang",
        "delete table inet baremetal_sglang",
        "table inet baremetal_sglang {",
        "\tchain input {",
        "\t\ttype filter hook input priority -5; policy accept;",
        '\t\tiif "lo" accept',
        "",
    ]
)
OPENING = "tcp flags & (syn | ack) == syn"
ROWS: list[tuple[list[dict[str, Any]], list[str]]] = [
    (
        [{"port": 31000, "what": "glm: rendezvous", "sources": ["10.0.0.12", "10.0.0.11"]}],
        [
            "# glm: rendezvous",
            f"tcp dport 31000 {OPENING} ip saddr {{ 10.0.0.11, 10.0.0.12 }} accept",
            f"tcp dport 31000 {OPENING} drop",
        ],
    ),
    (
        [{"port": 30000, "what": "glm: health", "sources": []}],
        ["# glm: health", f"tcp dport 30000 {OPENING} drop"],
    ),
    (
        [
            {"port": 2, "what": "second", "sources": ["fd00::2", "10.0.0.1"]},
            {"port": 1, "what": "first\nline", "sources": ["fd00::1"]},
        ],
        [
            "# first line",
            f"tcp dport 1 {OPENING} ip6 saddr {{ fd00::1 }} accept",
            f"tcp dport 1 {OPENING} drop",
            "# second",
            f"tcp dport 2 {OPENING} ip saddr {{ 10.0.0.1 }} accept",
            f"tcp dport 2 {OPENING} ip6 saddr {{ fd00::2 }} accept",
            f"tcp dport 2 {OPENING} drop",
        ],
    ),
]


@pytest.mark.parametrize(("rules", "lines"), ROWS)
def test_the_table(rules: list[dict[str, Any]], lines: list[str]) -> None:
    assert table_text(rules) == HEAD + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n}\n"


OWNER = {
    "ports": [31000, 32000], "what": "glm: group", "user": "sglang", "addresses": ["10.0.0.11"], "own": "10.0.0.12",
    "here": False,
}  # fmt: skip
PORTS = "{ 31000, 32000 }"


def test_the_owner_of_a_port() -> None:
    text = table_text(ROWS[0][0], [OWNER], {"sglang": 990})
    assert text.startswith(HEAD)
    assert text[text.index("\tchain output") :] == "".join(
        f"{line}\n"
        for line in (
            "\tchain output {",
            "\t\ttype filter hook output priority -5; policy accept;",
            "\t\t# glm: group: root and sglang only",
            f"\t\ttcp dport {PORTS} {OPENING} ip daddr {{ 10.0.0.11 }} meta skuid {{ 0, 990 }} accept",
            f"\t\ttcp dport {PORTS} {OPENING} ip daddr {{ 10.0.0.11 }} drop",
            f"\t\ttcp dport {PORTS} {OPENING} ip saddr 10.0.0.12 meta skuid {{ 0, 990 }} accept",
            f"\t\ttcp dport {PORTS} {OPENING} ip saddr 10.0.0.12 drop",
            "\t}",
            "}",
        )
    )
    here = table_text(ROWS[0][0], [{**OWNER, "here": True, "own": "fd00::1", "addresses": ["fd00::1"]}])
    assert 'oif "lo" meta skuid { 0 } accept' in here
    assert "tcp flags & (syn | ack) == (syn | ack) drop" in here
    assert "ip6 saddr fd00::1 drop" in here


@pytest.mark.parametrize("own", ["gpu-01", "10.0.0.1; flush ruleset"])
def test_only_addresses_of_owners_get_into_it(own: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        table_text(ROWS[0][0], [{**OWNER, "own": own}])


def test_no_rule_no_table() -> None:
    assert table_text([]) == ""


@pytest.mark.parametrize("sources", [["gpu-01"], ["10.0.0.1; flush ruleset"], ["10.0.0.0/8"]])
def test_only_addresses_get_into_it(sources: list[str]) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        table_text([{"port": 1, "what": "x", "sources": sources}])


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed")
@pytest.mark.parametrize("rules", [row[0] for row in ROWS])
def test_nft_takes_it(rules: list[dict[str, Any]]) -> None:
    checked = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "nft", "--check", "--file", "-"],
        input=table_text(rules), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare" in checked.stderr:
        pytest.skip("no namespaces here")
    assert checked.returncode == 0, checked.stderr
