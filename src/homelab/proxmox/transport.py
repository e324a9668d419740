"""The seam: one narrow call, over the API or over SSH, and the switch from one to the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from homelab.errors import ChangedIdentity, Unreachable
from homelab.models import Wire
from homelab.settings import Via
from homelab.shell import Readable, Result

Answer = TypeVar("Answer")
Params = Mapping[str, str | int | Sequence[str]]


class ChangedCertificate(ChangedIdentity):
    """The node's API shows another certificate than the one that is known."""


class TargetUnreachable(Unreachable):
    """The node that was asked answers, and did not reach the node that was meant (595)."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file for a storage of a node. `content` is `import` or `iso`; `on_progress` gets bytes sent and in total."""

    source: Path
    node: str
    storage: str
    content: str
    filename: str
    sha256: str
    on_progress: Callable[[int, int], None] | None = None

    @property
    def volume(self) -> str:
        return f"{self.storage}:{self.content}/{self.filename}"


@dataclass(frozen=True, slots=True)
class Download:
    """A file that a node fetches by itself into one of its storages. `content` is `import` or `iso`."""

    url: str
    node: str
    storage: str
    content: str
    filename: str
    sha256: str

    @property
    def volume(self) -> str:
        return f"{self.storage}:{self.content}/{self.filename}"


class Transport(Protocol):
    """One wire to one node.

    Raises Unreachable when the request certainly did not run, Undecided when it may have, Refused or NotThere when
    Proxmox said no, Misunderstood when the answer cannot be read.
    """

    @property
    def wire(self) -> Wire: ...

    def call(self, method: str, path: str, params: Params | None = None, *, timeout_s: float = 30) -> Any:
        """One request; the data of the answer. For a task that still runs, its UPID; None when it was waited for."""
        ...

    def put_file(self, upload: Upload) -> str:
        """Bring a file into a storage, checked by size and sha256; the volume id."""
        ...


class Root(Protocol):
    """Root on a node, for what the API has no call for."""

    def connect(self) -> None:
        """Log in and see that root's rights are there; raises Unreachable."""
        ...

    def run(
        self, command: Sequence[str], *, stdin: bytes | Readable | None = None, timeout_s: float = 30
    ) -> Result: ...

    def write_file(self, path: str, content: bytes) -> None:
        """Put a small file in place, all of it or nothing."""
        ...

    def path_of(self, volume: str) -> str:
        """The absolute path of a storage's volume on the node."""
        ...


class SshWire(Transport, Root, Protocol):
    """Over SSH both are the same connection."""


OnFallback = Callable[[str, str], None]
"""Called once when a node is switched to SSH, with the node and the reason."""


class Link:
    """All wires to one node; switches from API to SSH once, and only when a request certainly did not run.

    Once the node shows a changed certificate or host key, neither wire is used any more.
    """

    def __init__(
        self, node: str, api: Transport | None, ssh: SshWire | None, via: Via, on_fallback: OnFallback
    ) -> None:
        self.node = node
        self._api = api if via is not Via.SSH else None
        self._ssh = ssh
        self._may_switch = via is Via.AUTO
        self._on_fallback = on_fallback
        self._is_switched = self._api is None
        self.trouble: Unreachable | None = None
        """Why the API is not used, where that was wanted."""
        self._changed: ChangedIdentity | None = None
        self._lock = threading.Lock()

    @property
    def wire(self) -> Wire:
        """The wire that the next call takes."""
        return Wire.SSH if self._is_switched else Wire.API

    @property
    def root(self) -> SshWire:
        """Root on the node over SSH, whatever the wire; raises Unreachable when SSH does not answer."""
        with self._as_known():
            return self._connected_ssh()

    def call(self, method: str, path: str, params: Params | None = None, *, timeout_s: float = 30) -> Any:
        """As Transport.call, over the wire in use."""
        return self._use(lambda wire: wire.call(method, path, params, timeout_s=timeout_s), self._is_own(path))

    def put_file(self, upload: Upload) -> str:
        """As Transport.put_file, over the wire in use."""
        return self._use(lambda wire: wire.put_file(upload), True)

    def _is_own(self, path: str) -> bool:
        """Does the path speak of this node, or of none?"""
        parts = path.split("/")
        return parts[1] != "nodes" or parts[2] == self.node

    def _use(self, request: Callable[[Transport], Answer], is_own: bool) -> Answer:
        with self._as_known():
            if self._api is not None and not self._is_switched:
                try:
                    return request(self._api)
                except ChangedIdentity:
                    raise
                except TargetUnreachable as failure:
                    if not is_own:
                        raise
                    self._switch(failure)
                except Unreachable as failure:
                    self._switch(failure)
            return request(self._connected_ssh())

    @contextmanager
    def _as_known(self) -> Iterator[None]:
        if self._changed is not None:
            raise type(self._changed)(self._changed.what, self._changed.why, self._changed.cure)
        try:
            yield
        except ChangedIdentity as changed:
            self._changed = changed
            raise

    def _switch(self, failure: Unreachable) -> None:
        """Take SSH from now on, if that is wanted and SSH answers; otherwise raise with all the reasons there are."""
        if not self._may_switch or self._ssh is None:
            raise failure
        with self._lock:
            if self._is_switched:
                return
            try:
                self._ssh.connect()
            except Unreachable as second:
                why = f"API: {failure.why}; SSH: {second.why}"
                raise type(second)(f"node {self.node}", why, f"{failure.cure}; or {second.cure}") from second
            self._is_switched, self.trouble = True, failure
        self._on_fallback(self.node, str(failure))

    def _connected_ssh(self) -> SshWire:
        if self._ssh is None:
            cure = f"on {self.node}: systemctl status ssh; or set NODE_HOST_n or SSH_PORT_n"
            raise Unreachable(f"SSH to node {self.node}", "no SSH address of it answers", cure)
        self._ssh.connect()
        return self._ssh
