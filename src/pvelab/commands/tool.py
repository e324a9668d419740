"""How a Proxmox VE command line tool runs: which call a command makes, what it prints, how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from errno import ECONNREFUSED
from typing import Any

from pvelab import schema
from pvelab.answers import ROOT_SSH, Answer, ApiError, WarningLine
from pvelab.api import Api
from pvelab.commands.options import Properties, UsageRefused, Words, place_arguments, read_options
from pvelab.machine import Process
from pvelab.state import Node, Task

FAILED = 255
IPC_CALLS = (1, 2, 3)
"""What a tool asks the cluster file system for before anything else."""
POLL_S = 0.5
WIDE_CHARACTER = "Wide character in die at /usr/share/perl5/PVE/RESTHandler.pm line 1131."
"""Perl's own warning before an error text with characters beyond Latin 1."""
_EXIT_CODES = (
    (re.compile(r"Configuration file '.*' does not exist"), 2),
    (re.compile(r"unable to find configuration file for VM \d+ on node"), 2),
    (re.compile(r"VM \d+ is running - destroy failed"), 25),
    (re.compile(r"VM \d+ (is )?not running"), 2),
    (re.compile(r"cowardly refusing to overwrite"), 39),
    (re.compile(r"wait failed - got timeout"), 25),
    (re.compile(r"can't open '"), 2),
    (re.compile(r".*: non-existent or non-regular file"), 2),
    (re.compile(r"unable to create VM \d+: config file already exists"), 2),
    (re.compile(r"disk image '.*' already exists"), 25),
    (re.compile(r"Agent error:"), 29),
)
"""Where an errno is left over from what failed, it becomes the exit code; all else ends in 255."""


