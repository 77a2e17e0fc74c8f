#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Build a bundle with all that the planned hosts need
description:
  - Fetches the wheels of each lock, adds uv, Python kits, weights, a controller kit and further trees of files, and writes
    a manifest with size and SHA-256 of every file, C(SHA256SUMS), a CycloneDX bill of materials and the licences.
  - Proves from the wheels that the compiled kernels of each lock can be loaded beside its torch, and records it.
  - Everything that can be refused is refused before the first byte is fetched. A run that was cut off is gone on with.
  - The same locks and the same collection give the same bytes.
  - Runs on the controller. The default package index is the one that pip is configured with there.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder of the bundle.
    type: path
    required: true
  base:
    description:
      - A bundle, or its C(manifest.json) alone. Content that it holds is left out of O(dest), which is then a delta that
        M(baremetal.sglang.bundle_import) completes.
    type: path
    default: ""
  cache_dir:
    description: Where fetched wheels are kept for the next bundle.
    type: path
    required: true
  environments:
    description: The environments to carry.
    type: list
    elements: dict
    default: []
    suboptions:
      lock:
        description: The lock file on the controller.
        type: path
        required: true
      lock_sha256:
        description: SHA-256 of the lock that was planned with; another file is refused. Empty takes any.
        type: str
        default: ""
      wheel:
        description: The wheel of O(engine_wheels) that completes the lock, with its C(name), C(version) and C(sha256).
        type: dict
        default: {}
      python:
        description: Minor version of Python, such as V(3.11).
        type: str
        required: true
      arch:
        description: Architecture of the host, as C(uname -m) says it.
        type: str
        required: true
      glibc:
        description: The oldest glibc that the wheels must run with.
        type: str
        required: true
      cuda:
        description: CUDA tag of the release's variant, such as V(cu130), which the kernels must be built for.
        type: str
        default: ""
      index:
        description: Name of the index that the wheels come from, a key of O(indexes).
        type: str
        default: default
      release:
        description: Release of the engine, as the catalogue calls it.
        type: str
        default: ""
  indexes:
    description:
      - Package indexes by name. Several entries of one name are mirrors, asked in turn. V(default) replaces the index that
        pip is configured with. C(file://) addresses lead to folders with an C(index.html) for each package.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name that releases know it by, such as V(pytorch-cu128).
        type: str
        required: true
      url:
        description: Address of its simple API.
        type: str
        required: true
  uv_lock:
    description: The lock file that names uv.
    type: path
    required: true
  controllers:
    description: Controllers without a net that the bundle can set up, with C(controller/setup).
    type: list
    elements: dict
    default: []
    suboptions:
      python:
        description: Minor version of Python, V(3.12) or newer.
        type: str
        required: true
      arch:
        description: Architecture of the controller.
        type: str
        required: true
      glibc:
        description: The oldest glibc that the wheels must run with.
        type: str
        required: true
  controller_lock:
    description: The lock of what runs plays.
    type: path
    default: ""
  controller_setup:
    description: The script that makes a controller from the bundle.
    type: path
    default: ""
  debs:
    description:
      - Releases of Debian or Ubuntu that packages are carried for, with all that these depend on, as C(debs/RELEASE-ARCH)
        with an index that apt reads. Needs the apt of such a system on the controller.
    type: list
    elements: dict
    default: []
    suboptions:
      release:
        description: Code name, such as V(bookworm).
        type: str
        required: true
      arch:
        description: Architecture as dpkg calls it, such as V(amd64).
        type: str
        required: true
      packages:
        description: Names of packages.
        type: list
        elements: str
        required: true
      sources:
        description: Lines of a C(sources.list); those of the controller when empty, if it runs the same release.
        type: list
        elements: str
        default: []
      planned:
        description: Plans name the packages and nobody asked for the release; what cannot be fetched is a warning then.
        type: bool
        default: false
  swarm_lock:
    description: The lock of the library with which hosts pass files on to each other; empty leaves it out.
    type: path
    default: ""
  swarm_pythons:
    description: Minor versions of the hosts' own Pythons that it is brought for.
    type: list
    elements: str
    default: []
  engine_wheels:
    description: >-
      Engine to the path of its wheel on the controller, for engines that no package index has. Each is carried with
      the environments that were planned with it.
    type: dict
    default: {}
  sign_key:
    description: Private key that signs the manifest, or the public half of a key that an agent holds.
    type: path
    default: ""
  pythons:
    description: Archives with an interpreter for hosts that have none of the right version.
    type: list
    elements: dict
    default: []
    suboptions:
      archive:
        description: The archive on the controller.
        type: path
        default: ""
      url:
        description: Where the archive is fetched from, when it is not on the controller; needs O(pythons[].sha256).
        type: str
        default: ""
      sha256:
        description: What its content must be.
        type: str
        default: ""
      python:
        description: Minor version of Python.
        type: str
        required: true
      arch:
        description: Architecture of the host.
        type: str
        required: true
  trees:
    description: Further files, such as conda packages, kernel-tuning files or Debian packages.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: File or folder on the controller.
        type: path
        required: true
      name:
        description: Where it lies in the bundle, below one of C(conda), C(debs), C(moe), C(pixi) and its other folders.
        type: str
        required: true
      kind:
        description: What the manifest calls these files.
        type: str
        required: true
  weights:
    description: Models to carry.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Key of the model.
        type: str
        required: true
      revision:
        description: Its revision.
        type: str
        required: true
      source:
        description: Folder on the controller that holds it.
        type: path
        required: true
  allowed_signers:
    description:
      - File with the keys whose signature of O(base) is accepted, in the form that C(ssh-keygen -Y) reads. Any bundle when empty.
    type: path
    default: ""
  signer:
    description: Who in O(allowed_signers) must have signed; anybody when empty.
    type: str
    default: ""
attributes:
  check_mode:
    description:
      - Refuses what would be refused, says that the bundle would be made, and writes nothing. Debian packages are not
        looked for.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Build a bundle for two hosts
  baremetal.sglang.bundle:
    dest: /media/disk/bundle
    cache_dir: ~/.cache/baremetal-sglang
    uv_lock: requirements/uv.txt
    environments:
      - lock: files/engines/sglang/locks/0.5.23-cu130-x86_64-py3.11.txt
        python: "3.11"
        arch: x86_64
        glibc: "2.36"
"""

RETURN = r"""
files:
  description: How many files the bundle holds.
  returned: success
  type: int
bytes:
  description: How many bytes they are.
  returned: success
  type: int
carried_files:
  description: How many of the files lie in the folder; fewer than all in a delta.
  returned: success
  type: int
carried_bytes:
  description: How many bytes these are.
  returned: success
  type: int
host_libraries:
  description: Libraries that the kernels need and that a package of the host's distribution brings.
  returned: success
  type: list
  elements: str
"""
