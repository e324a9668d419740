"""The lab's API as clients that were written for Proxmox VE see it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from proxmoxer import ProxmoxAPI, ResourceException

from replay.stage import ADDRESS, SECRETS, Stage

UPLOAD_BYTES = 4 << 20


@contextmanager
def proxmoxer_client(stage: Stage, **login: str) -> Iterator[Any]:
    certificate = str(stage.folder / "throwaway-ca.pem")
    client = ProxmoxAPI(ADDRESS, port=stage.port, verify_ssl=certificate, **login)
    yield client
    client._store["session"].close()


@pytest.fixture
def proxmox(stage: Stage) -> Iterator[Any]:
    secret = SECRETS["root@pam!test"]
    with proxmoxer_client(stage, user="root@pam", token_name="test", token_value=secret) as client:
        yield client


def test_proxmoxer_makes_starts_and_destroys_a_vm(proxmox: Any, stage: Stage) -> None:
    vmid = proxmox.cluster.nextid.get()
    disk = "local:0,import-from=local:import/disk.qcow2"
    stage.wait_for(proxmox.nodes("pve1").qemu.post(vmid=vmid, name="web", memory=512, scsi0=disk, onboot=1))
    guest = proxmox.nodes("pve1").qemu(vmid)
    stage.wait_for(guest.status.start.post())
    assert guest.status.current.get()["qmpstatus"] == "running"
    with pytest.raises(ResourceException) as refused:
        guest.delete()
    assert (refused.value.status_code, refused.value.content) == (500, f"VM {vmid} is running - destroy failed")
    stage.wait_for(guest.status.stop.post())
    stage.wait_for(guest.delete())
    assert proxmox.nodes("pve1").qemu.get() == []


def test_proxmoxer_sees_parameter_errors_by_name(proxmox: Any) -> None:
    with pytest.raises(ResourceException) as refused:
        proxmox.nodes("pve1").qemu.post(vmid=5)
    assert refused.value.status_code == 400
    assert list(refused.value.errors) == ["vmid"]


def test_proxmoxer_logs_in_with_a_password(stage: Stage) -> None:
    stage.reset()
    stage.as_root("PUT", "/access/password", {"userid": "svc@pve", "password": "Secret-12345"})
    with proxmoxer_client(stage, user="svc@pve", password="Secret-12345") as proxmox:
        stage.wait_for(proxmox.nodes("pve1").qemu.post(vmid=100))
        assert [vm["vmid"] for vm in proxmox.nodes("pve1").qemu.get()] == [100]


def test_upload_by_curl_arrives_whole(stage: Stage, tmp_path: Path) -> None:
    stage.reset()
    image = tmp_path / "big.iso"
    image.write_bytes(bytes(range(256)) * (UPLOAD_BYTES // 256))
    url = f"https://{ADDRESS}:{stage.port}/api2/json/nodes/pve1/storage/local/upload"
    header = f"Authorization: PVEAPIToken=root@pam!test={SECRETS['root@pam!test']}"
    fields = ["-F", "content=iso", "-F", f"filename=@{image}"]
    command = ["curl", "-sfk", "-H", header, *fields, url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    stage.wait_for(answer.stdout.removeprefix('{"data":"').removesuffix('"}'))
    arrived = stage.look(lambda world: world.nodes["pve1"].files.content("/var/lib/vz/template/iso/big.iso"))
    assert arrived.size_bytes == UPLOAD_BYTES
    assert (
        arrived.digest("md5")
        == subprocess.run(["md5sum", image], capture_output=True, text=True, check=True).stdout[:32]
    )
    assert list((stage.folder / "spool").glob("upload-*")) != []


def test_closed_listener_has_dropped_its_idle_connections(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with proxmoxer_client(stage, user="root@pam", token_name="test", token_value=SECRETS["root@pam!test"]) as client:
        client.version.get()
        stage.close()
        with pytest.raises(requests.ConnectionError):
            client.version.get()