@dataclass(slots=True)
class Invocation:
    """One run of a command: the process, the node it runs on, the parameters read from its words."""

    api: Api
    node: Node
    process: Process
    entry: Entry
    words: Words = field(default_factory=Words)

    @property
    def params(self) -> dict[str, str]:
        """The parameters by name, positional ones among them."""
        return self.words.params

    async def call(self, method: str, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """Call the API as root of this node and print what it printed. Raises ApiError."""
        try:
            answer = await self.api.call(method, path, params or {}, ROOT_SSH, self.node.hostname)
        except ApiError as refusal:
            self.show(refusal.log)
            raise
        self.show(answer.log)
        return answer

    async def get(self, path: str, **params: str) -> Any:
        """The data of a GET. Raises ApiError."""
        return (await self.call("GET", path, params)).data

    async def follow(self, upid: str) -> Task:
        """Wait for a task and print its output as it comes; the text of a failure goes to standard error."""
        task = self.api.world.tasks[upid]
        shown = 0
        while task.is_running:
            shown += self.show(task.log[shown:])
            await self.process.flush()
            await self.node.clock.sleep(POLL_S)
        last = -1 if task.exitstatus == "OK" or task.log[-2:-1] != [""] else -2
        self.show(task.log[shown:last])
        if task.exitstatus != "OK":
            self.process.complain(task.exitstatus or "")
        return task

    def show(self, lines: Any) -> int:
        """Print lines; how many there were."""
        for line in lines:
            if isinstance(line, WarningLine):
                self.process.complain(line)
            else:
                self.process.print(line)
        return len(lines)

    def vm_path(self, rest: str = "") -> str:
        """The API's path of the VM that the command names."""
        return f"/nodes/{self.node.hostname}/qemu/{self.params['vmid']}{rest}"


Runner = Callable[[Invocation], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of a tool. `method` and `path` name the API method whose parameters it takes."""

    usage: str
    method: str = ""
    path: str = ""
    arguments: tuple[str, ...] = ()
    run: Runner = field(default_factory=lambda: not_known)
    own_options: Properties = field(default_factory=dict)
    asked_later: frozenset[str] = frozenset()
    description: str = ""

    def properties(self, release: str) -> Properties:
        """The options: the API method's parameters, and the command's own."""
        if not self.method:
            return self.own_options
        return {**schema.load(release).properties(self.path, self.method), **self.own_options}


async def run_entry(invocation: Invocation, words: list[str]) -> int:
    """Read the words, verify them, run the command; the exit code."""
    process, entry = invocation.process, invocation.entry
    if entry.run is not_known:
        return await not_known(invocation)
    try:
        properties = entry.properties(invocation.api.world.profile.release)
        takes = {name: one for name, one in properties.items() if name != "node"}
        invocation.words = read_options(words, takes, entry.asked_later)
        place_arguments(invocation.words, entry.arguments)
        _verify_own(entry, invocation.params)
        return await entry.run(invocation)
    except UsageRefused as refused:
        for warning in refused.warnings:
            process.complain(warning)
        process.complain(f"400 {refused}")
        process.complain(entry.usage)
        return FAILED
    except ApiError as refusal:
        return complain(process, refusal, entry.usage)


async def call_api(invocation: Invocation, *, tells_failure: bool = True) -> int:
    """Run a command that is one API call: what it returns is a task to follow, or nothing to show."""
    entry, params = invocation.entry, invocation.params
    fixed = {**params, "node": invocation.node.hostname}
    in_path = re.findall(r"\{(\w+)\}", entry.path)
    path = entry.path.format(**{name: fixed[name] for name in in_path})
    answer = await invocation.call(
        entry.method, path, {name: value for name, value in params.items() if name not in in_path}
    )
    if not is_upid(answer.data):
        return 0
    task = await invocation.follow(answer.data)
    return FAILED if task.exitstatus != "OK" and tells_failure else 0


async def tells_no_failure(invocation: Invocation) -> int:
    """Run an API call whose failing task ends in exit code 0: resize and template lack the hook that tells."""
    return await call_api(invocation, tells_failure=False)


async def not_known(invocation: Invocation) -> int:
    """Refuse a command that the real tool has and this one has not."""
    usage = invocation.entry.usage
    words = re.split(r" +[<\[]| --", usage)[0].strip()
    invocation.process.complain(f"{words}: not known here")
    return FAILED


def may_run(node: Node, process: Process) -> int:
    """0, or the exit code of a tool that cannot run: not for this user, or without the cluster file system."""
    if process.user != "root":
        process.complain("please run as root")
        return FAILED
    if not node.has_config:
        for number in IPC_CALLS:
            process.complain(f"ipcc_send_rec[{number}] failed: Connection refused")
        process.complain("Unable to load access control list: Connection refused")
        return ECONNREFUSED
    return 0


def is_upid(data: Any) -> bool:
    """Is the answer a task?"""
    return isinstance(data, str) and data.startswith("UPID:")


def complain(process: Process, refusal: ApiError, usage: str) -> int:
    """Write a refusal as the tools do; the exit code."""
    if refusal.errors:
        process.complain(f"{refusal.status} {refusal.reason}")
        for name, text in sorted(refusal.errors.items()):
            process.complain(f"{name}: {text}")
        process.complain(usage)
        return FAILED
    if not refusal.reason.isascii() and max(refusal.reason) > "\xff":
        process.complain(WIDE_CHARACTER)
    process.complain(refusal.reason)
    return exit_code(refusal.reason)


def exit_code(reason: str) -> int:
    """The exit code that an error text comes with."""
    return next((code for pattern, code in _EXIT_CODES if pattern.match(reason)), FAILED)


def pretty(data: Any, depth: int = 0) -> str:
    """JSON as Perl's JSON prints it when it is to be pretty: three spaces, ` : `, keys sorted."""
    inner, outer = " " * 3 * (depth + 1), " " * 3 * depth
    if isinstance(data, dict) and data:
        items = [f"{inner}{json.dumps(key)} : {pretty(data[key], depth + 1)}" for key in sorted(data)]
        return "{\n" + ",\n".join(items) + f"\n{outer}}}"
    if isinstance(data, list) and data:
        return "[\n" + ",\n".join(inner + pretty(item, depth + 1) for item in data) + f"\n{outer}]"
    return json.dumps(data, ensure_ascii=False)


def _verify_own(entry: Entry, params: Mapping[str, str]) -> None:
    """Verify the parameters of a command that no API method verifies."""
    if entry.method or not entry.own_options:
        return
    errors = schema.verify(entry.own_options, params)
    if errors:
        raise ApiError(400, "Parameter verification failed.", errors)
