# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each check passes on a server that is right and fails on one that is not, by name; the plan decides what is asked."""

from __future__ import annotations

import copy
import json
import os
import pwd
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import derive, report, tools
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import host as place
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.check_context import (
    CheckContext,
    CheckError,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.verification.run import CHECKS, run
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import (
    API,
    METRICS,
    behaviour,
)
from ansible_collections.baremetal.sglang.tests.unit.fixtures.truth_server import TruthServer

FILES = Path(__file__).parents[5] / "files"
DATA = yaml.safe_load((FILES / "verify.yml").read_text(encoding="utf-8"))
ME = pwd.getpwuid(os.getuid()).pw_name
CASES = DATA["parsers"]["glm47"]
PARIS = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
TOKYO = {"name": "get_weather", "arguments": '{"city": "Tokyo"}'}


def plan(*flags: tuple[str, Any], **instance: Any) -> dict[str, Any]:
    arguments = {
        "tool-call-parser": "glm47",
        "reasoning-parser": "glm45",
        "enable-metrics": True,
        "context-length": 4096,
    }
    arguments.update(dict(flags))
    one = {
        "name": "big", "unit": "sglang-big.service", "model": "glm-4.7-fp8", "served_model_name": "big", "device": "cuda",
        "engine": "sglang", "behaviour": behaviour(arguments), "api": API, "metrics": METRICS,
        "parallel": {"node_rank": 0, "nnodes": 1, "rdma_devices": {}},
        "ports": [{"port": 30000, "purpose": "api", "address": "127.0.0.1"}],
        "context": {"length": 4096}, "kernels": {}, "weights": {"path": "/w"}, "environment": {"path": "/e", "id": "0123"},
        **instance,
    }  # fmt: skip
    return {"host": "h1", "host_settings": {"user": ME}, "instances": {"big": one}}


def skipped(planned: dict[str, Any], **how: Any) -> dict[str, str]:
    (found,) = derive.checks(planned, DATA, **how)
    return {check["name"]: check["skip"] for check in found["checks"]}


def test_the_data_is_as_its_schema_says() -> None:
    jsonschema.validate(DATA, json.loads((FILES / "schemas/verify.schema.json").read_text(encoding="utf-8")))


def test_every_check_of_the_table_can_be_run() -> None:
    assert {row.name for row in derive.TABLE} == set(CHECKS)
    assert {row.tag for row in derive.TABLE} == set(derive.TAGS)


@pytest.mark.parametrize(
    ("planned", "name", "reason"),
    [
        (plan(("tool-call-parser", None)), "single call", "no tool-call parser"),
        (plan(model="glm-4.7-tiny"), "single call", "knows no tools"),
        (plan(model="glm-4.7-tiny"), "parser cases", ""),
        (plan(("tool-call-parser", "other")), "parser cases", "no cases are written for other"),
        (plan(("reasoning-parser", None)), "reasoning apart", "no reasoning parser"),
        (plan(), "budget", "no thinking budget"),
        (plan(("enable-custom-logit-processor", True)), "budget", ""),
        (plan(), "determinism", "not promised"),
        (plan(("enable-deterministic-inference", True)), "determinism", ""),
        (plan(device="cpu"), "determinism", ""),
        (plan(), "speculative acceptance", "no speculative decoding"),
        (plan(("speculative-algorithm", "EAGLE")), "speculative acceptance", ""),
        (plan(), "image", "takes no images"),
        (plan(model="qwen2-vl-7b"), "image", ""),
        (plan(("enable-metrics", None)), "metrics", "no metrics"),
        (plan(), "401 without key", "no gateway"),
        (plan(gateway={"url": "https://127.0.0.1"}), "401 without key", ""),
        (plan(), "transport", "one host"),
        (plan(kernels={"log": {"messages": []}}), "kernel files", ""),
    ],
)  # fmt: skip
def test_what_is_not_planned_is_skipped_with_the_reason(
    planned: dict[str, Any], name: str, reason: str
) -> None:
    found = skipped(planned)[name]
    assert (reason in found) if reason else found == ""


def test_a_rank_without_api_is_asked_for_what_it_has() -> None:
    found = skipped(plan(parallel={"node_rank": 1, "nnodes": 2, "rdma_devices": {}}))
    assert "rank 1" in found["chat"]
    assert found["health"] == found["transport"] == found["runs as its own user"] == ""


def test_the_quick_form_names_what_it_leaves_out() -> None:
    assert derive.FULL_ONLY in skipped(plan(), quick=True)["parser cases, streamed"]


def test_tags_choose_and_a_wrong_one_is_refused() -> None:
    (found,) = derive.checks(plan(), DATA, ["tools", "security"])
    assert {check["tag"] for check in found["checks"]} == {"tools", "security"}
    with pytest.raises(ValueError, match="no such tag: tols; there are health"):
        derive.checks(plan(), DATA, ["tols"])


def test_a_long_prompt_stays_below_context_and_pool() -> None:
    (found,) = derive.checks(plan(("max-total-tokens", 2048)), DATA)
    assert found["expected"]["long_prompt"] == 2048 - DATA["margin"]
    (found,) = derive.checks(plan(), DATA, quick=True)
    assert found["expected"]["long_prompt"] == DATA["quick"]["long_prompt"]


# --- against a server ---


@pytest.fixture
def server() -> Iterator[TruthServer]:
    with TruthServer(ttft=0.0, each=0.0) as found:
        found.answer = answer
        found.routes["/parse_function_call"] = (200, parse)
        found.routes["/v1/models"] = (200, {"data": [{"id": "big"}]})
        yield found


def parse(asked: dict[str, Any], _headers: dict[str, str]) -> tuple[int, Any]:
    case = next(case for case in CASES if case["text"] == asked["text"])
    calls = [{"name": call["name"], "parameters": json.dumps(call["arguments"])} for call in case["calls"]]
    return 200, {"normal_text": case.get("said", ""), "calls": calls}


def answer(asked: dict[str, Any]) -> dict[str, Any] | None:
    text = str(asked["messages"][-1]["content"])
    if "31" in text:
        return {"text": "It is 31 degrees.", "tokens": 6}
    if asked.get("tools") and "Tokyo" in text:
        return {"calls": [PARIS, TOKYO], "tokens": 12}
    if asked.get("tools") and "Paris" in text:
        return {"calls": [PARIS], "tokens": 12}
    if "colour" in text:
        return {"text": "Red.", "tokens": 2}
    if "prime" in text:
        thinks = asked.get("chat_template_kwargs", {}).get("enable_thinking", True)
        return {"text": "No, it is 7 times 13.", "tokens": 12, "reasoning": 4 if thinks else 0}
    if len(text.split()) > 4096:
        return {"fault": "http_400", "fail_every": 0}
    return {"text": "There was a rack, and it hummed.", "tokens": 8}


def results(server: TruthServer, *names: str, **expected: Any) -> dict[str, dict[str, Any]]:
    (instance,) = derive.checks(
        plan(("speculative-algorithm", "EAGLE"), device="cpu", model="qwen2-vl-7b"), DATA, quick=True
    )
    run_command = expected.pop("run", lambda *_words, **_how: (0, "", ""))
    context = CheckContext(
        Server(server.url, silence=5, limit=10),
        "big",
        "sglang-big.service",
        {**instance["expected"], **expected},
        run_command,
        list,
        lambda: [os.getpid()],
    )
    chosen = [check for check in instance["checks"] if not names or check["name"] in names]
    return {one["name"]: one for one in run(context, chosen)}


def test_a_server_that_is_right_passes(server: TruthServer) -> None:
    found = results(server)
    failed = {name: one["said"] for name, one in found.items() if one["status"] == "failed"}
    # No weights here, and this server never drafts.
    assert set(failed) == {"files", "speculative acceptance"}, failed
    for name in ("chat", "streaming", "several turns", "single call", "parallel calls", "streamed call", "image",
                 "reasoning apart", "off", "parser cases", "concurrency", "determinism", "bad request", "metrics"):  # fmt: skip
        assert found[name]["status"] == "passed", (name, found[name])


@pytest.mark.parametrize(
    ("of_user", "holds", "status", "words"),
    [
        (True, True, "passed", "is the user's own folder: not compared with a manifest"),
        (False, True, "failed", "is foreign"),
        (True, False, "failed", "is absent"),
    ],
)
def test_a_folder_of_the_users_has_no_manifest(
    server: TruthServer, tmp_path: Path, of_user: bool, holds: bool, status: str, words: str
) -> None:
    if holds:
        (tmp_path / "config.json").write_text("{}")
    found = results(server, "files", weights=str(tmp_path), weights_of_user=of_user)["files"]
    assert found["status"] == status and words in found["said"]


def test_a_model_that_is_a_folder_is_the_users_own() -> None:
    folder = "/srv/models/mine"
    for model, of_user in ((folder, True), ("glm-4.7-fp8", False)):
        (found,) = derive.checks(plan(weights={"path": folder, "model": model}), DATA)
        assert found["expected"]["weights_of_user"] is of_user


def says(**said: Any) -> Any:
    return lambda _asked: {"tokens": 12, **said}


def first_only(said: dict[str, Any]) -> Any:
    count = iter(range(100))
    return lambda _asked: said if not next(count) else {"text": "Something else.", "tokens": 3}


@pytest.mark.parametrize(
    ("name", "behaviour", "words"),
    [
        ("chat", says(text="!!!!!!!!!!!!"), "repeats one character"),
        ("chat", says(fault="http_500"), "http_500"),
        ("chat", says(text="<think>hm</think>hi"), "<think> is left"),
        ("streaming", says(fault="cut"), "cut"),
        ("streaming", says(fault="no_usage"), "no_usage"),
        ("streaming", says(per_chunk=(64,), tokens=64), "something buffers the stream"),
        ("concurrency", says(fault="reset"), "reset"),
        ("determinism", first_only({"text": "One.", "tokens": 2}), "different answers"),
        ("single call", says(text="I would call it."), "0 calls instead of 1"),
        ("single call", says(text="<tool_call>get_weather</tool_call>"), "the parser did not take the call"),
        (
            "single call",
            says(calls=[{"name": "get_weather", "arguments": '{"city": "Par'}]),
            "no JSON object",
        ),
        (
            "single call",
            says(calls=[{"name": "get_weather", "arguments": '{"town": "Paris"}'}]),
            "city is missing",
        ),
        ("single call", says(calls=[{"name": "get_weather", "arguments": '{"city": 7}'}]), "not string"),
        ("single call", says(calls=[{"name": "rain", "arguments": "{}"}]), "no tool is called 'rain'"),
        (
            "streamed call",
            says(calls=[{"name": "get_weather", "arguments": '{"city": "Paris"'}]),
            "no JSON object",
        ),
        ("parallel calls", says(calls=[PARIS]), "1 calls instead of 2"),
        ("answer to a result", says(calls=[PARIS]), "told 31 degrees"),
        ("no call where none is due", says(calls=[PARIS]), "to say hi"),
        ("reasoning apart", says(text="No."), "no reasoning_content"),
        ("off", says(text="No.", reasoning=2), "asked not to think it thinks"),
        ("image", says(text="Blue."), "colour of a red square"),
        ("too long a prompt", says(text="Fine.", tokens=2), "was taken"),
        ("metrics", says(forgets=True, text="One two three."), "the counter rose by 0"),
    ],
)
def test_a_server_that_is_wrong_fails_by_name(
    server: TruthServer, name: str, behaviour: Any, words: str
) -> None:
    server.answer = behaviour
    found = results(server, name)[name]
    assert found["status"] == "failed", found
    assert words in found["said"]


def test_an_unhealthy_server_is_not_asked_further(server: TruthServer) -> None:
    server.routes["/health"] = (503, {})
    found = results(server)
    assert found["health"]["status"] == "failed"
    assert "not asked" in found["chat"]["said"]
    assert server.asked == []


def test_a_wrong_name_and_a_wedged_scheduler(server: TruthServer) -> None:
    server.routes["/v1/models"] = (200, {"data": [{"id": "other"}]})
    server.routes["/health_generate"] = (503, {})
    found = results(server)
    assert "it serves other" in found["served name"]["said"]
    assert "no token is made" in found["tokens flow"]["said"]


def test_a_fault_that_the_plan_warned_of_is_reported_as_known(server: TruthServer) -> None:
    server.routes["/v1/models"] = (200, {"data": [{"id": "other"}]})
    planned = plan(release={"known_faults": {"health: served name": "it has no name; take 0.5.17"}})
    (instance,) = derive.checks(planned, DATA, tags=["health"])
    context = CheckContext(
        Server(server.url, silence=5, limit=10), "big", "sglang-big.service", instance["expected"],
        lambda *_words, **_how: (0, "", ""), list, lambda: [os.getpid()],
    )  # fmt: skip
    checks = [check for check in instance["checks"] if check["name"] == "served name"]
    (found,) = run(context, checks)
    assert (found["status"], found["fix"]) == ("known", "it has no name; take 0.5.17")
    made = report.report({"h1": [one(row("served name", "known", "other", found["fix"]))]})
    assert made["failures"] == 0
    assert made["lines"][-1] == "0 passed, 0 failed, 1 failed as the plan warned, 0 skipped"
    assert any("known" in line and "take 0.5.17" in line for line in made["lines"])
    assert ET.fromstring(made["junit"])[0].get("skipped") == "1"
    server.routes["/v1/models"] = (200, {"data": [{"id": "big"}]})
    (found,) = run(context, checks)
    assert found["status"] == "passed"


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_parser_bug_is_found_in_each_case(number: int, server: TruthServer) -> None:
    case = CASES[number]
    right = [{"name": call["name"], "arguments": json.dumps(call["arguments"])} for call in case["calls"]]
    assert tools.case_problem(case, right, case.get("said", "")) == ""
    assert "instead of" in tools.case_problem(case, right[1:], case.get("said", ""))
    assert "left in the text" in tools.case_problem(case, right, case.get("said", "") + "</tool_call>")
    broken = copy.deepcopy(right)
    broken[0]["arguments"] = broken[0]["arguments"][:-1]
    assert "no JSON object" in tools.case_problem(case, broken, case.get("said", ""))


def test_a_release_that_cannot_be_asked_for_its_parser_is_said(server: TruthServer) -> None:
    del server.routes["/parse_function_call"]
    found = results(server, "parser cases")["parser cases"]
    assert found["status"] == "skipped"
    assert "cannot be asked for its parser alone (404)" in found["said"]


def test_a_secret_on_a_command_line_is_found(server: TruthServer) -> None:
    program = "import sys; print(flush=True); sys.stdin.read()"
    for option, found in (("--admin-api-key=x", True), ("--api-key", True), ("--api-keys=x", False)):
        with subprocess.Popen(
            [sys.executable, "-c", program, option], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            process.stdout.readline()  # type: ignore[union-attr]
            (instance,) = derive.checks(plan(), DATA)
            context = CheckContext(
                Server(server.url), "big", "u", instance["expected"], print, list, lambda: [process.pid]
            )
            try:
                said = place.no_key(context)
            except CheckError as error:
                said = error.what
            process.stdin.close()  # type: ignore[union-attr]
        name = option.partition("=")[0]
        assert (said == f"process {process.pid} has {name} on its command line") is found, said


def test_keys_in_sight_are_found(server: TruthServer) -> None:
    server.routes["/server_info"] = (200, {"api_key": "abc"})
    assert "api_key" in results(server, "no key in sight")["no key in sight"]["said"]


def test_the_gateway_must_ask_for_a_key(server: TruthServer, tmp_path: Path) -> None:
    names = ("401 without key", "closed endpoints")
    open_one = results(server, *names, gateway={"url": server.url})
    # The table skips them by the plan; here they are asked.
    assert open_one["401 without key"]["status"] == "skipped"
    key = tmp_path / "key"
    key.write_text("right\n")
    gateway_server = {"url": server.url, "key_file": str(key)}
    (instance,) = derive.checks(plan(), DATA, ["security"], gateway=gateway_server)

    def checked() -> dict[str, Any]:
        context = CheckContext(Server(server.url), "big", "u", instance["expected"], print, list, list)  # type: ignore[arg-type]
        return {one["name"]: one for one in run(context, instance["checks"])}

    found = checked()
    assert "with no key the gateway answers 200" in found["401 without key"]["said"]
    assert "/server_info (200)" in found["closed endpoints"]["said"]

    def guarded(_asked: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        right = headers.get("authorization") == "Bearer right"
        choice = {"message": {"content": "hi"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return (
            (200, {"choices": [choice], "usage": usage}) if right else (401, {"error": {"message": "key?"}})
        )

    server.routes["/v1/chat/completions"] = (200, guarded)
    server.routes["/metrics"] = server.routes["/server_info"] = (404, {})
    found = checked()
    assert found["401 without key"]["status"] == "passed", found
    assert "answered with the right one" in found["401 without key"]["said"]


def test_sockets_that_listen_elsewhere_are_found() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue\n"
        "   0: 0100007F:7530 00000000:0000 0A 00000000:00000000\n"
        "   1: 00000000:7530 00000000:0000 0A 00000000:00000000\n"
        "   2: 0100007F:1111 0100007F:7530 01 00000000:00000000\n"
    )
    assert place.listeners(text) == [("127.0.0.1", 30000), ("0.0.0.0", 30000)]
    six = "  sl\n   0: 00000000000000000000000001000000:7530 0:0 0A 0\n"
    assert place.listeners(six) == [("::1", 30000)]


@pytest.mark.parametrize(
    ("found", "shown", "status", "words"),
    [
        ({("::", 41234)}, "IPAddressDeny=::/0 0.0.0.0/0\n", "passed",
         "only; port 41234 on :: is closed by the unit's IPAddressDeny"),
        ({("::", 41234), ("0.0.0.0", 9)}, "IPAddressDeny=\n", "failed",
         "port 9 on 0.0.0.0, port 41234 on :: is open to other hosts: the unit has no IPAddressDeny"),
        ({("127.0.0.1", 41234), ("::ffff:127.0.0.1", 7)}, "", "passed", "only"),
    ],
)  # fmt: skip
def test_ports_that_nobody_planned_are_named(
    server: TruthServer, monkeypatch: pytest.MonkeyPatch, found: Any, shown: str, status: str, words: str
) -> None:
    monkeypatch.setattr(place, "_own_listeners", lambda _pids: found)
    asked = {"run": lambda *_words, **_how: (0, shown, "")}
    said = results(server, "loopback only", **asked)["loopback only"]
    assert said["status"] == status and said["said"].endswith(words), said


def test_listeners_of_other_processes_are_not_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mine:
        address, port = mine.getsockname()
        assert (address, port) in place._own_listeners([os.getpid()])
        assert (address, port) not in place._own_listeners([1, os.getppid()])


def test_another_user_is_found(server: TruthServer) -> None:
    found = results(server, "runs as its own user", user="sglang-of-nobody")["runs as its own user"]
    assert f"run as {ME}, planned is sglang-of-nobody" in found["said"]


# --- the report ---


def row(name: str, status: str, said: str = "", fix: str = "") -> dict[str, Any]:
    return {"tag": "api", "name": name, "status": status, "said": said, "fix": fix, "seconds": 0.5}


def one(*rows: dict[str, Any], **identity: str) -> dict[str, Any]:
    named = [{**row("identity", "passed"), "tag": "parity"}] if identity else []
    return {"instance": "big", "results": [*rows, *named], "identity": identity}


def test_the_report_counts_names_and_fixes() -> None:
    made = report.report(
        {"h1": [one(row("chat", "passed"), row("stream", "failed", 'a "<b>" \x00', "do this"))]}
    )
    assert made["failures"] == 1
    assert any("FAILED" in line and "do this" in line for line in made["lines"])
    assert made["lines"][-1] == "1 passed, 1 failed, 0 skipped"
    tree = ET.fromstring(made["junit"])
    suite = tree[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    assert suite.find("testcase/failure") is not None


def test_hosts_that_differ_are_named() -> None:
    alike = {"h1": [one(driver="580", weights="a")], "h2": [one(driver="580", weights="a")]}
    assert report.report(alike)["rows"][-1]["said"] == "2 hosts are alike"
    alike["h2"] = [one(driver="590", weights="a")]
    made = report.report(alike)
    assert made["failures"] == 1
    assert made["rows"][-1]["said"] == "driver: h1 580, h2 590"


def test_a_host_that_gave_nothing_is_a_failure() -> None:
    made = report.report({"h1": [one(row("chat", "passed"))], "h2": []})
    assert made["failures"] == 1
    assert "the host gave no results" in made["rows"][-1]["said"]
