# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CUDA_HOME inside an environment, made of relative links to what its wheels or conda packages hold.

Builds ask for `bin include nvvm lib64` in one folder and for unversioned libraries. Wheels have `lib` and
`libX.so.13` only, conda packages keep headers and libraries below `targets/`. Links in a folder of their own
serve both, and nothing that a package owns is touched.
"""

from __future__ import annotations

import glob
import os
import re
import shutil

NAME = "cuda"
LIBRARY = re.compile(r"(lib.+?)\.so\.(\d[\d.]*)\Z")
# The driver's library belongs to the host. A linker script names it, so that -lcuda links against
# the driver that is there and needs no development package.
DRIVER_SCRIPT = "INPUT(libcuda.so.1)\n"


class Parts:
    """Where the parts of a toolkit lie in one environment."""

    def __init__(self, programs: str, include: str, nvvm: str, libraries: list[str], only: str = "") -> None:
        self.programs = programs
        self.include = include
        self.nvvm = nvvm
        self.libraries = libraries
        self.only = only
        """A pattern for the programs, where their folder holds others as well."""


def parts(env: str) -> Parts | None:
    """The toolkit of an environment; None where there is no nvcc in it."""
    for nvcc in sorted(
        glob.glob(os.path.join(env, "lib", "python3*", "site-packages", "nvidia", "cu*", "bin", "nvcc"))
    ):
        root = os.path.dirname(os.path.dirname(nvcc))
        return Parts(f"{root}/bin", f"{root}/include", f"{root}/nvvm", [f"{root}/lib"])
    if os.path.exists(os.path.join(env, "bin", "nvcc")):
        targets = sorted(glob.glob(os.path.join(env, "targets", "*-linux")))
        root = targets[0] if targets else env
        only = r"(nvcc|ptxas|fatbinary|cudafe\+\+|nvlink|bin2c|cicc|crt|cuobjdump|nvdisasm|__nvcc_device_query|nvcc\.profile)$"
        return Parts(f"{env}/bin", f"{root}/include", f"{env}/nvvm", [f"{root}/lib", f"{env}/lib"], only)
    return None


def lay_out(env: str) -> str:
    """Makes `<env>/cuda` and names it; "" where the environment has no compiler. Made once, by one rename."""
    home = os.path.join(env, NAME)
    found = parts(env)
    if found is None or os.path.isdir(home):
        return home if found else ""
    work = home + ".partial"
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("bin", "lib64/stubs"):
        os.makedirs(os.path.join(work, folder))
    # nvcc finds its profile, headers and libraries beside the name that it was called by, so each
    # program is linked by itself: through a link to the whole folder it would look into the wheels.
    for name in sorted(os.listdir(found.programs)):
        if not found.only or re.match(found.only, name):
            _link(os.path.join(found.programs, name), os.path.join(work, "bin", name))
    for name, target in (("include", found.include), ("nvvm", found.nvvm)):
        if os.path.isdir(target):
            _link(target, os.path.join(work, name))
    for folder in found.libraries:
        _link_libraries(folder, os.path.join(work, "lib64"))
    os.symlink("lib64", os.path.join(work, "lib"))
    if not os.path.lexists(os.path.join(work, "lib64", "stubs", "libcuda.so")):
        with open(os.path.join(work, "lib64", "stubs", "libcuda.so"), "w", encoding="ascii") as stream:
            stream.write(DRIVER_SCRIPT)
    os.rename(work, home)
    return home


def _link(target: str, name: str) -> None:
    """A relative link that holds when the environment is moved; `name` lies in a folder that is renamed later."""
    if not os.path.lexists(name):
        os.symlink(os.path.relpath(target, os.path.dirname(name)), name)


def _link_libraries(folder: str, into: str) -> None:
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in names:
        if name == "stubs":
            for stub in sorted(os.listdir(os.path.join(folder, name))):
                _link(os.path.join(folder, name, stub), os.path.join(into, name, stub))
        elif name.endswith((".so", ".a")) or LIBRARY.match(name):
            _link(os.path.join(folder, name), os.path.join(into, name))
    for plain, versioned in sorted(unversioned(names).items()):
        _link(os.path.join(folder, versioned), os.path.join(into, plain))


def unversioned(names: list[str]) -> dict[str, str]:
    """libX.so -> the libX.so.N with the highest N, for every library that has no libX.so itself."""
    found: dict[str, str] = {}
    for name in names:
        match = LIBRARY.match(name)
        if not match or f"{match[1]}.so" in names:
            continue
        plain = f"{match[1]}.so"
        if plain not in found or _version(name) > _version(found[plain]):
            found[plain] = name
    return found


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.rsplit(".so.", 1)[1].split(".") if part)
