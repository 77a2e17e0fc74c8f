# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped families of RDMA cards."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Nic
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import load_nics
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.nics import (
    UNKNOWN,
    lineage,
    lossless,
    nic_of,
    twins_key,
)
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import (
    documents,
    shipped_hardware,
    shipped_nics,
)

ROOT = Path(__file__).parents[3]
DOCUMENTS: dict[str, Any] = documents("nics")
NICS = shipped_nics()
SCHEMA = json.loads((ROOT / "files/schemas/nic.schema.json").read_text(encoding="utf-8"))
PORT = {"priority": 3, "dscp": 26, "tos": 106, "netdev": "eth1", "device": "mlx5_0", "port": 1}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_file_follows_the_schema(name: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(DOCUMENTS[name])
    assert f"{DOCUMENTS[name]['key']}.yml" == name


def test_schema_knows_every_field_of_the_code() -> None:
    assert set(SCHEMA["properties"]) == set(Nic.__dataclass_fields__)


@pytest.mark.parametrize(
    "change",
    [
        {"vendor": "0x15b3"},
        {"colour": "red"},
        {"nccl": {}},
        {"lossless": {"tools": [{"name": "x"}]}},
        {"speeds_gbps": [0]},
    ],
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert list(validator.iter_errors({**DOCUMENTS["connectx.yml"], **change}))


def test_one_is_the_default_and_names_lead_somewhere() -> None:
    assert [nic.key for nic in NICS.values() if nic.default] == ["general"]
    assert {key for nic in NICS.values() for key in nic.hardware} <= set(shipped_hardware())


@pytest.mark.parametrize(
    ("hardware", "found", "key"),
    [
        (["h200"], ("0x15b3", "0x1021", "mlx5_core"), "connectx"),
        (["gb10"], ("0x15b3", "0x1021", "mlx5_core"), "connectx-7-gb10"),
        (["gb10"], ("0x15b3", "0x101d", "mlx5_core"), "connectx"),
        # Declared: nothing is known but the machine.
        (["gb10"], ("", "", ""), "connectx-7-gb10"),
        (["h200"], ("", "", ""), "general"),
        (["h200"], ("0x8086", "0x1592", "ice"), "general"),
        (["gb10"], ("0x8086", "0x1592", "ice"), "general"),
        ([], ("", "", "mlx5_core"), "connectx"),
    ],
)
def test_a_device_belongs_to_the_entry_that_says_most(
    hardware: list[str], found: tuple[str, ...], key: str
) -> None:
    assert nic_of(NICS, hardware, *found).key == key
    assert nic_of({}, hardware, *found) is UNKNOWN


def test_an_entry_of_the_user_goes_before_the_default() -> None:
    mine = Nic("thor", "a Thor", vendor="14e4", nccl={"net": "IB"})
    assert nic_of({**NICS, "thor": mine}, ["h200"], "0x14e4", "0x1750", "bnxt_en") is mine
    assert [item.key for item in lineage({**NICS, "thor": mine}, mine)] == ["thor", "general"]


def test_figures_of_a_spark_are_in_order() -> None:
    spark = NICS["connectx-7-gb10"]
    (defect,) = spark.defects
    low, high = defect["moves_gbps"]
    assert spark.fabric["socket_gbyte_per_second"] * 8 < high < spark.fabric["ring_gbyte_per_second"] * 8
    assert (
        low < high < spark.fabric["all_gather_gbyte_per_second"] * 8 < spark.fabric["twins_gbit_per_second"]
    )


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("rocep1s0f1", "roceP2p1s0f1", True),
        ("enp1s0f0np0", "enP2p1s0f0np0", True),
        ("rocep1s0f0", "rocep1s0f1", False),
        ("rocep1s0f1", "enp1s0f1", False),
    ],
)
def test_names_of_twins(first: str, second: str, alike: bool) -> None:
    spark = NICS["connectx-7-gb10"]
    assert twins_key(spark, first) and (twins_key(spark, first) == twins_key(spark, second)) is alike
    assert twins_key(spark, "mlx5_0") == twins_key(NICS["connectx"], first) == ""


def test_settings_of_a_lossless_network_name_the_port() -> None:
    made = lossless(NICS, NICS["connectx-7-gb10"], PORT)
    assert [tool["name"] for tool in made["tools"]] == ["mlnx_qos", "dcb"]
    assert made["tools"][0]["set"] == [
        ["mlnx_qos", "-i", "eth1", "--trust", "dscp", "--pfc", "0,0,0,1,0,0,0,0"]
    ]
    assert [file["path"].rpartition("/")[2] for file in made["files"]] == ["3", "3", "default_roce_tos"]
    assert "{" not in json.dumps([tool["set"] for tool in made["tools"]])
    assert [tool["name"] for tool in lossless(NICS, NICS["general"], PORT)["tools"]] == ["dcb"]


@pytest.mark.parametrize(
    ("tool", "said", "good"),
    [
        (
            "mlnx_qos",
            "Priority trust state: dscp\n  enabled     0   0   0   1   0   0   0   0\n",
            [True, True],
        ),
        (
            "mlnx_qos",
            "Priority trust state: pcp\n  enabled     0   0   0   1   1   0   0   0\n",
            [False, False],
        ),
        ("dcb", "prio-pfc 0:off 1:off 2:off 3:on 4:off 5:off 6:off 7:off\ndscp-prio AF31:3\n", [True, True]),
        (
            "dcb",
            "prio-pfc 0:off 1:off 2:off 3:on 4:on 5:off 6:off 7:off\ndscp-prio CS6:6 26:3\n",
            [False, True],
        ),
        (
            "dcb",
            "prio-pfc 0:off 1:off 2:off 3:off 4:off 5:off 6:off 7:off\ndscp-prio 126:3\n",
            [False, False],
        ),
    ],
)
def test_what_a_tool_prints_is_read(tool: str, said: str, good: list[bool]) -> None:
    (mine,) = (item for item in lossless(NICS, NICS["connectx"], PORT)["tools"] if item["name"] == tool)
    assert [bool(re.search(item["says"], said, re.MULTILINE)) for item in mine["wanted"]] == good


def test_mistakes_of_an_entry_are_named() -> None:
    bad = {"a.yml": {"name": "A", "like": "conectx", "twins": "("}, "connectx.yml": {"name": "ConnectX"}}
    _nics, refusals = load_nics(bad)
    assert [(item.code, item.where) for item in refusals] == [
        ("unknown-nic", "nics/a.yml: like = conectx"),
        ("wrong-pattern", "nics/a.yml: twins"),
    ]
    assert "connectx" in refusals[0].fix
