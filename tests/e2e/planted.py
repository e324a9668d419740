"""What can be amiss before a run: each planted in a lab, with all that doctor has to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2e.world import twin
from pvelab.lab import Lab
from pvelab.shell.files import Mounted
from pvelab.state import World

EVERY = ["pve1", "pve2", "pve3"]
GIB = 1024**3
ONLY_PVE2 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_3": "0"}
TWO_SERVERS = "two servers"
Settings = Mapping[str, str | None]


@dataclass(frozen=True)
class Fault:
    """Something that is amiss, and all that doctor says of it: where, how bad, what, and a part of the cure."""

    name: str
    plant: Callable[[Lab], object]
    nodes: list[str]
    what: str
    cure: str
    settings: Settings = field(default_factory=dict)
    severity: str = "error"

    def settings_in(self, lab: Lab) -> Settings:
        """The settings with it; the addresses of the lab are known by now."""
        addresses = f"{lab.network.outside(1)}, {lab.network.outside(90)}"
        return {key: addresses if value == TWO_SERVERS else value for key, value in self.settings.items()}


def broken(name: str, **options: object) -> Callable[[Lab], object]:
    return lambda lab: lab.fault(name, **options)


def typed(node: str, command: str) -> Callable[[Lab], object]:
    """What somebody typed as root on a node."""
    return lambda lab: lab.shell(node, command)


def changed(change: Callable[[World], object]) -> Callable[[Lab], object]:
    return lambda lab: lab.look(change)


def nothing(_: Lab) -> None:
    """The fault lies in the settings."""


def full_root(world: World) -> None:
    """The root file system of pve2 is full; its images lie on another one."""
    files = world.nodes["pve2"].files
    (root,) = files.mounted
    files.mounted.append(Mounted("/dev/sdb1", "ext4", "/var/lib/vz", 90 * GIB, 0))
    root.other_bytes += files.usage("/").available_bytes - 4096


def unknown_host_key(lab: Lab) -> None:
    """Nobody has logged in to pve2 from here yet."""
    path = Path(lab.env["SSH_KNOWN_HOSTS"])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "pve2" not in line and lab.network.node(2) not in line))


def other_cluster(lab: Lab) -> None:
    """There is a second cluster, and somebody has logged in to its server."""
    lab.fault("other-cluster")
    path, key = Path(lab.env["SSH_KNOWN_HOSTS"]), lab.shell("k3s-other", "cat /etc/ssh/ssh_host_ed25519_key.pub")
    path.write_text(f"{path.read_text()}\n[{lab.network.outside(90)}]:{lab.env['VM_SSH_PORT']} {key}")


def twins(lab: Lab) -> None:
    for vmid in (150, 151):
        twin(lab, vmid, "pve2", "k3s-vm-pve2")


FAULTS = (
    # --- the ways to a node
    Fault("node-off", broken("node-down", node="pve2"), ["pve2"], "node pve2 is not reached", "NODE_HOST_2"),
    Fault(
        "api-off",
        broken("api-down", node="pve2"),
        ["pve2"],
        "its API is not used, but SSH",
        "systemctl status pveproxy",
        severity="warning",
    ),
    Fault(
        "foreign-certificate",
        broken("bad-certificate", node="pve2"),
        ["pve2"],
        "its API is not used, but SSH",
        "PROXMOX_CA_BUNDLE",
        severity="warning",
    ),
    Fault(
        "ssh-off",
        broken("ssh-refused", node="pve2"),
        ["pve2"],
        "does not work",
        "on pve2: systemctl status ssh; or set NODE_HOST_2",
        severity="warning",
    ),
    Fault(
        "ssh-key-refused",
        changed(lambda world: world.nodes["pve2"].accounts["root"].authorized_keys.clear()),
        ["pve2"],
        "does not work",
        "ssh-copy-id",
        severity="warning",
    ),
    Fault(
        "ssh-host-key-unknown",
        unknown_host_key,
        ["pve2"],
        "does not work",
        "known_hosts",
        severity="warning",
    ),
    Fault("unknown-name", nothing, ["pve9"], "pve9", "NODE_2", {"NODE_2": "pve9"}),
    Fault("no-cluster-files", broken("config-missing", node="pve2"), ["pve2"], "", "pve-cluster"),
    # --- the cluster and the token
    Fault("no-quorum", broken("no-quorum"), EVERY, "the Proxmox cluster has no quorum", "pvecm status"),
    Fault(
        "wrong-token",
        nothing,
        [],
        "GET /cluster/status",
        "pveum user token",
        {"API_TOKEN": "root@pam!lab=nonsense"},
    ),
    Fault(
        "token-without-audit",
        broken("token-lacks", privileges="Sys.Audit"),
        [],
        "GET /cluster/status",
        "pveum acl modify",
    ),
    Fault(
        "token-without-config",
        broken("token-lacks", privileges="VM.Config.Disk", path="/vms"),
        ["pve2"],
        "the API token may not make VM",
        "pveum acl modify /vms",
        ONLY_PVE2,
    ),
    Fault(
        "token-without-space",
        broken("token-lacks", privileges="Datastore.AllocateSpace", path="/storage/local-zfs"),
        ["pve2"],
        "the API token may not make VM",
        "pveum acl modify /storage/local-zfs",
    ),
    Fault(
        "token-without-bridge",
        broken("token-lacks", privileges="SDN.Use+SDN.Audit", path="/sdn/zones/localnetwork/vmbr1"),
        ["pve1"],
        "the API token may not make VM",
        "pveum acl modify /sdn/zones/localnetwork",
    ),
    Fault(
        "token-sees-no-vms",
        broken("token-lacks", privileges="VM.Audit", path="/vms"),
        EVERY,
        "no VM of that name is visible",
        "pveum acl modify /vms",
    ),
    # --- the host
    Fault("old-release", broken("other-release", version="8.1.10"), EVERY, "Proxmox VE 8.1.10 is too old", "upgrade"),
    Fault(
        "newer-release",
        broken("other-release", version="9.9.1"),
        EVERY,
        "is newer than homelab knows",
        "homelab",
        severity="warning",
    ),
    Fault(
        "clock-behind",
        broken("host-clock", node="pve2", seconds=-540),
        ["pve2"],
        "its clock is 5",
        "chrony",
        severity="warning",
    ),
    Fault(
        "memory-asked-for", nothing, ["pve2"], "not enough memory for the VM", "VM_MEMORY_2", {"VM_MEMORY_2": "40000"}
    ),
    Fault(
        "memory-promised",
        typed("pve2", "qm create 200 --name router --memory 30000 --onboot 1"),
        ["pve2"],
        "not enough memory for the VM",
        "VM_MEMORY_2",
    ),
    Fault("cores-asked-for", nothing, ["pve2"], "99 cores are too many", "VM_CORES_2", {"VM_CORES_2": "99"}),
    # --- storages
    Fault(
        "storage-named-wrongly",
        nothing,
        ["pve2"],
        "storage tank is not there",
        "IMG_STORAGE_2",
        {"IMG_STORAGE_2": "tank"},
    ),
    Fault(
        "storage-disabled",
        typed("pve2", "pvesm set local-zfs --disable 1"),
        ["pve2"],
        "storage local-zfs is not there",
        "IMG_STORAGE_2",
    ),
    Fault(
        "storage-without-disks",
        typed("pve2", "pvesm set local-zfs --content rootdir"),
        ["pve2"],
        "storage local-zfs takes no VM disks",
        "pvesm set local-zfs --content images,rootdir",
    ),
    Fault(
        "storages-unreadable",
        broken("on", do="error", method="GET", path="/nodes/pve2/storage", status=500, text="got timeout"),
        ["pve2"],
        "GET /nodes/pve2/storage",
        "journalctl",
        severity="unknown",
    ),
    Fault(
        "storage-full",
        broken("storage-full", node="pve2", storage="local-zfs"),
        ["pve2"],
        "storage local-zfs is full",
        "IMG_STORAGE_2",
    ),
    Fault(
        "storage-small",
        nothing,
        ["pve2"],
        "the VM's disk may grow to 9000 GiB",
        "VM_DISK_SIZE_2",
        {"VM_DISK_SIZE_2": "9000G"},
        severity="warning",
    ),
    Fault(
        "no-storage-for-image",
        typed("pve1", "pvesm set local --content vztmpl,snippets,images"),
        ["pve2"],
        "no storage takes the image",
        "pvesm set local --content images,import,snippets,vztmpl",
        ONLY_PVE2,
    ),
    Fault(
        "no-storage-for-snippets",
        typed("pve1", "pvesm set local --content iso,import,images"),
        EVERY,
        "no storage takes snippets",
        "pvesm set local --content images,import,iso,snippets",
        severity="warning",
    ),
    Fault("root-full", changed(full_root), ["pve2"], "has no room for an upload", "du -xh", severity="warning"),
    # --- the network
    Fault(
        "bridge-missing",
        broken("bridge-missing", node="pve1", bridge="vmbr1"),
        ["pve1"],
        "bridge vmbr1 is missing",
        "NETWORK_IFACES_1",
    ),
    Fault(
        "bridge-down",
        broken("bridge-down", node="pve1", bridge="vmbr1"),
        ["pve1"],
        "bridge vmbr1 is down",
        "ifup vmbr1",
    ),
    # --- the VM
    Fault("name-invalid", nothing, ["pve2"], "VM_NAME_2", "VM_NAME_2", {"VM_NAME_2": "k3s.."}),
    Fault(
        "vmid-taken",
        typed("pve2", "qm create 150 --name router"),
        ["pve2"],
        "VMID_2=150 is another VM",
        "VMID_2",
        {"VMID_2": "150"},
    ),
    Fault(
        "vmid-with-leftovers",
        typed("pve2", "pvesm alloc local-zfs 150 vm-150-disk-0 1G"),
        ["pve2"],
        "volumes of a deleted VM bear VMID_2=150",
        "pvesm free local-zfs:vm-150-disk-0",
        {"VMID_2": "150"},
        severity="warning",
    ),
    Fault("name-twice", twins, ["pve2"], "k3s-vm-pve2 is not one VM", "VMID_2"),
    Fault("no-public-key", nothing, EVERY, "no SSH public key for the VM", "ssh-keygen", {"SSH_PUBKEY_PATH": None}),
    # --- the image
    Fault("image-unsigned", broken("sums-broken", how="unsigned"), EVERY, "SHA256SUMS.gpg", "IMAGE_SHA256"),
    Fault(
        "image-not-seen-from-node",
        broken(
            "on",
            do="error",
            path="/nodes/pve2/query-url-metadata",
            command="pvesh get /nodes/pve2/query-url-metadata",
            status=500,
            text="500 Can't connect",
        ),
        ["pve2"],
        "the node does not reach the image",
        "DNS",
        severity="warning",
    ),
    Fault(
        "image-is-installer",
        broken("image-broken", how="installer"),
        EVERY,
        "is no usable image",
        "set ISO_URL to the publisher's cloud image",
    ),
    Fault("image-gone", broken("image-broken", how="missing"), EVERY, "download of http", "ISO_URL"),
    Fault(
        "image-signed-by-another",
        broken("sums-broken", how="other-key"),
        EVERY,
        "the signature of the image's checksums is not good",
        "set ISO_URL",
    ),
    Fault(
        "image-storage-full",
        broken("storage-full", node="pve3", storage="local"),
        ["pve3"],
        "storage local is full",
        "IMG_STORAGE_3",
    ),
    # --- k3s
    Fault(
        "k3s-off",
        broken("server-off", machine="k3s-server"),
        [],
        "k3s cannot be asked",
        "K3S_EXISTING_NODE_IP",
    ),
    Fault("k3s-token-unreadable", broken("server-token", how="missing"), [], "the k3s join token", "sudo"),
    Fault(
        "k3s-server-away",
        nothing,
        [],
        "does not answer, another one does",
        "K3S_EXISTING_NODE_IP",
        {"K3S_EXISTING_NODE_IP": TWO_SERVERS},
        severity="warning",
    ),
    Fault(
        "k3s-of-two-clusters",
        other_cluster,
        [],
        "the addresses in K3S_EXISTING_NODE_IP lead to different clusters",
        "K3S_EXISTING_NODE_IP",
        {"K3S_EXISTING_NODE_IP": TWO_SERVERS},
    ),
    Fault(
        "k3s-token-foreign",
        broken("server-token", how="foreign"),
        [],
        "the k3s join token belongs to another cluster",
        "K3S_EXISTING_NODE_IP",
    ),
    Fault(
        "k3s-newer",
        nothing,
        [],
        "K3S_VERSION=v1.34.1+k3s1 is newer than the cluster",
        "K3S_VERSION",
        {"K3S_VERSION": "v1.34.1+k3s1"},
    ),
    Fault(
        "k3s-script-missing",
        nothing,
        [],
        "download of",
        "K3S_INSTALL_URL",
        {"K3S_INSTALL_URL": "http://127.0.0.1:9/no.sh"},
    ),
)

TOGETHER = (
    (
        *("clock-behind", "memory-asked-for", "cores-asked-for", "vmid-with-leftovers", "storage-full"),
        *("bridge-missing", "newer-release", "no-public-key", "no-storage-for-snippets", "image-not-seen-from-node"),
    ),
    ("memory-promised", "storage-without-disks", "bridge-down", "vmid-taken", "image-unsigned"),
    ("storage-named-wrongly", "old-release", "name-twice"),
    ("storage-disabled", "no-quorum"),
    ("no-storage-for-image", "storage-small"),
    ("node-off",),
    ("unknown-name",),
    ("no-cluster-files",),
)
"""Faults that do not touch one another."""


def named(name: str) -> Fault:
    return next(fault for fault in FAULTS if fault.name == name)
