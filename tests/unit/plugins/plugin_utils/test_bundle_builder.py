# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building: what is refused before the first byte, what is carried, and that the same locks give the same bytes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.manifest import BundleError
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import ANYBODY
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import verify
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import (
    VARIANTS,
    World,
    contents,
    lock,
    manifest_of,
    sha256,
    wheel,
)

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

ONE = VARIANTS[1]


def test_variants_lie_side_by_side_in_one_folder_of_wheels(world: World) -> None:
    folder = world.bundle()
    assert verify(folder, print, ANYBODY).problems == []
    torches = sorted(path.name.split("-")[1] for path in (folder / "wheels").glob("torch-*"))
    assert torches == ["2.9.1+cu126", "2.9.1+cu128", "2.9.1+cu128", "2.9.1+cu130"]
    manifest = manifest_of(folder)
    assert {(item["release"], item["cuda"], item["arch"]) for item in manifest["environments"].values()} == {
        ("0.5.7", cuda, arch) for cuda, arch, _python in VARIANTS
    }
    assert sorted(manifest["installers"]) == ["aarch64", "x86_64"]
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0


def test_the_same_locks_give_the_same_bytes(world: World) -> None:
    first = contents(world.bundle("one"))
    builder = world.builder("two", cache="other-cache")
    world.run(world.add(builder, *reversed(VARIANTS)))
    assert contents(world.folder / "two") == first
    assert b"127.0.0.1" not in first["manifest.json"] + first["sbom/bundle.cdx.json"]


def test_a_second_build_changes_nothing_and_asks_nobody(world: World) -> None:
    world.bundle()
    world.market.asked.clear()
    assert world.run(world.add(world.builder())) is False
    assert world.market.asked == []


def test_what_an_older_bundle_left_goes_and_a_changed_file_is_put_right(world: World) -> None:
    folder = world.bundle()
    (folder / "wheels/old-1-py3-none-any.whl").write_text("old")
    (folder / "locks/0.5.7-cu128-x86_64-py3.11.txt").write_text("changed")
    world.bundle()
    assert verify(folder, print, ANYBODY).problems == []


