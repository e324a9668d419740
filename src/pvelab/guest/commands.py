"""The commands that a guest has beside the core utilities, and the programs behind its services."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from pvelab.guest import ubuntu
from pvelab.guest.ailments import Ailment
from pvelab.guest.apt import apt_get
from pvelab.guest.cloud_init import cloud_init
from pvelab.guest.curl import curl
from pvelab.guest.ethtool import ethtool
from pvelab.guest.installer import install
from pvelab.guest.journal import journalctl
from pvelab.guest.k3s_service import k3s_program
from pvelab.guest.machine import GuestCommand
from pvelab.guest.options import BadOption, Grammar
from pvelab.guest.systemctl import systemctl
from pvelab.guest.systemd import Idle, Program, Run
from pvelab.shell.machinetools import show_date

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

_KERNEL = "6.8.0-86-generic"
_UNAME = {"s": "Linux", "n": "", "r": _KERNEL, "v": "#87-Ubuntu SMP PREEMPT_DYNAMIC", "m": "x86_64", "o": "GNU/Linux"}
_TIME = Grammar(flags={"value", "all"}, values={"property"}, short={"p": "property", "a": "all"})


def program(run: Run) -> Program | None:
    """What a service's ExecStart runs; None where no such program is on the disk."""
    if run.argv[0] in ubuntu.SERVICES:
        return Idle(run)
    return k3s_program(run)


async def ip(guest: GuestMachine, process: Process) -> int:
    """`ip [-4] [-o] addr|route` and `ip link`."""
    words = [word for word in process.argv[1:] if not word.startswith("-")]
    is_short = any(word in ("-o", "-4", "-br") for word in process.argv[1:])
    topic = words[0] if words else ""
    if topic in ("a", "addr", "address"):
        _addresses(guest, process, is_short=is_short)
    elif topic in ("r", "route"):
        _routes(guest, process, only_default="default" in words)
    elif topic in ("l", "link"):
        process.print("1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536")
        for number, nic in enumerate(guest.hardware.nics, start=2):
            process.print(f"{number}: {nic.name}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500")
            process.print(f"    link/ether {nic.mac} brd ff:ff:ff:ff:ff:ff")
    else:
        process.complain(f'Object "{topic}" is unknown, try "ip help".')
        return 1
    return 0


def _routes(guest: GuestMachine, process: Process, *, only_default: bool) -> None:
    for position, nic in enumerate(nic for nic in guest.hardware.nics if nic.address):
        network = ipaddress.ip_interface(f"{nic.address}/{nic.prefix}").network
        if position == 0 and not guest.ails(Ailment.NO_ROUTE):
            gateway = nic.address.rsplit(".", 1)[0] + ".254"
            process.print(f"default via {gateway} dev {nic.name} proto dhcp src {nic.address} metric 100 ")
        if not only_default:
            process.print(f"{network} dev {nic.name} proto kernel scope link src {nic.address} metric 100 ")


def _addresses(guest: GuestMachine, process: Process, *, is_short: bool) -> None:
    cards = [("lo", "00:00:00:00:00:00", "127.0.0.1/8")]
    cards += [(nic.name, nic.mac, f"{nic.address}/{nic.prefix}" if nic.address else "") for nic in guest.hardware.nics]
    for number, (name, mac, address) in enumerate(cards, start=1):
        scope = "host" if name == "lo" else "global"
        if is_short:
            if address:
                process.print(f"{number}: {name}    inet {address} scope {scope} {name}")
            continue
        process.print(f"{number}: {name}: <UP,LOWER_UP> mtu 1500 state UP\n    link/ether {mac} brd ff:ff:ff:ff:ff:ff")
        if address:
            process.print(f"    inet {address} scope {scope} {name}")


async def uname(guest: GuestMachine, process: Process) -> int:
    """`uname [-asnrvmo]`."""
    letters = "".join(word[1:] for word in process.argv[1:]) or "s"
    values = _UNAME | {"n": guest.hostname}
    if set(letters) - set(values) - {"a"}:
        process.complain(f"uname: invalid option -- '{letters}'")
        return 1
    shown = "snrvmo" if "a" in letters else [letter for letter in "snrvmo" if letter in letters]
    process.print(" ".join(values[letter] for letter in shown))
    return 0


async def date(guest: GuestMachine, process: Process) -> int:
    """`date`, by the machine's own clock."""
    return show_date(process, guest.now())


async def timedatectl(guest: GuestMachine, process: Process) -> int:
    """`timedatectl show [-p NAME] [--value]`: the clock is synchronised unless it is wrong."""
    state = "no" if guest.ails(Ailment.CLOCK) else "yes"
    values = {"Timezone": "Etc/UTC", "LocalRTC": "no", "CanNTP": "yes", "NTP": "yes", "NTPSynchronized": state}
    try:
        options = _TIME.parse(process.argv[1:])
    except BadOption as problem:
        process.complain(f"timedatectl: unrecognized option '{problem}'")
        return 1
    if options.words[:1] == ["show"]:
        asked = options.values.get("property", list(values))
        for name in values:
            if name in asked:
                process.print(values[name] if "value" in options else f"{name}={values[name]}")
        return 0
    process.print(
        f"System clock synchronized: {state}\n              NTP service: active\n          RTC in local TZ: no"
    )
    return 0


async def hostnamectl(guest: GuestMachine, process: Process) -> int:
    """`hostnamectl [hostname]`, `hostnamectl set-hostname NAME`."""
    words = process.argv[1:]
    if words[:1] in (["set-hostname"], ["hostname"]) and len(words) == 2:
        ubuntu.set_hostname(guest.disk, words[1])
        guest.hostname = words[1]
        return 0
    process.print(guest.hostname if words in (["hostname"], ["--static"]) else f" Static hostname: {guest.hostname}")
    return 0


async def nproc(guest: GuestMachine, process: Process) -> int:
    """`nproc`."""
    process.print(str(guest.hardware.cpus))
    return 0


async def systemd_detect_virt(_guest: GuestMachine, process: Process) -> int:
    """`systemd-detect-virt`."""
    process.print("kvm")
    return 0


GUEST_COMMANDS: Mapping[str, GuestCommand] = MappingProxyType(
    {
        "apt-get": apt_get,
        "cloud-init": cloud_init,
        "curl": curl,
        "date": date,
        "ethtool": ethtool,
        "hostnamectl": hostnamectl,
        "ip": ip,
        "journalctl": journalctl,
        "nproc": nproc,
        "pvelab-k3s-install": install,
        "systemctl": systemctl,
        "systemd-detect-virt": systemd_detect_virt,
        "timedatectl": timedatectl,
        "uname": uname,
    }
)
