# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of the inventory, of a model and of a host's facts stay values in the files that programs of root read."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.models import load_models
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, RefusedError
from ansible_collections.baremetal.sglang.plugins.module_utils.core.text_checks import secret_in
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.network import is_address
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import (
    environments,
    unit_line,
    units,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.environment_files_host import (
    file_errors,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    load_data_files,
    local_models,
    make_inputs,
)
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

ROOT = Path(__file__).resolve().parents[2]
EVIL = "x\nExecStartPre=+/bin/touch /tmp/root"


@pytest.fixture(scope="module")
def world() -> World:
    return World(load_data_files([]))


def unit_text(unit: dict[str, Any]) -> str:
    template = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    source = (ROOT / "roles/engine/templates/sglang.service.j2").read_text(encoding="utf-8")
    return template.from_string(source).render(engine_unit=unit, ansible_managed="x")


def planned(world: World, **wanted: Any) -> Plan:
    result = world.one("cpu", **{"model": "glm-4.7-tiny", **wanted})
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    return next(iter(result.plans.values()))


@pytest.mark.parametrize("name", [EVIL, "%h", "a\\", "a b", "a\u2028b", "name\n"])
def test_a_served_name_is_one_word(world: World, name: str) -> None:
    assert world.codes("cpu", model="glm-4.7-tiny", served_model_name=name) == ["served-name"]


@pytest.mark.parametrize("key", ["model", "served_model_name"])
def test_a_unit_has_no_line_that_a_plan_s_text_made(world: World, key: str) -> None:
    """Whatever let such a text into a plan: the unit is the last place."""
    plan = planned(world)
    honest = len(unit_text(units(plan)[0]).splitlines())
    plan.instances["it"] = replace(plan.instances["it"], **{key: EVIL + "%n\\"})
    text = unit_text(units(plan)[0])
    assert len(text.splitlines()) == honest
    assert not any(line.startswith("ExecStartPre=+/bin/touch") for line in text.splitlines())


def test_a_line_of_a_unit_expands_nothing() -> None:
    assert unit_line("50%h\\\r\nUser=root\\") == "50%%h/  User=root/"


@pytest.mark.parametrize("host", ["gpu-1\n", "gpu 1", "gpu'1", "-gpu", "gpu-1;", "\uff47pu"])
def test_a_host_s_name_is_one_word(world: World, host: str) -> None:
    facts = {host: world.host("cpu", host)}
    result = world.plan(facts, {"it": {"model": "glm-4.7-tiny", "hosts": [host]}})
    assert "host-name" in [refusal.code for refusal in result.refusals]


@pytest.mark.parametrize("address", ["fe80::1%eth0", "fe80::1%\nIPAddressAllow=any", "10.0.0.1\n"])
def test_an_address_has_nothing_behind_it(address: str) -> None:
    assert not is_address(address)


def test_a_scoped_address_of_the_inventory_is_none() -> None:
    """It would stand in the units, rules and server lines of the other hosts."""
    variables = {"ansible_host": "fe80::1%\nIPAddressAllow=any"}
    given = {"catalogue_dirs": [], "facts_dir": "", "serve": {}, "runtime_backend": "uv", "python_kits": []}
    inputs, _refusals = make_inputs(given, ("gpu-1",), lambda _host, name: variables.get(name))
    assert inputs.addresses == {}


def test_facts_are_text_of_one_line(world: World) -> None:
    known = json.loads(json.dumps(world.host("spark", "spark-1").to_dict()))
    known["rdma"][0]["firmware"] = "32\n[Service]\nExecStart=/bin/sh"
    known["interfaces"][0]["name"] = "eth0\r\nup rm -rf /"
    known["os"]["name"] = "Debian\u2028\x1b[2J"
    facts = HostFacts.from_dict(known, "spark-1")
    assert not any(ord(letter) < 32 or letter == "\u2028" for letter in str(facts.to_dict()))


@pytest.mark.parametrize("netdev", ["eth0: {}", "../../x", "eth0 up", "eth0;"])
def test_an_interface_with_a_strange_name_is_not_configured(world: World, netdev: str) -> None:
    from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.ports import wanted_ports
    from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.spec import FabricSpec

    host = world.host("spark", "spark-1")
    device = replace(host.rdma[0], netdev=netdev)
    spec = FabricSpec(addresses=((netdev, "192.168.9.1/24"),))
    _found, refusals = wanted_ports(replace(host, rdma=(device,)), spec, "", None)
    assert "fabric-netdev-name" in [refusal.code for refusal in refusals]


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "x", True),
        ("hf_token", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("SGLANG_API_KEY", "x", True),
        ("PASSWORD", "x", True),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/x", True),
        ("NCCL_DEBUG", "INFO", False),
        ("TOKENIZERS_PARALLELISM", "false", False),
        ("SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "4096", False),
        ("NCCL_IB_HCA", "=mlx5_0", False),
        ("MONKEY", "1", False),
        ("http_proxy", "http://proxy:3128", False),
        ("http_proxy", "http://me:word@proxy:3128", True),
    ],
)
def test_a_variable_that_looks_like_a_secret(name: str, value: str, secret: bool) -> None:
    assert secret_in(name, value) is secret


