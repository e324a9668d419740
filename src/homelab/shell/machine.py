"""A machine to log in to, in the words of messages, of commands that a person can type, and of `.env`."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.shell.known_hosts import SSH_PORT


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of `.env` that say as whom and on which port one logs in to a kind of machine."""

    user: str
    port: str


NODE_KEYS = Keys("SSH_USER", "SSH_PORT or SSH_PORT_n")
GUEST_KEYS = Keys("CLOUD_USER", "VM_SSH_PORT")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as it is configured. Without a `user` ssh_config chooses one."""

    host: str
    port: int = SSH_PORT
    user: str | None = None
    keys: Keys = NODE_KEYS

    @property
    def where(self) -> str:
        """How messages name the login: `user@host`, with `:port` where that is not 22."""
        return self._at_host if self.port == SSH_PORT else f"{self._at_host}:{self.port}"

    @property
    def login(self) -> str:
        """The command by which a person logs in there: `ssh user@host`, or `ssh -p PORT user@host`."""
        at_port = "" if self.port == SSH_PORT else f"-p {self.port} "
        return f"ssh {at_port}{self._at_host}"

    @property
    def _at_host(self) -> str:
        return f"{self.user}@{self.host}" if self.user else self.host
