"""`apt-get` in a guest, and the packages of which the lab knows what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvelab.guest import ubuntu
from pvelab.guest.ailments import Ailment
from pvelab.guest.options import BadOption, Grammar

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine
    from pvelab.machine import Process

PACKAGES = frozenset(
    {"qemu-guest-agent", "curl", "ca-certificates", "open-iscsi", "nfs-common", "jq", "wget", "vim", "htop", "chrony"}
    | {"cryptsetup", "dmsetup", "iptables", "ethtool", "socat", "conntrack", "lvm2", "xfsprogs", "gnupg", "rsync"}
)
"""What the lab's archive has; anything else cannot be located."""
LOCK = "/var/lib/dpkg/lock-frontend"
_GRAMMAR = Grammar(
    flags={"yes", "quiet", "no-install-recommends", "assume-yes"},
    values={"option"},
    short={"y": "yes", "q": "quiet", "o": "option"},
)
_FAILED = 100
_WORK_S = 8.0


def install_agent(guest: GuestMachine) -> None:
    """Install the guest agent; it starts at once where QEMU gives it a port."""
    ubuntu.add_unit(guest.files, "qemu-guest-agent", "QEMU Guest Agent", "/usr/sbin/qemu-ga", is_wanted=False)
    start_agent(guest)


def start_agent(guest: GuestMachine) -> None:
    """What udev does when the agent's port is there."""
    if guest.hardware.has_agent_port:
        guest.systemd.start(guest.systemd.find(ubuntu.AGENT_UNIT))


async def apt_get(guest: GuestMachine, process: Process) -> int:
    """`apt-get [-y] [-o DPkg::Lock::Timeout=SECONDS] update | install PACKAGE...`."""
    try:
        options = _GRAMMAR.parse(process.argv[1:])
    except BadOption as problem:
        process.complain(f"E: Command line option '{problem}' is not understood in combination with the other options.")
        return _FAILED
    verb, *names = options.words or ["help"]
    if verb not in ("update", "install"):
        process.complain(f"E: Invalid operation {verb}")
        return _FAILED
    if process.user != "root":
        process.complain(f"E: Could not open lock file {LOCK} - open (13: Permission denied)")
        return _FAILED
    if guest.ails(Ailment.APT_LOCK):
        await guest.clock.sleep(_patience_s(options.values.get("option", [])))
        process.complain(f"E: Could not get lock {LOCK}. It is held by process 1187 (unattended-upgr)")
        process.complain(f"E: Unable to acquire the dpkg frontend lock ({LOCK}), is another process using it?")
        return _FAILED
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        process.complain(f"E: Unable to locate package {unknown[0]}")
        return _FAILED
    await guest.clock.sleep(_WORK_S)
    if "qemu-guest-agent" in names:
        install_agent(guest)
    return 0


def _patience_s(settings: list[str]) -> float:
    """How long to wait for the lock, which is not at all unless it is asked for."""
    pairs = dict(setting.partition("=")[::2] for setting in settings)
    return float(pairs.get("DPkg::Lock::Timeout", "0"))
