"""Commands on other machines over SSH: deadlines, verified host keys, one connection per machine."""

from homelab.shell.known_hosts import TRUST_COMMAND, KnownHosts, entries_in
from homelab.shell.machine import Machine
from homelab.shell.names import addresses_of
from homelab.shell.presented import Presented
from homelab.shell.session import Readable, Result, Shell
from homelab.shell.shells import Shells
from homelab.shell.trust import (
    ChangedHostKey,
    HostKey,
    LearnOnce,
    LoginRefused,
    PinnedKey,
    RevokedHostKey,
    ShownKey,
    Trust,
    UnknownHostKey,
)

__all__ = [
    "TRUST_COMMAND",
    "ChangedHostKey",
    "HostKey",
    "KnownHosts",
    "LearnOnce",
    "LoginRefused",
    "Machine",
    "PinnedKey",
    "Presented",
    "Readable",
    "Result",
    "RevokedHostKey",
    "Shell",
    "Shells",
    "ShownKey",
    "Trust",
    "UnknownHostKey",
    "addresses_of",
    "entries_in",
]
