# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching with the real clients from a hub on loopback that breaks in every way that hubs break."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as weights_files
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import (
    MANIFEST,
    from_text,
    to_text,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source, Wanted
from ansible_collections.baremetal.sglang.plugins.plugin_utils import weights_run
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_fetch import FetchFailed
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_run import FetchJob, fetch_all
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import Settings
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import shipped_models
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_hub import COMMIT, FakeHub
from ansible_collections.baremetal.sglang.tools.make_tiny_model import make_files

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

FILES = make_files(7)
SHARD = "model-00002-of-00002.safetensors"
SETTINGS = Settings(4, 4, 0.02, 0.1, 2, 20_000, 0.3, 10)
TAKE = ("*.safetensors", "*.json", "*.jinja")
LEAVE = ("*.bin",)
MODELS = shipped_models()
HUBS = ("huggingface", "modelscope")


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of somebody's own hub account, and nothing written to a home directory."""
    for name in list(os.environ):
        if name.startswith(("HF_", "MODELSCOPE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def wanted(*sources: Source, model: str = "glm-4.7-tiny", revision: str = "local") -> Wanted:
    return Wanted(model, revision, sources, TAKE, LEAVE)


def of(hub: FakeHub, kind: str = "huggingface", **more: Any) -> Source:
    if kind == "http":
        return Source("http", "weights_sources.x[0]", url=f"{hub.address}/mirror", files=tuple(FILES), **more)
    return Source(kind, "weights_sources.x[0]", id=hub.repository, endpoint=hub.address, **more)


class Run:
    """Fetches into a folder of its own and keeps what was said."""

    def __init__(self, root: Path) -> None:
        self.root, self.said = root, list[str]()

    def __call__(self, *items: Wanted, settings: Settings = SETTINGS, **more: Any) -> dict[str, Any]:
        more = {"piece_bytes": 1 << 18, "models": MODELS, **more}
        return fetch_all(list(items), FetchJob(self.root, settings, self.said.append, **more))

    @property
    def folder(self) -> Path:
        return self.root / "glm-4.7-tiny" / "local"

    def manifest(self) -> dict[str, Any]:
        return from_text((self.folder / MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "weights")


def lay(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (files or FILES).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", [*HUBS, "http"])
def test_a_model_arrives_whole_with_its_commit(run: Run, kind: str) -> None:
    others = {"README.md": b"words", "pytorch_model.bin": b"pickle", "original/x.pth": b"pickle"}
    with FakeHub({**FILES, **others}) as hub:
        assert run(wanted(of(hub, kind)))["changed"]
        again = run(wanted(of(hub, kind)))
    assert not again["changed"]
    assert {str(path.relative_to(run.folder)) for path in run.folder.rglob("*")} == {*FILES, MANIFEST}
    manifest = run.manifest()
    assert weights_files.all_damage(str(run.folder), manifest) == []
    if kind != "http":
        assert manifest["source"] == {"type": kind, "id": "maker/tiny", "commit": COMMIT}
    assert manifest["tensors"]["count"] == 89 or manifest["tensors"]["count"] > 50
    assert not any(hub.asked(name) for name in others), "what an engine does not need is not fetched"


@pytest.mark.parametrize("kind", HUBS)
def test_a_revision_that_the_hub_lacks(run: Run, kind: str) -> None:
    with FakeHub(FILES) as hub, pytest.raises(FetchFailed, match="no revision v9"):
        run(wanted(of(hub, kind, revision="v9")))
    assert not run.folder.exists()


@pytest.mark.parametrize("kind", HUBS)
def test_a_branch_becomes_the_commit_it_points_to(run: Run, kind: str) -> None:
    with FakeHub(FILES, branch={"candidate": COMMIT}) as hub:
        run(wanted(of(hub, kind, revision="candidate")))
        files = [path for _method, path, _headers in hub.requests if SHARD in path]
    assert files
    assert all(COMMIT in path for path in files)


TROUBLES: dict[str, dict[str, list[Any]]] = {
    "429 with Retry-After": {SHARD: [(429, {"Retry-After": "0.05"})] * 2},
    "500 and 503": {SHARD: [500, 503], "config.json": [502]},
    "cut off three times": {SHARD: [("cut", 200_000), ("cut", 1), ("cut", 70_000)]},
    "too slow, then not": {SHARD: [("slow", 10_000)]},
    "the listing": {"list": [500, (429, {"Retry-After": "0"})]},
}


@pytest.mark.parametrize("kind", [*HUBS, "http"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_that_passes(run: Run, kind: str, trouble: str) -> None:
    with FakeHub(FILES, answers={name: list(steps) for name, steps in TROUBLES[trouble].items()}) as hub:
        run(wanted(of(hub, kind)))
        ranges = [headers["Range"] for headers in hub.asked(SHARD) if "Range" in headers]
    assert weights_files.all_damage(str(run.folder), run.manifest()) == []
    if "cut" in trouble:
        assert "bytes=200000-" in ranges, "what came is kept"


def test_the_server_s_own_pause_is_kept(run: Run) -> None:
    patient = Settings(4, 4, 0.01, 5, 2, 1000, 1, 10)
    with FakeHub(FILES, answers={SHARD: [(429, {"Retry-After": "1"})]}) as hub:
        started = time.monotonic()
        run(wanted(of(hub)), settings=patient)
    assert time.monotonic() - started >= 1
    assert any("answered 429; again in 1 s" in line for line in run.said)


@pytest.mark.parametrize("steps", [[500] * 99, [(429, {"Retry-After": "0"})] * 99, [("cut", 0)] * 99])
def test_attempts_are_bounded_and_what_came_stays(run: Run, steps: list[Any]) -> None:
    with FakeHub(FILES, answers={SHARD: steps}) as hub:
        with pytest.raises(FetchFailed, match="given up after 4 attempts in a row"):
            run(wanted(of(hub)))
        assert len(hub.asked(SHARD)) <= SETTINGS.attempts
        steps.clear()
        before = len(hub.requests)
        run(wanted(of(hub)))
        assert not any("model-00001" in path for _method, path, _headers in hub.requests[before:])


@pytest.mark.parametrize("kind", HUBS)
def test_a_source_gone_half_way_is_replaced_by_the_next(run: Run, tmp_path: Path, kind: str) -> None:
    half = len(FILES[SHARD]) // 2
    with FakeHub(FILES, answers={SHARD: [("cut", half), *[500] * 99]}) as hub, FakeHub(FILES) as other:
        report = run(wanted(of(hub, kind), of(other, "huggingface")))["report"]
        assert [headers.get("Range") for headers in other.asked(SHARD)] == [f"bytes={half}-"]
        assert not other.asked("model-00001")
    assert "huggingface" in report[0]
    assert any("answered 500" in line and "next: huggingface" in line for line in run.said)


def test_every_source_s_reason_is_told(run: Run, tmp_path: Path) -> None:
    with FakeHub(FILES, branch={}) as hub:
        sources = (
            of(hub),
            Source("directory", "w[1]", path="/nowhere/at/all"),
            Source("bundle", "w[2]", path=str(tmp_path)),
        )
        with pytest.raises(FetchFailed) as failed:
            run(wanted(*sources))
    for words in ("no revision", "/nowhere/at/all: there is no such folder", "that folder is not a bundle"):
        assert words in str(failed.value)


def test_a_hub_whose_file_is_not_what_it_publishes(run: Run) -> None:
    lies = {SHARD: "f" * 64}
    with FakeHub(FILES, lies=lies) as hub:
        with pytest.raises(FetchFailed, match=f"{SHARD}: sha256 is .* the source publishes ffff"):
            run(wanted(of(hub)))
        assert len(hub.asked(SHARD)) == 2, "once more from the start, then no more"
        with FakeHub(FILES) as honest:
            run(wanted(of(hub), of(honest, "modelscope")))
    assert run.manifest()["source"]["type"] == "modelscope"


def test_small_files_are_compared_with_git_s_own_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub(FILES) as hub:
        real = dict(hub.files)
        monkeypatch.setattr(
            "ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_hub._sibling",
            lambda hub, name: {"rfilename": name, "size": len(real[name]), "blobId": "0" * 40},
        )
        with pytest.raises(FetchFailed, match="git blob is"):
            run(wanted(of(hub)))


@pytest.mark.parametrize("name", ["../evil.json", "a/../../evil.json", "/etc/evil.json", ".weights.json"])
@pytest.mark.parametrize("kind", HUBS)
def test_names_that_would_leave_the_folder(run: Run, kind: str, name: str) -> None:
    with FakeHub({**FILES, name: b"{}"}) as hub, pytest.raises(FetchFailed, match="must not be written"):
        run(wanted(of(hub, kind)))
    assert list(run.root.rglob("*evil*")) == []


def test_links_in_a_folder(run: Run, tmp_path: Path) -> None:
    source = lay(tmp_path / "source")
    (source / SHARD).rename(tmp_path / "elsewhere")
    (source / SHARD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FetchFailed, match=rf"holds links \({SHARD}\).*dereference"):
        run(wanted(Source("directory", "w", path=str(source))))


def without(name: str) -> dict[str, bytes]:
    return {key: data for key, data in FILES.items() if key != name}


BROKEN: dict[str, tuple[dict[str, bytes], str]] = {
    "truncated": ({**FILES, SHARD: FILES[SHARD][:-100]}, f"{SHARD}: is truncated: .* 100 are missing"),
    "too long": ({**FILES, SHARD: FILES[SHARD] + b"x" * 781}, f"{SHARD}: is too long: .* 781 too many"),
    "missing": (without(SHARD), f"{SHARD}: missing shard, named by"),
    "renamed": (
        {**without(SHARD), "model-00003-of-00002.safetensors": FILES[SHARD]},
        "model-00003-of-00002.safetensors: not named by",
    ),
    "no config": (without("config.json"), "config.json: missing"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer: missing"),
    "damaged config": ({**FILES, "config.json": b"{"}, "config.json: is no JSON"),
    "only pickles": ({"config.json": b"{}", "pytorch_model.bin": b"x"}, "no .*safetensors, only .bin"),
    "another model": (
        {
            **FILES,
            "config.json": FILES["config.json"].replace(b'"num_hidden_layers": 3', b'"num_hidden_layers": 4'),
        },
        "layers is 4, glm-4.7-tiny was planned with 3",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_model_is_not_published(run: Run, tmp_path: Path, case: str) -> None:
    files, said = BROKEN[case]
    broken, good = lay(tmp_path / "broken", files), lay(tmp_path / "good")
    with pytest.raises(FetchFailed, match=said):
        run(wanted(Source("directory", "w", path=str(broken))))
    assert not run.folder.exists()
    run(wanted(Source("directory", "w[0]", path=str(broken)), Source("directory", "w[1]", path=str(good))))
    assert weights_files.all_damage(str(run.folder), run.manifest()) == []


def test_a_mended_folder_is_read_again(run: Run, tmp_path: Path) -> None:
    source = lay(tmp_path / "source", BROKEN["truncated"][0])
    with pytest.raises(FetchFailed):
        run(wanted(Source("directory", "w", path=str(source))))
    lay(source)
    run(wanted(Source("directory", "w", path=str(source))))
    assert (run.folder / SHARD).read_bytes() == FILES[SHARD]


def test_a_folder_that_is_not_what_its_own_list_says(run: Run, tmp_path: Path) -> None:
    with FakeHub(FILES) as hub:
        run(wanted(of(hub)))
    carried = tmp_path / "carried"
    shutil.copytree(run.folder, carried)
    data = bytearray(FILES[SHARD])
    data[-5] ^= 1
    (carried / SHARD).write_bytes(data)
    other = Run(tmp_path / "other")
    with pytest.raises(FetchFailed, match=f"{SHARD}: sha256 is"):
        other(wanted(Source("directory", "w", path=str(carried))))
    (carried / SHARD).write_bytes(FILES[SHARD])
    other(wanted(Source("directory", "w", path=str(carried))))
    assert other.manifest()["source"]["commit"] == COMMIT, "where it came from first is not lost"


def test_the_same_files_give_the_same_manifest(tmp_path: Path) -> None:
    texts = set()
    for name in ("one", "two"):
        run = Run(tmp_path / name)
        with FakeHub(FILES) as hub:
            run(wanted(of(hub)))
        texts.add((run.folder / MANIFEST).read_text(encoding="utf-8"))
    assert len(texts) == 1
    assert texts == {to_text(run.manifest())}


def test_a_damaged_fetch_is_mended_by_what_is_damaged(run: Run) -> None:
    with FakeHub(FILES) as hub:
        run(wanted(of(hub)))
        os.truncate(run.folder / SHARD, 1000)
        before = len(hub.requests)
        run(wanted(of(hub)))
        asked = {
            path.rpartition("/")[2] for method, path, _headers in hub.requests[before:] if method == "GET"
        }
    assert (run.folder / SHARD).read_bytes() == FILES[SHARD]
    assert SHARD in asked
    assert "model-00001-of-00002.safetensors" not in asked


@pytest.mark.parametrize("kind", [*HUBS, "http"])
@pytest.mark.parametrize("place", ["token_env", "token_file"])
def test_a_token_gives_access_and_is_never_shown(
    run: Run,
    tmp_path: Path,
    kind: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    secret = "hub-secret-that-nobody-may-see"
    (tmp_path / "token").write_text(f"{secret}\n")
    monkeypatch.setenv("MY_HUB_TOKEN", secret)
    value = {"token_env": "MY_HUB_TOKEN", "token_file": str(tmp_path / "token")}[place]
    monkeypatch.setenv("OTHER_TOKEN", "not-the-one")
    with FakeHub(FILES, token=secret, answers={SHARD: [500]}) as hub:
        with pytest.raises(FetchFailed) as failed:
            run(wanted(of(hub, kind, token_env="OTHER_TOKEN")))
        run(wanted(of(hub, kind, **{place: value})))
    written = "".join(
        path.read_text(errors="replace")
        for path in run.root.rglob("*")
        if path.suffix != ".safetensors" and path.is_file()
    )
    out = capfd.readouterr()
    assert "token" in str(failed.value)
    for text in (*run.said, str(failed.value), written, out.out, out.err):
        assert secret not in text
        assert "not-the-one" not in text


def test_a_token_that_is_not_there(run: Run) -> None:
    with (
        FakeHub(FILES) as hub,
        pytest.raises(FetchFailed, match="token_env = NOT_SET_AT_ALL: the variable is not set"),
    ):
        run(wanted(of(hub, token_env="NOT_SET_AT_ALL")))


def test_a_proxy_is_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that only a proxy can reach: the fake hub, asked as a proxy is."""
    with FakeHub(FILES) as hub:
        monkeypatch.setenv("http_proxy", hub.address)
        source = Source("http", "w", url="http://hub.invalid/mirror", files=tuple(FILES))
        run(wanted(source))
        assert any(path.startswith("http://hub.invalid/") for _method, path, _headers in hub.requests)


def test_two_models_at_once(run: Run, tmp_path: Path) -> None:
    source = Source("directory", "w", path=str(lay(tmp_path / "source")))
    report = run(wanted(source), wanted(source, revision="other"))["report"]
    assert len(report) == 2
    assert (run.root / "glm-4.7-tiny/other" / MANIFEST).exists()
    known = json.loads((run.root / "bundle_weights.json").read_text())["bundle_weights"]
    assert Path(known["glm-4.7-tiny"]).is_dir()


def test_runs_that_end_at_the_same_moment_all_stand_in_the_list(tmp_path: Path) -> None:
    models = [f"m{number}" for number in range(12)]
    fetches = []
    for model in models:
        dest = tmp_path / model
        dest.mkdir()
        fetches.append(SimpleNamespace(wanted=SimpleNamespace(model=model), dest=dest))
    with ThreadPoolExecutor(len(models)) as pool:
        list(pool.map(lambda fetch: weights_run._write_for_bundle(tmp_path, [fetch]), fetches))
    listed = json.loads((tmp_path / weights_run.FOR_BUNDLE).read_text())["bundle_weights"]
    assert sorted(listed) == sorted(models)
    assert {path.name for path in tmp_path.iterdir()} == {*models, weights_run.FOR_BUNDLE}


def test_two_runs_at_once_take_turns(run: Run) -> None:
    answers = {SHARD: [("slow", 2_000_000)]}
    with FakeHub(FILES, answers=answers) as hub:
        other, errors = Run(run.root), []

        def second() -> None:
            try:
                other(wanted(of(hub)))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=second)
        first = threading.Thread(target=lambda: run(wanted(of(hub))))
        first.start()
        time.sleep(0.15)
        thread.start()
        first.join()
        thread.join()
        assert len(hub.asked(SHARD)) == 1
    assert errors == []
    assert any("another run fetches it" in line for line in [*other.said, *run.said])


CHILD = """
import json, sys
from pathlib import Path
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import Source, Wanted
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_run import FetchJob, fetch_all
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import Settings
given = json.loads(sys.argv[1])
wanted = Wanted("glm-4.7-tiny", "local", (Source(**given["source"]),), tuple(given["take"]), ())
fetch_all([wanted], FetchJob(Path(given["root"]), Settings(**given["settings"]), print, {}, piece_bytes=1 << 18))
"""


@contextlib.contextmanager
def child(root: Path, source: Source) -> Iterator[subprocess.Popen[str]]:
    given = {"source": source.__dict__, "take": TAKE, "root": str(root), "settings": SETTINGS.__dict__}
    collections = Path(__file__).resolve().parents[4] / "collections"
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(given)],
        env={**os.environ, "PYTHONPATH": str(collections)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.wait()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("share, rate", [(0.05, 1_000_000), (0.5, 1_000_000), (0.85, 300_000)])
def test_killed_and_taken_up_again(run: Run, share: float, rate: int) -> None:
    """SIGKILL when so much has come; the next run fetches only the rest."""
    total = sum(map(len, FILES.values()))
    with FakeHub(
        FILES, answers={name: [("slow", rate)] for name in FILES if name.endswith("tensors")}
    ) as hub:
        staging = run.folder.with_name("local.partial")

        def came() -> int:
            with contextlib.suppress(OSError):
                return sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
            return 0

        with child(run.root, of(hub)) as process:
            until(lambda: came() >= share * total or process.poll() is not None)
            assert process.poll() is None, process.stdout and process.stdout.read()
            process.send_signal(signal.SIGKILL)
            process.wait()
        hub.answers.clear()
        time.sleep(0.1)
        here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
        hub.requests.clear()
        run(wanted(of(hub)))
        asked = [headers for name in FILES for headers in hub.asked(f"/{name}")]
    assert weights_files.all_damage(str(run.folder), run.manifest()) == []
    fetched = sum(int(headers["sent"]) for headers in asked)
    assert fetched <= total - here + 20_000


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is a mount")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "small", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


@needs_root
def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(small_disk: Path) -> None:
    run = Run(small_disk / "w")
    with FakeHub(FILES) as hub:
        with pytest.raises(
            FetchFailed, match=r"1\.73 MB are to be fetched .*3\.1. MB are free.*2\.\d+ MB are missing"
        ):
            run(wanted(of(hub)), reserve_bytes=4_000_000)
        assert not hub.asked(SHARD)


@needs_root
def test_a_disk_that_fills_up_on_the_way(small_disk: Path) -> None:
    run = Run(small_disk / "w")
    filler = small_disk / "filler"
    with FakeHub(
        FILES, answers={name: [("slow", 1_000_000)] for name in FILES if name.endswith("tensors")}
    ) as hub:

        def fill() -> None:
            until(lambda: bool(hub.asked(SHARD)))
            with contextlib.suppress(OSError), filler.open("wb") as stream:
                while True:
                    stream.write(b"x" * 4096)
                    stream.flush()

        thread = threading.Thread(target=fill)
        thread.start()
        with pytest.raises(OSError, match="No space left"):
            run(wanted(of(hub)))
        thread.join()
        assert not run.folder.exists()
        filler.unlink()
        hub.answers.clear()
        run(wanted(of(hub)))
    assert weights_files.all_damage(str(run.folder), run.manifest()) == []


def test_what_was_fetched_is_what_a_host_publishes(run: Run, tmp_path: Path) -> None:
    with FakeHub(FILES) as hub:
        run(wanted(of(hub)))
    dest = tmp_path / "host" / "tiny" / "local"
    shutil.copytree(run.folder, weights_folder.staging_of(str(dest)))
    weights_folder.Staging(str(dest)).publish()
    assert weights_folder.look(str(dest), full=True)["state"] == "whole"
