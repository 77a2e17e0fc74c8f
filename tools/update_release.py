#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refresh what files/engines holds of one engine release: flags, kernel tuning files, locks, and what follows from them.

    tools/update_release.py 0.5.23             shows the difference and writes it
    tools/update_release.py 0.5.23 --check     shows it, writes nothing, exits 1 when there is one
    tools/update_release.py 0.5.23 --upgrade   takes newer versions of what upstream leaves unpinned
    tools/update_release.py 0.5.23 --no-prove  leaves out the ABI proof, which fetches gigabytes
    tools/update_release.py 1.2.0 --engine lightllm --wheel WHEEL    of an engine whose wheel no index has

releases/VERSION.yml of the engine's folder says which variants to resolve, with which constraints. A version without
such a file gets only the first two; write the file beside a neighbour's and run this again. Packages come
from the index that pip and uv are configured with on this machine. files/cuda.yml holds what every release
of a CUDA tag is held to. Before anything is written, the kernel wheels of each lock are proven to fit its
torch; what does not fit is told, nothing is written, and the exit status is 3.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomllib

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tools")]

import release_lock
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.engines import registry
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.base import (
    Engine,
    UnreadableWheelError,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import Instance
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import (
    SymbolTables,
    load_rules,
    prove_wheels,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Target, parse_lock

BIN = Path(sys.executable).parent
FLAGS_PYTHON, FLAGS_PLATFORM = "3.12", "manylinux_2_34_x86_64"
"""Every release has a wheel for these; the flags are the same in all wheels of a release."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "baremetal-sglang"


class ResolveError(Exception):
    """The resolver's own words."""


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def data_of(engine: Engine) -> Path:
    return ROOT / "files/engines" / engine.name


def fetch_wheel(engine: Engine, version: str, folder: Path) -> Path:
    """The engine's own wheel, without anything that it depends on."""
    done = run([str(BIN / "python"), "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
                "--python-version", FLAGS_PYTHON, "--platform", FLAGS_PLATFORM, "--platform", "any",
                "--dest", str(folder), f"{engine.distribution}=={version}"])  # fmt: skip
    if done.returncode:
        raise ResolveError(done.stderr.strip())
    return next(folder.glob("*.whl"))


def made_of_wheel(engine: Engine, version: str, wheel: Path) -> dict[Path, str]:
    """The files of the engine's folder that its wheel alone decides."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith((".py", ".json"))]
        files = {name: archive.read(name).decode("utf-8") for name in names}
    named = {"name": wheel.name, "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    made = engine.wheel_files(version, files, named)
    return {data_of(engine) / path: text for path, text in made.items()}


def resolve(
    engine: Engine, version: str, variant: Mapping[str, Any], python: str, keep: list[str]
) -> dict[str, Any]:
    """What uv would install for one variant and Python, wheels only; `keep` are pins to stay with."""
    with tempfile.TemporaryDirectory() as name:
        try:
            return _resolved(engine, version, variant, python, keep, Path(name))
        except ResolveError:
            if not keep:
                raise
    print("  the present pins do not fit any more: resolving anew", file=sys.stderr)
    return resolve(engine, version, variant, python, [])


def _resolved(
    engine: Engine, version: str, variant: Mapping[str, Any], python: str, keep: list[str], folder: Path
) -> dict[str, Any]:
    (folder / "requirements.in").write_text("\n".join(variant["requirements"]) + "\n")
    command = [str(BIN / "uv"), "pip", "compile", str(folder / "requirements.in"), "--quiet",
               "--only-binary", ":all:", "--python-version", python,
               "--python-platform", f"{variant['arch']}-{variant['platform']}",
               "--format", "pylock.toml", "--no-annotate", "--no-header",
               "--output-file", str(folder / "pylock.toml")]  # fmt: skip
    given = {
        "constraints": [
            *release_lock.constraints_for(common_constraints(), variant["cuda"]),
            *variant.get("constraints", ()),
            *keep,
        ],
        "overrides": list(variant.get("overrides", ())),
    }
    for option, lines in given.items():
        if lines:
            (folder / f"{option}.txt").write_text("\n".join(lines) + "\n")
            command += [f"--{option}", str(folder / f"{option}.txt")]
    done = run(command)
    if done.returncode:
        raise ResolveError(done.stderr.strip())
    return tomllib.loads((folder / "pylock.toml").read_text())


def common_constraints() -> dict[str, list[str]]:
    return dict(yaml.safe_load((ROOT / "files/cuda.yml").read_text())["constraints"])


def present_pins(lock: Path) -> list[str]:
    """The versions that a lock holds now, so that a refresh changes only what it must."""
    if not lock.exists():
        return []
    return [f"{pin.name}=={pin.version}" for pin in parse_lock(lock.read_text())]


def wanted_files(engine: Engine, version: str, only: str, upgrade: bool, wheel: str = "") -> dict[Path, str]:
    """Every file of the release with the text that it should hold."""
    wanted: dict[Path, str] = {}
    if wheel:
        wanted = made_of_wheel(engine, version, Path(wheel))
    elif not engine.given_wheel:
        with tempfile.TemporaryDirectory() as name:
            wanted = made_of_wheel(engine, version, fetch_wheel(engine, version, Path(name)))
    path = data_of(engine) / f"releases/{version}.yml"
    if not path.exists():
        print(f"{path.relative_to(ROOT)} is not there: only the flags are made", file=sys.stderr)
        return wanted
    text = path.read_text()
    for variant in yaml.safe_load(text)["variants"]:
        if variant["index"] != "default" or not f"{variant['cuda']}-{variant['arch']}".startswith(only):
            continue
        requirements = yaml.safe_load(text).get("requirements", ())
        if engine.given_wheel and not requirements:
            raise ResolveError(
                f"{path.name}: no index has {engine.distribution}; name its requirements there"
            )
        variant["requirements"] = list(requirements or [f"{engine.distribution}=={version}"])
        locks, derived = _locks_of(engine, version, variant, upgrade)
        wanted.update({data_of(engine) / "locks" / file: lock.text for file, lock in locks.items()})
        text = release_lock.with_variant_values(text, variant["cuda"], variant["arch"], derived)
    wanted[path] = text
    return wanted


def _locks_of(
    engine: Engine, version: str, variant: Mapping[str, Any], upgrade: bool
) -> tuple[dict[str, release_lock.Lock], dict[str, Any]]:
    made: dict[str, release_lock.Lock] = {}
    names: dict[str, str] = {}
    newest: release_lock.Lock | None = None
    for python in variant["python"]:
        print(f"resolving {variant['cuda']} {variant['arch']} Python {python}", file=sys.stderr)
        names[python] = release_lock.lock_name(version, variant["cuda"], variant["arch"], python)
        keep = [] if upgrade else present_pins(data_of(engine) / "locks" / names[python])
        pylock = resolve(engine, version, variant, python, keep)
        newest = release_lock.lock_of(pylock, python, variant["arch"], variant["platform"])
        made[names[python]] = newest
    if newest is None:
        return {}, {}
    floors = [tuple(int(part) for part in lock.glibc.split(".")) for lock in made.values()]
    glibc = ".".join(str(part) for part in max(floors))
    return made, {"locks": names, "glibc": glibc, "components": newest.components}


def kernels_torch_and_cuda(text: str) -> list[Any]:
    """The pins of a lock that the proof reads: all that a kernel wheel links with."""
    rules = load_rules()
    names = {*rules.kernel_packages, rules.torch_package}
    return [pin for pin in parse_lock(text) if pin.name in names or pin.name.startswith("nvidia-")]


def unproven(engine: Engine, version: str, wanted: Mapping[Path, str]) -> list[str]:
    """Why kernels of a lock cannot be loaded beside its torch; each lock that holds is told as well."""
    cache = WheelCache(CACHE / "wheels", lambda line: print(line, file=sys.stderr))
    problems = []
    for variant in yaml.safe_load(wanted[data_of(engine) / f"releases/{version}.yml"])["variants"]:
        for python, name in variant["locks"].items():
            text = wanted.get(data_of(engine) / "locks" / name)
            if text is None:
                continue
            target = Target(python, variant["arch"], release_lock.platform_glibc(variant["platform"]))
            wheels = cache.complete(kernels_torch_and_cuda(text), target, Indexes(), variant["index"])
            proofs = prove_wheels(
                {wheel: wheel.parent.name for wheel in wheels},
                SymbolTables(CACHE / "abi"), python, variant["glibc"], variant["cuda"],
            )  # fmt: skip
            if not proofs:
                problems.append(
                    f"{name}: holds no kernel package, or no torch; runtime.yml of the engine and files/abi.yml name them"
                )
            for proof in proofs:
                if proof["proven"]:
                    print(f"{name}: {proof['what']}", file=sys.stderr)
                else:
                    problems.append(f"{name}: {proof['what']}\n  {proof['fix']}")
    return problems


def differences(wanted: Mapping[Path, str]) -> list[str]:
    """Unified differences between what the files hold and what they should."""
    shown = []
    for path, text in wanted.items():
        before = path.read_text() if path.exists() else ""
        name = str(path.relative_to(ROOT))
        shown += difflib.unified_diff(
            before.splitlines(), text.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=1
        )
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="a release of the engine, such as 0.5.23")
    parser.add_argument(
        "--engine", default=Instance.engine, choices=registry.names(), help="default: %(default)s"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something differs")
    parser.add_argument("--wheel", default="", help="the engine's own wheel, where no index has it")
    parser.add_argument("--only", default="", metavar="VARIANT", help="only variants such as cu130-x86_64")
    parser.add_argument("--upgrade", action="store_true", help="take newer versions than the locks hold now")
    parser.add_argument("--no-prove", action="store_true", help="do not prove that kernels and torch fit")
    options = parser.parse_args()
    try:
        engine = registry.engine(options.engine)
        wanted = wanted_files(engine, options.version, options.only, options.upgrade, options.wheel)
        changed = differences(wanted)
        print("\n".join(changed) if changed else f"{options.version}: nothing differs")
        prove = not options.no_prove and any(path.suffix == ".txt" for path in wanted)
        problems = unproven(engine, options.version, wanted) if prove else []
    except (ResolveError, UnreadableWheelError, release_lock.NoWheelError, FetchError) as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 2
    if problems:
        print(
            "FAILED  nothing was written: kernels and torch do not fit", *problems, sep="\n", file=sys.stderr
        )
        return 3
    if changed and not options.check:
        for path, text in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replacement = path.with_name(path.name + ".new")
            replacement.write_text(text)
            replacement.replace(path)  # never in place: a bundle may hold a hard link to the old one
    return 1 if changed and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
