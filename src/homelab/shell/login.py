"""From nothing to a logged-in SSH connection, with each way of failing told apart."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from homelab.errors import Unreachable
from homelab.shell.client_config import HostOptions
from homelab.shell.machine import Machine
from homelab.shell.trust import HostKey, LoginRefused, Trust

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
KEEPALIVE_S = 15
DEAD_AFTER_MS = 20_000
"""A peer that acknowledges nothing for so long is gone (Linux; elsewhere only the commands' deadlines tell)."""
CIPHERS = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
"""GCM first: half the work of paramiko's own choice, which uploads feel. OpenSSH has had it since 6.2."""
LOOK_AT_SSHD = "on that machine: journalctl -u ssh -n 20"


def log_in(
    options: HostOptions, machine: Machine, trust: Trust | None
) -> tuple[paramiko.SSHClient, paramiko.Transport]:
    """Log in; raises Unreachable in its kinds."""
    import paramiko

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    judge = trust or options.known_hosts
    connection = _socket(options, machine)
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_policy(judge, options))
    try:
        client.connect(
            options.host,
            options.port,
            options.user,
            key_filename=[str(path) for path in options.key_files],  # type: ignore[arg-type] # a list is documented
            allow_agent=options.asks_agent,
            look_for_keys=False,
            sock=connection,
            timeout=HANDSHAKE_TIMEOUT_S,
            banner_timeout=HANDSHAKE_TIMEOUT_S,
            auth_timeout=HANDSHAKE_TIMEOUT_S,
            channel_timeout=HANDSHAKE_TIMEOUT_S,
            transport_factory=_factory(judge.key_kinds(options.host, options.port)),
        )
    except Unreachable:
        client.close()
        raise
    except (paramiko.SSHException, EOFError, OSError, ValueError) as error:
        client.close()
        connection.close()
        raise _failure(error, options, machine) from error
    transport = cast("paramiko.Transport", client.get_transport())
    transport.set_keepalive(KEEPALIVE_S)
    return client, transport


def _socket(options: HostOptions, machine: Machine) -> socket.socket:
    """A connection of our own: paramiko never sets TCP_NODELAY, which costs 40 ms a command."""
    if options.proxy:
        return _proxy_socket(options.proxy)
    where = machine.where
    try:
        connection = socket.create_connection((options.host, options.port), CONNECT_TIMEOUT_S)
    except socket.gaierror as error:
        why = f"the name {options.host} is not known here ({error.strerror})"
        raise Unreachable(f"SSH to {where}", why, "give its address instead") from error
    except TimeoutError as error:
        why = f"no answer within {CONNECT_TIMEOUT_S:.0f} s"
        raise Unreachable(f"SSH to {where}", why, "is the machine on, and the address right?") from error
    except OSError as error:
        raise Unreachable(
            f"SSH to {where}", (error.strerror or str(error)).lower(), _look_or_set_port(machine)
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", socket.TCP_NODELAY), DEAD_AFTER_MS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _proxy_socket(command: str) -> socket.socket:
    """The user's own ProxyCommand, speaking through a socket so that its end is seen."""
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=end, stdout=end, start_new_session=True)
    threading.Thread(target=process.wait, daemon=True).start()
    return ours


def _policy(judge: Trust, options: HostOptions) -> paramiko.MissingHostKeyPolicy:
    """Paramiko knows no keys of its own here, so that it asks about every one."""
    import paramiko

    class Judge(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, _client: paramiko.SSHClient, _hostname: str, key: paramiko.PKey) -> None:
            judge.check(options.host, options.port, HostKey(key.get_name(), key.get_base64()))

    return Judge()


def _factory(kinds: Sequence[str]) -> Callable[..., paramiko.Transport]:
    """A transport that asks for the host key types we know, as OpenSSH does."""
    import paramiko

    def make(*args: object, **kwargs: object) -> paramiko.Transport:
        transport = paramiko.Transport(*args, **kwargs)  # type: ignore[arg-type]
        security = transport.get_security_options()
        names = ["rsa-sha2-512" if kind == "ssh-rsa" else kind for kind in kinds]
        first = [name for name in names if name in security.key_types]
        security.key_types = (*first, *(kind for kind in security.key_types if kind not in first))
        security.ciphers = CIPHERS
        return transport

    return make


def _failure(error: Exception, options: HostOptions, machine: Machine) -> Unreachable:
    """Name what went wrong between the TCP connection and the login."""
    import paramiko

    where = machine.where
    if isinstance(error, paramiko.PasswordRequiredException):
        why = "the private key has a passphrase"
        return LoginRefused(f"SSH to {where}", why, f"ssh-add {_first(options.key_files)}, with SSH_KEY_PATH unset")
    if isinstance(error, FileNotFoundError | PermissionError):
        return LoginRefused(f"SSH to {where}", f"the private key cannot be read: {error}", "correct SSH_KEY_PATH")
    if isinstance(error, paramiko.AuthenticationException) or "authentication" in str(error).lower():
        offered = ", ".join(str(path) for path in options.key_files) or "no key file"
        agent = " and the agent's keys" if options.asks_agent else ""
        cure = (
            f"ssh-copy-id -p {options.port} {options.user}@{options.host}, or set SSH_KEY_PATH or {machine.keys.user}"
        )
        return LoginRefused(f"SSH to {where}", f"authentication failed (offered: {offered}{agent})", cure)
    why = f"no SSH connection: {error or type(error).__name__}"
    return Unreachable(f"SSH to {where}", why, _look_or_set_port(machine))


def _look_or_set_port(machine: Machine) -> str:
    return f"{LOOK_AT_SSHD}; or set {machine.keys.port}, if SSH listens elsewhere there"


def _first(paths: Sequence[Path]) -> str:
    return str(paths[0]) if paths else "KEY"
