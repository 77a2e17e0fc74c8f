# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the data and the plan to the points that are measured, in their order; what cannot be is skipped and said. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ..core.refusals import did_you_mean

SPEED = {"ignore_eos": True}
# What a scenario measures: (path in the record, what people call it, unit, which way is better).
TTFT = ("ttft_ms.median", "first token", "ms", "lower")
TPOT = ("tpot_ms.median", "time per token", "ms", "lower")
DECODE = ("decode_tokens_per_second.median", "decode speed of one stream", "tokens/s", "higher")
OUTPUT = ("output_tokens_per_second", "output of all streams", "tokens/s", "higher")
REQUEST = ("request_seconds.median", "whole request", "s", "lower")
ACCEPTED = ("server.accept_length", "tokens accepted a step", "tokens", "higher")
METRICS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "context": (DECODE, TTFT),
    "concurrency": (OUTPUT, DECODE, TTFT),
    "agentic": (("conversation.seconds.median", "whole conversation", "s", "lower"), TTFT, DECODE,
                ("conversation.bad_calls", "broken calls", "calls", "lower")),
    "thinking": (REQUEST, ("tokens.good_completion_tokens", "tokens made", "tokens", "lower"), DECODE),
    "prefix": (TTFT, ("server.cached_share", "prompt taken from the cache", "share", "higher"), OUTPUT),
    "random": (OUTPUT, TTFT, TPOT),
    "sharegpt": (OUTPUT, TTFT, REQUEST, TPOT),
    "speculative": (DECODE, TTFT, ACCEPTED),
    "moe_file": (OUTPUT, TPOT, TTFT),
    "accuracy": (("accuracy.share", "right answers", "share", "higher"),),
    "sweep": (OUTPUT, DECODE, TTFT),
}  # fmt: skip
# These compare servers that are started otherwise, so each setting is a start.
OTHER_SERVERS = ("speculative", "moe_file", "sweep")


NO_TOOLS = "the engine takes no tools as this instance is planned"


class AskedError(ValueError):
    """All that is wrong with what was asked for."""


@dataclass(frozen=True)
class Asked:
    profile: str = "standard"
    scenarios: tuple[str, ...] = ()
    parameters: Mapping[str, Mapping[str, Any]] = ()  # type: ignore[assignment]
    blocks: int = 0
    seed: int = 1
    scratch: bool = False
    """Whether other servers may be started."""
    sweep: Mapping[str, Any] = ()  # type: ignore[assignment]


def parameters(data: Mapping[str, Any], asked: Asked) -> tuple[dict[str, dict[str, Any]], int]:
    """The profile with the user's own values in it; every unknown name is refused at once."""
    profiles = data["profiles"]
    if asked.profile not in profiles:
        raise AskedError(f"bench_profile = {asked.profile}: {did_you_mean(asked.profile, profiles)}")
    profile = copy.deepcopy(dict(profiles[asked.profile]))
    found: dict[str, dict[str, Any]] = dict(profile["scenarios"])
    wrong = []
    for name in asked.scenarios:
        if name not in METRICS:
            wrong.append(f"bench_scenarios: unknown scenario {name}; {did_you_mean(name, METRICS)}")
    for name, values in dict(asked.parameters or {}).items():
        if name not in found:
            wrong.append(f"bench_parameters.{name}: unknown scenario; {did_you_mean(name, found)}")
            continue
        for key, value in values.items():
            if key not in found[name]:
                wrong.append(f"bench_parameters.{name}.{key} is unknown; {did_you_mean(key, found[name])}")
            elif not _alike(found[name][key], value):
                wrong.append(
                    f"bench_parameters.{name}.{key} = {value!r} does not look like {found[name][key]!r}"
                )
            else:
                found[name][key] = value
    if wrong:
        raise AskedError("\n".join(wrong))
    return found, asked.blocks or int(profile["blocks"])


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, list):
        return isinstance(theirs, list) and bool(theirs) and all(_positive(item) for item in theirs)
    return _positive(theirs)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def room(instance: Mapping[str, Any]) -> int:
    """The longest prompt with its answer."""
    sizes = (instance["context"].get("length"), instance["behaviour"]["most_tokens"])
    return min((int(value) for value in sizes if value), default=0)


