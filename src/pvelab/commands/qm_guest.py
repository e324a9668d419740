"""qm guest: commands put to the agent inside a VM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pvelab.answers import bad_parameter, refused
from pvelab.commands.options import ARRAY_SEPARATOR
from pvelab.commands.tool import Invocation, pretty

POLL_S = 1.0
DEFAULT_TIMEOUT_S = 30
EXEC_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "synchronous": {"type": "boolean", "optional": 1},
    "timeout": {"type": "integer", "minimum": 0, "optional": 1},
    "pass-stdin": {"type": "boolean", "optional": 1},
}


async def command(run: Invocation) -> int:
    """qm guest cmd: the agent's answer as JSON, nothing for an empty one."""
    answer = (await run.call("POST", run.vm_path("/agent"), {"command": run.params["command"]})).data
    _show(run, answer.get("result"))
    return 0


async def password(run: Invocation) -> int:
    """qm guest passwd: the password comes twice from the input where it is not among the words."""
    params = {name: value for name, value in run.params.items() if name != "vmid"}
    if not params.get("password"):
        params["password"] = await new_password(run)
    await run.call("POST", run.vm_path("/agent/set-user-password"), params)
    return 0


async def new_password(run: Invocation) -> str:
    """A password typed twice. Raises ApiError."""
    first, second, *_ = [*(await run.process.read()).decode().splitlines(), "", ""]
    if first != second:
        raise refused("passwords do not match")
    return first


def _show(run: Invocation, result: Any) -> None:
    """Plain values as they are, others as JSON; nothing for an empty object."""
    if isinstance(result, str | int | float) and not isinstance(result, bool):
        if str(result).strip():
            run.process.print(str(result).removesuffix("\n"))
    elif result is not None and result != {}:
        run.process.print(pretty(result))


async def exec_status(run: Invocation) -> int:
    """qm guest exec-status."""
    run.process.print(pretty(await run.get(run.vm_path("/agent/exec-status"), pid=run.params["pid"])))
    return 0


async def execute(run: Invocation) -> int:
    """qm guest exec: waits for the program's end unless told not to; its own exit code is in the JSON only."""
    if "timeout" in run.params and run.params.get("synchronous") == "0":
        raise bad_parameter("synchronous", "needs to be set for 'timeout'")
    params = {"command": ARRAY_SEPARATOR.join(run.words.extra)}
    if run.params.get("pass-stdin") == "1":
        params["input-data"] = (await run.process.read()).decode()
    if not run.words.extra and "input-data" not in params:
        await run.get(run.vm_path("/config"))
        raise refused("command or input-data (or both) required")
    started = (await run.call("POST", run.vm_path("/agent/exec"), params)).data
    timeout_s = float(run.params.get("timeout", DEFAULT_TIMEOUT_S)) or float("inf")
    waits_until = run.node.clock.now() + timeout_s
    status: dict[str, Any] = {"exited": 0}
    while run.params.get("synchronous", "1") == "1" and not status["exited"]:
        status = await run.get(run.vm_path("/agent/exec-status"), pid=str(started["pid"]))
        if not status["exited"]:
            if run.node.clock.now() >= waits_until:
                run.process.complain("timeout reached, returning pid")
                break
            await run.node.clock.sleep(POLL_S)
    run.process.print(pretty(status if status["exited"] else {"pid": started["pid"]}))
    return 0
