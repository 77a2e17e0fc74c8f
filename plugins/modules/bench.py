#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what is served; the work is done by the action plugin, and by the module load on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bench
short_description: Measure the instances of a host by named scenarios
version_added: 0.1.0
description:
  - Derives the points of the scenarios from the plan, lets M(baremetal.sglang.load_test) measure each on the host, and writes each record
    to the disk of the controller before the next point begins.
  - Points that are in O(report_dir) already, of the same server with the same parameters, are kept, so that a run can be stopped and
    resumed.
  - When the server dies, what was measured is reported, with the server's own last lines, and the task fails.
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  action:
    description: Has a corresponding action plugin.
    support: full
  check_mode:
    description: Says how many points there would be; asks nothing.
    support: full
  diff_mode:
    description: Changes nothing on a host, so there is nothing to show.
    support: none
  platform:
    description: Operating systems of the controller.
    support: full
    platforms: posix
options:
  plan:
    description: The plan of the host.
    type: dict
    required: true
  data:
    description: Contents of C(files/bench.yml).
    type: dict
    required: true
  cannot:
    description: C(cannot) of C(files/verify.yml), what models are unable to do.
    type: dict
    default: {}
  manifests:
    description: For each instance the hash of the manifest of its weights.
    type: dict
    default: {}
  report_dir:
    description: Folder on the controller for records and report.
    type: path
    required: true
  profile:
    description: Sizes of the scenarios, a key of C(profiles) in O(data).
    type: str
    default: standard
  scenarios:
    description: Only these; all that the instance can do, when empty.
    type: list
    elements: str
    default: []
  parameters:
    description: For each scenario, values that replace those of the profile.
    type: dict
    default: {}
  blocks:
    description: How often each point is repeated; as the profile says, with V(0).
    type: int
    default: 0
  seed:
    description: Seed of all prompts and moments.
    type: int
    default: 1
  sweep:
    description: Server settings to try, as C(settings), and the C(load) that judges them.
    type: dict
    default: {}
  servers:
    description: Definitions of servers that are started otherwise, by instance and name, for M(baremetal.sglang.temporary_instance).
    type: dict
    default: {}
  instead:
    description: Whether those servers take the place of what serves meanwhile.
    type: bool
    default: false
  sample_seconds:
    description: Between two samples of server, host and GPUs; V(0) takes none.
    type: float
    default: 1.0
  gateway:
    description: Measure through it, with C(url), C(key_file) and C(ca_file) on the host.
    type: dict
    default: {}
  again:
    description: Forget what is in O(report_dir).
    type: bool
    default: false
  baseline:
    description: An earlier C(results.json) to compare with, or the folder of an earlier report.
    type: path
    default: ""
  dry:
    description: Only say which servers would be needed.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Measure the instances
  baremetal.sglang.bench:
    plan: "{{ plan_of_host }}"
    data: "{{ lookup('ansible.builtin.file', 'files/bench.yml') | from_yaml }}"
    report_dir: reports
    scenarios: [context, concurrency]
"""

RETURN = r"""
files:
  description: What was written.
  returned: when something was measured
  type: list
  elements: str
lines:
  description: The result in a few lines.
  returned: when something was measured
  type: list
  elements: str
points:
  description: Number of points.
  returned: always
  type: int
kept:
  description: Points of an earlier run that were not measured again.
  returned: when something was measured
  type: int
failures:
  description: Points that are not valid, each with the reason.
  returned: when something was measured
  type: list
  elements: dict
worse:
  description: How many quantities are worse than in O(baseline), beyond noise.
  returned: when something was measured
  type: int
best:
  description: The best setting of a sweep, as lines for the inventory.
  returned: when something was measured
  type: list
  elements: str
servers:
  description: Servers that are needed.
  returned: with O(dry)
  type: list
  elements: dict
"""
