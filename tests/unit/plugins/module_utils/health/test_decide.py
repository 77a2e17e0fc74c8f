# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the health watch makes of the kernel log and of the driver's readings, with the shipped tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.kernel_events import parse_kernel_log
from ansible_collections.baremetal.sglang.plugins.module_utils.health import report
from ansible_collections.baremetal.sglang.plugins.module_utils.health.decide import (
    Gpu,
    Reading,
    Settings,
    State,
    decide,
    recovery,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.health.settings import (
    health_refusals,
    health_settings,
)

ROOT = Path(__file__).parents[5]
RULES = yaml.safe_load((ROOT / "files/health.yml").read_text(encoding="utf-8"))
XIDS = yaml.safe_load((ROOT / "files/xids.yml").read_text(encoding="utf-8"))


def plan(unified: int = 0, **gpus: list[int]) -> dict[str, Any]:
    return {
        "instances": {
            name: {
                "service": {
                    "checks": {"gpus": [{"index": index} for index in indexes]},
                    "oom_score_adjust": unified,
                }
            }
            for name, indexes in gpus.items()
        }
    }


def settings(mode: str = "enforce", **gpus: list[int]) -> Settings:
    given = health_settings(plan(**(gpus or {"a": [0, 1], "b": [2, 3]})), RULES, XIDS, {"mode": mode})
    return Settings.from_dict(given)


def gpus(count: int = 4, **changed: Any) -> tuple[Gpu, ...]:
    return tuple(
        replace(
            Gpu(index, f"0000:{index + 1:02x}:00.0", "None", False, False, 0, 0),
            **changed.get(f"g{index}", {}),
        )
        for index in range(count)
    )


def xid(number: int, index: int = 2, words: str = "pid=1, name=x") -> str:
    return f"[   12.5] host kernel: NVRM: Xid (PCI:0000:{index + 1:02x}:00): {number}, {words}\n"


class Watch:
    """Look after look."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.state, self.now = settings, State(), 1000.0
        self.verdict: dict[str, Any] = {}
        self.look()

    def look(self, log: str = "", **changed: Any) -> dict[str, Any]:
        first = not self.state.boot
        values: dict[str, Any] = {"boot": "b1", "gpus": gpus(), "first_look": first, **changed}
        self.now += values.pop("after", 30)
        # As it is kept on the host.
        kept = State.from_dict(self.state.to_dict()) if self.state.boot else State()
        self.state, self.verdict = decide(
            kept, Reading(now=self.now, events=tuple(parse_kernel_log(log)), **values), self.settings
        )
        return self.verdict

    @property
    def orders(self) -> dict[str, str]:
        return {name: order["decision"] for name, order in self.verdict["instances"].items()}

    @property
    def codes(self) -> list[tuple[str, int | None, str]]:
        return [(item["code"], item["gpu"], item["decision"]) for item in self.verdict["findings"]]


@pytest.fixture
def watch() -> Watch:
    return Watch(settings())


def test_healthy_gpus_are_let_alone(watch: Watch) -> None:
    assert watch.look() == {
        "schema": 1, "mode": "enforce", "boot": "b1", "at": 1060.0, "answered": True, "findings": [],
        "instances": {}, "would": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "decision"),
    [(13, ""), (31, ""), (43, ""), (45, ""), (63, "warn"), (92, "warn"), (94, ""), (48, "drain"), (95, "drain"),
     (119, "drain"), (74, "drain"), (64, "drain"), (79, "stop"), (999, "warn")],
)  # fmt: skip
def test_xids_are_judged_by_the_table(watch: Watch, number: int, decision: str) -> None:
    watch.look(xid(number))
    assert watch.codes == ([(f"xid:{number}", 2, decision)] if decision else [])
    assert watch.orders == ({"b": decision} if decision in ("drain", "stop") else {})


def test_the_order_names_gpu_cause_and_cure(watch: Watch) -> None:
    order = watch.look(xid(95))["instances"]["b"]
    assert order["why"].startswith("GPU 2: Xid 95, uncontained memory error -> stop what uses the GPU")
    assert "nvidia-smi --gpu-reset -i 2" in order["why"]
    assert order["returns"] is True


def test_reasons_of_one_gpu_share_their_cure(watch: Watch) -> None:
    order = watch.look(xid(95), gpus=gpus(g2={"recovery": "GPU Reset"}))["instances"]["b"]
    assert order["why"] == (
        "GPU 2: Xid 95, uncontained memory error, the driver wants the GPU reset (GPU Reset) -> stop what uses the GPU, "
        "then `nvidia-smi --gpu-reset -i 2`, or restart the host"
    )


def test_observe_only_says_what_it_would_do() -> None:
    watch = Watch(settings("observe"))
    verdict = watch.look(xid(95))
    assert verdict["instances"] == {}
    assert {name: order["decision"] for name, order in verdict["would"].items()} == {"b": "drain"}


def test_a_reset_lets_it_serve_again_once_the_driver_says_so(watch: Watch) -> None:
    watch.look(xid(95), gpus=gpus(g2={"recovery": "GPU Reset"}))
    watch.look(gpus=gpus(g2={"recovery": "GPU Reset"}), after=3600)
    assert watch.orders == {"b": "drain"}
    watch.look()
    assert watch.orders == {"b": "drain"}, "not before it was quiet for a while"
    watch.look(after=RULES["quiet_seconds"])
    assert watch.orders == {}


def test_a_driver_without_recovery_action_leaves_it_to_the_restart(watch: Watch) -> None:
    old = gpus(g2={"recovery": None})
    watch.look(xid(95), gpus=old)
    watch.look(gpus=old, after=86400)
    assert watch.orders == {"b": "drain"}
    watch.look(boot="b2", gpus=old)
    assert watch.orders == {}


def test_off_the_bus_waits_for_the_restart(watch: Watch) -> None:
    watch.look(xid(79))
    order = watch.look(after=86400)["instances"]["b"]
    assert (order["decision"], order["returns"]) == ("stop", False)
    watch.look(boot="b2")
    assert watch.orders == {}


def test_a_gpu_to_replace_stays_out_until_it_is_cleared(watch: Watch) -> None:
    watch.look(gpus=gpus(g1={"remap_failure": True}))
    watch.look(boot="b2", after=86400)
    assert watch.orders == {"a": "drain"}
    watch.look(boot="b2", cleared_at=watch.now + 1)
    assert watch.orders == {}


def test_what_was_cleared_comes_back_with_the_next_event(watch: Watch) -> None:
    watch.look(xid(64))
    cleared = watch.now + 1
    watch.look(cleared_at=cleared)
    assert watch.orders == {}
    watch.look(xid(64), cleared_at=cleared)
    assert watch.orders == {"b": "drain"}


def test_what_the_log_held_before_the_watch_is_only_said() -> None:
    watch = Watch.__new__(Watch)
    watch.settings, watch.state, watch.now = settings(), State(), 0.0
    watch.look(xid(79))
    assert watch.codes == [("xid:79", 2, "warn")]
    assert watch.orders == {}
    watch.look(xid(79))
    assert watch.orders == {"b": "stop"}


def test_events_of_a_restart_count(watch: Watch) -> None:
    watch.look(xid(79), boot="b2")
    assert watch.orders == {"b": "stop"}


def test_recovery_action_of_xid_154_is_read_from_its_words(watch: Watch) -> None:
    watch.look(xid(154, 0, "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"))
    assert watch.orders == {"a": "stop"}
    other = Watch(settings())
    other.look(xid(154, 0, "GPU recovery action changed from 0x2 (Node Reboot Required) to 0x0 (None)"))
    assert other.codes == []


@pytest.mark.parametrize(
    ("words", "action"),
    [("None", ""), ("N/A", ""), ("", ""), ("GPU Reset", "reset"), ("Drain and Reset", "reset"), ("Drain P2P", "reset"),
     ("Node Reboot", "reboot"), ("Something New", "")],
)  # fmt: skip
def test_recovery(words: str, action: str) -> None:
    assert recovery(words) == action


@pytest.mark.parametrize(
    ("changed", "code", "decision"),
    [
        ({"recovery": "GPU Reset"}, "reading:recovery-reset", "drain"),
        ({"recovery": "Node Reboot"}, "reading:recovery-reboot", "stop"),
        ({"remap_pending": True}, "reading:remap-pending", "warn"),
        ({"ecc_uncorrected": 2}, "reading:ecc-uncorrected", "warn"),
        ({"clock_reasons": 0x48}, "reading:slowdown-thermal", "warn"),
        ({"clock_reasons": 0x80}, "reading:slowdown-power", "warn"),
    ],
)
def test_readings(watch: Watch, changed: dict[str, Any], code: str, decision: str) -> None:
    watch.look(gpus=gpus(g3=changed))
    assert watch.codes == [(code, 3, decision)]


def test_power_cap_and_idle_are_no_findings(watch: Watch) -> None:
    watch.look(gpus=gpus(g0={"clock_reasons": 0x5}))
    assert watch.codes == []


def test_a_lost_gpu_and_a_silent_driver_need_several_looks(watch: Watch) -> None:
    for _unused in range(RULES["misses"] - 1):
        watch.look(gpus=gpus(3))
    assert watch.codes == []
    watch.look(gpus=gpus(3))
    assert watch.codes == [("reading:lost", 3, "stop")]
    assert watch.orders == {"b": "stop"}
    silent = Watch(settings())
    for _unused in range(RULES["misses"] - 1):
        silent.look(gpus=(), answered=False)
    silent.look()
    silent.look(gpus=(), answered=False)
    assert silent.codes == []
    for _unused in range(RULES["misses"]):
        silent.look(gpus=(), answered=False)
    assert silent.orders == {"a": "stop", "b": "stop"}


def test_a_gpu_that_left_the_listing_is_known_by_its_address(watch: Watch) -> None:
    watch.look(xid(79, 3), gpus=gpus(3))
    assert watch.orders == {"b": "stop"}


def test_an_event_of_an_unknown_gpu_stops_nobody(watch: Watch) -> None:
    watch.look(xid(79, 40))
    assert watch.codes == [("xid:79", None, "warn")]
    alone = Watch(settings(a=[0]))
    alone.look(xid(79, 40))
    assert alone.orders == {"a": "stop"}


def test_an_event_on_a_gpu_of_nobody_stops_nobody() -> None:
    watch = Watch(settings(a=[0, 1]))
    watch.look(xid(79, 3))
    assert watch.codes == [("xid:79", 3, "stop")]
    assert watch.orders == {}


def test_growing_counters_are_warned_about_and_resets_are_not(watch: Watch) -> None:
    watch.look(nvlink={0: 1000}, rdma={"mlx5_0/1": {"link_downed": 1, "symbol_error": 5}})
    assert watch.codes == []
    watch.look(nvlink={0: 1101}, rdma={"mlx5_0/1": {"link_downed": 2, "symbol_error": 6}})
    assert set(watch.codes) == {("reading:nvlink-errors", 0, "warn"), ("rdma:mlx5_0/1", None, "warn")}
    watch.look(
        nvlink={0: 0},
        rdma={"mlx5_0/1": {"link_downed": 0, "symbol_error": 0}},
        after=RULES["shown_seconds"] + 1,
    )
    assert watch.codes == []


def test_fatal_switch_errors_are_said(watch: Watch) -> None:
    line = "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, {} Link 28 LTSSM Fault Up\n"
    watch.look(line.format("Non-fatal,"))
    assert watch.codes == [("log:nvswitch-sxid", None, "warn")]
    watch.look(line.format("Fatal,"))
    assert ("sxid:20034", None, "warn") in watch.codes


def test_nonsense_in_the_state_is_no_state() -> None:
    for bad in (None, [], {"schema": 2}, {"schema": 1}, {"schema": 1, "boot": "x", "findings": [{"a": 1}]}):
        assert State.from_dict(bad) == State()


# What the watch is told.


def test_settings_hold_only_instances_with_gpus() -> None:
    assert health_settings(plan(a=[]), RULES, XIDS) == {}
    found = health_settings(plan(a=[1, 0], cpu=[]), RULES, XIDS)
    assert (found["mode"], found["gpus"], found["instances"]) == ("observe", [0, 1], {"a": [0, 1]})
    assert found["xids"]["126"] == ["copy engine exception", "application"]


def test_every_action_that_ends_service_says_when_it_comes_back() -> None:
    for name, row in XIDS["actions"].items():
        assert row["serving"] in ("ignore", "warn", "drain", "stop"), name
        assert ("returns" in row) == (row["serving"] in ("drain", "stop")), name
        assert row.get("returns", "boot") in ("recovered", "boot", "cleared"), name
    for row in (*RULES["sentences"].values(), *RULES["readings"].values(), RULES["fatal_sxid"]):
        assert row["action"] in XIDS["actions"]


def test_cures_of_unified_memory_are_its_own() -> None:
    found = health_settings(plan(unified=500, a=[0]), RULES, XIDS)
    assert "take all power" in found["actions"]["reboot"]["cure"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mode": "kill"}, "health.mode = 'kill': invalid value; write observe or enforce"),
        ({"made": "observe"}, "health.made: unknown key; mode is the only one"),
        ("enforce", "health = 'enforce': invalid value; write health: {mode: observe}"),
        ([], "health = []: invalid value; write health: {mode: observe}"),
    ],
)
def test_wrong_settings_are_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match="health") as caught:
        health_settings(plan(a=[0]), RULES, XIDS, given)
    assert str(caught.value) == words
    (refusal,) = health_refusals({"h1": given, "h2": {"mode": "enforce"}, "h3": None})
    assert (refusal.host, f"{refusal.where}: {refusal.what}; {refusal.fix}") == ("h1", words)


# What status and doctor say.


def test_the_status_line(watch: Watch) -> None:
    assert report.line({}, 0) == ""
    assert report.line(watch.look(), watch.now) == "health enforce"
    assert report.line(watch.verdict, watch.now + 1200) == "health watch silent for 20 min"
    assert report.line(watch.look(xid(63)), watch.now) == "health enforce, 1 findings"
    assert report.line(watch.look(xid(79)), watch.now) == "health enforce, stop b"
    observing = Watch(settings("observe"))
    assert report.line(observing.look(xid(79)), observing.now) == "health observe, would stop b"


def test_findings_end_in_a_cure_and_in_how_to_clear_them(watch: Watch) -> None:
    (found,) = report.findings(watch.look(xid(64)), "h1")
    assert found["fix"].endswith("playbooks/health.yml -i INVENTORY --limit h1 -e health_clear=true")
    assert report.must_not_serve(found)
    assert report.findings({"findings": ["nonsense", {"what": "a\x1bb"}]}, "h1")[0]["what"] == "a b"