def test_licences_and_bill_of_materials_come_from_the_wheels(world: World) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    folder = world.bundle()
    text = (folder / "sbom/bundle.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    by_name = {item["name"]: item for item in json.loads(text)["components"] if item["type"] == "library"}
    assert by_name["sglang"]["licenses"] == [{"expression": "Apache-2.0"}]
    assert by_name["sglang"]["purl"] == "pkg:pypi/sglang@0.5.7"
    assert "licenses" not in by_name["some-text"]
    lines = (folder / "sbom/licences.txt").read_text().splitlines()
    assert "orjson 3.1\tBSD" in lines
    assert "some-text 1.0\tnot stated in its metadata" in lines


def test_an_index_that_is_not_configured_is_refused_by_name_before_the_first_byte(world: World) -> None:
    builder = BundleBuilder(
        world.folder / "bundle",
        world.folder / "cache",
        print,
        world.market.indexes("default", "pytorch-cu126"),
    )
    world.add(builder)
    with pytest.raises(FetchError) as refused:
        world.run(builder)
    for name in ("pytorch-cu128", "pytorch-cu130"):
        assert f"bundle_indexes: names no index {name}" in str(refused.value)
        assert f"{{name: {name}, url: ITS ADDRESS}}" in str(refused.value)
    assert "names no index pytorch-cu126" not in str(refused.value)
    assert world.market.asked == []


@pytest.mark.parametrize("how", ["mirror", "file"])
def test_mirrors_and_file_indexes(world: World, how: str) -> None:
    indexes = world.market.indexes("default", "pytorch-cu128")
    if how == "mirror":
        indexes.insert(1, {"name": "pytorch-cu128", "url": world.market.url("empty")})
    else:
        files = world.folder / "market/pytorch-cu128/files"
        page = world.folder / "pages/torch/index.html"
        page.parent.mkdir(parents=True)
        page.write_text("".join(f'<a href="{p.as_uri()}#sha256={sha256(p)}">x</a>' for p in files.iterdir()))
        indexes[1]["url"] = (world.folder / "pages").as_uri()
    builder = BundleBuilder(world.folder / "bundle", world.folder / "cache", print, indexes)
    world.run(world.add(builder, ONE))
    assert verify(world.folder / "bundle", print, ANYBODY).problems == []
    assert (how == "file") == all("torch-" not in path for path in world.market.sent())


def test_no_password_of_an_index_is_ever_said_or_written(world: World) -> None:
    url = world.market.url("default").replace("http://", "http://user:secret@")
    indexes = [
        {"name": "default", "url": url},
        {"name": "pytorch-cu128", "url": "http://user:secret@127.0.0.1:9/"},
    ]
    builder = BundleBuilder(world.folder / "bundle", world.folder / "cache", print, indexes)
    with pytest.raises(FetchError) as refused:
        world.run(world.add(builder, ONE))
    assert "torch==2.9.1+cu128" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_sources_only_and_the_wrong_machine_are_told_together_before_the_first_byte(world: World) -> None:
    files = world.folder / "market/default/files"
    source = files / "memory_saver-0.0.9.tar.gz"
    source.write_bytes(b"sources")
    other = wheel(files, "armed-1.0-cp311-cp311-manylinux_2_28_aarch64.whl")
    lock(world.locks[ONE], [*world.common, source, other])
    with pytest.raises(FetchError) as refused:
        world.run(world.add(world.builder(), ONE))
    assert "memory-saver==0.0.9 for Python 3.11 on x86_64" in str(refused.value)
    assert "only sources (memory_saver-0.0.9.tar.gz)" in str(refused.value)
    assert "armed==1.0" in str(refused.value)
    assert "no wheel of the lock fits it; there are armed-1.0-cp311-cp311-manylinux_2_28_aarch64.whl" in str(
        refused.value
    )
    assert world.market.sent() == []
    assert not (world.folder / "bundle/manifest.json").exists()


def test_two_files_of_one_name_are_refused(world: World) -> None:
    other = wheel(
        world.folder / "market/pytorch-cu126/files", "sglang-0.5.7-py3-none-any.whl", salt="another"
    )
    torch = next((world.folder / "market/pytorch-cu126/files").glob("torch*"))
    lock(world.locks[VARIANTS[0]], [other, *world.common[1:], torch])
    with pytest.raises(ContentError, match=r"wheels/sglang-0.5.7-py3-none-any.whl: two files of one name"):
        world.run(world.add(world.builder()))


def test_names_that_some_disks_cannot_tell_apart_are_refused(world: World) -> None:
    for name in ("table.json", "Table.json"):
        (world.folder / "moe" / name).parent.mkdir(exist_ok=True)
        (world.folder / "moe" / name).write_text(name)
    builder = world.add(world.builder(), ONE)
    builder.add_tree(world.folder / "moe", "moe", "moe")
    with pytest.raises(BundleError, match="only in capital letters"):
        world.run(builder)


def test_a_tree_of_files_is_carried_and_a_place_of_no_bundle_is_refused(world: World) -> None:
    (world.folder / "channel/linux-64").mkdir(parents=True)
    (world.folder / "channel/linux-64/a.conda").write_text("a")
    builder = world.add(world.builder(), ONE)
    builder.add_tree(world.folder / "channel", "conda", "conda")
    world.run(builder)
    assert manifest_of(builder.folder)["files"]["conda/linux-64/a.conda"]["kind"] == "conda"
    with pytest.raises(FetchError, match="cannot be put at elsewhere"):
        builder.add_tree(world.folder / "channel", "elsewhere", "conda")


def test_a_small_disk_is_refused_before_the_first_byte(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_content, "free_bytes", lambda _folder: 50_000)
    with pytest.raises(
        ContentError, match=r"0\.00 GB free .* are needed \(downloads .*Nothing was fetched"
    ) as refused:
        world.run(world.add(world.builder()))
    assert "free 0.00 GB or name a folder on another disk" in str(refused.value)
    assert world.market.sent() == []
    assert any(method == "HEAD" for method, _path, _range in world.market.asked)


def test_a_delta_needs_room_for_itself_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.bundle("old", ONE)
    monkeypatch.setattr(bundle_content, "shares_blocks", lambda _example, _folder: False)
    monkeypatch.setattr(bundle_content, "free_bytes", lambda _folder: 50_000)
    with pytest.raises(ContentError, match="are needed"):
        world.run(world.add(world.builder("full"), ONE))
    assert world.run(world.add(world.builder("delta", base=manifest_of(old)), ONE))


def test_a_full_disk_while_building_is_said_and_a_larger_one_is_filled(
    world: World, small_disk: Path
) -> None:
    """The sizes were right and somebody else filled the disk meanwhile."""
    builders = [
        BundleBuilder(
            small_disk / "bundle",
            world.folder / "cache",
            print,
            world.market.indexes("default", "pytorch-cu128"),
        )
        for _turn in range(2)
    ]
    for builder in builders:
        world.add(builder, ONE)
    builder = builders[0]
    with builder.place.alone():
        builder.prepare()
        (small_disk / "other").write_bytes(b"x" * (bundle_content.free_bytes(small_disk) - 100_000))
        with pytest.raises(OSError, match="No space left"):
            builder.fill()
    assert not (small_disk / "bundle/manifest.json").exists()
    (small_disk / "other").unlink()
    world.run(builders[1])
    assert verify(small_disk / "bundle", print, ANYBODY).problems == []


def test_a_second_run_into_the_same_folder_is_refused(world: World) -> None:
    first, second = world.builder(), world.builder()
    with (
        first.place.alone(),
        pytest.raises(ContentError, match="another run writes to it now"),
        second.place.alone(),
    ):
        pass


def test_a_folder_with_something_else_is_left_alone(world: World) -> None:
    folder = world.folder / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels/mine.txt").write_text("mine")
    with pytest.raises(ContentError, match="holds something that is not a bundle"):
        world.bundle()
    assert (folder / "wheels/mine.txt").read_text() == "mine"


def test_a_damaged_wheel_of_the_cache_is_found_and_fetched_anew(world: World) -> None:
    world.bundle("one", ONE)
    torch = next((world.folder / "cache/wheels").glob("*/torch*"))
    data = torch.read_bytes()
    torch.unlink()
    torch.write_bytes(data[:-1] + b"?")
    with pytest.raises(ContentError, match="taken out of the cache"):
        world.bundle("two", ONE)
    assert verify(world.bundle("two", ONE), print, ANYBODY).problems == []


def test_content_of_the_cache_is_shared_with_bundles(world: World) -> None:
    for name in ("one", "two"):
        world.bundle(name, ONE)
    (torch,) = (world.folder / "two/wheels").glob("torch*")
    assert torch.stat()[stat.ST_NLINK] == 3


def test_a_delta_holds_only_what_the_base_lacks(world: World) -> None:
    old = world.bundle("old", ONE)
    world.upgraded()
    full = world.bundle("full", ONE)
    builder = world.builder("delta", base=manifest_of(old))
    world.run(world.add(builder, ONE))
    delta = world.folder / "delta"
    lying = set(contents(delta)) - {"manifest.json", "SHA256SUMS", "delta.json"}
    assert lying == {
        "locks/0.5.7-cu128-x86_64-py3.11.txt",
        "sbom/bundle.cdx.json",
        "sbom/licences.txt",
        "wheels/sglang-0.5.8-py3-none-any.whl",
    }
    assert (delta / "manifest.json").read_bytes() == (full / "manifest.json").read_bytes()
    assert json.loads((delta / "delta.json").read_text()) == {
        "base": manifest_of(old)["id"],
        "carries": sorted(lying),
        "id": manifest_of(full)["id"],
    }
    (problem,) = verify(delta, print, ANYBODY).problems
    assert "playbooks/bundle_import.yml" in problem


def test_a_python_is_fetched_by_url_and_must_have_its_hash(world: World) -> None:
    kit = world.folder / "market/default/files/cpython-3.12-x86_64.tar.gz"
    kit.write_bytes(b"python" * 1000)
    builder = world.add(world.builder(), ONE)
    builder.add_python_download(
        f"{world.market.url('default')}/files/{kit.name}", "3.12", "x86_64", sha256(kit)
    )
    world.run(builder)
    assert manifest_of(builder.folder)["pythons"] == {"3.12-x86_64": f"python/{kit.name}"}
    other = world.add(world.builder("other"), ONE)
    other.add_python(kit, "3.12", "x86_64", "0" * 64)
    with pytest.raises(ContentError, match=f"{kit.name}: its sha256 is {sha256(kit)}, it should be 0000"):
        world.run(other)


BUILD = """
import sys
from pathlib import Path
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import VARIANTS
from ansible_collections.baremetal.sglang.plugins.plugin_utils import package_index
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder
package_index.CHUNK = 1000
folder, indexes = Path(sys.argv[1]), eval(sys.argv[2])
builder = BundleBuilder(folder / "bundle", folder / "cache", print, indexes)
for cuda, arch, python in VARIANTS:
    lock = folder / f"locks/0.5.7-{cuda}-{arch}-py{python}.txt"
    builder.add_environment(lock, python, arch, "2.35", cuda, f"pytorch-{cuda}", "0.5.7")
    builder.add_installer(folder / "uv.txt", arch, "2.35")
with builder.place.alone():
    builder.prepare()
    builder.fill()
    builder.finish()
"""


def test_a_build_that_was_killed_is_gone_on_with(world: World) -> None:
    """Each time a little later, so that most of the ways through a build are cut once."""
    names = ("default", "pytorch-cu126", "pytorch-cu128", "pytorch-cu130")
    command = [sys.executable, "-c", BUILD, str(world.folder), repr(world.market.indexes(*names))]
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    world.market.pause = 0.01
    for share in (1, 3, 6, 9):
        before = len(world.market.sent())
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            while len(world.market.sent()) < before + share and process.poll() is None:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        folder = world.folder / "bundle"
        assert not (folder / "manifest.json").exists() or verify(folder, print, ANYBODY).problems == []
    world.market.pause = 0
    killed = world.market.sent()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert verify(world.folder / "bundle", print, ANYBODY).problems == []
    assert contents(world.bundle("whole")) == contents(world.folder / "bundle")
    everything = set(world.market.sent())
    assert len(world.market.sent()) - len(killed) < len(everything), "nothing of the killed runs was kept"
