# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch commands from somebody's notes as entries of `serve:`, with all that was changed and all that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..catalogue.entries import Model
from ..core.refusals import Refusal
from ..core.text_checks import secret_in
from ..engines import registry
from ..engines.base import EngineData, Notes
from ..engines.flags.check import Problem, check_arguments
from ..engines.flags.command_line import Command, parse_words
from ..engines.flags.launch_text import Launch, launches
from .serve_spec import Instance
from .versions import version_key

MODEL_FLAGS = ("model-path", "model", "model-dir")


@dataclass(frozen=True)
class Entry:
    """One instance as it would stand in the inventory."""

    name: str
    lines: tuple[int, ...]
    """Where the commands begin that it was made of."""
    values: dict[str, Any]
    remarks: tuple[str, ...] = ()
    """What was changed or left out, and why."""
    problems: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    """Release -> what is wrong with the options there; empty for releases that take them all."""


@dataclass(frozen=True)
class Translation:
    entries: tuple[Entry, ...]
    refusals: tuple[Refusal, ...]


def translate(
    engines: Mapping[str, EngineData],
    models: Mapping[str, Model],
    text: str,
    hosts: Iterable[str] = (),
) -> Translation:
    """Every launch command of the text; `hosts` are named in the entries, host-1 ... where none is given."""
    notes = {name: registry.engine(name).notes for name in engines}
    found = launches(text, {name: item.modules for name, item in notes.items()})
    if not found:
        return Translation((), (_nothing(text, notes.values()),))
    made: list[Entry] = []
    refusals: list[Refusal] = []
    for launch in found:
        if launch.engine not in engines:
            refusals.append(_engine(launch, tuple(engines), models))
            continue
        work = _Work(launch, notes[launch.engine], engines[launch.engine], models, tuple(hosts))
        entry = work.entry()
        refusals += work.refusals
        if entry is not None:
            made.append(entry)
    return Translation(tuple(_named(_merged(made))), tuple(refusals))


def model_of(given: str, models: Mapping[str, Model]) -> str:
    """The catalogue key of a hub id or of a directory that is called like one; else the text itself."""
    wanted = given.rstrip("/").rsplit("/", 1)[-1].lower()
    for key, model in models.items():
        names = {identifier.rsplit("/", 1)[-1].lower() for identifier in model.ids.values()}
        if given in model.ids.values() or wanted in names:
            return key
    return given


def _nothing(text: str, notes: Iterable[Notes]) -> Refusal:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Refusal(
        "command-missing",
        "",
        f"command = {first[:60]}",
        "there is no command in it that starts an engine",
        f"give one such as {'; or '.join(item.example for item in notes if item.example)}",
    )


def _engine(launch: Launch, known: tuple[str, ...], models: Mapping[str, Model]) -> Refusal:
    model = model_of(_model_in(launch.words), models)
    fix = f"use engine: {' or '.join(known)}"
    if model in models:
        titles = " or ".join(registry.engine(name).title for name in known)
        fix = f"serve the model with {titles}: serve: {{{_slug(model)}: {{model: {model}, hosts: [host-1]}}}}"
    return Refusal(
        "engine-unsupported",
        "",
        f"line {launch.line}: engine {launch.engine}",
        f"engine {launch.engine} is not supported yet, and its flags mean nothing to another engine",
        fix,
    )


def _model_in(words: tuple[str, ...]) -> str:
    """Of a command whose flags are not known: what most engines call the weights."""
    for place, word in enumerate(words):
        name, equals, value = word.lstrip("-").replace("_", "-").partition("=")
        if word.startswith("-") and name in MODEL_FLAGS:
            return value if equals else "".join(words[place + 1 : place + 2])
    return words[0] if words and not words[0].startswith("-") else ""