def points(
    data: Mapping[str, Any], instance: Mapping[str, Any], asked: Asked, cannot: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(points in their order, what is skipped and why)."""
    given, blocks = parameters(data, asked)
    wanted = [name for name in METRICS if not asked.scenarios or name in asked.scenarios]
    found: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for name in wanted:
        if name == "sweep" and not asked.sweep:
            continue
        why = _unable(name, instance, asked, cannot)
        if why:
            skipped.append({"scenario": name, "why": why})
            continue
        made = MAKERS[name](given.get(name, {}), instance, asked)
        fitting = []
        for point in made:
            needed = int(point.get("input", 0)) + int(point.get("output", 0))
            if room(instance) and needed > room(instance):
                skipped.append(
                    {"scenario": name,
                     "why": f"{point['label']}: {needed} tokens do not fit into {room(instance)} of this instance"}
                )  # fmt: skip
            else:
                fitting.append(point)
        repeats = 1 if name == "accuracy" else blocks
        found += _in_blocks(name, fitting, repeats, asked.seed)
    return found, skipped


def _in_blocks(scenario: str, made: list[dict[str, Any]], blocks: int, seed: int) -> list[dict[str, Any]]:
    """A B, B A, A B: what drifts with time hits both settings alike."""
    found = []
    for block in range(blocks):
        for point in made if block % 2 == 0 else made[::-1]:
            label = f"{point['label']}" + (f"/{point['setting']}" if point.get("setting") else "")
            found.append(
                {**point, "scenario": scenario, "block": block, "seed": seed + block,
                 "key": f"{scenario}/{label}/{block}", "label": point["label"]}
            )  # fmt: skip
    return found


def _unable(name: str, instance: Mapping[str, Any], asked: Asked, cannot: Mapping[str, str]) -> str:
    if name in OTHER_SERVERS and not asked.scratch:
        return (
            "needs servers started otherwise: -e bench_scratch=beside (free GPUs) or instead (of what serves)"
        )
    if name in OTHER_SERVERS and int(instance["parallel"]["nnodes"]) > 1:
        return "an instance of several hosts is not started otherwise by this playbook"
    behaviour = instance["behaviour"]
    if name == "thinking" and not behaviour["reasoning_parser"]:
        return "no reasoning parser is planned: the model does not think"
    if name == "agentic" and not behaviour["tool_parser"]:
        return "no tool-call parser is planned"
    if name == "agentic" and not behaviour["tools"]:
        return NO_TOOLS
    if name == "accuracy" and cannot.get("answers"):
        return cannot["answers"]
    if name == "prefix" and not behaviour["prefix_cache"]:
        return "the prefix cache is off"
    if name == "speculative" and not behaviour["speculative"]:
        return "no speculative decoding is planned, so there is nothing to switch off"
    if name == "moe_file":
        if not instance["kernels"].get("tree"):
            return "no kernel tuning file is planned"
        if behaviour["random_weights"]:
            return "dummy weights send all tokens to the same experts: the comparison would show nothing"
    return ""


def _speed(label: str, x: float, **more: Any) -> dict[str, Any]:
    return {"kind": "load", "label": label, "x": x, "body": dict(SPEED), "warm_up": 1, **more}


def _context(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed(str(size), size, input=size, output=given["output"], concurrency=1, requests=given["requests"])
        for size in given["contexts"]
    ]


def _concurrency(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed(str(level), level, input=given["input"], output=given["output"], concurrency=level,
               requests=level * given["rounds"])
        for level in given["levels"]
    ]  # fmt: skip


def _agentic(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        {"kind": "conversation", "label": f"{given['turns']} turns", "x": given["turns"], "turns": given["turns"],
         "requests": given["conversations"], "concurrency": 1, "input": given["input"], "output": given["output"]}
    ]  # fmt: skip


def _thinking(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        {"kind": "load", "label": "answer", "x": 0, "setting": setting, "warm_up": 1, "concurrency": 1,
         "input": given["input"], "output": given["output"], "requests": given["requests"],
         "body": {"chat_template_kwargs": {"enable_thinking": setting == "on"}}}
        for setting in ("on", "off")
    ]  # fmt: skip


def _prefix(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed("prompt", given["input"], input=given["input"], output=given["output"], requests=given["requests"],
               concurrency=given["streams"], shared=given["shared"] if setting == "shared" else 0, setting=setting)
        for setting in ("shared", "unique")
    ]  # fmt: skip


def _random(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed(f"{given['streams']} streams", given["streams"], lengths="random", input=given["input"],
               output=given["output"], range_ratio=given["range_ratio"], requests=given["requests"],
               concurrency=given["streams"])
    ]  # fmt: skip


def _sharegpt(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    names = ("input", "input_sigma", "input_most", "output", "output_sigma", "output_most")
    sizes = {name: given[name] for name in names}
    common = {"lengths": "sharegpt-like", "requests": given["requests"], **sizes}
    found = [
        _speed("all at once", 0, rate=0, **common),
        _speed(f"{given['streams']} streams", given["streams"], concurrency=given["streams"], **common),
    ]
    return found + [_speed(f"{rate} a second", rate, rate=rate, **common) for rate in given["rates"]]


def _speculative(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed("one stream", 1, input=given["input"], output=given["output"], requests=given["requests"],
               concurrency=1, setting=setting, server={"speculative": setting == "on"})
        for setting in ("on", "off")
    ]  # fmt: skip


def _moe_file(given: Mapping[str, Any], *_unused: Any) -> list[dict[str, Any]]:
    return [
        _speed(f"{given['streams']} streams", given["streams"], input=given["input"], output=given["output"],
               requests=given["requests"], concurrency=given["streams"], setting=setting,
               server={"kernel_files": setting == "tuned"})
        for setting in ("tuned", "default")
    ]  # fmt: skip


def _accuracy(given: Mapping[str, Any], instance: Mapping[str, Any], _asked: Asked) -> list[dict[str, Any]]:
    with_tools = instance["behaviour"]["tool_parser"] and instance["behaviour"]["tools"]
    sets = ["exact", *(["calls"] if with_tools else [])]
    return [
        {"kind": "accuracy", "label": "tool calls" if name == "calls" else "exact answers", "set": name, "x": number,
         "output": given["output"]}
        for number, name in enumerate(sets)
    ]  # fmt: skip


def _sweep(_given: Mapping[str, Any], _instance: Mapping[str, Any], asked: Asked) -> list[dict[str, Any]]:
    load = asked.sweep.get("load", {})
    streams = int(load.get("streams", 8))
    return [
        _speed(f"{streams} streams", streams, input=int(load.get("input", 1024)), output=int(load.get("output", 128)),
               requests=int(load.get("requests", 2 * streams)), concurrency=streams, setting=words(setting),
               server=dict(setting))
        for setting in combinations(asked.sweep)
    ]  # fmt: skip


MOST_SETTINGS = 32


def combinations(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of `settings: {key: [values]}`, or the list `settings` as it is; the plan's own comes first."""
    settings = sweep.get("settings", {})
    if isinstance(settings, list):
        found = [dict(item) for item in settings]
    else:
        found = [{}]
        for key, values in settings.items():
            if not isinstance(values, list) or not values:
                raise AskedError(f"sweep.settings.{key} = {values!r}: give a list of values to try")
            found = [{**one, key: value} for one in found for value in values]
    if not any(found):
        raise AskedError(
            "sweep.settings is empty: give mappings, or a list for each key, such as {memory_fraction: [0.8, 0.85]}"
        )
    if len(found) > MOST_SETTINGS:
        raise AskedError(
            f"sweep.settings makes {len(found)} servers; at most {MOST_SETTINGS} are tried: shorten a list"
        )
    return [{}, *(one for one in found if one)]


def words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in setting.items()) or "as planned"


Maker = Callable[..., list[dict[str, Any]]]
MAKERS: dict[str, Maker] = {
    "context": _context, "concurrency": _concurrency, "agentic": _agentic, "thinking": _thinking, "prefix": _prefix,
    "random": _random, "sharegpt": _sharegpt, "speculative": _speculative, "moe_file": _moe_file,
    "accuracy": _accuracy, "sweep": _sweep,
}  # fmt: skip


def servers(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each other server once: {name, setting}; points say the name in `server_name`."""
    made: dict[str, dict[str, Any]] = {}
    for point in found:
        if "server" in point:
            name = f"{point['scenario']}: {point['setting']}"
            made.setdefault(name, {"name": name, "scenario": point["scenario"], "setting": point["server"]})
    return list(made.values())
