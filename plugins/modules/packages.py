#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install Debian packages from a bundle on a host without a repository
description:
  - Installs those of the packages that are not there, with what they depend on. The host's own apt says which archives that takes,
    out of the bundle's index and of what is installed; only these are brought, compared with the manifest, and installed.
  - The sources of the host are neither used nor changed, nothing is asked from the net, nothing is removed, and no repository
    stays behind. Needs no C(python3-apt).
  - Where all packages are installed, nothing else is asked of the host.
  - An installation of this module that was cut off is finished. What something else left half done is refused by name.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  names:
    description: Names of packages.
    type: list
    elements: str
    required: true
  store:
    description: A folder for this module alone, for archives on their way; gone when they are installed.
    type: path
    required: true
  files:
    description: The bundle's C(Packages) and archives for this release and architecture.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Name relative to O(source) or O(source_on_host).
        type: str
        required: true
      size:
        description: Bytes.
        type: int
        required: true
      sha256:
        description: SHA-256 of the content.
        type: str
        required: true
  source:
    description: Folder on the controller that holds the files, C(debs/RELEASE-ARCH) of a bundle.
    type: path
  source_on_host:
    description: The same on the host, such as on a mounted disk; wins over O(source).
    type: path
  index:
    description: Used between the controller's half of this task and the host's; leave it alone.
    type: str
    default: ""
  step:
    description: Used between the controller's half of this task and the host's; leave it alone.
    type: str
    choices: [whole, probe, publish]
    default: whole
attributes:
  check_mode:
    description: Says what would be installed, and installs nothing.
    support: full
  diff_mode:
    description: Names each package with its version.
    support: full
"""

EXAMPLES = r"""
- name: Install a compiler from the bundle
  baremetal.sglang.packages:
    names: [gcc, libc6-dev]
    store: /opt/sglang/store/packages
    source: /media/disk/bundle/debs/bookworm-amd64
    files: "{{ files_of_that_folder }}"
"""

RETURN = r"""
installed:
  description: What was installed, or would be in check mode, each with its version.
  returned: always
  type: list
  elements: str
lacking:
  description: Archives that had to be brought.
  returned: always
  type: list
  elements: str
bytes:
  description: How many bytes that was; what a cut-off run had brought before does not count.
  returned: always
  type: int
damaged:
  description: Archives that are not what they should be, each with what is wrong.
  returned: on failure
  type: list
  elements: str
