"""Proxmox as typed verbs, written once for both wires. Each write is waited for and then seen to be so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from homelab.errors import Misunderstood, NotThere, Refused, TaskFailed, Undecided
from homelab.models import DRIVE_KEY, VmConfig, VmStatus
from homelab.proxmox import sizes
from homelab.proxmox.access import Access
from homelab.proxmox.agent import Agent
from homelab.proxmox.changes import Change, shows
from homelab.proxmox.neighbours import Neighbours
from homelab.proxmox.pools import Pools
from homelab.proxmox.recording import on_record
from homelab.proxmox.remote_files import output
from homelab.proxmox.volumes import Volumes
from homelab.runtime import Wait, wait_for
from homelab.settings import Secret

CONFIG_TIMEOUT_S = 120
RESIZE_TIMEOUT_S = 300
GRACE_S = 30
"""How long an object may take to show what was done to it, and a command beyond the time it was given."""


class Proxmox(Volumes, Pools, Agent, Access, Neighbours):
    """All verbs. Reads go through any link that answers, writes through the node's own.

    Every write may raise Refused (not wanted, not allowed) or TaskFailed (tried and failed) with Proxmox' words, the
    same on both wires; Unreachable when nothing was done; TimedOut when it still goes on; Undecided when its answer
    was lost and looking did not show it done.
    """

    def create_vm(
        self, node: str, params: Mapping[str, str], *, import_path: str | None = None, timeout_s: float = 900
    ) -> VmConfig:
        """Make a VM from API parameters (vmid, name, scsi0, ...); its config as it came out.

        `import_path` is an image's absolute path on the node: scsi0 is then imported from it by root SSH, which the
        API refuses. Raises Refused when the VMID is taken.
        """
        vmid = int(params["vmid"])
        path = f"/nodes/{node}/qemu"

        def send() -> None:
            if import_path is None:
                self._do(node, "POST", path, params, timeout_s)
            else:
                disk = f"{params['scsi0']},import-from={import_path}"
                self._do_as_root(node, "POST", path, {**params, "scsi0": disk}, timeout_s)

        def is_made(config: VmConfig) -> bool:
            wanted = {key for key in params if DRIVE_KEY.fullmatch(key)}
            is_whole = wanted <= {drive.key for drive in config.drives} and "lock" not in config.values
            return is_whole and config.name == params.get("name", "")

        return self._ensure(Change("creation", node, vmid, send, self.vm_config, is_made))

    def set_vm(
        self, node: str, vmid: int, values: Mapping[str, str], *, delete: Sequence[str] = (), digest: str = ""
    ) -> VmConfig:
        """Change and remove settings; with a digest only if nobody changed the VM since. The config afterwards."""
        params = dict(values)
        if delete:
            params["delete"] = ",".join(delete)
        if digest:
            params["digest"] = digest

        def is_set(config: VmConfig) -> bool:
            return all(shows(config, key, value) for key, value in values.items()) and not set(delete) & set(
                config.values
            )

        what = f"setting {', '.join([*values, *delete])}"
        return self._ensure(
            Change(what, node, vmid, lambda: self._configure(node, vmid, params), self.vm_config, is_set)
        )

    def set_password(self, node: str, vmid: int, password: Secret) -> None:
        """Set the cloud-init user's password; it stands in no argument list and no message.

        Refused when somebody changes the VM between our look and this.
        """
        params = {"cipassword": password.reveal(), **_only_if(self.vm_config(node, vmid))}
        self._ensure(
            Change(
                "setting the password",
                node,
                vmid,
                lambda: self._configure(node, vmid, params),
                self.vm_config,
                lambda config: "cipassword" in config.values,
            )
        )

    def resize_disk(self, node: str, vmid: int, disk: str, size_bytes: int) -> VmConfig:
        """Grow a disk such as scsi0 to at least size_bytes; nothing is sent when it is that large.

        Fails when somebody changes the VM between our look and this.
        """

        def is_large(config: VmConfig) -> bool:
            shown = next((drive.options.get("size", "") for drive in config.drives if drive.key == disk), "")
            return bool(shown) and sizes.parse(shown) >= size_bytes

        def send() -> None:
            params = {"disk": disk, "size": sizes.show(size_bytes), **_only_if(config)}
            self._do(node, "PUT", f"/nodes/{node}/qemu/{vmid}/resize", params, RESIZE_TIMEOUT_S)

        config = self.vm_config(node, vmid)
        if is_large(config):
            return config
        return self._ensure(Change(f"growing {disk}", node, vmid, send, self.vm_config, is_large))

    def start_vm(self, node: str, vmid: int, *, timeout_s: float = 120) -> VmStatus:
        """Start a VM; one that runs already is as wanted."""
        return self._power(node, vmid, "start", lambda now: now.status == "running", timeout_s)

    def resume_vm(self, node: str, vmid: int, *, timeout_s: float = 60) -> VmStatus:
        """Let a paused VM go on."""
        return self._power(node, vmid, "resume", lambda now: now.qmpstatus == "running", timeout_s)

    def reset_vm(self, node: str, vmid: int, *, timeout_s: float = 60) -> VmStatus:
        """Press the reset button: the guest boots anew, its QEMU goes on."""
        return self._power(node, vmid, "reset", lambda now: now.status == "running", timeout_s)

    def stop_vm(self, node: str, vmid: int, *, timeout_s: float = 60) -> VmStatus:
        """Cut the power; a VM that is off already is as wanted."""
        return self._power(node, vmid, "stop", lambda now: now.status == "stopped", timeout_s)

    def delete_vm(self, node: str, vmid: int, *, timeout_s: float = 300) -> None:
        """Destroy a stopped VM and the disks in its config; returns when Proxmox says that its config is gone.

        Jobs that name the VM stay, as do disks that its config does not name. Gone already is as wanted; raises Refused
        when it has only moved to another node.
        """
        params = {"purge": 0, "destroy-unreferenced-disks": 0}
        try:
            self._do(node, "DELETE", f"/nodes/{node}/qemu/{vmid}", params, timeout_s)
        except NotThere:
            self._require_nowhere(node, vmid)
            return
        except (Undecided, Misunderstood) as doubt:
            self._settle(node, vmid, doubt)
            if not self._is_gone(node, vmid):
                raise
        wait_for(
            lambda: "gone" if self._is_gone(node, vmid) else "there",
            lambda seen: seen == "gone",
            Wait(
                f"removal of VM {vmid} on {node}",
                GRACE_S,
                self._clock,
                f"qm config {vmid} on {node} shows what is left of it",
            ),
        )

    def unlock_vm(self, node: str, vmid: int) -> None:
        """Take a lock away by root SSH, which the API cannot; none there is as wanted."""
        root = self.root(node)
        with on_record(self._record, f"unlocking VM {vmid}", node, vmid):
            output(root, ["qm", "unlock", str(vmid)])

    def wait_while(self, is_busy: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait for something that somebody else began; raises TimedOut when it still goes on then."""
        wait_for(is_busy, lambda busy: not busy, Wait(what, timeout_s, self._clock), lambda _: "it still goes on")

    def _configure(self, node: str, vmid: int, params: Mapping[str, str]) -> None:
        self._do(node, "PUT", f"/nodes/{node}/qemu/{vmid}/config", params, CONFIG_TIMEOUT_S)

    def _power(
        self, node: str, vmid: int, action: str, is_done: Callable[[VmStatus], bool], timeout_s: float
    ) -> VmStatus:
        """One power action. Where Proxmox refuses, because the VM is so already, looking decides."""
        path = f"/nodes/{node}/qemu/{vmid}/status/{action}"

        def send() -> None:
            try:
                self._do(node, "POST", path, None, timeout_s + GRACE_S)
            except (Refused, TaskFailed):
                if not is_done(self.vm_status(node, vmid)):
                    raise

        return self._ensure(Change(action, node, vmid, send, self.vm_status, is_done, GRACE_S))

    def _require_nowhere(self, node: str, vmid: int) -> None:
        where = next((row.node for row in self.cluster_vms() if row.vmid == vmid), node)
        if where != node:
            what = f"removal of VM {vmid} on {node}"
            raise Refused(what, f"it has moved to {where}", "run again to decide on what is there now", status=500)

    def _is_gone(self, node: str, vmid: int) -> bool:
        try:
            self.vm_config(node, vmid)
        except NotThere:
            return True
        return False


def _only_if(seen: VmConfig) -> dict[str, str]:
    """What makes Proxmox refuse a write unless the VM's config is still this one."""
    return {"digest": seen.digest} if seen.digest else {}