class _Work:
    """One command on its way to an entry."""

    def __init__(
        self,
        launch: Launch,
        notes: Notes,
        data: EngineData,
        models: Mapping[str, Model],
        hosts: tuple[str, ...],
    ) -> None:
        self.launch, self.notes, self.rules, self.models = launch, notes, data.flag_rules, models
        self.contracts = sorted(data.contracts.values(), key=lambda item: version_key(item.version))
        self.given_hosts = hosts
        self.values: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.remarks: list[str] = []
        self.refusals: list[Refusal] = []
        self.nodes = 1
        self.folder = ""

    def entry(self) -> Entry | None:
        command = parse_words(self.contracts[::-1], self.launch.words)
        for given, value in command.arguments:
            self._flag(given, value)
        self._leftover(command)
        if not self.values.get("model"):
            self.refusals.append(
                Refusal(
                    "command-model",
                    "",
                    f"line {self.launch.line}: --{self.notes.model[0]}",
                    "the command does not say which model is served",
                    f"add --{self.notes.model[0]} with a hub id or a directory",
                )
            )
            return None
        self._parsers()
        self._environment()
        self.values["hosts"] = self._hosts()
        if self.launch.container:
            self._say(
                f"{self.launch.container}: image, mounts and limits are left out; the engine is installed on the host"
            )
        for name in self.launch.unresolved:
            self._say(f"${name}: the text does not say its value; replace it before you use the entry")
        if self.options:
            self.values["options"] = self.options
        if self.launch.engine != Instance.engine:
            self.values["engine"] = self.launch.engine
        name = _slug(str(self.values.get("served_model_name") or self.values["model"]))
        return Entry(name, (self.launch.line,), self.values, tuple(self.remarks), self._problems(name))

    def _say(self, words: str) -> None:
        if words not in self.remarks:
            self.remarks.append(words)

    def _canonical(self, given: str) -> str:
        """The name that the newest release which has the flag gives it; an unknown one stays, for the check to name."""
        dashed = given.replace("_", "-")
        for contract in reversed(self.contracts):
            if given in contract.spellings:
                return contract.spellings[given]
        name = self.notes.short.get(dashed, dashed)
        for contract in reversed(self.contracts):
            if name in contract.spellings:
                return contract.spellings[name]
        newest = self.contracts[-1]
        meant = {flag for spelling, flag in newest.spellings.items() if spelling.startswith(dashed)}
        return meant.pop() if len(meant) == 1 else dashed

    def _flag(self, given: str, value: Any) -> None:
        name = self._canonical(given)
        if name != given:
            self._say(f"--{given}: means {name}; abbreviations and other spellings are not accepted")
        value, notes = _number(value), self.notes
        if name in notes.model:
            self.values["model"], self.folder = self._model(str(value)), str(value)
        elif name == notes.nodes:
            self.nodes = value if isinstance(value, int) and value > 0 else 1
        elif name in notes.ignored:
            pass
        elif name == notes.rendezvous:
            port = str(value).rpartition(":")[2]
            if port.isdecimal():
                self.values["dist_port"] = int(port)
            self._say(f"--{name}: the ranks meet at the first of hosts; only the port is kept, as dist_port")
        elif name in notes.left_out:
            self._say(f"--{name}: left out; {notes.left_out[name]}")
        elif name == notes.device and value == "cpu":
            self.values["device"] = "cpu"
        elif name in self.rules.owned:
            self._owned(name, value)
        else:
            if name in self.options:
                self._say(f"--{name}: given twice; the last value counts, as for the engine")
            self.options[name] = value

    def _owned(self, name: str, value: Any) -> None:
        owner = self.rules.owned[name]
        setting = owner.get("setting", "")
        if name == self.notes.device:
            self._say(f"--{name}: left out; the plan takes what the hosts have")
        elif name in self.notes.gpus:
            self._say(f"--{name}: left out; name the GPUs as gpus: [...]")
        elif setting:
            self.values[setting] = str(value) if setting == "served_model_name" else value
        else:
            self._say(f"--{name}: {owner['instead']}")

    def _model(self, given: str) -> str:
        """A path in a container is the path on the host that is mounted there."""
        for outside, inside in self.launch.mounts:
            if given == inside or given.startswith(inside.rstrip("/") + "/"):
                given = outside.rstrip("/") + given[len(inside.rstrip("/")) :]
                break
        found = model_of(given, self.models)
        if found != given:
            self._say(f"{given}: {found} in the catalogue")
        elif not given.startswith("/"):
            self._say(f"{given}: in no catalogue; give an absolute directory that holds its config.json")
        return found

    def _leftover(self, command: Command) -> None:
        words = list(command.leftover)
        if words and "model" not in self.values:
            self.values["model"] = self._model(words.pop(0))
        if words:
            self._say(f"{' '.join(words)}: belongs to no flag and was left out")

    def _parsers(self) -> None:
        model = self.models.get(self.values["model"])
        for flag in self.notes.own_folder:
            given = self.options.get(flag)
            if given and set(given if isinstance(given, list) else [given]) == {self.folder}:
                self.options.pop(flag)
                self._say(f"--{flag}: left out; the plan names the model's own folder")
        for flag, key in self.notes.of_model.items():
            if model is not None and self.options.get(flag) == getattr(model, key):
                self.options.pop(flag)
                self._say(f"--{flag}: left out; the plan sets the same for {model.key}")

    def _environment(self) -> None:
        kept = {}
        for name, value in self.launch.environment.items():
            if name == "CUDA_VISIBLE_DEVICES":
                self._gpus(value)
            elif secret_in(name, value):
                self._say(
                    f"{name}: left out, it looks like a secret; put it into a file named in environment_files"
                )
            else:
                kept[name] = value
        if kept:
            self.values["environment"] = kept

    def _gpus(self, value: str) -> None:
        numbers = value.split(",")
        if all(number.strip().isdecimal() for number in numbers):
            self.values["gpus"] = [int(number) for number in numbers]
        elif value:
            self._say(f"CUDA_VISIBLE_DEVICES={value}: left out; write the indexes as gpus: [0, 1]")

    def _hosts(self) -> list[str]:
        if not self.given_hosts:
            return [f"host-{number}" for number in range(1, self.nodes + 1)]
        if len(self.given_hosts) < self.nodes:
            self.refusals.append(
                Refusal(
                    "command-hosts",
                    "",
                    f"hosts = {', '.join(self.given_hosts)}",
                    f"the command of line {self.launch.line} runs on {self.nodes} hosts",
                    f"name {self.nodes} hosts in the order of their ranks, or none",
                )
            )
        return list(self.given_hosts[: self.nodes])

    def _problems(self, name: str) -> dict[str, tuple[Problem, ...]]:
        found = {}
        place = f"serve.{name}.options"
        arguments = [(flag, value, f"{place}.{flag} = {value}") for flag, value in self.options.items()]
        for contract in self.contracts:
            others = [other for other in self.contracts if other is not contract]
            _accepted, problems = check_arguments(contract, arguments, others, self.rules, name)
            found[contract.version] = tuple(problems)
        return found


