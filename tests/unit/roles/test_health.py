# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of the health watch, and what launchers and agents make of its verdict."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.core.device_nodes import NVIDIA_SMI
from ansible_collections.baremetal.sglang.plugins.module_utils.health.settings import (
    CONFIGURATION,
    FOLDER,
    health_settings,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.service.launch import HEALTH_VERDICT

ROOT = Path(__file__).parents[3]
LAUNCHER = ROOT / "roles/engine/files/launcher"
RULES = yaml.safe_load((ROOT / "files/health.yml").read_text(encoding="utf-8"))
XIDS = yaml.safe_load((ROOT / "files/xids.yml").read_text(encoding="utf-8"))
DEFAULTS = yaml.safe_load((ROOT / "roles/health/defaults/main.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Laid out as the role does on a host."""
    folder = tmp_path_factory.mktemp("health")
    files = yaml.safe_load((ROOT / "roles/health/vars/main.yml").read_text(encoding="utf-8"))[
        "health_program"
    ]
    for place, source in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.replace("{{ role_path }}", str(ROOT / "roles/health")), target)
    return folder


@pytest.fixture(scope="module")
def program(installed: Path) -> Iterator[Any]:
    specification = importlib.util.spec_from_file_location("health_program", installed / "health.py")
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith("sglang_health")]:
        sys.modules.pop(name)


def script(path: Path, body: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}")
    path.chmod(0o755)
    return str(path)


ANSWERS = (
    "if sys.argv[1] == 'nvlink':\n"
    "    print('GPU 0: NVIDIA H200 (UUID: GPU-a)\\n\\t Link 0: Replay Errors: 2\\n\\t Link 0: CRC Errors: 3')\n"
    "    sys.exit(0)\n"
    "query = sys.argv[1].partition('=')[2].split(',')\n"
    "if 'gpu_recovery_action' in query and OLD:\n"
    "    print('Field \"gpu_recovery_action\" is not a valid field to query.')\n    sys.exit(2)\n"
    "values = {'index': '0', 'pci.bus_id': '00000000:18:00.0', 'gpu_recovery_action': 'None', 'remapped_rows.pending': 'Yes',"
    " 'remapped_rows.failure': '[N/A]', 'ecc.errors.uncorrected.volatile.total': '7',"
    " 'clocks_throttle_reasons.active': '0x0000000000000080'}\n"
    "print(', '.join(values[name] for name in query))\n"
)


@pytest.mark.parametrize(("old", "recovery"), [(False, "None"), (True, None)])
def test_what_nvidia_smi_says_is_read(program: Any, tmp_path: Path, old: bool, recovery: str | None) -> None:
    smi = script(tmp_path / "nvidia-smi", f"OLD = {old}\n{ANSWERS}")
    answered, (gpu,) = program.gpus(smi, 60)
    assert answered
    assert (gpu.index, gpu.address, gpu.recovery) == (0, "0000:18:00.0", recovery)
    assert (gpu.remap_pending, gpu.remap_failure, gpu.ecc_uncorrected, gpu.clock_reasons) == (
        True,
        None,
        7,
        0x80,
    )
    assert program.nvlink_errors(smi, 60) == {0: 5}


@pytest.mark.parametrize(
    "body", ["sys.exit(9)", "print('Unable to determine the device handle'); sys.exit(255)", "time.sleep(60)"]
)
def test_a_driver_that_fails_or_hangs_has_not_answered(program: Any, tmp_path: Path, body: str) -> None:
    assert program.gpus(script(tmp_path / "nvidia-smi", body), 2) == (False, [])
    assert program.gpus(str(tmp_path / "nowhere"), 2) == (False, [])


def test_gpus_that_are_left_are_listed_though_another_is_lost(program: Any, tmp_path: Path) -> None:
    smi = script(
        tmp_path / "nvidia-smi",
        f"OLD = False\n{ANSWERS}\nprint('Unable to determine the device handle')\nsys.exit(255)",
    )
    answered, found = program.gpus(smi, 60)
    assert (answered, len(found)) == (True, 1)


def test_rdma_counters(program: Any, tmp_path: Path) -> None:
    port = tmp_path / "class/infiniband/mlx5_0/ports/1"
    (port / "counters").mkdir(parents=True)
    (port / "hw_counters").mkdir()
    (port / "counters/link_downed").write_text("3\n")
    (port / "hw_counters/packet_seq_err").write_text("8\n")
    (port / "counters/symbol_error").write_text("N/A\n")
    found = program.rdma(RULES["rdma_counters"], str(tmp_path))
    assert found == {"mlx5_0/1": {"link_downed": 3, "packet_seq_err": 8}}


def settings(folder: Path, mode: str = "enforce") -> Path:
    plan = {"instances": {"a": {"service": {"checks": {"gpus": [{"index": 0}]}}}}}
    given = health_settings(plan, RULES, XIDS, {"mode": mode})
    assert (given["folder"], given["cleared"]) == (FOLDER, f"{CONFIGURATION}/cleared.json")
    given.update(
        folder=str(folder), cleared=str(folder / "cleared.json"), nvidia_smi=str(folder / "bin/nvidia-smi")
    )
    path = folder / "settings.json"
    path.write_text(json.dumps(given))
    return path


def test_look_after_look(installed: Path, tmp_path: Path) -> None:
    """The whole program, with a kernel log that grows."""
    (tmp_path / "bin").mkdir()
    script(
        tmp_path / "bin/nvidia-smi",
        f"OLD = False\n{ANSWERS.replace('0x0000000000000080', '0x0').replace('Yes', 'No')}",
    )
    log = tmp_path / "log"
    log.write_text("")
    script(
        tmp_path / "bin/journalctl",
        f"lines = open({str(log)!r}).read().splitlines()\n"
        "after = next((word.rpartition('=')[2] for word in sys.argv if word.startswith('--after-cursor')), '0')\n"
        "if after == 'gone': sys.exit(1)\n"
        "print(*lines[int(after):], sep='\\n')\nprint('-- cursor: n=%d' % len(lines))\n",
    )
    path = settings(tmp_path)

    def look() -> tuple[dict[str, Any], str]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-B", installed / "health.py", path],
            env={"PATH": f"{tmp_path}/bin"}, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        return json.loads((tmp_path / "verdict.json").read_text()), done.stdout

    verdict, said = look()
    assert (verdict["findings"], verdict["instances"], said) == ([], {}, "")
    log.write_text("[    1.0] h kernel: NVRM: Xid (PCI:0000:18:00): 79, GPU has fallen off the bus.\n")
    verdict, said = look()
    assert verdict["instances"]["a"]["decision"] == "stop"
    assert said.startswith("stop: GPU 0: Xid 79, GPU has fallen off the bus -> restart the host")
    assert "stop instance a: GPU 0" in said
    verdict, said = look()
    assert (verdict["instances"]["a"]["decision"], said) == ("stop", "")
    assert json.loads((tmp_path / "state.json").read_text())["cursor"] == "n=1"
    (tmp_path / "cleared.json").write_text(json.dumps({"at": verdict["at"] + 3600}))
    assert look()[0]["instances"] == {}
    # A state of nonsense is no state, and what the log holds is then from before the watch.
    (tmp_path / "cleared.json").unlink()
    (tmp_path / "state.json").write_text("[")
    verdict, _said = look()
    assert [item["decision"] for item in verdict["findings"]] == ["warn"]
    assert oct((tmp_path / "verdict.json").stat().st_mode & 0o777) == "0o644"


def rendered(name: str) -> str:
    template = jinja2.Template(
        (ROOT / f"roles/health/templates/{name}.j2").read_text(encoding="utf-8"),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(ansible_managed="test", health_rules=RULES, health_settings={"devices": NVIDIA_SMI}, **{
        key: DEFAULTS[key] for key in ("health_user", "health_configuration", "health_folder")
    })  # fmt: skip


def test_the_unit_is_confined(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "sglang-health.service").write_text(rendered("sglang-health.service"))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", tmp_path / "sglang-health.service"],
        capture_output=True, text=True, check=False, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert float(level) <= 2.0, done.stdout


def test_places_are_the_same_everywhere() -> None:
    assert f"{FOLDER}/verdict.json" == HEALTH_VERDICT
    assert (DEFAULTS["health_folder"], DEFAULTS["health_configuration"]) == (FOLDER, CONFIGURATION)
    for path, constant in (("roles/monitoring/files/collect.py", f'HEALTH = "{FOLDER}"'),
                           ("plugins/module_utils/doctor/host.py", f'HEALTH = "{HEALTH_VERDICT}"')):  # fmt: skip
        assert constant in (ROOT / path).read_text(encoding="utf-8")


# What the launcher and the agent of a group do with it.


@pytest.fixture
def launcher() -> Iterator[None]:
    known = set(sys.modules)
    sys.path.insert(0, str(LAUNCHER))
    yield
    sys.path.remove(str(LAUNCHER))
    for name in set(sys.modules) - known:
        sys.modules.pop(name, None)


def test_watch_and_launcher_name_the_boot_alike(
    launcher: None, program: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import processes

    class Told:
        st_ctime_ns = 7

    for module in (processes, program):
        monkeypatch.setattr(module.os, "stat", lambda _path: Told())
    assert program.boot() == processes.boot()
    assert program.boot().endswith(" 7")


ORDER = {"decision": "drain", "why": "GPU 0: Xid 95\nx", "returns": True}


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ({"boot": "b", "instances": {"a": ORDER}}, ("drain", "GPU 0: Xid 95 x", True)),
        ({"boot": "b", "instances": {"a": {**ORDER, "decision": "stop", "returns": 1}}}, ("stop", "GPU 0: Xid 95 x", False)),
        ({"boot": "b", "instances": {"other": ORDER}}, None),
        ({"boot": "b", "instances": {}, "would": {"a": ORDER}}, None),
        ({"boot": "before", "instances": {"a": ORDER}}, None),
        ({"boot": "b", "instances": {"a": {**ORDER, "decision": "kill"}}}, None),
        ({"boot": "b", "instances": []}, None),
        ([], None),
    ],
)  # fmt: skip
def test_an_order_counts_for_its_instance_and_boot_only(
    launcher: None, tmp_path: Path, verdict: Any, expected: tuple[str, str, bool] | None
) -> None:
    import health

    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(verdict))
    found = health.read(str(path), "a", "b")
    assert (found and (found.decision, found.why, found.returns)) == expected


