# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the commands that launch an engine in notes: shell scripts, Markdown, reStructuredText, one line of a history."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

OTHERS: Mapping[str, tuple[str, ...]] = {
    "vllm": ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server"),
}
"""Engines that notes are full of, and that may be none of ours: modules that `python -m` starts."""
Engines = Mapping[str, "tuple[str, ...]"]
"""Name -> modules; `<name> serve` is a command of each."""
SERVE = "serve"
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z", re.DOTALL)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
FENCE = re.compile(r"\s*(```|~~~)")
INLINE = re.compile(r"`([^`\n]+)`")
PROMPT = re.compile(r"\A\s*(?:[\w.@~:-]*[$#]|>|[-*]|\d+[.)])\s+(?=\S)")
REFERENCE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
CONTROL = ("&", "&&", "||", "|", ";", ";;")
OF_CONTAINERS = ("docker", "podman", "nerdctl")
DEEPEST = 4


@dataclass(frozen=True)
class Launch:
    """One command that starts an engine."""

    engine: str
    line: int
    """Where it begins in the text, counted from 1."""
    words: tuple[str, ...]
    """What stands behind the module or `serve`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    container: str = ""
    """docker or podman, where it runs in one."""
    unresolved: tuple[str, ...] = ()
    """Shell variables whose value the text does not tell."""
    mounts: tuple[tuple[str, str], ...] = ()
    """(folder on the host, folder in the container)."""


@dataclass(frozen=True)
class _Shell:
    """Variables of the shell before a command, and which of them commands inherit."""

    variables: Mapping[str, str] = field(default_factory=dict)
    exported: frozenset[str] = frozenset()

    def after(self, words: Iterable[str]) -> _Shell:
        """Once a statement has run that sets variables; every other statement changes nothing."""
        words = [word.rstrip(";") for word in words]
        names = {word for word in words if IDENTIFIER.match(word)} - {"export"}
        export = words[:1] == ["export"]
        found = dict(self.variables)
        if not words or any(
            not ASSIGNMENT.match(word) and word not in names for word in words[int(export) :]
        ):
            return self
        if names and not export:
            return self
        for word in words[int(export) :]:
            match = ASSIGNMENT.match(word)
            if match:
                names.add(match[1])
                found[match[1]] = _expanded(match[2], found)[0]
        return _Shell(found, self.exported | names if export else self.exported)

    def inherited(self) -> dict[str, str]:
        return {name: value for name, value in self.variables.items() if name in self.exported}


def launches(text: str, engines: Engines) -> list[Launch]:
    """All commands of the text that have at least one word behind the engine's name."""
    engines = {**OTHERS, **engines}
    found: list[Launch] = []
    shell = _Shell()
    fenced = FENCE.search(text, 0) is not None
    inside = False
    for number, line in _logical_lines(text):
        if FENCE.match(line):
            inside = not inside
            shell = _Shell()
            continue
        candidates = [line] if inside or "`" not in line else [match[1] for match in INLINE.finditer(line)]
        for candidate in candidates:
            statement = candidate if inside else PROMPT.sub("", candidate, count=1)
            launch = _launch(engines, statement, number, shell)
            if launch is not None and launch.words:
                found.append(launch)
            elif launch is None and (inside or not fenced):
                shell = shell.after(_split(statement))
    return found


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations; of a comment within a command only the comment goes."""
    joined, begin = "", 0
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        begin = begin if joined else number
        bare = line.rstrip()
        if joined and bare.lstrip().startswith("#"):
            continue
        if bare.endswith("\\"):
            joined += bare[:-1] + " "
            continue
        yield begin, joined + line
        joined = ""
    if joined:
        yield begin, joined


def _split(statement: str) -> list[str]:
    try:
        return shlex.split(statement, comments=True)
    except ValueError:
        return []


def _expanded(word: str, known: Mapping[str, str]) -> tuple[str, list[str]]:
    """The word with the variables that are known, and the names of the others."""
    missing = []

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name in known:
            return known[name]
        missing.append(name)
        return found[0]

    return REFERENCE.sub(value, word), missing


def _launch(engines: Engines, statement: str, line: int, shell: _Shell, depth: int = 0) -> Launch | None:
    words = _split(statement)
    for start, word in enumerate(words):
        before = words[:start]
        engine, first = _engine_at(engines, words, start)
        nested = depth < DEEPEST and start and (" " in word or "\n" in word) and _names_engine(engines, word)
        if not engine and not nested:
            continue
        # Of `cd x; export A=1 && python ...` only the last command has the engine.
        for place, item in enumerate(before):
            if item.endswith(CONTROL):
                begin = max(
                    (n + 1 for n, one in enumerate(before[:place]) if one.endswith(CONTROL)), default=0
                )
                shell = shell.after(one for one in before[begin : place + 1] if one not in CONTROL)
        cut = max((place for place, item in enumerate(before) if item.endswith(CONTROL)), default=-1)
        before = before[cut + 1 :]
        if not _plausible(before):
            return None
        own, container, missing = _wrapper(before, shell.variables)
        mounts = _mounts(before, shell.variables)
        if nested:
            # bash -c '...', ssh host "...", docker exec x sh -c "..."
            known = _Shell({**shell.variables, **own}, shell.exported | set(own))
            inner = _launch(engines, word, line, known, depth + 1)
            if inner is None:
                continue
            return replace(
                inner,
                container=inner.container or container,
                unresolved=tuple(dict.fromkeys([*missing, *inner.unresolved])),
                mounts=(*mounts, *inner.mounts),
            )
        rest = []
        for item in _until_control(words[first:]):
            text, lacking = _expanded(item, {**shell.variables, **own})
            rest.append(text)
            missing += lacking
        environment = own if container else {**shell.inherited(), **own}
        return Launch(
            engine, line, tuple(rest), environment, container, tuple(dict.fromkeys(missing)), mounts
        )
    return None


def _engine_at(engines: Engines, words: list[str], place: int) -> tuple[str, int]:
    """(engine, first word behind it) where a launcher stands at the place."""
    word = words[place]
    for engine, modules in engines.items():
        if word in modules and place and words[place - 1] == "-m":
            return engine, place + 1
        if word.rsplit("/", 1)[-1] == engine and words[place + 1 : place + 2] == [SERVE]:
            return engine, place + 2
    return "", 0


def _names_engine(engines: Engines, text: str) -> bool:
    names = [name for modules in engines.values() for name in modules]
    return any(name in text for name in (*names, *(f"{engine} {SERVE}" for engine in engines)))


def _wrapper(words: list[str], known: Mapping[str, str]) -> tuple[dict[str, str], str, list[str]]:
    """(variables that the words before the engine set, the container program, unresolved names)."""
    found: dict[str, str] = {}
    missing: list[str] = []
    container = next(
        (word.rsplit("/", 1)[-1] for word in words if word.rsplit("/", 1)[-1] in OF_CONTAINERS), ""
    )
    given = list(words)
    for place, word in enumerate(words):
        if container and word in ("-e", "--env") and place + 1 < len(words):
            given[place] = ""
        elif container and word.startswith("--env="):
            given[place] = word[len("--env=") :]
        match = ASSIGNMENT.match(given[place])
        if match:
            text, lacking = _expanded(match[2], {**known, **found})
            found[match[1]] = text
            missing += lacking
    return found, container, missing


def _mounts(words: list[str], known: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """-v /data:/models:ro, --volume=..., --mount type=bind,source=/data,target=/models."""
    found = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name not in ("-v", "--volume", "--mount"):
            continue
        given, _missing = _expanded(value if equals else "".join(words[place + 1 : place + 2]), known)
        if name == "--mount":
            parts = dict(part.partition("=")[::2] for part in given.split(","))
            pair = [parts.get("source") or parts.get("src", ""), parts.get("target") or parts.get("dst", "")]
        else:
            pair = given.split(":")
        if len(pair) > 1 and pair[0] and pair[1]:
            found.append((pair[0], pair[1]))
    return tuple(found)


def _plausible(words: list[str]) -> bool:
    """Whether the words before the engine are a command and not a sentence that mentions one."""
    if not words:
        return True
    first = next((word for word in words if not ASSIGNMENT.match(word)), "")
    name = first.rsplit("/", 1)[-1]
    known = (
        "bash", "conda", "docker", "env", "exec", "kubectl", "micromamba", "nerdctl", "nohup", "numactl", "pixi", "podman",
        "poetry", "screen", "setsid", "sh", "srun", "ssh", "stdbuf", "sudo", "systemd-run", "taskset", "time", "tmux", "uv",
        "uvx", "CMD", "ENTRYPOINT", "RUN",
    )  # fmt: skip
    return not first or name in known or re.match(r"python[\d.]*\Z|\$\{?PYTHON", name) is not None


def _until_control(words: list[str]) -> list[str]:
    """Without what the shell does with the command: redirections, a pipe, the next command."""
    found = []
    for word in words:
        if word in CONTROL or re.match(r"(?:\d|&)?>", word):
            break
        if word.endswith(";"):
            found.append(word[:-1])
            break
        found.append(word)
    return found
