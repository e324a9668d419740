"""Commands on other machines over SSH: deadlines, verified host keys, one connection per machine."""

from homelab.shell.known_hosts import KnownHosts
from homelab.shell.machine import Machine
from homelab.shell.names import addresses_of
from homelab.shell.session import Readable, Result, Shell
from homelab.shell.shells import Shells
from homelab.shell.trust import ChangedHostKey, HostKey, LearnOnce, LoginRefused, PinnedKey, Trust, UnknownHostKey

__all__ = [
    "ChangedHostKey",
    "HostKey",
    "KnownHosts",
    "LearnOnce",
    "LoginRefused",
    "Machine",
    "PinnedKey",
    "Readable",
    "Result",
    "Shell",
    "Shells",
    "Trust",
    "UnknownHostKey",
    "addresses_of",
]
