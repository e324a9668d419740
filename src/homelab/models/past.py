"""What earlier runs noted about a node's VM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What a replacement takes over from the VM that it replaces.

    `uuid` is the old machine's system UUID, `kept` are settings as Proxmox stores them, `role` is its homelab-server or
    homelab-agent tag, or empty. `volumes` are the old machine's disks, which go with it. `is_unfinished`: it never ran,
    so that making it again counts as no replacement.
    """

    vmid: int
    uuid: str = ""
    macs: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    pool: str = ""
    role: str = ""
    volumes: tuple[str, ...] = ()
    is_unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Creation:
    """A VM that was to be made. `found` are the volumes with its VMID that were on `storage` before."""

    node: str
    vmid: int
    storage: str
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownImage:
    """The image that a VM was made from: the first digits of its sha256; published at that Unix time, if known."""

    sha256: str
    published_at: float | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """Times are Unix seconds of this machine; None: it has not happened, as far as is known.

    `struck_at`: found down and started unattended. `replacing`: a replacement was begun and has not been finished.
    `is_old_gone`: the VM that it was about is deleted, so that one of its name or uuid has come since, as by a restore.
    `image` is what the VM that is there was made from, `role` the role tag of the machine whose place it has taken.
    `claimed_by`: a run of another machine is making the VM, and until when it has it to itself. `now` is when this was
    looked up.
    """

    replaced_at: float | None = None
    struck_at: float | None = None
    rebooted_at: float | None = None
    replacing: CarriedOver | None = None
    is_old_gone: bool = False
    claimed_by: str = ""
    image: KnownImage | None = None
    role: str = ""
    now: float = field(default=0.0, compare=False)

    @property
    def leaving(self) -> CarriedOver | None:
        """The VM whose replacement was begun, and which may still be there."""
        return None if self.is_old_gone else self.replacing

    @property
    def was_replaced_lately(self) -> bool:
        """Within 24 h. A time that lies ahead (a clock was set back) counts: then nothing is deleted."""
        return self.replaced_at is not None and self.now - self.replaced_at < DAY_S

    @property
    def was_struck_lately(self) -> bool:
        """Within 24 h, and the VM has not been replaced since. A time that lies ahead does not count: see above."""
        if self.struck_at is None or (self.replaced_at is not None and self.replaced_at > self.struck_at):
            return False
        return 0 <= self.now - self.struck_at < DAY_S
