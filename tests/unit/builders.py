"""Ordinary things for the pure tests: each is in the wanted state, and a test names what is different."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from homelab.models import (
    GIB,
    Action,
    Facts,
    HostStatus,
    K3sFacts,
    K3sNode,
    NodeFacts,
    NodePlan,
    Past,
    PowerHistory,
    StorageState,
    Verdict,
    VmConfig,
    VmFacts,
    VmSpec,
    VmStatus,
)
from homelab.settings import (
    ApiConfig,
    Config,
    GuestConfig,
    ImageConfig,
    K3sConfig,
    NodeConfig,
    Policy,
    Role,
    SshConfig,
    StoppedVm,
    Wishes,
)

UUID = "0f9f7a3e-1c1d-4f0e-9a68-9f2b8a6d1107"
OTHER_UUID = "77777777-1c1d-4f0e-9a68-9f2b8a6d1107"
DAY_S = 86_400
STOPPED: Mapping[str, Any] = {"status": "stopped", "qmpstatus": "stopped", "uptime_s": 0}
PAUSED: Mapping[str, Any] = {"status": "running", "qmpstatus": "paused"}

SPEC = VmSpec(
    name="k3s-vm-pve1",
    node="pve1",
    vmid=107,
    cores=4,
    memory_mib=8192,
    cpu_type="host",
    bridges=("vmbr0", "vmbr1"),
    disk_storage="local-zfs",
    disk_bytes=50 * GIB,
    ip_config="ip=192.0.2.5/24,gw=192.0.2.1",
)

VM_CONFIG: Mapping[str, str] = {
    "name": "k3s-vm-pve1",
    "tags": "homelab",
    "cores": "4",
    "memory": "8192",
    "agent": "1",
    "onboot": "1",
    "boot": "order=scsi0",
    "scsihw": "virtio-scsi-single",
    "scsi0": "local-zfs:vm-107-disk-0,discard=on,iothread=1,size=50G",
    "ide2": "local-zfs:vm-107-cloudinit,media=cdrom,size=4M",
    "net0": "virtio=BC:24:11:00:01:07,bridge=vmbr0",
    "serial0": "socket",
    "smbios1": f"uuid={UUID}",
}

NODE = NodeConfig(
    number=1,
    name="pve1",
    is_enabled=True,
    host=None,
    api_port=8006,
    ssh_port=22,
    fingerprint=None,
    storage="local-zfs",
    disk_storage="local-zfs",
    image_storage=None,
    cpu_ratio=0.5,
    memory_ratio=0.5,
    bridges=("vmbr0",),
    vmid=None,
    vm_name="k3s-vm-pve1",
    cores=None,
    memory_mib=None,
    disk_bytes=50 * GIB,
    ip_config="ip=dhcp",
    role=Role.AUTO,
)

GUEST = GuestConfig(
    user="ubuntu",
    password=None,
    public_keys="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKtECoe2hUmUPLMVFNbayOgCaZgxGNRR5ANaTWzj3Xg8 me@laptop\n",
    nameserver=None,
    upgrades_packages=False,
    cpu_type="host",
    start_timeout_s=180,
)

CONFIG = Config(
    nodes=(NODE,),
    dropped=(),
    warnings=(),
    node_domain="maas",
    fallback_addresses=(),
    api_port=8006,
    ssh_port=22,
    api=ApiConfig(token=None, ca_bundle=None),
    ssh=SshConfig(user="root", key_path=None, known_hosts=None, guest_port=22),
    guest=GUEST,
    image=ImageConfig("noble.img", "https://images.example/noble.img", sha256=None, is_unverified=False),
    k3s=K3sConfig((), None, "https://k3s.example/install.sh", None),
    policy=Policy(StoppedVm.REPLACE, max_replacements=1, max_parallel=8, host_reserve_mib=2048),
)

NO_WISHES = Wishes()

HOST = HostStatus(
    uptime_s=30 * DAY_S,
    threads=8,
    memory_total_bytes=32 * GIB,
    memory_free_bytes=30 * GIB,
    version="9.2.11",
)

STORAGE = StorageState(
    name="local-zfs",
    kind="zfspool",
    content=frozenset({"images", "rootdir"}),
    is_active=True,
    is_enabled=True,
    is_shared=False,
    free_bytes=400 * GIB,
)

NOW = 1_700_000_000.0
"""This machine's time, where the past counts."""

