# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speculative decoding (MTP, EAGLE) and the thinking budget."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.refusals import Advice, Refusal
from ....planner.case import Case
from ....planner.rules.registry import Finding, Rule, releases_with, true_text

TRIPLE = ("speculative-num-steps", "speculative-eagle-topk", "speculative-num-draft-tokens")
SPEC_V2 = "SGLANG_ENABLE_SPEC_V2"
PROCESSOR = "enable-custom-logit-processor"
WITHOUT_DRAFT = "mtp-without-right-draft"


def speculative_on(case: Case) -> bool:
    return bool(case.value("speculative-algorithm"))


def incomplete_triple(case: Case) -> Iterator[Finding]:
    algorithm = str(case.value("speculative-algorithm") or "")
    given = [flag for flag in TRIPLE if case.value(flag) is not None]
    missing = [flag for flag in TRIPLE if flag not in given]
    settings = case.model.speculative
    full = ", ".join(
        f"{flag}: {settings.get(key, default)}"
        for flag, key, default in zip(TRIPLE, ("num_steps", "eagle_topk", "num_draft_tokens"), (3, 1, 4))
    )
    if given and not algorithm:
        yield Refusal(
            "eagle-incomplete",
            case.head.host,
            case.where(given[0]),
            f"{', '.join(given)} without speculative-algorithm",
            f"add speculative-algorithm: EAGLE and {full}, or use speculative: true",
        )
    elif algorithm.upper() in ("EAGLE", "EAGLE3", "NEXTN") and given and missing:
        yield Refusal(
            "eagle-incomplete",
            case.head.host,
            case.where("speculative-algorithm"),
            f"the engine takes all three of its sizes or none; missing: {', '.join(missing)}",
            f"give {full}, or use speculative: true",
        )


def budget_is_dropped(case: Case) -> Iterator[Finding]:
    by_flag = not case.instance.thinking_budget and case.asked(PROCESSOR)
    if not (case.instance.thinking_budget or by_flag) or not speculative_on(case):
        return
    second_worker = not case.has("spec-v1-worker") or case.has("spec-v2-default")
    by_variable = true_text(case.instance.environment.get(SPEC_V2, "")) and case.has("spec-v1-worker")
    if not second_worker and not by_variable:
        return
    older = releases_with(
        case, lambda features: "spec-v1-worker" in features and "spec-v2-default" not in features
    )
    if by_variable and not second_worker:
        fix = f"remove {SPEC_V2} from serve.{case.instance.name}.environment, or use speculative: false"
    else:
        fix = (
            f"use speculative: false, or {f'leave {PROCESSOR} out' if by_flag else 'thinking_budget: false'}"
        )
        fix += f", or release: {older[-1]}, which applies it" if older else ""
    yield Refusal(
        "thinking-budget-with-mtp",
        case.head.host,
        case.where(PROCESSOR) if by_flag else f"serve.{case.instance.name}.thinking_budget = true",
        f"{case.release.key} silently drops thinking budgets and other logit processors while it speculates",
        fix,
    )


def budget_without_vocabulary(case: Case) -> Iterator[Finding]:
    if case.instance.thinking_budget and not case.model.thinking_budget:
        yield Refusal(
            "thinking-budget-vocabulary",
            case.head.host,
            f"serve.{case.instance.name}.thinking_budget = true",
            f"the engine's budget class counts tokens that {case.model.key} does not have: it would do nothing",
            "remove thinking_budget, or limit max_tokens in the requests",
        )


def budget_without_processor(case: Case) -> Iterator[Finding]:
    if case.instance.thinking_budget and not case.value("enable-custom-logit-processor"):
        yield Refusal(
            "thinking-budget-flag",
            case.head.host,
            f"serve.{case.instance.name}.thinking_budget = true",
            "the thinking budget needs --enable-custom-logit-processor, which the options switch off",
            f"remove enable-custom-logit-processor from serve.{case.instance.name}.options",
        )


def processor_is_code(case: Case) -> Iterator[Finding]:
    if case.value("enable-custom-logit-processor"):
        yield Advice(
            "custom-logit-processor",
            case.head.host,
            case.where("enable-custom-logit-processor"),
            "requests may carry pickled code that the engine runs: give keys only to those you trust with it",
        )


