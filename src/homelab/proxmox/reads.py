"""Everything that is read from Proxmox, as types; changes nothing."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from homelab.errors import ChangedIdentity, Refused, Unreachable
from homelab.models import (
    BridgeState,
    HostStatus,
    Resources,
    StorageState,
    TaskRow,
    VmConfig,
    VmRow,
    VmStatus,
    VolumeRow,
    Wire,
)
from homelab.proxmox import answers
from homelab.proxmox.answers import flag, number, rows, table, text
from homelab.proxmox.recording import Record, Unrecorded
from homelab.proxmox.remote_files import output
from homelab.proxmox.transport import Link, Params, SshWire, TargetUnreachable
from homelab.runtime import Clock

NOT_IMPLEMENTED = 501
ROOT_CA = "pve-root-ca.pem"
FIREWALL_LISTS = {"rules": "rules", "aliases": "aliases", "IP sets": "ipset"}
"""What a VM's firewall may have, and where the API lists it."""


class Reads:
    """Asks a node through its own link, and where that is down through any other that answers."""

    def __init__(self, links: Mapping[str, Link], clock: Clock, record: Record | None = None) -> None:
        """`links` by the name that Proxmox gives the node; `record` takes down what is written."""
        self.links = links
        self._clock = clock
        self._record = record or Unrecorded()

    def link(self, node: str) -> Link:
        """The node's own link; raises Unreachable when there is none."""
        if node not in self.links:
            raise Unreachable(f"node {node}", "it is not reached from here", f"add {node} as NODE_n to .env")
        return self.links[node]

    def wire(self, node: str) -> Wire:
        """The wire in use for a node now."""
        return self.link(node).wire

    def root(self, node: str) -> SshWire:
        """Root on a node over SSH; raises Unreachable when SSH does not answer."""
        return self.link(node).root

    def cluster_identity(self) -> str:
        """The fingerprint of the CA that the cluster, or a host outside any, made for itself; empty: it has none."""
        node = next(iter(self.links), "")
        listed = rows(self._read(node, f"/nodes/{node}/certificates/info"), "certificates")
        return next((text(row, "fingerprint") for row in listed if text(row, "filename") == ROOT_CA), "")

    def member_names(self) -> frozenset[str]:
        """The nodes of the cluster, those that are off too."""
        status = answers.cluster_status(self._read("", "/cluster/status"))
        return frozenset(member.name for member in status.members)

    def resources(self) -> Resources:
        """As cluster_vms, and the pools: in one call."""
        data = self._read("", "/cluster/resources")
        return Resources(answers.cluster_vms(data), answers.pools(data))

    def cluster_vms(self) -> tuple[VmRow, ...]:
        """VMs and containers of the cluster that the token may see; one just made may lack its name here."""
        return answers.cluster_vms(self._read("", "/cluster/resources", {"type": "vm"}))

    def offline_vms(self, node: str) -> tuple[VmRow, ...]:
        """VMs of a node that does not answer, read from the cluster's own files over SSH to another member."""
        folder = f"/etc/pve/nodes/{node}/qemu-server"
        root = self._any_root()
        listed = output(root, ["ls", folder]).split()
        files = [posixpath.join(folder, name) for name in listed if name.endswith(".conf")]
        if not files:
            return ()
        vmids = {file: answers.vmid({"vmid": posixpath.basename(file).removesuffix(".conf")}) for file in files}
        names: dict[str, str] = {}
        # a second file makes grep say the name of the first
        for line in output(root, ["grep", "^name:", *files, "/dev/null"], good=(0, 1)).splitlines():
            file, _, name = line.partition(":name:")
            names.setdefault(file, name.strip())
        return tuple(VmRow(vmid, node, names.get(file, "")) for file, vmid in vmids.items())

    def host(self, node: str) -> HostStatus:
        return answers.host_status(self._read(node, f"/nodes/{node}/status"))

    def host_time(self, node: str) -> int:
        """The node's own clock, in Unix seconds."""
        return number(table(self._read(node, f"/nodes/{node}/time"), "node time"), "time")

    def vms(self, node: str) -> tuple[VmRow, ...]:
        return answers.node_vms(self._read(node, f"/nodes/{node}/qemu"), node)

    def vm_status(self, node: str, vmid: int) -> VmStatus:
        """Raises NotThere when Proxmox says that there is no such VM on the node."""
        return answers.vm_status(self._read(node, f"/nodes/{node}/qemu/{vmid}/status/current"))

    def vm_config(self, node: str, vmid: int, *, is_current: bool = False) -> VmConfig:
        """With values that wait for the next start, or as it is until then. Raises NotThere as vm_status."""
        params: Params | None = {"current": 1} if is_current else None
        return answers.vm_config(self._read(node, f"/nodes/{node}/qemu/{vmid}/config", params))

    def memory_from_boot(self, row: VmRow) -> int:
        """Bytes that a guest may use from when its host boots; 0 where it does not start then. Raises as vm_status."""
        if not row.is_container:
            config = self.vm_config(row.node, row.vmid)
            return config.memory_bytes if config.starts_on_boot else 0
        config_of = table(self._read(row.node, f"/nodes/{row.node}/lxc/{row.vmid}/config"), "container")
        return row.memory_bytes if flag(config_of, "onboot") else 0

    def has_snapshots(self, node: str, vmid: int) -> bool:
        found = rows(self._read(node, f"/nodes/{node}/qemu/{vmid}/snapshot"), "snapshots")
        return any(text(row, "name") != "current" for row in found)

    def own_firewall(self, node: str, vmid: int) -> tuple[str, ...]:
        """What a VM's own firewall has: `rules` (also of security groups), `aliases`, `IP sets`, names of options."""
        path = f"/nodes/{node}/qemu/{vmid}/firewall"
        lists = [what for what, name in FIREWALL_LISTS.items() if self._optional(node, f"{path}/{name}")]
        options = table(self._read(node, f"{path}/options"), "firewall options")
        given = sorted(key for key in options if key != "digest" and (key != "enable" or flag(options, key)))
        return (*lists, *given)

    def replication_jobs(self, node: str, vmid: int) -> tuple[str, ...]:
        """Ids of the jobs that copy this VM, such as `100-0`."""
        jobs = self._optional(node, "/cluster/replication")
        return tuple(text(job, "id") for job in jobs if text(job, "guest") == str(vmid))

    def vm_acl_paths(self, vmid: int) -> tuple[str, ...]:
        """`/vms/ID` as often as somebody was given rights on exactly this VM."""
        entries = self._optional("", "/access/acl")
        return tuple(text(entry, "path") for entry in entries if text(entry, "path") == f"/vms/{vmid}")

    def storages(self, node: str) -> tuple[StorageState, ...]:
        return answers.storages(self._read(node, f"/nodes/{node}/storage"), node)

    def storage_content(
        self, node: str, storage: str, *, content: str = "", vmid: int | None = None
    ) -> tuple[VolumeRow, ...]:
        """Volumes of one kind (`import`, `iso`, `images`) or of one VM; of all when neither is given."""
        params: Params = {key: value for key, value in (("content", content), ("vmid", vmid)) if value}
        return answers.volumes(self._read(node, f"/nodes/{node}/storage/{storage}/content", params), storage)

    def disk_bytes(self, node: str, volume: str) -> int:
        """The size of the disk in an image; 0 where Proxmox does not look into the file."""
        storage = volume.partition(":")[0]
        path = f"/nodes/{node}/storage/{storage}/content/{volume}"
        seen = table(self._read(node, path), "volume")
        is_disk = ":import/" in volume or text(seen, "format") == "qcow2"
        return number(seen, "size", 0) if is_disk else 0

    def bridges(self, node: str) -> tuple[BridgeState, ...]:
        return answers.bridges(self._read(node, f"/nodes/{node}/network", {"type": "any_bridge"}), node)

    def tasks(
        self, node: str, *, vmid: int | None = None, limit: int = 50, is_active: bool = False
    ) -> tuple[TaskRow, ...]:
        """Finished tasks, newest first; with `is_active` those that still run."""
        params: dict[str, str | int] = {"limit": limit}
        if vmid is not None:
            params["vmid"] = vmid
        if is_active:
            params["source"] = "active"
        found = answers.tasks(self._read(node, f"/nodes/{node}/tasks", params), node)
        return tuple(task for task in found if not is_active or task.end_time is None)

    def is_running(self, node: str, upid: str) -> bool:
        """Does a task still run? One that Proxmox does not know any more does not."""
        try:
            seen = table(self._read(node, f"/nodes/{node}/tasks/{upid}/status"), "task status")
        except Refused:
            return False
        return text(seen, "status") == "running"

    def next_vmid(self) -> int:
        """The lowest free VMID; asking reserves nothing."""
        return answers.vmid({"nextid": self._read("", "/cluster/nextid")}, "nextid")

    def _read(self, node: str, path: str, params: Params | None = None) -> Any:
        """GET by the node's own link, else by the next that answers; an empty node means any."""
        own = [self.links[node]] if node in self.links else []
        return self._read_by([*own, *(link for name, link in self.links.items() if name != node)], path, params)

    def _read_by(self, links: Sequence[Link], path: str, params: Params | None = None) -> Any:
        """GET by the first of these links that answers; nobody answers for a node that may be another machine now."""
        failure = Unreachable(f"GET {path}", "no node is reached", "see what is said of each node")
        for link in links:
            try:
                return link.call("GET", path, params)
            except TargetUnreachable as error:
                raise error from failure
            except ChangedIdentity as error:
                if path.startswith(f"/nodes/{link.node}/"):
                    raise
                failure = error
            except Unreachable as error:
                failure = error
        raise failure

    def _optional(self, node: str, path: str) -> list[answers.Row]:
        """A list that this version of Proxmox may not have; then it is empty."""
        try:
            return list(rows(self._read(node, path), f"GET {path}"))
        except Refused as error:
            if error.status == NOT_IMPLEMENTED:
                return []
            raise

    def _any_root(self) -> SshWire:
        """Root on whichever node lets us in."""
        failure = Unreachable("SSH to a node", "no node is reached", "see what is said of each node")
        for link in self.links.values():
            try:
                return link.root
            except Unreachable as error:
                failure = error
        raise failure
