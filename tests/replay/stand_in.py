"""The guest of the recordings: an empty disk, and in some cases a guest agent that ran on the node itself."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Mapping
from typing import Any

from pvelab.machine import AgentError, AgentSilent
from pvelab.state import Vm, World

STATISTICS = {f"{way}-{what}": 0 for way in ("rx", "tx") for what in ("bytes", "dropped", "errs", "packets")}
OSINFO = {
    "id": "debian",
    "kernel-release": "6.1.0",
    "kernel-version": "#1 SMP",
    "machine": "x86_64",
    "name": "Debian GNU/Linux",
    "pretty-name": "Debian GNU/Linux 13 (trixie)",
    "version": "13 (trixie)",
    "version-id": "13",
}


class StandIn:
    """A GuestSide whose guests do nothing; the agent answers once it is told to."""

    def __init__(self) -> None:
        self.agent_answers = False
        self.world: World | None = None
        self._pids = itertools.count(1000)
        self._results: dict[int, dict[str, Any]] = {}

    def power_on(self, vm: Vm) -> None:
        pass

    def power_off(self, vm: Vm) -> None:
        pass

    def pause(self, vm: Vm) -> None:
        pass

    def resume(self, vm: Vm) -> None:
        pass

    def remove(self, vm: Vm) -> None:
        pass

    def obeys_acpi(self, vm: Vm) -> bool:
        return vm.vmid < 0

    def agent(self, vm: Vm, command: str, params: Mapping[str, Any]) -> Any:
        if not self.agent_answers or not vm.is_running:
            raise AgentSilent
        if command == "exec":
            return {"pid": self._exec(params["command"], str(params.get("input-data", "")))}
        if command == "exec-status":
            if int(params["pid"]) not in self._results:
                raise AgentError("PID ld does not exist")
            return self._results[int(params["pid"])]
        return self._plain(command)

    def _plain(self, command: str) -> Any:
        answers: dict[str, Any] = {
            "fsfreeze-status": "thawed",
            "ping": {},
            "get-host-name": {"host-name": "pve1"},
            "get-osinfo": OSINFO,
            "get-time": 1_760_000_000_000_000_000,
            "get-timezone": {"offset": 0, "zone": "UTC"},
            "get-users": [],
            "network-get-interfaces": [
                _interface("lo", "00:00:00:00:00:00", [("127.0.0.1", 8), ("::1", 128)]),
                _interface("eth0", "02:00:00:00:00:01", [("192.0.2.2", 24), ("fe80::1", 64)]),
            ],
        }
        if command not in answers:
            raise AgentError(f"Command {command} has been disabled")
        return answers[command]

    def _exec(self, argv: list[str], stdin: str) -> int:
        pid = next(self._pids)
        if argv[0] == "/bin/sleep":
            self._results[pid] = {"exited": 0}
            return pid
        try:
            done = subprocess.run(argv, input=stdin.encode(), capture_output=True, check=False)
        except FileNotFoundError:
            text = f"Failed to execute child process “{argv[0]}” (No such file or directory)"
            raise AgentError(text) from None
        result: dict[str, Any] = {"exited": 1, "exitcode": done.returncode}
        for name, data in (("out", done.stdout), ("err", done.stderr)):
            if data:
                result |= {f"{name}-data": data.decode(), f"{name}-truncated": 0}
        self._results[pid] = result
        return pid


def _interface(name: str, mac: str, addresses: list[tuple[str, int]]) -> dict[str, Any]:
    shown = [
        {"ip-address": address, "ip-address-type": "ipv6" if ":" in address else "ipv4", "prefix": bits}
        for address, bits in addresses
    ]
    return {"hardware-address": mac, "ip-addresses": shown, "name": name, "statistics": dict(STATISTICS)}
