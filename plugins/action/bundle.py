# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a bundle on the controller and says how far it is; the documentation is the module's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import BundleError
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content, bundle_signature
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    POLICY_ARGUMENTS,
    SignatureError,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import read_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.controller_kit import collection_archive
from ansible_collections.baremetal.sglang.plugins.plugin_utils.deb_folder import DebFolder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import AbiError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError

LIBRARIES = {
    "jsonschema": "jsonschema",
    "packaging": "packaging",
    "pip": "pip",
    "pyelftools": "elftools",
    "requests": "requests",
}
ROOT = Path(__file__).resolve().parents[2]
TARGET = {
    "python": {"type": "str", "required": True},
    "arch": {"type": "str", "required": True},
    "glibc": {"type": "str", "required": True},
}
SUBOPTIONS = {
    "environments": {
        **TARGET,
        "lock": {"type": "path", "required": True},
        "lock_sha256": {"type": "str", "default": ""},
        "cuda": {"type": "str", "default": ""},
        "index": {"type": "str", "default": "default"},
        "release": {"type": "str", "default": ""},
    },
    "controllers": TARGET,
    "debs": {
        "release": {"type": "str", "required": True},
        "arch": {"type": "str", "required": True},
        "packages": {"type": "list", "elements": "str", "required": True},
        "sources": {"type": "list", "elements": "str", "default": []},
        "planned": {"type": "bool", "default": False},
    },
    "indexes": {"name": {"type": "str", "required": True}, "url": {"type": "str", "required": True}},
    "pythons": {
        "archive": {"type": "path", "default": ""},
        "url": {"type": "str", "default": ""},
        "sha256": {"type": "str", "default": ""},
        "python": {"type": "str", "required": True},
        "arch": {"type": "str", "required": True},
    },
    "trees": {
        "source": {"type": "path", "required": True},
        "name": {"type": "str", "required": True},
        "kind": {"type": "str", "required": True},
    },
    "weights": {
        "model": {"type": "str", "required": True},
        "revision": {"type": "str", "required": True},
        "source": {"type": "path", "required": True},
    },
}
REFUSALS = (AbiError, BundleError, ContentError, FetchError, OSError, SignatureError)


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        lists = {
            name: {"type": "list", "elements": "dict", "options": options, "default": []}
            for name, options in SUBOPTIONS.items()
        }
        _unused, given = self.validate_argument_spec(
            {
                "dest": {"type": "path", "required": True},
                "base": {"type": "path", "default": ""},
                "cache_dir": {"type": "path", "required": True},
                "uv_lock": {"type": "path", "required": True},
                "controller_lock": {"type": "path", "default": ""},
                "controller_setup": {"type": "path", "default": ""},
                "swarm_lock": {"type": "path", "default": ""},
                "swarm_pythons": {"type": "list", "elements": "str", "default": []},
                "sign_key": {"type": "path", "default": ""},
                **POLICY_ARGUMENTS,
                **lists,
            }
        )
        dest = Path(given["dest"])
        if lacking := [name for name, module in LIBRARIES.items() if find_spec(module) is None]:
            return {
                "failed": True,
                "msg": f"REFUSED  the bundle needs the Python package {lacking[0]} beside ansible-core on the controller. "
                f"In a clone, 'make controller' brings it. Elsewhere: {sys.executable} -m pip install "
                f"{' '.join(LIBRARIES)}. The bundle was not written.",
            }
        try:
            builder = BundleBuilder(
                dest,
                Path(given["cache_dir"]),
                self._display.display,
                given["indexes"],
                self._base(given["base"], SignaturePolicy.from_arguments(given)),
            )
            if self._task.check_mode:
                foreign = builder.place.foreign()
                builder.prepare(
                    [*([foreign] if foreign else []), *self._add_parts(builder, given)], looking=True
                )
                return {"changed": True}
            with builder.place.alone():
                return self._built(builder, given)
        except REFUSALS as error:
            return {"failed": True, "msg": f"REFUSED  the bundle at {dest} is not complete\n{error}"}

    @staticmethod
    def _base(given: str, policy: SignaturePolicy) -> dict[str, Any] | None:
        """The manifest alone is enough: the bundle itself may be far away."""
        if not given:
            return None
        base = Path(given)
        found = read_manifest(base.parent if base.is_file() else base, policy)
        if found.problems:
            raise BundleError("\n".join(f"bundle_base = {given}: {problem}" for problem in found.problems))
        return found.manifest

    def _built(self, builder: BundleBuilder, given: dict[str, Any]) -> dict[str, Any]:
        problems = self._add_parts(builder, given)
        if given["controllers"]:
            archive = collection_archive(ROOT, Path(given["cache_dir"]) / "collection")
            builder.add_tree(archive, f"controller/{archive.name}", "controller")
        # Last: it fetches, and what is refused above needs no network.
        builder.prepare(problems or self._add_debs(builder, given))
        builder.fill()
        if unproven := builder.unproven():
            return {
                "failed": True,
                "msg": "\n".join([*unproven, f"{builder.folder} has no manifest of this run."]),
            }
        changed = builder.finish(Path(given["sign_key"]) if given["sign_key"] else None)
        sizes = [piece.size for piece in builder.pieces.values()]
        carried = [piece.size for piece in builder.pieces.values() if builder.carries(piece.sha256)]
        return {
            "changed": changed,
            "files": len(sizes),
            "bytes": sum(sizes),
            "carried_files": len(carried),
            "carried_bytes": sum(carried),
            "host_libraries": builder.host_libraries(),
        }

    def _add_parts(self, builder: BundleBuilder, given: dict[str, Any]) -> list[str]:
        """What stands in the way; the rest is added, so that all of it is told at once."""
        uv_lock = Path(given["uv_lock"])
        problems = []
        for entry in given["environments"]:
            lock, planned = Path(entry["lock"]), entry["lock_sha256"]
            others = {key: value for key, value in entry.items() if key != "lock_sha256"}
            builder.add_environment(**{**others, "lock": lock})
            builder.add_installer(uv_lock, entry["arch"], entry["glibc"])
            if planned and lock.is_file() and bundle_content.hash_of(lock) != planned:
                problems.append(
                    f"{lock}: is another lock than the one that was planned with (sha256 {planned}), and hosts would "
                    "refuse it: let bundle_locks_dir and catalogue_dirs name the same locks"
                )
        for entry in given["controllers"]:
            builder.add_controller(Path(given["controller_lock"]), **entry)
            builder.add_installer(uv_lock, entry["arch"], entry["glibc"])
        if given["swarm_lock"]:
            for arch in sorted({entry["arch"] for entry in given["environments"]}):
                for python in given["swarm_pythons"]:
                    builder.add_library(Path(given["swarm_lock"]), python, arch)
        if given["controllers"]:
            builder.add_tree(Path(given["controller_setup"]), "controller/setup", "controller")

        def tried(add: Callable[..., None], *words: Any) -> None:
            try:
                add(*words)
            except (FetchError, SignatureError) as error:
                problems.append(str(error))

        for entry in given["pythons"]:
            tried(self._add_python, builder, entry)
        for entry in given["weights"]:
            tried(builder.add_weights, Path(entry["source"]), entry["model"], entry["revision"])
        for entry in given["trees"]:
            tried(builder.add_tree, Path(entry["source"]), entry["name"], entry["kind"])
        if given["sign_key"]:
            tried(bundle_signature.prove, Path(given["sign_key"]))
        return problems

    def _add_debs(self, builder: BundleBuilder, given: dict[str, Any]) -> list[str]:
        problems = []
        for entry in given["debs"]:
            if not entry["packages"]:
                continue
            release, arch = entry["release"], entry["arch"]
            place = DebFolder(Path(given["cache_dir"]) / "debs", release, arch, self._display.display)
            try:
                folder = place.fetch(entry["packages"], entry["sources"])
                builder.add_tree(folder, f"debs/{release}-{arch}", "debs")
            except FetchError as error:
                if entry["planned"]:
                    # The hosts may have them: site.yml looks, and refuses before it changes anything.
                    self._display.warning(f"The bundle carries no debs/{release}-{arch}. {error}")
                else:
                    problems.append(str(error))
        return problems

    @staticmethod
    def _add_python(builder: BundleBuilder, entry: dict[str, Any]) -> None:
        where = (entry["python"], entry["arch"], entry["sha256"])
        if entry["archive"]:
            builder.add_python(Path(entry["archive"]), *where)
        elif entry["url"] and entry["sha256"]:
            builder.add_python_download(entry["url"], *where)
        else:
            raise FetchError(
                f"bundle_pythons: Python {entry['python']} for {entry['arch']} has neither archive nor url with sha256"
            )
