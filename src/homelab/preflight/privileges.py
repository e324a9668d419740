"""What an API token has to be allowed for the VM of a node: the table, and who lacks what of it. Read-only."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from homelab.models import TAG, TAG_AGENT, TAG_SERVER, TAG_UNFINISHED

POOL = "/pool/homelab-run"
LAST_WITH_MONITOR = 8
"""Proxmox VE 9 has VM.GuestAgent.* in place of VM.Monitor."""
BY_ROOT = "root over SSH brings the image instead"
UNNOTICED = "runs from other machines at the same time are not noticed"
UNASKED = "no guest agent is asked for the address and the host key of a VM"


@dataclass(frozen=True, slots=True)
class Need:
    """One row: any of `privileges` on `path`, for what `why` says.

    `{vm}` is /vms/VMID, or /vms where the VMID is not known yet; `{disk}` and `{image}` are storages; a row with
    `{bridge}` counts for each bridge. `majors` are the first and the last major release with these names. `without`
    says what goes on without it; empty: the VM cannot be made. `is_below`: it has to hold for all below the path.
    """

    path: str
    privileges: tuple[str, ...]
    why: str
    majors: tuple[int, int] = (0, 99)
    without: str = ""
    is_below: bool = False

    @property
    def privilege(self) -> str:
        """The one to give."""
        return self.privileges[0]


def _config(area: str, why: str) -> Need:
    return Need("{vm}", (f"VM.Config.{area}",), why)


SINCE_9 = (LAST_WITH_MONITOR + 1, 99)
BEFORE_9 = (0, LAST_WITH_MONITOR)
UNRESTRICTED = "VM.GuestAgent.Unrestricted"
NEEDS = (
    Need("/", ("Sys.Audit",), "see the members of the cluster, and what other VMs' permissions hang on"),
    Need("/nodes/{node}", ("Sys.Audit",), "see the host's memory, its clock and its tasks"),
    Need("{vm}", ("VM.Allocate",), "make and delete the VM"),
    Need("{vm}", ("VM.PowerMgmt",), "start and stop it"),
    _config("CPU", "its cores"),
    _config("Memory", "its memory"),
    _config("Disk", "the size of its disk, and that it boots from it"),
    _config("Network", "its network cards, and what cloud-init tells it"),
    _config("HWType", "its disk controller and its serial console"),
    _config("Options", "its name, tags and notes, and that it starts with the host"),
    Need("{vm}", ("VM.GuestAgent.Audit", UNRESTRICTED), "ask a VM for its addresses", SINCE_9, UNASKED),
    Need("{vm}", ("VM.GuestAgent.FileRead", UNRESTRICTED), "read a VM's SSH host key", SINCE_9, UNASKED),
    Need("{vm}", ("VM.Monitor",), "ask a VM for its addresses and its SSH host key", BEFORE_9, UNASKED),
    Need("/storage/{disk}", ("Datastore.AllocateSpace",), "make its disks"),
    Need("/storage/{image}", ("Datastore.AllocateTemplate",), "bring the image", without=BY_ROOT),
    Need("/storage/{image}", ("Datastore.AllocateSpace", "Datastore.Audit"), "see the image and import it"),
    Need("/sdn/zones/localnetwork/{bridge}", ("SDN.Use",), "put it on its bridge"),
    Need(POOL, ("Pool.Allocate",), "tell runs from other machines of this one", without=UNNOTICED),
    Need(POOL, ("Pool.Audit",), "notice runs from other machines", without=UNNOTICED),
)
SEEING = Need("/vms", ("VM.Audit",), "see every VM: one that cannot be seen may be there", is_below=True)
"""Told by the health check, which makes nothing where it does not see all."""
OF_CPU_MODEL = (
    Need("/mapping/cpu/{cpu}", ("Mapping.Use",), "use the CPU model that somebody made", SINCE_9),
    Need("/nodes", ("Sys.Audit",), "use the CPU model that somebody made", BEFORE_9),
)
START_ORDER = Need("/", ("Sys.Modify",), "keep the start order that the VM had")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run does on one node, as far as privileges go. `vmid` is 0 where one has yet to be found.

    `tags` are those that the VM takes over from the one before it, beside homelab's own.
    """

    node: str
    vm_name: str
    vmid: int
    disk_storage: str
    image_storage: str
    bridges: tuple[str, ...]
    tags: frozenset[str] = frozenset()
    has_start_order: bool = False
    is_join_wanted: bool = True
    cpu_type: str = ""

    @property
    def cpu_model(self) -> str:
        """The name of a CPU model that somebody made; empty: it is one that QEMU has."""
        found = re.match(r"(?:cputype=)?custom-([^,]+)", self.cpu_type)
        return found[1] if found else ""

    @property
    def all_tags(self) -> frozenset[str]:
        """All that are given to the VM by and by."""
        return self.tags | {TAG, TAG_UNFINISHED} | ({TAG_SERVER, TAG_AGENT} if self.is_join_wanted else set())


