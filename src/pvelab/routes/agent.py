"""/nodes/{node}/qemu/{vmid}/agent: what the guest agent answers."""

from __future__ import annotations

import functools
from typing import Any

from pvelab import schema
from pvelab.answers import refused
from pvelab.machine import AgentError, AgentSilent
from pvelab.routes.call import Call, route
from pvelab.rules import configs, power
from pvelab.state import Vm, World

AGENT = "/nodes/{node}/qemu/{vmid}/agent"
INDEX = (
    "exec exec-status file-read file-write fsfreeze-freeze fsfreeze-status fsfreeze-thaw fstrim get-fsinfo"
    " get-host-name get-memory-block-info get-memory-blocks get-osinfo get-time get-timezone get-users get-vcpus info"
    " network-get-interfaces ping set-user-password shutdown suspend-disk suspend-hybrid suspend-ram"
)
BARE = ("exec", "exec-status", "file-read", "file-write")
"""Commands whose answer is the data itself; others are wrapped in `result`."""
WITH_PARAMETERS = (*BARE, "set-user-password")
"""Commands whose error is a refusal; that of others is their result."""


@route("GET", AGENT)
def index(_call: Call) -> list[dict[str, str]]:
    return [{"name": name} for name in INDEX.split()]


@route("POST", AGENT)
def run(call: Call) -> Any:
    return ask(call, call.params["command"])


def ask(call: Call, command: str) -> Any:
    """Put a command to the guest agent. Raises ApiError."""
    vm = configs.find(call.world, call.vmid, call.node)
    if "agent" not in vm.config:
        raise refused("No QEMU guest agent configured")
    if not vm.is_running:
        raise refused(f"VM {vm.vmid} is not running")
    given: dict[str, Any] = {name: value for name, value in call.params.items() if name not in ("node", "vmid")}
    if command == "exec":
        given["command"] = given["command"].split("\0")
    if vm.qmp != "running":
        raise refused("QEMU guest agent is not running")
    try:
        answer = call.world.guests.agent(vm, command, given)
    except AgentSilent:
        raise refused("QEMU guest agent is not running") from None
    except AgentError as error:
        if command not in WITH_PARAMETERS:
            return {"result": {"error": {"class": error.kind, "desc": str(error)}}}
        raise refused(f"Agent error: {error}") from error
    if command == "shutdown":
        _go_down(call.world, vm)
    return answer if command in BARE else {"result": answer}


def _go_down(world: World, vm: Vm) -> None:
    """The guest shuts itself down, unless its power is cut before."""
    pid = vm.pid

    def end() -> None:
        if vm.pid == pid:
            power.switch_off(world, vm)

    world.clock.after(world.timings.acpi_s, end)


def _declare() -> None:
    for path, methods in schema.load("9.2").paths.items():
        if path.startswith(f"{AGENT}/"):
            command = path.removeprefix(f"{AGENT}/")
            for method in methods:
                route(method, path)(functools.partial(ask, command=command))


_declare()
