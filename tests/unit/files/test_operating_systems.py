# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped table of operating systems."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import FILES

TABLE: dict[str, Any] = yaml.safe_load((FILES / "operating_systems.yml").read_text(encoding="utf-8"))
SCHEMA = json.loads((FILES / "schemas/operating_systems.schema.json").read_text(encoding="utf-8"))


def test_the_table_follows_its_schema() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(TABLE)


@pytest.mark.parametrize(
    ("system", "key", "value"),
    [("debian-12", "codename", ""), ("debian-12", "code_name", "bookworm"), ("rhel-9", "glibc", 2.34)],
)
def test_what_the_schema_turns_down(system: str, key: str, value: Any) -> None:
    entry = {**TABLE["operating_systems"][system], key: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate({**TABLE, "operating_systems": {system: entry}})


def test_a_debian_without_a_code_name_is_turned_down() -> None:
    entry = {
        key: value for key, value in TABLE["operating_systems"]["debian-12"].items() if key != "codename"
    }
    with pytest.raises(jsonschema.ValidationError, match="codename"):
        jsonschema.Draft202012Validator(SCHEMA).validate({**TABLE, "operating_systems": {"debian-12": entry}})