def test_a_refused_secret_is_not_repeated(world: World) -> None:
    result = world.one("cpu", model="glm-4.7-tiny", environment={"HF_TOKEN": "hf_verysecret"})
    said = "\n".join(line for refusal in result.refusals for line in refusal.lines())
    assert "HF_TOKEN" in said and "environment_files" in said and "verysecret" not in said


def test_environment_files_reach_the_unit_and_nothing_of_them_the_plan(world: World) -> None:
    plan = planned(world, environment_files=["/etc/sglang/it.env"])
    unit = units(plan)[0]
    assert "\nEnvironmentFile=/etc/sglang/it.env\n" in unit_text(unit)
    assert unit["launch"]["environment_from_files"] is True
    assert units(planned(world))[0]["launch"]["environment_from_files"] is False


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    path = folder / "it.env"
    path.write_text("HF_TOKEN=x\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def errors(path: Path) -> list[str]:
    return file_errors([str(path)], os.geteuid())


def test_a_private_file_is_taken(secret: Path) -> None:
    assert errors(secret) == []


def test_a_file_that_others_can_read_is_refused(secret: Path) -> None:
    secret.chmod(0o640)
    assert "chmod 0600" in errors(secret)[0]


def test_a_missing_file_a_link_and_a_pipe_are_refused(secret: Path) -> None:
    assert "No such file" in errors(secret.with_name("other.env"))[0]
    link = secret.with_name("link.env")
    link.symlink_to(secret)
    pipe = secret.with_name("pipe.env")
    os.mkfifo(pipe, 0o600)
    assert [len(errors(path)) for path in (link, pipe)] == [1, 1]


def test_a_folder_that_others_can_write_to_is_refused(secret: Path) -> None:
    secret.parent.chmod(0o777)
    assert "can be written to by others" in errors(secret)[0]


def test_a_file_of_another_user_is_refused(secret: Path) -> None:
    assert any("not to root" in error for error in file_errors([str(secret)], os.geteuid() + 1))


@pytest.fixture
def decisions() -> Any:
    folder = str(ROOT / "roles/engine/files/launcher")
    sys.path.insert(0, folder)
    try:
        import decisions as found
    finally:
        sys.path.remove(folder)
    return found


def test_only_what_the_files_brought_is_passed_to_the_engine(decisions: Any) -> None:
    of_systemd = {
        "PATH": "/bin", "LANG": "C", "USER": "sglang", "INVOCATION_ID": "1", "JOURNAL_STREAM": "8:1",
        "NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "SYSTEMD_EXEC_PID": "1", "MEMORY_PRESSURE_WATCH": "/x",
    }  # fmt: skip
    assert decisions.of_files({**of_systemd, "HF_TOKEN": "x"}) == {"HF_TOKEN": "x"}
    # In a group torchrun has added its own by the time the launcher looks.
    passed = {**of_systemd, "HF_TOKEN": "x", "RANK": "0", decisions.PASSED_ON: "HF_TOKEN"}
    assert decisions.of_files(passed) == {"HF_TOKEN": "x"}


FAMILY: dict[str, Any] = {
    "family": "mine",
    "shape": {
        "architecture": "LlamaForCausalLM", "layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 2,
        "head_dim": 16, "vocab_size": 100, "max_context": 1024, "intermediate_size": 128,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "revision"),
    [
        ("../../etc", "main"),
        ("m/x", "main"),
        (".hidden", "main"),
        ("m", "../../../etc"),
        ("m", "a\nb"),
        ("m\n", "a"),
    ],
)
def test_weights_of_a_catalogue_stay_below_their_folder(key: str, revision: str) -> None:
    document = {
        **FAMILY,
        "models": {key: {"ids": {"huggingface": "a/b"}, "revisions": {"huggingface": revision}}},
    }
    models, refusals = load_models({"mine.yml": document})
    assert models == {}
    assert any("name of a folder" in refusal.what for refusal in refusals)


@pytest.mark.parametrize("path", ["/", "//data/m", "/data/../etc", "/data/./m", "/data//m", "/.."])
def test_a_directory_of_the_user_says_plainly_where_it_is(path: str) -> None:
    refusals: list[Refusal] = []
    assert local_models({"it": {"model": path}}, refusals) == {}
    assert [refusal.code for refusal in refusals] == ["model-directory"]
    assert "part that is empty" in refusals[0].what


def test_an_interpreter_of_the_facts_is_one_word(world: World) -> None:
    known = json.loads(json.dumps(world.host("h200", "h200-1").to_dict()))
    known["python"] = [
        {"path": "/usr/bin/python3 -c import\u0020os", "version": "3.12.3"},
        {"path": "/usr/bin/../../tmp/python3", "version": "3.12.3"},
        {"path": "/usr/bin/python3.11", "version": "3.11.2"},
    ]
    facts = HostFacts.from_dict(known, "h200-1")
    assert [item.path for item in facts.python] == ["/usr/bin/python3.11"]


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("rdma", "name", "../../../etc/x"),
        ("rdma", "name", "mlx5_0,evil"),
        ("rdma", "netdev", "eth0/../../x"),
        ("gpus", "minor", -1),
        ("gpus", "minor", 10**9),
    ],
)
def test_devices_of_the_facts_name_nothing_else(world: World, part: str, key: str, value: Any) -> None:
    known = json.loads(json.dumps(world.host("spark", "spark-1").to_dict()))
    known[part][0][key] = value
    with pytest.raises(RefusedError) as refused:
        HostFacts.from_dict(known, "spark-1")
    assert f"{part}[0].{key}" in str(refused.value)