def _merged(entries: list[Entry]) -> list[Entry]:
    """The same entry once: the commands of a group's members differ in what the inventory says by itself."""
    found: list[Entry] = []
    for entry in entries:
        same = next(
            (
                place
                for place, one in enumerate(found)
                if (one.name, one.values) == (entry.name, entry.values)
            ),
            None,
        )
        if same is None:
            found.append(entry)
        else:
            remarks = tuple(dict.fromkeys([*found[same].remarks, *entry.remarks]))
            found[same] = replace(found[same], lines=(*found[same].lines, *entry.lines), remarks=remarks)
    return found


def _named(entries: list[Entry]) -> list[Entry]:
    """Each with a name of its own, which is said once where the API answers to it."""
    taken: set[str] = set()
    found = []
    for entry in entries:
        name, number = entry.name, 2
        while name in taken:
            name, number = f"{entry.name}-{number}", number + 1
        taken.add(name)
        values = dict(entry.values)
        if values.get("served_model_name") == name:
            values.pop("served_model_name")
        if values.get("port") == Instance.port:
            values.pop("port")
        first = {key: values.pop(key) for key in ("model", "hosts")}
        found.append(replace(entry, name=name, values={**first, **values}))
    return found


def _slug(text: str) -> str:
    last = text.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[^a-z0-9.-]+", "-", last).strip("-.") or "model"


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    if not isinstance(value, str) or not re.fullmatch(r"-?\d+(?:\.\d+)?", value, re.ASCII):
        return value
    return float(value) if "." in value else int(value)
