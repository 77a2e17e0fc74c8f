# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gateway can name, so that HAProxy refuses nothing on a host."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.gateway_names import (
    hosts,
    instances,
    models,
)


@pytest.mark.parametrize("name", ["tiny", "zai-org/GLM-4.7", "0", "a:b@c+d-e_f/g.h", "x" * 128])
def test_names_that_can_be_served(name: str) -> None:
    assert models([("it", name), ("other", name)]) == []


@pytest.mark.parametrize(
    "name", ["", "a b", "-i", "\u00e9", 'x"y', "x'y", "tiny\n", "\ntiny", "a\\b", "a%b", "a?b", "x" * 129]
)
def test_names_that_cannot_be_served(name: str) -> None:
    (refusal,) = models([("it", name)])
    assert refusal.code == "front-name" and repr(name) in refusal.where


def test_two_models_with_one_backend_are_refused() -> None:
    (refusal,) = models([("one", "zai/glm"), ("two", "zai_glm"), ("three", "glm")])
    assert "zai/glm of serve.one" in refusal.what and "serve.two" in refusal.where


@pytest.mark.parametrize("name", ["a b", "a\n", "a;b", "x" * 65, "\u00e9"])
def test_names_of_servers(name: str) -> None:
    assert [refusal.code for refusal in instances(["it", "it-standby", name])] == ["front-name"]


@pytest.mark.parametrize("host", ["gpu 1", "gpu-1\n", "-gpu", "gpu\u00e9", "gpu-1 check", "x" * 254])
def test_names_of_hosts(host: str) -> None:
    assert hosts({}, ["gpu-1", "gpu_2.room", "10.0.0.1"]) == []
    assert {refusal.code for refusal in hosts({}, [host])} == {"front-name"}


@pytest.mark.parametrize("address", ["10.0.0.1\n", "10.0.0.1 check", "a/b", "fe80::1%eth0 x", "unix@/tmp/x"])
def test_addresses_of_hosts(address: str) -> None:
    assert (
        hosts({"gpu-1": "10.0.0.1", "gpu-2": "fd00::1", "gpu-3": "gpu-3.room"}, ["gpu-1", "gpu-2", "gpu-3"])
        == []
    )
    (refusal,) = hosts({"gpu-1": address}, ["gpu-1"])
    assert refusal.code == "front-name" and repr(address) in refusal.where