def test_root_s_import_of_the_packages_loads_nothing_that_a_variable_names(world: World) -> None:
    plan = planned(world, environment={"LD_PRELOAD": "x.so", "PYTHONPATH": "x", "NCCL_DEBUG": "INFO"})
    (entry,) = environments(plan)
    assert "NCCL_DEBUG" in entry["import_environment"]
    assert not {"LD_PRELOAD", "PYTHONPATH"} & set(entry["import_environment"])


@pytest.mark.parametrize("read", [True, False])
def test_the_engine_gets_the_secret_and_the_plan_wins(monkeypatch: pytest.MonkeyPatch, read: bool) -> None:
    folder = ROOT / "roles/engine/files/launcher"
    monkeypatch.syspath_prepend(str(folder))
    specification = importlib.util.spec_from_file_location("launcher_main", folder / "__main__.py")
    assert specification is not None and specification.loader is not None
    main = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(main)
    started: list[dict[str, str]] = []

    def spawn(_argv: list[str], environment: dict[str, str]) -> tuple[int, int]:
        started.append(environment)
        raise OSError(2, "stop here")

    monkeypatch.setattr(main.processes, "spawn", spawn)
    for name, value in {"HF_TOKEN": "x", "CUDA_VISIBLE_DEVICES": "7", "NOTIFY_SOCKET": "/run/n"}.items():
        monkeypatch.setenv(name, value)
    launcher = main.Launcher.__new__(main.Launcher)
    launcher.launch = {
        "environment": {"CUDA_VISIBLE_DEVICES": "0"},
        "environment_from_files": read,
        "argv": ["/x"],
        "checks": {},
    }
    with pytest.raises(main.DownError):
        launcher._start()
    assert started[0].get("HF_TOKEN") == ("x" if read else None)
    assert started[0]["CUDA_VISIBLE_DEVICES"] == "0" and "NOTIFY_SOCKET" not in started[0]
