"""/nodes/{node}/tasks and /cluster/tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pvelab import progress
from pvelab.answers import Answer, bad_parameter
from pvelab.formats import split_list
from pvelab.routes.call import Call, route
from pvelab.rules import permissions
from pvelab.state import Task

PAGE = 50
CLUSTER_PAGE = 25
UPID_PATH = "/nodes/{node}/tasks/{upid}"


@route("GET", "/nodes/{node}/tasks")
def list_tasks(call: Call) -> Answer:
    found = [task for task in _newest_first(call) if task.node == call.node.hostname and _is_wanted(call, task)]
    start, limit = int(call.params.get("start", 0)), int(call.params.get("limit", PAGE))
    shown = [_listed(task) for task in found[start : start + limit if limit else None]]
    return Answer(shown, beside={"total": len(found)})


@route("GET", "/cluster/tasks")
def list_cluster_tasks(call: Call) -> list[dict[str, Any]]:
    shown = []
    for task in list(_newest_first(call))[:CLUSTER_PAGE]:
        item = _listed(task)
        del item["pid"], item["pstart"]
        shown.append({**item, "saved": 1} if not task.is_running else item)
    return shown


@route("GET", UPID_PATH)
def index(_call: Call) -> list[dict[str, str]]:
    return [{"name": "log"}, {"name": "status"}]


@route("GET", f"{UPID_PATH}/status")
def status(call: Call) -> dict[str, Any]:
    task = _find(call)
    shown = _described(task)
    shown["status"] = "running" if task.is_running else "stopped"
    return shown if task.is_running else {**shown, "exitstatus": task.exitstatus}


@route("GET", f"{UPID_PATH}/log")
def log(call: Call) -> Answer:
    upid = call.params["upid"]
    if progress.upid_fields(upid) is None:
        raise bad_parameter("upid", "unable to parse worker upid")
    lines = ["unable to open file - No such file or directory"]
    if upid in call.world.tasks:
        lines = _find(call).log
    start, limit = int(call.params.get("start", 0)), int(call.params.get("limit", PAGE))
    shown = lines[start : start + limit if limit else None]
    return Answer([{"n": start + n, "t": text} for n, text in enumerate(shown, 1)], beside={"total": len(lines)})


@route("DELETE", UPID_PATH)
def stop(call: Call) -> None:
    task = _find(call, "Sys.Modify")
    progress.interrupt(task)


def _find(call: Call, privilege: str = "Sys.Audit") -> Task:
    upid = call.params["upid"]
    if progress.upid_fields(upid) is None:
        raise bad_parameter("upid", "unable to parse worker upid")
    task = call.world.tasks.get(upid)
    if task is None:
        raise bad_parameter("upid", "no such task")
    if not _is_own(call, task):
        permissions.require(call.world, call.who, f"/nodes/{call.node.hostname}", privilege)
    return task


def _is_own(call: Call, task: Task) -> bool:
    """A user's own, those of their tokens among them; a token's are its own only. Source: PVE/API2/Tasks.pm."""
    return call.who.authid in (_authid(task), task.user)


def _newest_first(call: Call) -> Iterator[Task]:
    for task in reversed(list(call.world.tasks.values())):
        if _is_own(call, task) or call.may(f"/nodes/{task.node}", "Sys.Audit"):
            yield task


def _is_wanted(call: Call, task: Task) -> bool:
    params = call.params
    source = params.get("source", "archive")
    return (
        (source == "all" or task.is_running == (source == "active"))
        and params.get("vmid", task.id) == task.id
        and params.get("typefilter", task.type) == task.type
        and params.get("userfilter", "") in _authid(task)
        and int(params.get("since", 0)) <= task.starttime <= int(params.get("until", task.starttime))
        and (not call.flag("errors") or _kind_of_end(task) in ("error", "unknown"))
        and (_kind_of_end(task) in split_list(params.get("statusfilter", _kind_of_end(task))))
    )


def _kind_of_end(task: Task) -> str:
    if task.exitstatus is None:
        return "unknown"
    return "ok" if task.exitstatus == "OK" else "warning" if task.exitstatus.startswith("WARNINGS") else "error"


def _authid(task: Task) -> str:
    return f"{task.user}!{task.tokenid}" if task.tokenid else task.user


def _described(task: Task) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": task.id,
        "node": task.node,
        "pid": task.pid,
        "pstart": task.pstart,
        "starttime": task.starttime,
        "type": task.type,
        "upid": task.upid,
        "user": task.user,
    }
    return {**shown, "tokenid": task.tokenid} if task.tokenid else shown


def _listed(task: Task) -> dict[str, Any]:
    shown = _described(task)
    return shown if task.is_running else {**shown, "endtime": task.endtime, "status": task.exitstatus}
