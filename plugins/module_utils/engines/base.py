# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rest of the collection knows of an inference engine.

An engine is a package `engines/<name>` whose module `engine.py` holds `ENGINE`, and a folder `files/engines/<name>`.
Nothing else names it: planner, roles and programs on the hosts ask an `Engine`, or read what it put into the plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..catalogue.entries import Release
from ..core.refusals import Advice, Refusal
from .flags.check import Rules
from .flags.contract import Contract

if TYPE_CHECKING:
    from ..planner.case import Case
    from ..planner.compilers import Source
    from ..planner.network import Link
    from ..planner.plan import Argument
    from ..planner.rules.registry import Rule


class UnreadableWheelError(Exception):
    """A release declares something in a way that the engine's package has not been taught."""


@dataclass(frozen=True)
class DataFile:
    """One file below `files/engines/<name>`, or below the same folder of a directory of the user."""

    path: str
    """Below the engine's folder."""
    source: str
    """Where it lies, in words for messages."""
    ours: bool
    """Of the collection; false for the user's."""
    content: Any


@dataclass(frozen=True)
class Api:
    """api.yml: how a server is asked. Paths are as they stand behind host and port."""

    alive: str = "/health"
    """Answers 200 as soon as the server listens, on every rank."""
    token: str = "/health"
    """Answers 200 only when a token was made, where the engine has such a route."""
    models: str = "/v1/models"
    metrics: str = "/metrics"
    parse: str = ""
    """Takes apart a text with calls of tools."""
    settings: str = ""
    """Tells the server's settings."""
    secrets: tuple[str, ...] = ()
    """Keys of those settings that must be empty."""
    secret_options: tuple[str, ...] = ()
    """Options of its command line that hold a secret, as they are written there."""
    first: dict[str, Any] = field(default_factory=dict)
    """{path, body, tokens}: the first request of all, and the keys under which its answer counts the tokens.

    Empty where `token` is proof enough. A text `{model}` in the body becomes the served name.
    """
    closed: tuple[str, ...] = ()
    """Routes that no client needs."""


@dataclass(frozen=True)
class Behaviour:
    """What the arguments of an instance come to, in the words of the house."""

    tool_parser: str = ""
    reasoning_parser: str = ""
    grammar: bool = True
    """Answers can be held to a schema; tools need it."""
    quantization: str = ""
    preserved_thinking: bool = False
    logit_processors: bool = False
    checksums: bool = False
    deterministic: bool = False
    speculative: bool = False
    metrics: bool = True
    prefix_cache: bool = True
    random_weights: bool = False
    most_tokens: int = 0
    """Of the cache, where it is set; 0 for none."""
    backends: dict[str, str] = field(default_factory=dict)
    """{attention, sampling} where they are set."""


@dataclass(frozen=True)
class EngineData:
    """What is known of one engine: its folder in the collection, and the users' beside it."""

    releases: Mapping[str, Release] = field(default_factory=dict)
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    """Release key -> its flags."""
    flag_rules: Rules = field(default_factory=Rules)
    """flags/rules.json: flags that the collection sets itself."""
    lock_hashes: Mapping[str, str] = field(default_factory=dict)
    """Lock file below locks/ -> sha256 of its content."""
    api: Api = field(default_factory=Api)
    metrics: Mapping[str, str] = field(default_factory=dict)
    """metrics.yml: what status, bench, verify and monitoring read -> the engine's name of it."""
    imports: tuple[str, ...] = ()
    """runtime.yml: what must be importable before an environment is used."""
    log_verdicts: tuple[Mapping[str, Any], ...] = ()
    """log_verdicts.yml: what lines of its log mean; asked before those of all engines."""
    cache_variables: Mapping[str, str] = field(default_factory=dict)
    """runtime.yml: folders below the instance's cache that only this engine asks for."""
    own: Any = None
    """What the engine made of the files that only it reads."""


