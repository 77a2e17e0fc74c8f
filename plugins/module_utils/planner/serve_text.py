# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and texts of the inventory that reach units, rules and configuration files: nothing in them may end a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any

from ..core.refusals import Refusal
from ..core.text_checks import HOST, PATH, SERVED_NAME, VARIABLE, control_characters, secret_in
from .serve_spec import Instance

# Units of the collection are called so, and folders of a release; an instance of that name would replace them.
RESERVED = (
    "fabric",
    "firewall",
    "gateway",
    "launcher",
    "metrics",
    "node-exporter",
    "prometheus",
    "standby",
    "units",
)
# Texts that only launch.json carries, where they are quoted.
OF_SEVERAL_LINES = ("options", "environment")


def host_problems(hosts: Iterable[str]) -> list[Refusal]:
    return [
        Refusal(
            "host-name",
            "",
            f"inventory host {host!r}",
            "this name cannot be written into configuration files: letters, digits, dots, dashes, colons and "
            "underscores are allowed",
            "rename it in the inventory, such as gpu-01, and give its address as ansible_host",
        )
        for host in hosts
        if not HOST.match(host)
    ]


def text_problems(instance: Instance, directories: Mapping[str, Any]) -> list[Refusal]:
    """Everything that is wrong with the texts of one instance."""
    return [
        *_names(instance),
        *_control(instance),
        *_variables(instance),
        *_files(instance, directories),
    ]


def _names(instance: Instance) -> Iterator[Refusal]:
    name, served = instance.name, instance.served_model_name
    if name in RESERVED or name.startswith("swarm-") or name.endswith("-standby"):
        yield Refusal(
            "instance-reserved",
            "",
            f"serve.{name}",
            f"sglang-{name}.service, or a folder of that name, belongs to the collection itself",
            f"call it {name}-model",
        )
    if served and not SERVED_NAME.match(served):
        yield Refusal(
            "served-name",
            "",
            f"serve.{name}.served_model_name = {served!r}",
            "it has a character that a model's name cannot have, or more than 128 of them",
            "use letters, digits and . _ - / : @ +, such as glm-4.7",
        )


def _control(instance: Instance) -> Iterator[Refusal]:
    for item in fields(instance):
        value = getattr(instance, item.name)
        if item.name in ("name", "served_model_name", "environment_files"):
            continue
        for place in control_characters(
            value, f"serve.{instance.name}.{item.name}", item.name in OF_SEVERAL_LINES
        ):
            yield Refusal(
                "serve-text",
                "",
                place,
                "it has a control character, such as the end of a line",
                "write it on one line, without a character that cannot be seen",
            )


def _variables(instance: Instance) -> Iterator[Refusal]:
    place = f"serve.{instance.name}.environment"
    for name, value in instance.environment.items():
        if not VARIABLE.match(name):
            yield Refusal(
                "variable-name",
                "",
                f"{place}.{name!r}",
                "this cannot be the name of a variable",
                "use letters, digits and underscores, no digit first: NCCL_DEBUG",
            )
        elif secret_in(name, value):
            # The value itself is not repeated: it may be the secret.
            yield Refusal(
                "variable-secret",
                "",
                f"{place}.{name}",
                "it looks like a key or a password, and the plan, launch.json and the release folder can be read by "
                "every user of the host",
                f"put {name}=... into a file on the host that root alone can read (0600) and name it: "
                f"serve.{instance.name}.environment_files: [/etc/sglang/{instance.name}.env]",
            )


def _files(instance: Instance, directories: Mapping[str, Any]) -> Iterator[Refusal]:
    writable = (directories["state"], directories["cache"])
    for path in instance.environment_files:
        where = f"serve.{instance.name}.environment_files = {path!r}"
        if not PATH.match(path):
            yield Refusal(
                "environment-file",
                "",
                where,
                "must be a plain absolute path: letters, digits and . _ - + @ between slashes, no part that begins with a dot",
                f"write one such as /etc/sglang/{instance.name}.env",
            )
        elif any(path.startswith(f"{folder}/") for folder in writable):
            yield Refusal(
                "environment-file",
                "",
                where,
                "it lies in a folder that the service user can write to, and could be replaced",
                f"move it below a folder of root, such as /etc/sglang/{instance.name}.env",
            )