def draft_class(case: Case) -> Iterator[Finding]:
    if not speculative_on(case) or case.accepts(WITHOUT_DRAFT):
        return
    draft = str(case.model.speculative.get("draft_architecture", ""))
    if draft and draft not in case.release.architectures:
        knows = [
            key
            for key, release in case.data.releases.items()
            if draft in release.architectures and key in case.able
        ]
        yield Refusal(
            "mtp-draft-class",
            case.head.host,
            case.where("speculative-algorithm"),
            f"{case.release.key} has no {draft}: the draft of {case.model.key} would be built of the wrong layers",
            "use speculative: false"
            + (f", or one of release: {', '.join(knows)}" if knows else "")
            + f", or accept: [{WITHOUT_DRAFT}]",
        )


def pipeline_stages(case: Case) -> Iterator[Finding]:
    if speculative_on(case) and case.parallel.pipeline > 1 and not case.has("speculative-pipeline"):
        yield Refusal(
            "speculative-pipeline",
            case.head.host,
            case.where("speculative-algorithm"),
            f"{case.release.key} does not speculate over pipeline stages ({case.parallel.pipeline} here): "
            "it ends at the start",
            "use speculative: false"
            if case.instance.speculative
            else "remove speculative-algorithm and what belongs to it from options",
        )


def no_mtp(case: Case) -> Iterator[Finding]:
    if case.instance.speculative and not case.model.speculative:
        layer = "an MTP layer, but no settings for it" if case.model.shape.mtp_layers else "no MTP layer"
        yield Refusal(
            "mtp-missing",
            case.head.host,
            f"serve.{case.instance.name}.speculative = true",
            f"{case.model.key} has {layer}, and no draft model is known for it",
            "remove speculative, or give speculative-algorithm and speculative-draft-model-path in options",
        )


def second_worker_variable(case: Case) -> Iterator[Finding]:
    if SPEC_V2 not in case.instance.environment:
        return
    where = f"serve.{case.instance.name}.environment.{SPEC_V2} = {case.instance.environment[SPEC_V2]}"
    if not case.has("spec-v1-worker"):
        yield Advice(
            "spec-v2-variable-gone",
            case.head.host,
            where,
            f"{case.release.key} no longer reads it: remove it",
        )
        return
    topk = case.value("speculative-eagle-topk")
    if true_text(case.instance.environment[SPEC_V2]) and topk not in (None, 1):
        yield Refusal(
            "spec-v2-topk",
            case.head.host,
            where,
            f"that worker needs speculative-eagle-topk 1, asked for is {topk}",
            "set speculative-eagle-topk: 1, or remove the variable",
        )


def wide_tree(case: Case) -> Iterator[Finding]:
    topk = case.value("speculative-eagle-topk")
    wanted = case.model.speculative.get("eagle_topk", 1)
    if speculative_on(case) and case.asked("speculative-eagle-topk") and topk != wanted:
        yield Advice(
            "eagle-topk",
            case.head.host,
            case.where("speculative-eagle-topk"),
            f"{case.model.name}'s own setting is {wanted}; a wider tree costs verification and graph memory",
        )


def needless_draft_path(case: Case) -> Iterator[Finding]:
    if case.value("speculative-draft-model-path") and case.model.speculative:
        yield Advice(
            "draft-path",
            case.head.host,
            case.where("speculative-draft-model-path"),
            f"the MTP layer lies in the weights of {case.model.key}; the engine ignores another path",
        )


def mixed_chunk(case: Case) -> Iterator[Finding]:
    if speculative_on(case) and case.value("enable-mixed-chunk"):
        yield Advice(
            "mixed-chunk",
            case.head.host,
            case.where("enable-mixed-chunk"),
            "speculation switches mixed chunks off in every release",
        )


RULES = (
    Rule("eagle-incomplete", "The engine asserts that the sizes of EAGLE come together.", incomplete_triple),
    Rule("thinking-budget-with-mtp", "The newer worker does not apply custom processors.", budget_is_dropped),
    Rule("thinking-budget-vocabulary", "The class counts fixed token numbers.", budget_without_vocabulary),
    Rule("thinking-budget-flag", "Processors are off unless the flag is given.", budget_without_processor),
    Rule("custom-logit-processor", "A processor is code from the request.", processor_is_code),
    Rule("mtp-draft-class", "A draft of other layers than the checkpoint's accepts nothing.", draft_class),
    Rule("speculative-pipeline", "The engine asserts that the two are not used together.", pipeline_stages),
    Rule("mtp-missing", "Not every checkpoint carries its MTP layer.", no_mtp),
    Rule("spec-v2-topk", "The overlapping worker handles a chain, no tree.", second_worker_variable),
    Rule("eagle-topk", "Published settings are measured ones.", wide_tree),
    Rule("draft-path", "The draft is part of the checkpoint.", needless_draft_path),
    Rule("mixed-chunk", "One of the two is dropped without a word.", mixed_chunk),
)
