# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import plan
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.offers import OffersError, to_bring

KNOWN = ("glm-4.7-awq", "glm-4.7-tiny")
POLICY: dict[str, Any] = {
    "take": ["*.safetensors", "*.json", "merges.txt"],
    "leave": ["original/*", "*.bin", ".*"],
    "take_remote_code": ["*.py"],
}

BAD: dict[str, tuple[Any, list[str]]] = {
    "no mapping": (["x"], ["weights_sources", "must be a mapping"]),
    "unknown model": (
        {"glm-4.7-akw": [{"type": "modelscope"}]},
        ["glm-4.7-akw", "did you mean glm-4.7-awq?"],
    ),
    "no list": ({"glm-4.7-awq": {"type": "modelscope"}}, ["must be a list", "modelscope, huggingface"]),
    "no entry": ({"glm-4.7-awq": ["modelscope"]}, ["weights_sources.glm-4.7-awq[0]", "must be a mapping"]),
    "unknown type": (
        {"glm-4.7-awq": [{"type": "modelscop"}]},
        ["type = modelscop", "did you mean modelscope?"],
    ),
    "unknown key": (
        {"glm-4.7-awq": [{"type": "modelscope", "revison": "x"}]},
        ["revison", "did you mean revision?"],
    ),
    "key of another type": ({"glm-4.7-awq": [{"type": "directory", "path": "/x", "url": "y"}]}, ["[0].url"]),
    "missing path": ({"glm-4.7-awq": [{"type": "directory"}]}, ["[0].path", "is missing"]),
    "missing url": ({"glm-4.7-awq": [{"type": "http"}]}, ["[0].url", "is missing"]),
    "token in the clear": (
        {"glm-4.7-awq": [{"type": "modelscope", "token": "SECRET"}]},
        ["token_env", "token_file"],
    ),
    "two tokens": (
        {"glm-4.7-awq": [{"type": "modelscope", "token_env": "A", "token_file": "/b"}]},
        ["names two tokens"],
    ),
    "password in the address": (
        {"glm-4.7-awq": [{"type": "http", "url": "http://me:SECRET@mirror/x"}]},
        ["http://...@mirror", "netrc"],
    ),
    "no address": ({"glm-4.7-awq": [{"type": "http", "url": "mirror/x"}]}, ["must be an http(s) address"]),
    "several": (
        {"nobody": [{"type": "x"}], "glm-4.7-awq": [{"type": "http"}]},
        ["nobody", "type = x", "[0].url"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_slips_are_told_all_at_once(name: str) -> None:
    given, said = BAD[name]
    _found, refusals = plan.read_sources(given, KNOWN)
    text = "\n".join(line for refusal in refusals for line in refusal.lines())
    for words in said:
        assert words in text, text
    assert "SECRET" not in text


def test_good_sources_in_their_order() -> None:
    given = {
        "glm-4.7-awq": [
            {"type": "modelscope", "revision": "v1", "token_env": "T"},
            {"type": "huggingface", "endpoint": "https://mirror.example"},
            {"type": "http", "url": "http://mirror.example/awq", "files": ["config.json"]},
            {"type": "directory", "path": "/mnt/awq"},
            {"type": "bundle", "path": "/mnt/bundle"},
        ]
    }
    found, refusals = plan.read_sources(given, KNOWN)
    assert refusals == []
    assert [source.type for source in found["glm-4.7-awq"]] == list(plan.KEYS)
    assert found["glm-4.7-awq"][2].files == ("config.json",)
    assert plan.read_sources({}, KNOWN) == plan.read_sources(None, KNOWN) == ({}, [])


def plans(model: str = "glm-4.7-awq", **weights: Any) -> dict[str, Any]:
    entry = {
        "model": model,
        "revision": "rev",
        "sources": {"modelscope": "m/awq", "huggingface": "h/awq"},
        "revisions": {},
    }
    return {host: {"instances": {"i": {"weights": {**entry, **weights}}}} for host in ("h1", "h2")}


def test_a_model_is_fetched_once_for_all_hosts_from_the_catalogue_s_hubs() -> None:
    (wanted,) = plan.wanted_of_plans(plans(), {}, {}, [], POLICY)
    assert wanted.hosts == ("h1", "h2")
    assert [(source.type, source.id, source.revision) for source in wanted.sources] == [
        ("modelscope", "m/awq", ""),
        ("huggingface", "h/awq", ""),
    ]


def test_the_catalogue_s_commit_wins() -> None:
    sources, _none = plan.read_sources({"glm-4.7-awq": [{"type": "modelscope", "revision": "main"}]}, KNOWN)
    (wanted,) = plan.wanted_of_plans(plans(revisions={"modelscope": "c" * 40}), sources, {}, [], POLICY)
    assert wanted.sources[0].revision == "c" * 40
    (wanted,) = plan.wanted_of_plans(plans(), sources, {}, [], POLICY)
    assert wanted.sources[0].revision == "main"


def test_a_model_that_no_hub_has_needs_a_source() -> None:
    with pytest.raises(RefusedError, match=r"weights_sources\.glm-4\.7-tiny") as refused:
        plan.wanted_of_plans(plans("glm-4.7-tiny", sources={}), {}, {}, [], POLICY)
    assert "type: directory" in str(refused.value)


def test_a_model_given_by_its_path_is_taken_from_there() -> None:
    (wanted,) = plan.wanted_of_plans(plans("/data/mine", sources={}), {}, {}, [], POLICY)
    assert (wanted.sources[0].type, wanted.sources[0].path) == ("directory", "/data/mine")


def test_patterns_of_a_model_and_remote_code() -> None:
    files = {"glm-4.7-awq": {"take": ["*.npz"], "leave": ["extra*"]}}
    (wanted,) = plan.wanted_of_plans(plans(), {}, files, ["glm-4.7-awq"], POLICY)
    names = [
        "a.safetensors",
        "pytorch_model.bin",
        "config.json",
        "x.npz",
        "extra.json",
        "original/a.json",
        "m.py",
    ]
    assert plan.selected([*names, ".git.json", "README.md"], wanted.take, wanted.leave) == [
        "a.safetensors",
        "config.json",
        "m.py",
        "x.npz",
    ]


PLANNED = [{"model": "m", "revision": "r", "path": "/w/m/r"}]
OFFER = {"m/r": {"source": "/s", "manifest_sha256": "d"}}


@pytest.mark.parametrize("state", ["absent", "damaged", "other", "foreign"])
def test_what_is_not_whole_is_brought_or_refused(state: str) -> None:
    assert to_bring(PLANNED, [{"state": state}], OFFER, "h1")[0]["source"] == "/s"
    with pytest.raises(OffersError, match=r"REFUSED  /w/m/r on h1 .*\n.*playbooks/weights.yml"):
        to_bring(PLANNED, [{"state": state}], {}, "h1")


def test_what_is_whole_needs_nothing() -> None:
    assert to_bring(PLANNED, [{"state": "whole"}], {}, "h1") == []
    by_path = [{"model": "/data/m", "revision": "local", "path": "/data/m"}]
    assert to_bring(by_path, [{"state": "foreign"}], {}, "h1") == []
