# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways in which the files of a model would run code in the engine: its own Python, and pickles."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.refusals import Advice, Refusal
from ....planner.case import Case
from ....planner.rules.registry import Finding, Rule
from ..settings import PICKLE_RISK

REMOTE_CODE_RISK = "remote-code"
# Formats that the engine reads with Python's unpickler, whatever else lies in the folder.
PICKLE_FORMATS = ("pt", "npcache")
# Formats that take *.bin or *.pt where the folder has no *.safetensors.
FALLBACK_FORMATS = (None, "auto", "bitsandbytes", "layered", "flash_rl")


def remote_code(case: Case) -> Iterator[Finding]:
    flag, how = _remote_code_flag(case)
    release, architecture = case.release.key, case.model.shape.architecture
    if not flag:
        if case.model.checkpoint_code:
            yield Advice(
                "checkpoint-code",
                case.head.host,
                case.instance.where("model"),
                f"its config.json names Python code of the checkpoint (auto_map); it is not run, because {release} "
                f"has {architecture} itself",
            )
        return
    if case.accepts(REMOTE_CODE_RISK):
        yield Advice(
            "trust-remote-code",
            case.head.host,
            case.where(flag),
            f"accepted: {REMOTE_CODE_RISK}; Python files of the checkpoint may run in the engine",
        )
        return
    remove = "remove it"
    if not case.asked(flag):
        remove = f"remove {flag.replace('-', '_')} from the model's entry in the catalogue"
    yield Refusal(
        "remote-code",
        case.head.host,
        case.where(flag),
        f"{how}, and {release} has {architecture} itself",
        f"{remove}, or accept: [{REMOTE_CODE_RISK}] after reading the Python files of the checkpoint",
    )


def _remote_code_flag(case: Case) -> tuple[str, str]:
    """The flag that lets Python code of the checkpoint run, and how it does so."""
    if case.value("trust-remote-code"):
        return "trust-remote-code", "it lets Python files of the checkpoint run in the engine"
    if case.model.checkpoint_code:
        # These two paths of the engine trust a checkpoint without being asked.
        if case.value("model-impl") == "transformers":
            return "model-impl", "this implementation runs the Python files that config.json names (auto_map)"
        wanted = str(case.value("quantization") or "")
        stored = case.model.quantization.method
        if case.value("modelopt-quant"):
            return (
                "modelopt-quant",
                "quantizing at start runs the Python files that config.json names (auto_map)",
            )
        if wanted.startswith("modelopt") and not stored.startswith("modelopt"):
            return (
                "quantization",
                "quantizing at start runs the Python files that config.json names (auto_map)",
            )
    return "", ""


def pickled_weights(case: Case) -> Iterator[Finding]:
    for where, what, fix in _pickles(case):
        if case.accepts(PICKLE_RISK):
            yield Advice("pickled-weights", case.head.host, where, f"accepted: {PICKLE_RISK}; {what}")
        else:
            yield Refusal(
                "pickled-weights", case.head.host, where, what, f"{fix}, or accept: [{PICKLE_RISK}]"
            )


def _pickles(case: Case) -> Iterator[tuple[str, str, str]]:
    """(where, what is wrong, what works instead) of each pickle that would be read."""
    for flag in ("load-format", "speculative-draft-load-format"):
        if case.value(flag) in PICKLE_FORMATS:
            yield (
                case.where(flag),
                f"{case.value(flag)} is a format of Python's unpickler: a changed file may run code in the engine",
                "remove it and serve *.safetensors",
            )
    if case.model.pickled_weights and (
        case.value("load-format") in FALLBACK_FORMATS or not case.asked("load-format")
    ):
        yield (
            case.instance.where("model"),
            "its folder has no *.safetensors, and Python unpickles its *.bin or *.pt files: a changed file may run code "
            "in the engine",
            "convert the weights to safetensors",
        )


RULES = (
    Rule(
        REMOTE_CODE_RISK, "A checkpoint is data; code in it runs only when the user accepts it.", remote_code
    ),
    Rule(PICKLE_RISK, "Unpickling a file may run code.", pickled_weights),
)