def test_a_verdict_that_is_missing_or_damaged_stops_nothing(launcher: None, tmp_path: Path) -> None:
    import health

    assert health.read(str(tmp_path / "nowhere"), "a", "b") is None
    (tmp_path / "damaged").write_text("[" * 100000)
    assert health.read(str(tmp_path / "damaged"), "a", "b") is None


def head() -> Any:
    from decisions import Restarts
    from group import Head

    return Head(
        hosts=["a", "b"],
        group="g",
        restarts=Restarts([0, 5, 20], 3600),
        lost_seconds=10,
        blame_seconds=2,
        skew_seconds=30,
    )


def says(found: Any, host: str, **words: Any) -> None:
    assert (
        found.hears(host, {"group": "g", "truth": {}, "time": 1000.0, "loaded": True, **words}, 0, 1000.0)
        == ""
    )


def test_a_group_waits_for_a_held_member_and_says_why(launcher: None) -> None:
    found = head()
    says(found, "a")
    says(found, "b", held="GPU 2: Xid 95 -> reset it")
    assert not found.may_start(0)
    assert found.waits_for(0) == "not started, stopped by the health watch: b: GPU 2: Xid 95 -> reset it"
    assert "b: GPU 2: Xid 95" in found.beat(0, "", False)["status"]
    says(found, "b")
    assert found.may_start(0)


def test_a_member_that_must_drain_lets_requests_finish_first(launcher: None) -> None:
    found = head()
    says(found, "a")
    says(found, "b")
    assert found.may_start(0)
    says(found, "b", held="GPU 2: Xid 95", leave=True)
    assert (found.leaving, found.phase, found.seats["b"].held) == ("b", "run", "GPU 2: Xid 95")
