"""Storages as they are: names, formats, numbers, space and reachability of dir, NFS, LVM-thin and ZFS."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from proxmoxer import ProxmoxAPI, ResourceException

from lab.lab_clients import address, api, ended, ssh
from pvelab.lab import Lab
from pvelab.state import GIB

NFS = {"type": "nfs", "server": "192.0.2.9", "export": "/srv", "content": "iso,images,import,snippets"}
IMAGE = "noble.qcow2"


@pytest.fixture
def pve(lab: Lab) -> ProxmoxAPI:
    return api(lab)


@pytest.fixture
def share(pve: ProxmoxAPI) -> str:
    """A storage on an NFS server, on all nodes."""
    pve.storage.post(storage="share", **NFS)
    return "share"


def make(lab: Lab, vmid: int = 100, node: str = "pve1", **options: str) -> str:
    """How the creation of a VM ended, without what stands before every failure of one."""
    outcome = ended(lab, api(lab).nodes(node).qemu.post(vmid=vmid, **options))
    return outcome.removeprefix(f"unable to create VM {vmid} - ")


def drive(pve: ProxmoxAPI, option: str, vmid: int = 100, node: str = "pve1") -> str:
    return str(pve.nodes(node).qemu(vmid).config.get()[option])


def fetch_image(lab: Lab, node: str, storage: str = "local", name: str = IMAGE) -> str:
    """The lab's image as an import volume."""
    download = api(lab).nodes(node).storage(storage)("download-url")
    assert ended(lab, download.post(url=lab.env["ISO_URL"], content="import", filename=name)) == "OK"
    return f"{storage}:import/{name}"


def on_node(lab: Lab, command: str, node: str = "pve1") -> tuple[int, str, str]:
    done = ssh(lab, f"root@{address(lab, node)}", command)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("node", "storage", "volid"),
    [
        ("pve1", "local", "local:100/vm-100-disk-0.raw"),
        ("pve1", "local-lvm", "local-lvm:vm-100-disk-0"),
        ("pve2", "local-zfs", "local-zfs:vm-100-disk-0"),
        ("pve1", "share", "share:100/vm-100-disk-0.raw"),
    ],
)
def test_a_disk_is_named_as_its_storage_names_disks(
    lab: Lab, pve: ProxmoxAPI, share: str, node: str, storage: str, volid: str
) -> None:
    del share
    assert make(lab, node=node, scsi0=f"{storage}:4") == "OK"
    assert drive(pve, "scsi0", node=node) == f"{volid},size=4G"
    [shown] = pve.nodes(node).storage(storage).content.get(vmid=100)
    assert (shown["volid"], shown["format"], shown["size"]) == (volid, "raw", 4 * GIB)


@pytest.mark.parametrize(
    ("node", "storage", "where"),
    [("pve1", "local-lvm", "LvmThinPlugin.pm line 102"), ("pve2", "local-zfs", "ZFSPoolPlugin.pm line 292")],
)
def test_a_new_disk_of_another_format_is_refused_where_only_raw_is(
    lab: Lab, pve: ProxmoxAPI, node: str, storage: str, where: str
) -> None:
    said = f"unsupported format 'qcow2' at /usr/share/perl5/PVE/Storage/{where}."
    assert make(lab, node=node, scsi0=f"{storage}:4,format=qcow2") == said
    with pytest.raises(ResourceException, match="unsupported format 'qcow2'"):
        pve.nodes(node).storage(storage).content.post(vmid=100, filename="vm-100-disk-0.qcow2", size="1G")


def test_an_import_takes_the_storages_own_format_and_says_so(lab: Lab, pve: ProxmoxAPI) -> None:
    source = fetch_image(lab, "pve1")
    upid = pve.nodes("pve1").qemu.post(vmid=100, scsi0=f"local-lvm:0,import-from={source},format=qcow2")
    assert ended(lab, upid) == "OK"
    assert drive(pve, "scsi0").startswith("local-lvm:vm-100-disk-0,size=")
    log = [line["t"] for line in pve.nodes("pve1").tasks(upid).log.get()]
    assert "format 'qcow2' is not supported by the target storage 'local-lvm' - using 'raw' instead" in log


def test_a_qcow2_image_may_be_named_img_and_keeps_its_size(lab: Lab, pve: ProxmoxAPI) -> None:
    fetch_image(lab, "pve1")
    on_node(lab, f"cp /var/lib/vz/import/{IMAGE} /var/lib/vz/template/iso/noble.img")
    assert on_node(lab, "qm create 100 --scsi0 local-lvm:0,import-from=/var/lib/vz/template/iso/noble.img")[0] == 0
    assert drive(pve, "scsi0") == "local-lvm:vm-100-disk-0,size=3584M"