class Holder(Enum):
    """Who lacks a privilege: a token whose privileges are separated needs what its user has, once more for itself."""

    TOKEN = "token"
    USER = "user"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Lack:
    """A need with its path spelt out that is not met, and by whom."""

    need: Need
    holder: Holder = Holder.UNKNOWN
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.need.privilege} on {self.need.path}"


def needs(wanted: Wanted, major: int) -> tuple[Need, ...]:
    """What is needed for this on a release, with paths spelt out. `major` is 8 or 9."""
    found = []
    for need in (
        *NEEDS,
        *(OF_CPU_MODEL if wanted.cpu_model else ()),
        *([START_ORDER] if wanted.has_start_order else []),
    ):
        first, last = need.majors
        if first <= major <= last and (wanted.is_join_wanted or need.without != UNASKED):
            found += [_spelt(need, wanted, bridge) for bridge in _bridges(need, wanted)]
    return tuple(dict.fromkeys(found))


def paths_of(wanted: Wanted) -> tuple[str, ...]:
    """The paths of these needs, which are the same on all releases."""
    return tuple(dict.fromkeys(need.path for need in needs(wanted, SINCE_9[0])))


def of_role(paths: Collection[str], major: int) -> tuple[str, ...]:
    """The privileges of all rows whose path begins with one of these, in the order of the alphabet."""
    rows = (need for need in (*NEEDS, SEEING) if need.majors[0] <= major <= need.majors[1])
    return tuple(sorted({need.privilege for need in rows if any(need.path.startswith(path) for path in paths)}))


def lacking(wanted: Iterable[Need], held: Callable[[Need], Collection[str]]) -> tuple[Need, ...]:
    """The needs that are not met; `held` says what privileges there are on a need's path."""
    return tuple(need for need in wanted if not set(need.privileges) & set(held(need)))


def names_that_hold(granted: Mapping[str, int], *, is_below: bool) -> frozenset[str]:
    """Of privileges with 1 where they hold for all below a path, too, those that do as is wanted."""
    return frozenset(name for name, propagates in granted.items() if propagates or not is_below)


def major_of(release: str) -> int:
    """8 for `8.4`; the newest names where a release is not understood."""
    found = re.match(r"\d+", release)
    return int(found[0]) if found else SINCE_9[0]


def _bridges(need: Need, wanted: Wanted) -> tuple[str, ...]:
    return wanted.bridges if "{bridge}" in need.path else ("",)


def _spelt(need: Need, wanted: Wanted, bridge: str) -> Need:
    path = need.path.format(
        vm=f"/vms/{wanted.vmid}" if wanted.vmid else "/vms",
        node=wanted.node,
        disk=wanted.disk_storage,
        image=wanted.image_storage,
        bridge=bridge,
        cpu=wanted.cpu_model,
    )
    is_below = need.is_below or path == "/vms"
    return Need(path, need.privileges, need.why, need.majors, need.without, is_below)
