#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: conda_channel
short_description: Fetch the conda channel and the pixi project of a bundle
description:
  - Solves the conda half of every environment for its own machine and CUDA, fetches the packages by hash and indexes them
    as a channel. Writes a V(pixi.toml) and a V(pixi.lock) that pixi users can install from.
  - Runs on the controller. The result is given to M(baremetal.sglang.bundle) as trees.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: Folder to fill with V(conda/) and V(pixi/).
    type: path
    required: true
  cache_dir:
    description: Folder of the wheels that were fetched before.
    type: path
    required: true
  channels:
    description: Addresses or folders of conda channels, the first one first.
    type: list
    elements: str
    required: true
  rattler_lock:
    description: Lock with py-rattler, which installs on the hosts.
    type: path
    required: true
  environments:
    description: What to solve, as the filter P(baremetal.sglang.bundle_conda#filter) gives it.
    type: list
    elements: dict
    required: true
    suboptions:
      environment:
        description: Name in the lock.
        type: str
        required: true
      lock:
        description: Lock of the wheels.
        type: path
        required: true
      python:
        description: Minor version of Python.
        type: str
        required: true
      arch:
        description: Machine.
        type: str
        required: true
      glibc:
        description: Lowest glibc of the hosts.
        type: str
        required: true
      level:
        description: CUDA level, such as V(12.8).
        type: str
        required: true
      compiler:
        description: Whether the CUDA compiler comes from conda packages.
        type: bool
        required: true
attributes:
  check_mode:
    description: Fetches and writes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Fetch the conda packages for the hosts planned with pixi
  baremetal.sglang.conda_channel:
    dest: /var/tmp/conda
    cache_dir: ~/.cache/baremetal-sglang
    channels: [/mnt/mirror/conda-forge]
    rattler_lock: requirements/rattler.txt
    environments: "{{ bundle_plans | baremetal.sglang.bundle_conda('files/engines') }}"
"""

RETURN = r"""
trees:
  description: Files and folders for a bundle, each with its name and kind there.
  returned: success
  type: list
  elements: dict
"""