def test_an_orphan_takes_its_number_from_the_next_vm(lab: Lab, pve: ProxmoxAPI) -> None:
    pve.nodes("pve1").storage("local-lvm").content.post(vmid=100, filename="vm-100-disk-0", size="1G")
    assert make(lab, scsi0="local-lvm:4", ide2="local-lvm:cloudinit") == "OK"
    assert drive(pve, "scsi0") == "local-lvm:vm-100-disk-1,size=4G"
    assert drive(pve, "ide2") == "local-lvm:vm-100-cloudinit,media=cdrom"
    ended(lab, pve.nodes("pve1").qemu(100).delete())
    left = [one["volid"] for one in pve.nodes("pve1").storage("local-lvm").content.get()]
    assert left == ["local-lvm:vm-100-disk-0"]


def test_disks_are_made_in_the_order_of_their_names_efi_first_and_tpm_between(lab: Lab, pve: ProxmoxAPI) -> None:
    efi, tpm = "local-lvm:1,efitype=4m", "local-lvm:1,version=v2.0"
    assert make(lab, virtio0="local-lvm:1", scsi0="local-lvm:1", tpmstate0=tpm, efidisk0=efi, bios="ovmf") == "OK"
    numbers = {name: drive(pve, name).partition(",")[0][-1] for name in ("efidisk0", "scsi0", "tpmstate0", "virtio0")}
    assert numbers == {"efidisk0": "0", "scsi0": "1", "tpmstate0": "2", "virtio0": "3"}


def test_on_nfs_disks_of_two_formats_may_have_the_same_number(lab: Lab, pve: ProxmoxAPI, share: str) -> None:
    assert make(lab, scsi0=f"{share}:1,format=qcow2", scsi1=f"{share}:1,format=raw") == "OK"
    assert drive(pve, "scsi0").startswith("share:100/vm-100-disk-0.qcow2,")
    assert drive(pve, "scsi1").startswith("share:100/vm-100-disk-0.raw,")
    assert make(lab, 101, scsi0="local:1,format=qcow2", scsi1="local:1,format=raw") == "OK"
    assert drive(pve, "scsi1", 101).startswith("local:101/vm-101-disk-1.raw,")


def test_a_shared_storage_is_one_for_all_nodes(lab: Lab, pve: ProxmoxAPI, share: str) -> None:
    source = fetch_image(lab, "pve1", share)
    assert make(lab, node="pve3", scsi0=f"{share}:0,import-from={source}") == "OK"
    seen = [pve.nodes(node).storage(share).content.get() for node in ("pve1", "pve2")]
    assert seen[0] == seen[1]
    assert {one["volid"] for one in seen[0]} == {source, "share:100/vm-100-disk-0.qcow2"}
    ended(lab, pve.nodes("pve2").storage(share).content(source).delete())
    assert [one["volid"] for one in pve.nodes("pve1").storage(share).content.get()] == ["share:100/vm-100-disk-0.qcow2"]


def test_a_shared_storage_whose_server_is_away_is_not_online(lab: Lab, pve: ProxmoxAPI, share: str) -> None:
    assert make(lab, 100, scsi0=f"{share}:1") == "OK"
    lab.fault("storage-offline", storage=share)
    shown = pve.nodes("pve2").storage(share).status.get()
    assert (shown["active"], shown["total"], shown["enabled"]) == (0, 0, 1)
    with pytest.raises(ResourceException, match="storage 'share' is not online"):
        pve.nodes("pve2").storage(share).content.get()
    assert make(lab, 101, scsi0=f"{share}:1") == "storage 'share' is not online"
    assert ended(lab, pve.nodes("pve1").qemu(100).status.start.post()) == "storage 'share' is not online"
    assert "share nfs inactive 0 0 0" in " ".join(on_node(lab, "pvesm status")[1].split())
    lab.clear_faults()
    assert ended(lab, pve.nodes("pve1").qemu(100).status.start.post()) == "OK"


@pytest.mark.parametrize(("storage", "kept"), [("local-lvm", {"images"}), ("share", {"images", "iso"})])
def test_content_that_a_type_does_not_have_is_left_out(
    pve: ProxmoxAPI, share: str, storage: str, kept: set[str]
) -> None:
    del share
    pve.storage(storage).put(content="images,iso" if storage == "share" else "images,iso,import,snippets")
    assert set(pve.storage(storage).get()["content"].split(",")) == kept