@dataclass(frozen=True)
class Settled:
    """A case with every argument, and what follows from them."""

    case: Case
    memory: dict[str, Any]
    """Bytes of one GPU; empty where the engine does not divide it."""
    context: dict[str, Any]
    """{length, of_model, tokens, speculative ...}."""
    compiled: Sequence[str] = ()
    """What nvcc compiles at start, in words."""
    proofs: Sequence[str] = ()
    """What is compiled once when the environment is made, so that a start does not find out."""
    refusals: Sequence[Refusal] = ()
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class Notes:
    """How a launch command in somebody's notes becomes an entry of `serve:`; names of flags as the contract has them."""

    modules: tuple[str, ...] = ()
    """What `python -m` starts; `<engine> serve` is read as well."""
    example: str = ""
    model: tuple[str, ...] = ("model",)
    """Flags that name the weights, the one of the contract first."""
    nodes: str = ""
    """The number of hosts."""
    rendezvous: str = ""
    """Address and port where the ranks meet."""
    ignored: tuple[str, ...] = ()
    """Said by the list of hosts."""
    device: str = ""
    gpus: tuple[str, ...] = ()
    """Flags that choose among the GPUs of a host."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Abbreviation -> flag."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Flag -> why it need not be said."""
    of_model: Mapping[str, str] = field(default_factory=dict)
    """Flag -> key of a model's catalogue entry that says the same."""


class Engine(ABC):
    """One inference engine. What is abstract must be said; the rest has the answer of an engine without it."""

    name: str
    """As `engine:` of an instance says it; also the name of the package and of the data folder."""
    title: str
    """As its makers write it."""
    module: str
    """What `python -m` starts."""
    distribution: str
    """The package whose version is the release's."""
    rules: tuple[Rule, ...] = ()
    """Combinations that cannot work with it, and those that deserve a warning."""
    notes: Notes = Notes()
    scripts: Mapping[str, str] = {}
    """{parser, budget}: programs that verify runs with the environment's Python, as text."""
    release_memory: type | None = None
    """Dataclass that `memory:` of its releases is read as."""
    own_files: tuple[str, ...] = ()
    """Patterns below its data folder, of files that only `own_data` reads."""

    # --- flags ---

    def wheel_files(self, version: str, wheel: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
        """Files of the data folder that are made from a wheel: path -> text.

        `wheel` is {path in the wheel: text}, `named` its {name, sha256}. Nothing of it is imported.
        """
        raise NotImplementedError(f"the data of {self.title} is not made from its wheel")

    # --- plan ---

    def own_data(self, files: Iterable[DataFile]) -> Any:
        """What `EngineData.own` is."""
        return None

    @abstractmethod
    def settle(self, case: Case, source: Source) -> Settled:
        """The arguments that facts, catalogues and the inventory lead to, the memory, and the context that fits."""

    @abstractmethod
    def rank_arguments(self, case: Case, rank: int, head_address: str) -> list[Argument]:
        """All arguments of one member of a group, in a stable order."""

    def variables(
        self, case: Case, link: Link, kernel_files: Mapping[str, Any]
    ) -> list[tuple[str, str, str]]:
        """(name, value, why) of the environment variables that only this engine reads."""
        return []

    def behaviour(self, values: Mapping[str, Any]) -> Behaviour:
        """What the values of the flags come to."""
        return Behaviour()

    def checksums(self, case: Case) -> str:
        """File of hashes in the instance's folder that the engine compares its weights with; "" for none."""
        return ""

    def head_ports(self, case: Case) -> list[tuple[str, int]]:
        """(purpose, port) of what the first host of a group opens beside the rendezvous."""
        return []

    def kernel_files(self, case: Case) -> dict[str, Any]:
        """Kernel tuning files: {words, source, directory, tree, log ...}; empty for an engine without any."""
        return {}

    def without_compiler(self, case: Case, wanted: Sequence[str]) -> list[str]:
        """What works on hosts that cannot compile what is wanted."""
        return []
