"""What a k3s finds wrong with its machine before it does anything else, in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pvelab.guest import k3s_log
from pvelab.guest.ailments import Ailment
from pvelab.guest.k3s_release import commit_of

if TYPE_CHECKING:
    from pvelab.guest.machine import GuestMachine

NEEDED_BYTES = 250 << 20
"""What k3s unpacks from itself at its first start."""
_NO_CGROUP = "failed to find memory cgroup (v2)"
_NO_ROUTE = 'Error: no default routes found in "/proc/net/route" or "/proc/net/ipv6_route"'


def why_not(guest: GuestMachine, version: str, data_dir: str) -> str:
    """The line with which k3s ends at once; empty if it goes on."""
    unpacked = f"{data_dir}/data/{commit_of(version) * 8}"
    if not guest.files.is_folder(unpacked):
        if guest.files.usage("/").available_bytes < NEEDED_BYTES:
            target = f"{unpacked}-tmp/bin/k3s"
            text = f"extracting data: error writing to {target}: write {target}: no space left on device"
            return k3s_log.line(guest.now(), "fatal", text)
        guest.files.make_folder(f"{unpacked}/bin", parents=True)
    if guest.ails(Ailment.NO_CGROUP):
        return k3s_log.line(guest.now(), "fatal", _NO_CGROUP)
    if guest.ails(Ailment.NO_ROUTE):
        return k3s_log.line(guest.now(), "fatal", _NO_ROUTE)
    return ""