def test_an_import_that_does_not_fit_says_why_in_its_log_only(lab: Lab, pve: ProxmoxAPI) -> None:
    source = fetch_image(lab, "pve1")
    lab.look(lambda world: setattr(world.capacities["pve1", "local-lvm"], "total_bytes", 1 << 20))
    lab.look(lambda world: setattr(world.capacities["pve1", "local-lvm"], "other_bytes", (1 << 20) - 8192))
    upid = pve.nodes("pve1").qemu.post(vmid=100, scsi0=f"local-lvm:0,import-from={source}")
    command = (
        "/usr/bin/qemu-img convert -p -n -f qcow2 -O raw /var/lib/vz/import/noble.qcow2 zeroinit:/dev/pve/vm-100-disk-0"
    )
    said = f"cannot import from '{source}' - copy failed: command '{command}' failed: exit code 1"
    assert ended(lab, upid) == f"unable to create VM 100 - {said}"
    log = [line["t"] for line in pve.nodes("pve1").tasks(upid).log.get()]
    assert "qemu-img: error while writing at byte 8192: No space left on device" in log
    assert pve.nodes("pve1").storage("local-lvm").content.get() == []
    assert pve.nodes("pve1").qemu.get() == []


def test_a_full_thin_pool_takes_no_new_disk(lab: Lab) -> None:
    lab.look(lambda world: setattr(world.capacities["pve1", "local-lvm"], "other_bytes", 1 << 50))
    said = "Cannot create new thin volume, free space in thin pool pve/data reached threshold."
    assert make(lab, scsi0="local-lvm:1") == f"lvcreate 'pve/vm-100-disk-0' error:   {said}"


def test_an_upload_needs_room_in_var_tmp_of_the_node_that_takes_it(lab: Lab, share: str) -> None:
    lab.fault("storage-full", node="pve1", storage="local")
    lab.look(lambda world: setattr(world.nodes["pve1"].files.mounted[0], "other_bytes", 1 << 50))
    answer = upload(lab, "pve1", share, bytes(1 << 16))
    assert (answer.status_code, answer.reason) == (500, "write to temporary file failed - No space left on device")
    assert ended(lab, upload(lab, "pve2", share, bytes(1 << 16)).json()["data"]) == "OK"


def test_an_upload_lies_in_var_tmp_until_its_task_has_ended(lab: Lab) -> None:
    upid = upload(lab, "pve1", "local", b"iso").json()["data"]
    assert "pveupload-" in on_node(lab, "ls /var/tmp")[1]
    assert ended(lab, upid) == "OK"
    assert on_node(lab, "ls /var/tmp")[1] == ""


@pytest.mark.parametrize(("node", "storage"), [("pve1", "local-lvm"), ("pve2", "local-zfs"), ("pve1", "local")])
def test_freeing_a_volume_that_is_not_there_is_no_error(lab: Lab, pve: ProxmoxAPI, node: str, storage: str) -> None:
    name = "100/vm-100-disk-7.raw" if storage == "local" else "vm-100-disk-7"
    assert ended(lab, pve.nodes(node).storage(storage).content(f"{storage}:{name}").delete()) == "OK"
    code, out, _ = on_node(lab, f"pvesm free {storage}:{name}", node)
    assert (code, out.splitlines()[-1]) == (0, f"Removed volume '{storage}:{name}'")


def test_a_disk_of_a_storage_that_is_not_on_the_node_cannot_be_made(lab: Lab) -> None:
    assert make(lab, scsi0="local-zfs:1") == "storage 'local-zfs' is not available on node 'pve1'"


def upload(lab: Lab, node: str, storage: str, data: bytes) -> requests.Response:
    """Upload an ISO image to a node by requests."""
    return requests.post(
        f"https://{address(lab, node)}:{lab.env['PROXMOX_PORT']}/api2/json/nodes/{node}/storage/{storage}/upload",
        data={"content": "iso"},
        files={"filename": ("a.iso", data)},
        headers={"Authorization": f"PVEAPIToken={lab.env['API_TOKEN']}"},
        verify=lab.env["PROXMOX_CA_BUNDLE"],
        timeout=5,
    )


def test_a_thick_zfs_pool_refuses_what_a_sparse_one_promises(lab: Lab, pve: ProxmoxAPI) -> None:
    lab.look(lambda world: setattr(world.capacities["pve2", "local-zfs"], "total_bytes", 10 * GIB))
    assert make(lab, node="pve2", scsi0="local-zfs:50") == "OK"
    options: dict[str, Any] = {"sparse": 0}
    pve.storage("local-zfs").put(**options)
    said = "zfs error: cannot create 'rpool/data/vm-101-disk-0': out of space"
    assert make(lab, 101, node="pve2", scsi0="local-zfs:50") == said
