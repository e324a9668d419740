"""Plays one recorded case: sets up what was given, asks, and compares."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pvelab.rules import permissions
from replay.cases import Case
from replay.matching import TOKEN, differences, text_differences, without_progress
from replay.stage import Reply, Stage

UPID = re.compile(r"UPID:pve1:[0-9A-F:]+:[^\s\"]+:")
AFTER_PATHS = {
    "config": "/nodes/pve1/qemu/{}/config",
    "status": "/nodes/pve1/qemu/{}/status/current",
    "pending": "/nodes/pve1/qemu/{}/pending",
    "content": "/nodes/pve1/storage/{}/content",
}


def play(stage: Stage, case: Case) -> list[str]:
    """What differs from the record, in words."""
    stage.reset()
    for step in case.given:
        _set_up(stage, step)
    found = _ask_api(stage, case) if case.via == "api" else _ask_shell(stage, case)
    for name, expected in case.after.items():
        found += _after(stage, name, expected)
    return found


def _set_up(stage: Stage, step: Mapping[str, Any]) -> None:
    if "file" in step:
        stage.look(lambda world: world.nodes["pve1"].files.provide(step["file"], step["content"].encode()))
    elif "wait_s" in step:
        stage.clock.advance(step["wait_s"])
    elif "guest_agent" in step:
        stage.guests.agent_answers = True
    elif "argv" in step:
        _set_up_by_command(stage, step["argv"])
    else:
        reply = _request(stage, step, "root-token")
        assert reply.status == 200, f"given {step}: {reply.status} {reply.reason}"
        if not step.get("nowait"):
            _wait(stage, reply)


def _set_up_by_command(stage: Stage, argv: Sequence[str]) -> None:
    """What the command does, without the command line where the API's cases can do without it."""
    match list(argv):
        case ["qm", "set", vmid, *options]:
            stage.as_root("PUT", f"/nodes/pve1/qemu/{vmid}/config", _options(options))
        case ["qm", "suspend", vmid]:
            stage.as_root("POST", f"/nodes/pve1/qemu/{vmid}/status/suspend", {})
        case ["qm", "unlock", vmid]:
            stage.look(lambda world: world.vms[int(vmid)].config.pop("lock", None))
        case ["pvesm", "free", volid]:
            storage = volid.partition(":")[0]
            stage.as_root("DELETE", f"/nodes/pve1/storage/{storage}/content/{volid}", {})
        case ["pvesh", verb, path, *options]:
            method = {"create": "POST", "set": "PUT", "delete": "DELETE", "get": "GET"}[verb]
            stage.as_root(method, path, _options(options))
        case ["pveum", "acl", "delete", path, *options]:
            named = _options(options)
            who = [named[key] for key in ("users", "tokens") if key in named]
            stage.look(lambda world: permissions.revoke(world, path, who, named["roles"]))
        case ["pveum", "user", "token", "modify", user, name, "--expire", when]:
            stage.look(lambda world: setattr(world.tokens[f"{user}!{name}"], "expire", int(when)))
        case _:
            ran = stage.shell(argv)
            assert ran.exit_code == 0, f"given {shlex.join(argv)}: {ran.err}"


def _options(words: Sequence[str]) -> dict[str, str]:
    return {name.lstrip("-"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _request(stage: Stage, request: Mapping[str, Any], who: str) -> Reply:
    path = TOKEN.sub(lambda token: _latest_upid(stage, token[1]), request["path"])
    extra = {name: request.get(name) for name in ("params", "json_body", "upload")}
    return stage.ask(request["method"], path, who, **extra)


def _latest_upid(stage: Stage, token: str) -> str:
    ending = token.removeprefix("UPID") + ":"
    return next(upid for upid in reversed(list(stage.look(lambda world: world.tasks))) if upid.endswith(ending))


def _wait(stage: Stage, reply: Reply) -> str:
    upid = UPID.search(reply.body)
    if upid:
        stage.wait_for(upid[0])
    return upid[0] if upid else ""


def _ask_api(stage: Stage, case: Case) -> list[str]:
    reply = _request(stage, case.request, case.who)
    recorded = case.response
    found = differences([recorded["status"], recorded["reason"]], [reply.status, reply.reason], "status line")
    if "json" in recorded:
        found += _json_differences(case, recorded["json"], reply)
    else:
        found += differences(recorded["body"], reply.body, "body")
    return found + _task_differences(stage, case, reply.body)


def _json_differences(case: Case, recorded: Mapping[str, Any], reply: Reply) -> list[str]:
    expected, actual = dict(recorded), dict(reply.json)
    if str(case.request["path"]).endswith("/tasks"):
        del_total = [envelope.pop("total", None) for envelope in (expected, actual)]
        assert len(del_total) == 2
    if case.is_shortened:
        actual["data"] = actual["data"][: len(expected["data"])]
    return differences(expected, actual)


def _task_differences(stage: Stage, case: Case, text: str) -> list[str]:
    upid = UPID.search(text)
    if case.task is None or upid is None:
        return [] if case.task is None else ["task: no UPID in the answer"]
    task = stage.wait_for(upid[0])
    log = without_progress(task.log)
    wanted = without_progress(case.task["log"])
    found = differences(case.task["exitstatus"], task.exitstatus, "exitstatus")
    return found + differences("\n".join(wanted), "\n".join(log), "log")


def _ask_shell(stage: Stage, case: Case) -> list[str]:
    ran = stage.shell(case.request["argv"])
    found = differences(case.response["rc"], ran.exit_code, "rc")
    found += text_differences(case.response["stdout"], ran.out, "stdout")
    found += text_differences(case.response["stderr"], ran.err, "stderr")
    return found + _task_differences(stage, case, ran.out)


def _after(stage: Stage, name: str, expected: Any) -> list[str]:
    kind, _, what = name.partition(":")
    reply = stage.ask("GET", AFTER_PATHS[kind].format(what))
    if isinstance(expected, dict) and expected.keys() == {"status", "reason"}:
        return differences(expected, {"status": reply.status, "reason": reply.reason}, name)
    return differences(expected, reply.json["data"], name)
