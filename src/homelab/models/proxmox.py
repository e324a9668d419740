"""What Proxmox showed, and the marks that homelab leaves there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

TAG = "homelab"
TAG_UNFINISHED = "homelab-unfinished"
TAG_KEEP = "homelab-keep"
TAG_SERVER = "homelab-server"
TAG_AGENT = "homelab-agent"
MEMBER_TAGS = frozenset({TAG_SERVER, TAG_AGENT})

MAKING = frozenset({"qmcreate", "qmclone", "qmrestore"})
"""Tasks at whose end there is a VM that had no name before."""
SWITCHING_OFF = frozenset({"qmstop", "qmshutdown"})
SWITCHING = SWITCHING_OFF | {"qmstart", "qmreboot", "qmreset", "qmpause", "qmsuspend", "qmresume"}
"""Tasks about a VM's power."""

UNIX_TIME = re.compile(r"[0-9]{1,12}")
MEBIBYTES = re.compile(r"[0-9]{1,9}")

MIB = 1024**2
GIB = 1024**3


class Wire(Enum):
    """How a node is spoken to."""

    API = "api"
    SSH = "ssh"


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the Proxmox cluster. Source: GET /cluster/status, entries of type node."""

    name: str
    address: str
    is_online: bool
    is_local: bool


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """Source: GET /cluster/status. A node outside any cluster counts as quorate."""

    members: tuple[Member, ...]
    is_quorate: bool


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Source: GET /nodes/{node}/status. `memory_free_bytes` is what is available now.

    `root_free_bytes` is what the host's own file system has left, with /var/tmp in it; None where that is not said.
    """

    uptime_s: int
    threads: int
    memory_total_bytes: int
    memory_free_bytes: int
    version: str
    root_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class VmRow:
    """A guest in a list. `name` is empty where the list does not know it yet, `pool` where it is in none.

    `memory_bytes` is what it may use at most; like `is_running` it comes only with the list of the whole cluster.

    Source: GET /cluster/resources?type=vm or GET /nodes/{node}/qemu.
    """

    vmid: int
    node: str
    name: str
    is_container: bool = False
    pool: str = ""
    memory_bytes: int = 0
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """What the cluster shows in one list: its VMs and containers, and the ids of its resource pools.

    Source: GET /cluster/resources. Both as far as the token may see them.
    """

    guests: tuple[VmRow, ...]
    pools: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class VmStatus:
    """Source: GET /nodes/{node}/qemu/{vmid}/status/current. `lock` is empty when there is none."""

    name: str
    status: str
    qmpstatus: str
    lock: str
    uptime_s: int
    is_ha_managed: bool
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Drive:
    """One disk line of a VM's config: `scsi0: STORE:VOLUME,key=value,...`."""

    key: str
    volume: str
    options: Mapping[str, str]

    @property
    def is_cdrom(self) -> bool:
        return self.options.get("media") == "cdrom"


DRIVE_KEY = re.compile(r"(?:scsi|virtio|sata|ide|efidisk|tpmstate|unused)\d+")
NET_KEY = re.compile(r"net\d+")
PASSTHROUGH_KEY = re.compile(r"(?:hostpci|usb|virtiofs)\d+|parallel\d+")


def property_string(text: str) -> dict[str, str]:
    """Split `first,key=value,...`; the part without a key gets the key ''."""
    parts = (part.partition("=") for part in text.split(",") if part)
    return {key if sep else "": value if sep else key for key, sep, value in parts}


