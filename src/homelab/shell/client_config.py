"""ssh_config: what OpenSSH would do for a machine, as far as it concerns us."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homelab.errors import Unreachable
from homelab.shell.known_hosts import SSH_PORT, KnownHosts, Strictness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"
MOST_INCLUDES = 16


@dataclass(frozen=True, slots=True)
class HostOptions:
    """Where and how to log in to one machine. `proxy` is a shell command that speaks for the machine, or empty."""

    host: str
    port: int
    user: str
    key_files: tuple[Path, ...]
    asks_agent: bool
    proxy: str
    known_hosts: KnownHosts


@dataclass(frozen=True, slots=True)
class Wanted:
    """What our own configuration says; `trusted` is a known_hosts file of our own, beside all others."""

    user: str | None
    key_path: Path | None
    known_hosts: Path | None
    home: Path
    trusted: Path | None = None


def host_options(host: str, port: int, wanted: Wanted) -> HostOptions:
    """Join ssh_config and our own settings; ours win.

    Raises Unreachable where ssh_config cannot be read.
    """
    ours = [f"Port {port}"] if port != SSH_PORT else []
    ours += [f"User {wanted.user}"] if wanted.user else []
    found = _lookup(host, ours, wanted.home)
    files = _known_hosts_files(found, wanted)
    real_host, real_port = found.get("hostname", host), int(found.get("port", SSH_PORT))
    keys, asks_agent = _keys(found, wanted)
    return HostOptions(
        host=real_host,
        port=real_port,
        user=found.get("user", "root"),
        key_files=keys,
        asks_agent=asks_agent,
        proxy=_proxy(found, real_host, real_port),
        known_hosts=KnownHosts(
            files=files,
            writable=files[0],
            alias=found.get("hostkeyalias", ""),
            strictness=Strictness.parse(found.get("stricthostkeychecking", "yes")),
        ),
    )


def _lookup(host: str, ours: Sequence[str], home: Path) -> Mapping[str, str]:
    """What ssh_config says of a host, after our own lines; `identityfile` holds one path per line."""
    import paramiko

    text = "\n".join([*ours, *_lines(home / ".ssh" / "config", home), "Host *", *_lines(SYSTEM_CONFIG, home)])

    try:
        found = paramiko.SSHConfig.from_text(text).lookup(host)
    except (paramiko.SSHException, paramiko.ConfigParseError, OSError, ValueError, KeyError) as error:
        raise Unreachable(f"SSH to {host}", f"ssh_config: {error}", f"correct {home / '.ssh/config'}") from error
    set_ones = {key: value for key, value in found.items() if value is not None}
    return {key: "\n".join(value) if isinstance(value, list) else str(value) for key, value in set_ones.items()}


def _lines(path: Path, home: Path, depth: int = 0) -> Iterator[str]:
    """The lines of an ssh_config file with its Includes in place."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    block = "Host *"
    for line in lines:
        keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() == "include" and depth < MOST_INCLUDES:
            for included in _included(rest, path, home):
                yield from _lines(included, home, depth + 1)
                yield block
            continue
        if keyword.lower() in ("host", "match"):
            block = line
        yield line


def _included(patterns: str, path: Path, home: Path) -> Iterator[Path]:
    """The files that an Include line names; relative ones lie beside ~/.ssh/config or /etc/ssh/ssh_config."""
    for pattern in shlex.split(patterns):
        whole = Path(str(home) + pattern[1:]) if pattern.startswith("~/") else path.parent / pattern
        yield from sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))


def _known_hosts_files(found: Mapping[str, str], wanted: Wanted) -> tuple[Path, ...]:
    """The files in which host keys are looked up; the first is the one to add to."""
    own = f"{wanted.home}/.ssh/known_hosts {wanted.home}/.ssh/known_hosts2"
    names = shlex.split(found.get("userknownhostsfile", own))
    names += shlex.split(found.get("globalknownhostsfile", GLOBAL_KNOWN_HOSTS))
    paths = [Path(str(wanted.home) + name[1:]) if name.startswith("~/") else Path(name) for name in names]
    return tuple(path for path in (wanted.known_hosts, *paths, wanted.trusted) if path)


def _keys(found: Mapping[str, str], wanted: Wanted) -> tuple[tuple[Path, ...], bool]:
    """Private keys to offer, and whether the agent is asked. A key of our own is offered alone."""
    if wanted.key_path is not None:
        return (wanted.key_path,), False
    named = [Path(line).expanduser() for line in found.get("identityfile", "").splitlines()]
    usual = [wanted.home / ".ssh" / f"id_{kind}" for kind in ("ed25519", "ecdsa", "rsa")]
    asks_agent = found.get("identitiesonly", "no") != "yes"
    return tuple(path for path in named or usual if path.is_file()), asks_agent


def _proxy(found: Mapping[str, str], host: str, port: int) -> str:
    """The command that connects us: ProxyCommand, or for ProxyJump the one that OpenSSH itself would run."""
    if "proxycommand" in found:
        return found["proxycommand"]
    jumps = found.get("proxyjump", "none")
    if jumps == "none":
        return ""
    *before, last = jumps.split(",")
    via = ["-J", ",".join(before)] if before else []
    jump, _, jump_port = last.removeprefix("ssh://").partition(":")
    at_port = ["-p", jump_port] if jump_port else []
    return shlex.join(["ssh", *via, *at_port, "-W", f"[{host}]:{port}", jump])
