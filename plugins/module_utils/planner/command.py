# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A launch command from somebody's notes as a `serve:` entry, so that the planner can judge it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.entries import Model
from ..engines.flags.command_line import is_launch_command, parse_command
from ..engines.flags.contract import Contract

KEYS = {
    "tensor-parallel-size": "tensor_parallel",
    "pipeline-parallel-size": "pipeline_parallel",
    "tp-size": "tensor_parallel",
    "pp-size": "pipeline_parallel",
    "context-length": "context_length",
    "kv-cache-dtype": "kv_cache_dtype",
    "mem-fraction-static": "memory_fraction",
    "port": "port",
    "served-model-name": "served_model_name",
}
# The plan says these; in a command line they only repeat what the inventory knows.
OF_THE_INVENTORY = ("nnodes", "node-rank", "dist-init-addr", "nccl-init-addr", "device")
LIGHTLLM = "lightllm.server.api_server"


def serve_of_command(
    contract: Contract, text: str, models: Mapping[str, Model], hosts: Iterable[str]
) -> dict[str, Any]:
    """`serve:` with one instance. Flags that a release does not have stay in options, to be refused."""
    members = list(hosts)
    if LIGHTLLM in text:
        words = shlex.split(text.replace("\\\n", " "))
        path = words[words.index("--model_dir") + 1] if "--model_dir" in words else ""
        return {
            "command": {"engine": "lightllm", "model": model_of(path, models), "hosts": members},
        }
    if not is_launch_command(text):
        raise ValueError("this is no command that starts a server")
    command = parse_command(contract, text)
    entry: dict[str, Any] = {"hosts": members}
    options: dict[str, Any] = {}
    for flag, value in command.arguments:
        primary = contract.spellings.get(flag, flag)
        if primary in ("model-path", "model"):
            entry["model"] = model_of(str(value), models)
        elif primary in KEYS:
            entry[KEYS[primary]] = _number(value)
        elif primary not in OF_THE_INVENTORY:
            options[flag] = _number(value)
    if options:
        entry["options"] = options
    if command.environment:
        entry["environment"] = dict(command.environment)
    name = re.sub(r"[^a-z0-9.-]+", "-", str(entry.get("served_model_name", "command")).lower())
    return {name: entry}


def model_of(given: str, models: Mapping[str, Model]) -> str:
    """The catalogue key of a hub id or of a directory that is called like one; else the text itself."""
    wanted = given.rstrip("/").rsplit("/", 1)[-1].lower()
    for key, model in models.items():
        names = {identifier.rsplit("/", 1)[-1].lower() for identifier in model.ids.values()}
        if given in model.ids.values() or wanted in names:
            return key
    return given


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
