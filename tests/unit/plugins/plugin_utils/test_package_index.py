# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import subprocess

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import package_index
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Pin, Wheel
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import World, sha256


@pytest.mark.parametrize("as_json", [True, False])
def test_files_of_a_page_in_json_and_html(as_json: bool) -> None:
    digest = "d" * 64
    page = "http://index.invalid/simple/a/"
    name = "a-1-py3-none-any.whl"
    if as_json:
        files = [
            {"filename": name, "url": f"../../f/{name}", "hashes": {"sha256": digest}, "size": 7},
            {"filename": "a-1.tar.gz", "url": "x/a-1.tar.gz", "hashes": {}},
        ]
        text = json.dumps({"files": files})
    else:
        text = f'<html><a href="../../f/{name}#sha256={digest}">a</a><a href="x/a-1.tar.gz">b</a></html>'
    assert package_index.files_of_page("a", page, text, as_json) == [
        Wheel("a", name, digest, f"http://index.invalid/f/{name}", 7 if as_json else 0),
        Wheel("a", "a-1.tar.gz", "", f"{page}x/a-1.tar.gz"),
    ]


LISTED = """:env:.cert='/certificates'
:env:.index-url='http://environment.invalid/simple'
global.index-url='http://file.invalid/simple'
global.extra-index-url='http://one.invalid http://two.invalid'
install.proxy='http://proxy.invalid:3128'
"""


def test_the_default_index_is_the_one_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*words: object, **_options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 0, LISTED, "")

    monkeypatch.setattr(package_index.subprocess, "run", listed)
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    package_index.pip_settings.cache_clear()
    made = Indexes([{"name": "mine", "url": "http://mine.invalid/simple"}])
    package_index.pip_settings.cache_clear()
    assert made.addresses == {
        "default": ["http://environment.invalid/simple", "http://one.invalid", "http://two.invalid"],
        "mine": ["http://mine.invalid/simple"],
    }
    assert made.web.session.verify == "/certificates"
    assert made.web.session.proxies["https"] == "http://proxy.invalid:3128"


def test_a_proxy_of_the_environment_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in index is the proxy: it is asked for an address that nobody else could answer."""
    monkeypatch.setenv("http_proxy", world.market.url(""))
    web = package_index.Web({})
    monkeypatch.setattr(package_index, "ATTEMPTS", 1)
    assert web.page("http://nowhere.invalid/simple/x/") is None
    assert world.market.asked[-1][1] == "http://nowhere.invalid/simple/x/"


def test_hashes_decide_and_not_who_is_asked_first(world: World) -> None:
    made = Indexes(world.market.indexes("default", "pytorch-cu128"))
    torch = sorted((world.folder / "market/pytorch-cu128/files").glob("*x86_64.whl"))[0]
    (offered,) = made.offered(Pin("torch", "2.9.1+cu128", frozenset({sha256(torch)})), "pytorch-cu128")
    assert offered.filename == torch.name
    common = world.common[0]
    (offered,) = made.offered(Pin("SGLang", "0.5.7", frozenset({sha256(common)})), "pytorch-cu128")
    assert offered.url.startswith(world.market.url("default"))
    assert made.offered(Pin("torch", "2.9.1+cu128", frozenset({"0" * 64})), "pytorch-cu128") == []


def test_an_index_that_cannot_be_reached_is_said_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_index, "ATTEMPTS", 1)
    monkeypatch.setattr(package_index, "BACK_OFF_SECONDS", 0)
    made = Indexes([{"name": "default", "url": "http://user:secret@127.0.0.1:9/simple"}])
    with pytest.raises(FetchError, match=r"^the package index cannot be reached \(\w+\)$"):
        made.offered(Pin("a", "1", frozenset({"0" * 64})), "default")