@dataclass(frozen=True, slots=True)
class VmConfig:
    """A VM's config as Proxmox stores it. `digest` is empty where the wire does not show it.

    Source: GET /nodes/{node}/qemu/{vmid}/config.
    """

    values: Mapping[str, str]
    digest: str = ""

    @property
    def name(self) -> str:
        return self.values.get("name", "")

    @property
    def tags(self) -> frozenset[str]:
        return frozenset(tag for tag in re.split(r"[;, ]+", self.values.get("tags", "")) if tag)

    @property
    def uuid(self) -> str:
        """The smbios1 uuid, lower case: what the guest shows as its product_uuid."""
        return property_string(self.values.get("smbios1", "")).get("uuid", "").lower()

    @property
    def created_at(self) -> int:
        """When the VM was made, in the host's Unix time; 0 where Proxmox did not note it (before 7.1)."""
        ctime = property_string(self.values.get("meta", "")).get("ctime", "")
        return int(ctime) if UNIX_TIME.fullmatch(ctime) else 0

    @property
    def memory_bytes(self) -> int:
        """What it may use at most; Proxmox' default where it does not say."""
        said = property_string(self.values.get("memory", ""))
        text = said.get("current", said.get("", ""))
        return (int(text) if MEBIBYTES.fullmatch(text) else 512) * MIB

    @property
    def is_template(self) -> bool:
        return self.values.get("template", "0") == "1"

    @property
    def is_protected(self) -> bool:
        return self.values.get("protection", "0") == "1"

    @property
    def starts_on_boot(self) -> bool:
        return self.values.get("onboot", "0") == "1"

    @property
    def drives(self) -> tuple[Drive, ...]:
        found = []
        for key, text in sorted(self.values.items()):
            if DRIVE_KEY.fullmatch(key):
                options = property_string(text)
                found.append(Drive(key, options.pop("", options.pop("file", "")), options))
        return tuple(found)

    @property
    def boot_drives(self) -> tuple[str, ...]:
        """Keys of the drives the VM boots from, in order (`boot: order=scsi0;ide2`)."""
        order = property_string(self.values.get("boot", "")).get("order", "")
        return tuple(key for key in order.split(";") if key) or tuple(
            key for key in (self.values.get("bootdisk", ""),) if key
        )

    @property
    def macs(self) -> Mapping[str, str]:
        """MAC address (upper case) by NIC key, e.g. {"net0": "BC:24:11:00:00:01"}."""
        found = {}
        for key, text in self.values.items():
            if NET_KEY.fullmatch(key):
                match = re.search(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text)
                if match:
                    found[key] = match[0].upper()
        return found


@dataclass(frozen=True, slots=True)
class StorageState:
    """A storage as one node sees it. Source: GET /nodes/{node}/storage."""

    name: str
    kind: str
    content: frozenset[str]
    is_active: bool
    is_enabled: bool
    is_shared: bool
    free_bytes: int

    def allowing(self, content: str) -> str:
        """The command that has it take one more kind of content."""
        return f"pvesm set {self.name} --content {','.join(sorted({*self.content, content}))}"


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """Source: GET /nodes/{node}/storage/{storage}/content. `used_bytes` is 0 where the storage does not tell."""

    volume: str
    content: str
    size_bytes: int
    vmid: int | None
    used_bytes: int = 0


@dataclass(frozen=True, slots=True)
class BridgeState:
    """Source: GET /nodes/{node}/network?type=any_bridge. `is_vnet`: a network of SDN, in a zone that is not said."""

    name: str
    is_active: bool
    is_vnet: bool = False


@dataclass(frozen=True, slots=True)
class TaskRow:
    """Source: GET /nodes/{node}/tasks. `exit_status` is empty while it runs; times in Unix seconds.

    `user` stands without the API token; `token_id` is empty for a person, and for root on the command line.
    """

    upid: str
    kind: str
    vmid: str
    user: str
    start_time: int
    end_time: int | None
    exit_status: str
    token_id: str = ""

    @property
    def went_well(self) -> bool:
        """Ended, and what it was to do is done; Proxmox may have warned."""
        return self.exit_status == "OK" or self.exit_status.startswith("WARNINGS")


@dataclass(frozen=True, slots=True)
class TagRules:
    """Which tags may be given without Sys.Modify on /: any but the reserved ones, or only the allowed ones.

    `choice` is that of the option user-tag-access: free, existing, list or none. Source: GET /cluster/options.
    """

    choice: str = "free"
    listed: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()

    def denied(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Those of the tags that take Sys.Modify."""
        is_free = self.choice == "free"
        return tuple(tag for tag in sorted(tags) if tag in self.reserved or not (is_free or tag in self.allowed))