LONG_UP = PowerHistory(host_uptime_s=30 * DAY_S, host_boot_time=1_000_000, last_vm_start_time=1_000_000 + DAY_S)

VM_STATUS = VmStatus(
    name="k3s-vm-pve1",
    status="running",
    qmpstatus="running",
    lock="",
    uptime_s=DAY_S,
    is_ha_managed=False,
    memory_bytes=8 * GIB,
)


def node_config(number: int = 1, **changes: Any) -> NodeConfig:
    """Node `pve<number>`, which is to have `k3s-vm-pve<number>`."""
    name = f"pve{number}"
    return replace(NODE, **{"number": number, "name": name, "vm_name": f"k3s-vm-{name}", **changes})


def config(*nodes: NodeConfig, wishes: Wishes = NO_WISHES, **policy: Any) -> Config:
    """A configuration for these nodes; `policy` names what differs in the policy."""
    return replace(CONFIG, nodes=nodes, wishes=wishes, policy=replace(CONFIG.policy, **policy))


def vm(values: Mapping[str, str] | None = None, *, node: str = "pve1", vmid: int = 107, **status: Any) -> VmFacts:
    """A healthy VM; `values` goes over its config (an empty text removes a key), `status` over its status."""
    merged = {**VM_CONFIG, "name": f"k3s-vm-{node}", **(values or {})}
    kept = {key: text for key, text in merged.items() if text}
    return VmFacts(
        node, vmid, replace(VM_STATUS, **{"name": kept.get("name", ""), **status}), VmConfig(kept, digest="d1")
    )


def node_facts(verdict: Verdict, found: VmFacts | None = None, *, number: int = 1, **changes: Any) -> NodeFacts:
    """What was observed on node `number`, whose host has long been up."""
    facts = NodeFacts(node_config(number), verdict, f"VM is {verdict.value}", vm=found, power=LONG_UP)
    return replace(facts, **changes)


def stopped(number: int = 1, values: Mapping[str, str] | None = None, **changes: Any) -> NodeFacts:
    """A node whose VM is stopped, although its host has been up since before the VM's last start."""
    found = vm(values, node=f"pve{number}", vmid=106 + number, **STOPPED)
    return node_facts(Verdict.STOPPED, found, number=number, **changes)


def past(**when: Any) -> Past:
    """What is known at NOW of earlier runs."""
    return Past(now=NOW, **when)


def node_plan(action: Action, facts: NodeFacts | None = None, **changes: Any) -> NodePlan:
    """A plan for one node; without facts, for a node that has no VM yet."""
    facts = facts or node_facts(Verdict.ABSENT)
    return replace(NodePlan(facts, action, facts.reason), **changes)


def facts(*nodes: NodeFacts) -> Facts:
    """What was observed where no k3s cluster is asked for."""
    return Facts(nodes, K3sFacts(is_wanted=False))


def k3s_node(name: str, **changes: Any) -> K3sNode:
    """A Ready etcd server of that name, with the uuid of the ordinary VM."""
    ready = K3sNode(
        name=name,
        is_ready=True,
        system_uuid=UUID,
        version="v1.33.4+k3s1",
        is_server=True,
        is_etcd=True,
        is_etcd_voter=True,
        addresses=("192.0.2.99", name),
    )
    return replace(ready, **changes)


def servers(count: int, **of_the_last: Any) -> list[K3sNode]:
    """Servers elsewhere; `of_the_last` says what is different about the last of them."""
    others = [k3s_node(f"other-{number}", system_uuid=OTHER_UUID) for number in range(count - 1)]
    return [*others, k3s_node("last", system_uuid=OTHER_UUID, **of_the_last)]


def agent_node(name: str, **changes: Any) -> K3sNode:
    """A Ready agent of that name."""
    return k3s_node(name, **{"is_server": False, "is_etcd": False, "is_etcd_voter": False, **changes})


def k3s_cluster(*nodes: K3sNode) -> K3sFacts:
    """A cluster that has these Nodes, and answers by a server outside that is no etcd member."""
    outside = k3s_node(
        "outside", is_etcd=False, is_etcd_voter=False, addresses=("192.0.2.10",), system_uuid=f"f{OTHER_UUID[1:]}"
    )
    return K3sFacts(is_wanted=True, nodes=(*nodes, outside), asked_at="192.0.2.10")