"""

import hashlib
import json
import os
import shutil
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.packages import host as host_packages
from ansible_collections.baremetal.sglang.plugins.module_utils.packages import state
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.host import PrivateArchive
from ansible_collections.baremetal.sglang.plugins.module_utils.packages.state import INDEX
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import lock_host as lock
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import (
    RefusedError,
    Store,
    refuse_full,
    refuse_unfit,
)

LOCK = "/run/sglang-packages.lock"
UPDATES = "/var/lib/dpkg/updates"
# Nobody is there to answer, and restarting services is for the person who runs the plays to decide.
SILENT = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
}
CONFIGURE = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"]


class Packages:
    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.store = Store(self.given["store"])
        self.journal = os.path.join(self.store.folder, "installing")
        self.handles: list = []

    def run(self, words: list) -> tuple:
        return self.module.run_command(words, environ_update=SILENT, pass_fds=self.handles)

    def apply(self) -> dict:
        with open("/etc/os-release", encoding="utf-8") as stream:
            looked = host_packages.look(
                self.given["names"], self.run, self.module.get_bin_path, stream.read()
            )
        result = {"changed": False, "installed": [], "lacking": [], "bytes": 0}
        ours = self._journal()
        if not looked.missing:
            return self._cleared(result, ours)
        self._refuse_unable(looked)
        self._refuse_foreign_work(ours)
        archive = PrivateArchive(self.run, self.module.tmpdir, self._index())
        self._must(archive.apt("update"), "the bundle's index of packages cannot be read")
        steps, wanted = self._chosen(archive, looked.missing, bool(ours))
        refuse_full("/usr", state.unpacked_bytes(self._index(), steps), "the packages")
        refuse_unfit(self.store, wanted)
        lacking = self.store.lacking(wanted)
        result.update(
            changed=True,
            installed=[step.words for step in steps],
            lacking=[entry["path"] for entry in lacking],
            bytes=sum(entry["size"] - self.store.there(entry) for entry in lacking),
            diff={"before": "", "after": "".join(f"{step.words}\n" for step in steps)},
        )
        if self.module.check_mode:
            return result
        self.store.open()
        if self.given["step"] == "probe" and not self.given["source_on_host"]:
            result["transfer"] = {
                "folder": self.store.incoming,
                "python": sys.executable,
                "files": [[e["path"], e["sha256"], e["size"], self.store.there(e)] for e in lacking],
            }
            return result
        self._take(lacking)
        archive.offer(wanted, self.store.path)
        self._install(archive, looked.missing, steps, ours)
        return result

    def _cleared(self, result: dict, ours: list) -> dict:
        """What a run that was cut off left: perhaps triggers that dpkg still owes, perhaps a folder."""
        if not os.path.isdir(self.store.folder):
            return result
        result.update(changed=True, diff={"before": f"{self.store.folder}\n", "after": ""})
        if self.module.check_mode or self.given["step"] == "probe":
            result["transfer"] = {"folder": self.store.incoming, "python": sys.executable, "files": []}
            return result
        if ours:
            self._refuse_foreign_work(ours)
            self._must(self.run(CONFIGURE), "dpkg was interrupted and cannot finish what it began")
        shutil.rmtree(self.store.folder)
        return result

    def _journal(self) -> list:
        """Names of what a run was installing when it was cut off."""
        try:
            with open(self.journal, encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return []

    def _refuse_unable(self, looked: state.Looked) -> None:
        why = state.without_a_bundle(looked)
        if not why and not self.module.get_bin_path("apt-get"):
            why = f"packages missing ({', '.join(looked.missing)}), and the host has dpkg and no apt-get: install apt there"
        if not why and not self.given["files"]:
            why = (
                f"packages missing ({', '.join(looked.missing)}), and no bundle was given that carries "
                f"debs/{looked.archive}: -e bundle_dir=FOLDER, or install there: "
                f"{state.command('deb', looked.missing)}"
            )
        if why:
            raise RefusedError(f"{why}. Nothing was changed.")

    def _refuse_foreign_work(self, ours: list) -> None:
        left = host_packages.cut_off(self.run, os.listdir(UPDATES) if os.path.isdir(UPDATES) else [])
        foreign = [words for words in left if not ours or words.split(" ")[0] not in {*ours, "its"}]
        if foreign:
            raise RefusedError(
                f"dpkg was interrupted on this host while something else installed: {', '.join(foreign)}. "
                "Finish that there with 'dpkg --configure -a' and run again. Nothing was changed."
            )

    def _index(self) -> str:
        """The bundle's own, or none: apt believes what it says."""
        entry = next((item for item in self.given["files"] if item["path"] == INDEX), None)
        data = self.given["index"].encode()
        if self.given["source_on_host"]:
            with open(os.path.join(self.given["source_on_host"], INDEX), "rb") as stream:
                data = stream.read()
        if entry is None or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            where = self.given["source_on_host"] or self.given["source"]
            raise RefusedError(
                f"{where}/{INDEX} is not what the manifest says: copy the bundle again. Nothing was changed."
            )
        return data.decode()

    def _chosen(self, archive: PrivateArchive, missing: tuple, fix: bool) -> tuple:
        more = ["--fix-broken"] if fix else []
        why = (
            f"the bundle's packages do not fit this host, which lacks {', '.join(missing)}: build the bundle again where "
            "its release has the host's versions, or install them there"
        )
        steps = state.steps_of(self._must(archive.install(missing, "--simulate", *more), why))
        uris = self._must(archive.install(missing, "--print-uris", *more), why)
        listed = {os.path.basename(entry["path"]): entry for entry in self.given["files"]}
        names = state.archive_names(uris)
        unknown = [name for name in names if name not in listed]
        if unknown:
            raise RefusedError(
                f"the manifest does not list {', '.join(unknown)}: build the bundle again. Nothing was changed."
            )
        return steps, [listed[name] for name in names]

    def _take(self, lacking: list) -> None:
        source = self.given["source_on_host"]
        damaged = self.store.take(source, lacking) if source else self.store.adopt(lacking)
        if damaged:
            self.module.fail_json(
                msg=f"{source or 'what was sent'} is not what the manifest says, nothing was installed from it: "
                f"{'; '.join(damaged[:10])}. Good files are kept; mend these in the bundle and run again.",
                damaged=damaged,
            )

    def _install(self, archive: PrivateArchive, missing: tuple, steps: list, ours: list) -> None:
        with open(f"{self.journal}.new", "w", encoding="utf-8") as stream:
            json.dump(sorted({*ours, *missing, *(step.name.split(":")[0] for step in steps)}), stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(f"{self.journal}.new", self.journal)
        if ours:
            # Some of it may have to wait for archives that apt brings next; that run has the last word.
            self.run(CONFIGURE)
        more = ["--fix-broken"] if ours else []
        code, out, err = archive.install(missing, *more)
        if code:
            self.module.fail_json(
                msg=f"apt did not install {', '.join(missing)}: {state.complaint(out, err)}. "
                "What arrived is kept: run again to go on from there."
            )
        shutil.rmtree(self.store.folder)

    @staticmethod
    def _must(done: tuple, why: str) -> str:
        code, out, err = done
        if code:
            raise RefusedError(f"{why}. apt says: {state.complaint(out, err)}. Nothing was changed.")
        return str(out)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "store": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                    "sha256": {"type": "str", "required": True},
                },
            },
            "source": {"type": "path"},
            "source_on_host": {"type": "path"},
            # Long, and of no use to anybody who reads the host's log.
            "index": {"type": "str", "default": "", "no_log": True},
            "step": {"type": "str", "choices": ["whole", "probe", "publish"], "default": "whole"},
        },
        supports_check_mode=True,
    )
    packages = Packages(module)
    try:
        if module.check_mode:
            result = packages.apply()
        else:
            # A look waits too: what another run is installing is not missing much longer.
            with lock.held(LOCK, f"packages {', '.join(module.params['names'])}") as handle:
                packages.handles = [handle]
                result = packages.apply()
        module.exit_json(**result)
    except RefusedError as error:
        module.fail_json(msg=f"REFUSED  {error}")
    except OSError as error:
        module.fail_json(
            msg=f"{packages.store.folder}: {error}; what arrived is kept, run again to go on from there"
        )


if __name__ == "__main__":
    main()
