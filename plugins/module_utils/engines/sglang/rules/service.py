# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the service is reached, what it says to the outside, and which flags are not the user's."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.refusals import Advice, Refusal
from ....planner.case import Case
from ....planner.rules.registry import Finding, Rule
from ..kernels import VARIABLE
from ..settings import TEMPLATE_DEFAULTS

DP_ATTENTION_RISK = "dp-attention-unauthenticated"


def dp_attention(case: Case) -> Iterator[Finding]:
    on = case.value("enable-dp-attention") or (case.value("attn-dp-size") or 1) != 1
    if not on:
        return
    where = case.where("enable-dp-attention" if case.value("enable-dp-attention") else "attn-dp-size")
    if case.parallel.nodes > 1 and not case.accepts(DP_ATTENTION_RISK):
        yield Refusal(
            "dp-attention-open",
            case.head.host,
            where,
            "over several hosts its sockets carry Python objects without a password: who reaches them runs code",
            f"remove it, or accept: [{DP_ATTENTION_RISK}] behind the fabric firewall",
        )
    else:
        yield Advice(
            "dp-attention",
            case.head.host,
            where,
            "its local sockets carry Python objects: no untrusted user should have an account on the host",
        )


def deterministic(case: Case) -> Iterator[Finding]:
    if case.value("enable-deterministic-inference") and case.experts():
        yield Advice(
            "deterministic-tiles",
            case.head.host,
            case.where("enable-deterministic-inference"),
            "kernel tuning files are not read in this mode: expect slower experts",
        )


def watchdog(case: Case) -> Iterator[Finding]:
    planned = case.policy["timeouts"]["watchdog"]
    value = case.value("watchdog-timeout")
    if case.asked("watchdog-timeout") and isinstance(value, (int, float)) and value < planned:
        yield Advice(
            "watchdog-short",
            case.head.host,
            case.where("watchdog-timeout"),
            f"a long prefill on a busy server takes minutes; below {planned} s it may be taken for a hang",
        )


def checksum(case: Case) -> Iterator[Finding]:
    value = case.value("model-checksum")
    if value is not None and not str(value).startswith("/"):
        yield Refusal(
            "needs-network",
            case.head.host,
            case.where("model-checksum"),
            "without a local file the engine asks a hub for the checksums",
            "remove it: the collection verifies every weight file itself; or give the path of a JSON file",
        )


def checksum_at_start(case: Case) -> Iterator[Finding]:
    where = f"serve.{case.instance.name}.checksum_at_start = true"
    if not case.instance.checksum_at_start:
        return
    if case.model.key.startswith("/"):
        yield Refusal(
            "checksum-without-manifest",
            case.head.host,
            where,
            f"{case.model.key} is a directory of yours: the collection keeps no hashes of its files",
            "remove it, or serve a model of the catalogue, whose weights come with a manifest",
        )
    elif case.value("model-checksum") is None:
        able = [key for key in case.able if key != case.release.key]
        yield Refusal(
            "checksum-flag",
            case.head.host,
            where,
            f"{case.release.key} has no --model-checksum",
            "remove it: the collection verifies every weight file itself"
            + (f"; or use release: {' or '.join(able)}" if able else ""),
        )


def preserved_thinking(case: Case) -> Iterator[Finding]:
    if not case.instance.preserved_thinking:
        return
    where = f"serve.{case.instance.name}.preserved_thinking = true"
    if not case.model.preserved_thinking:
        yield Refusal(
            "preserved-thinking-template",
            case.head.host,
            where,
            f"the chat template of {case.model.key} has no switch that keeps earlier thoughts",
            "remove preserved_thinking, or say preserved_thinking in the model's catalogue entry",
        )
    elif case.value(TEMPLATE_DEFAULTS) is None:
        told = ", ".join(
            f"{key}: {str(value).lower()}" for key, value in case.model.preserved_thinking.items()
        )
        yield Refusal(
            "preserved-thinking-flag",
            case.head.host,
            where,
            f"{case.release.key} has no --{TEMPLATE_DEFAULTS}: it cannot be the default there",
            f"remove it; each request then says chat_template_kwargs ({told}) for itself",
        )


def custom_all_reduce(case: Case) -> Iterator[Finding]:
    hangs = case.hardware.key in case.policy["custom_all_reduce_hangs"]
    if hangs and case.parallel.tensor > 1 and not case.value("disable-custom-all-reduce"):
        yield Advice(
            "custom-all-reduce",
            case.head.host,
            f"serve.{case.instance.name}",
            f"hangs were reported on {case.hardware.key}: if one happens, set disable-custom-all-reduce: true",
        )


def moe_directory(case: Case) -> Iterator[Finding]:
    if VARIABLE in case.instance.environment:
        yield Advice(
            "moe-directory",
            case.head.host,
            f"serve.{case.instance.name}.environment.{VARIABLE}",
            "it replaces the engine's own kernel files as a whole; its folder configs/triton_X_Y_Z must exist",
        )


RULES = (
    Rule("checksum-at-start", "Hashes need a manifest, and a flag.", checksum_at_start),
    Rule("preserved-thinking", "A request that nothing fulfils is refused.", preserved_thinking),
    Rule("dp-attention-open", "Unauthenticated sockets carry pickles.", dp_attention),
    Rule("deterministic-tiles", "The look-up is skipped in this mode.", deterministic),
    Rule("watchdog-short", "The watchdog ends the engine.", watchdog),
    Rule("needs-network", "A host in a closed room hangs on a look-up.", checksum),
    Rule("custom-all-reduce", "Reported hangs of tensor parallel.", custom_all_reduce),
    Rule("moe-directory", "The folder replaces the release's own files.", moe_directory),
)
