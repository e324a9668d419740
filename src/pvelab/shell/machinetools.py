"""Core utilities that say what a machine is: id, which, hostname, date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from pvelab.machine import Command, Process
from pvelab.shell.arguments import Options


async def identify(process: Process) -> int:
    """id [-u|-g|-G] [-n] [USER]"""
    options = Options(process, "ugGnr")
    user = options.words[0] if options.words else process.user
    account = process.machine.accounts.get(user)
    if account is None and user != "root":
        process.complain(f"id: '{user}': no such user")
        return 1
    uid = account.uid if account else 0
    if "-u|-g|-G" in options:
        process.print(user if "-n" in options else str(uid))
    else:
        process.print(f"uid={uid}({user}) gid={uid}({user}) groups={uid}({user})")
    return 0


async def whoami(process: Process) -> int:
    """whoami"""
    process.print(process.user)
    return 0


async def which(process: Process) -> int:
    """which NAME..."""
    names = process.argv[1:]
    found = [_place_of(process, name) for name in names]
    for place in filter(None, found):
        process.print(place)
    return 0 if all(found) else 1


def _place_of(process: Process, name: str) -> str:
    machine, own = process.machine, f"/usr/local/bin/{name}"
    return own if machine.files.is_file(own) else f"/usr/bin/{name}" if name in machine.commands else ""


async def hostname(process: Process) -> int:
    """hostname [-s|-f|-I]"""
    options = Options(process, "sfIi", ("short", "fqdn", "all-ip-addresses"))
    if options.words:
        process.complain("hostname: you don't have permission to set the host name")
        return 1
    asks_address = "-I|-i|--all-ip-addresses" in options
    name = _full_name(process) if "-f|--fqdn" in options else process.machine.hostname
    process.print(f"{process.machine.address} " if asks_address else name)
    return 0


def _full_name(process: Process) -> str:
    """The first name of the machine's own line in /etc/hosts."""
    machine = process.machine
    lines = machine.files.read("/etc/hosts").decode().splitlines() if machine.files.is_file("/etc/hosts") else []
    own = [words for words in map(str.split, lines) if machine.hostname in words[1:]]
    return own[0][1] if own else machine.hostname


async def date(process: Process) -> int:
    """date [-u] [-Is] [+FORMAT]"""
    return show_date(process, process.machine.clock.now())


def show_date(process: Process, unix_time_s: float) -> int:
    """What `date` prints at that moment."""
    options = Options(process, "uI:R", ("utc", "iso-8601="))
    now = datetime.fromtimestamp(unix_time_s, UTC)
    template = "+%a %b %e %H:%M:%S UTC %Y"
    if "-I|--iso-8601" in options:
        template = "+%Y-%m-%dT%H:%M:%S+00:00"
    template = options.words[0] if options.words else template
    if not template.startswith("+"):
        process.complain(f"date: invalid date '{template}'")
        return 1
    text = template[1:].replace("%s", str(int(now.timestamp()))).replace("%N", f"{now.microsecond:06}000")
    process.print(now.strftime(text))
    return 0


MACHINE_TOOLS: Mapping[str, Command] = MappingProxyType(
    {
        "date": date,
        "hostname": hostname,
        "id": identify,
        "which": which,
        "whoami": whoami,
    }
)
