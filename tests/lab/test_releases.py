"""Proxmox VE 8.2, 8.4 and 9.2 differ where the tool can meet it: versions, options, import content."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxmoxer import ProxmoxAPI, ResourceException

from lab.lab_clients import address, api, ended, ssh
from pvelab.lab import Lab
from pvelab.spec import LabSpec, NoSuchVersion
from support.clock import SteppingClock

ALL = ("9.2", "8.4", "8.2")


@pytest.fixture(scope="module", params=ALL)
def running(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(LabSpec(pve_version=request.param), clock=SteppingClock()) as lab:
        yield lab


@pytest.fixture
def pve(running: Lab) -> ProxmoxAPI:
    running.reset()
    return api(running)


def release(lab: Lab) -> str:
    return lab.spec.pve_version


def refusal(call: object, **params: object) -> object:
    """The errors by parameter, or the text of a refusal."""
    with pytest.raises(ResourceException) as refused:
        call(**params)  # type: ignore[operator]
    return refused.value.errors or refused.value.content


def test_the_version_is_told_alike_on_both_wires(running: Lab, pve: ProxmoxAPI) -> None:
    told = pve.version.get()
    assert told["release"] == release(running)
    shown = ssh(running, f"root@{address(running)}", "pveversion").stdout
    assert shown.startswith(f"pve-manager/{told['version']}/{told['repoid']} (running kernel: ")


def test_import_content_is_there_since_8_3_where_the_admin_enabled_it(running: Lab, pve: ProxmoxAPI) -> None:
    has_import = release(running) != "8.2"
    assert ("import" in pve.storage("local").get()["content"].split(",")) == has_import
    pve.storage("local").put(content="iso,images,import")
    assert ("import" in pve.nodes("pve1").storage("local").status.get()["content"]) == has_import
    pve.storage("local").put(content="iso,images")
    download = pve.nodes("pve1").storage("local")("download-url").post
    wanted = {"url": running.env["ISO_URL"], "filename": "noble.qcow2"}
    if has_import:
        said: object = "storage 'local' is not configured for content-type 'import'"
    else:
        said = {"content": "value 'import' does not have a value in the enumeration 'iso, vztmpl'"}
    assert refusal(download, content="import", **wanted) == said


def test_an_image_among_the_isos_is_never_a_source_by_its_name(running: Lab, pve: ProxmoxAPI) -> None:
    image = pve.nodes("pve1").storage("local")("download-url")
    assert ended(running, image.post(url=running.env["ISO_URL"], content="iso", filename="noble.img")) == "OK"
    said = refusal(pve.nodes("pve1").qemu.post, vmid=100, scsi0="local:0,import-from=local:iso/noble.img")
    needed = "not an image" if release(running) == "8.2" else "needs to be 'images' or 'import'"
    assert said == {"scsi0": f"local:iso/noble.img has wrong type 'iso' - {needed}"}


def test_by_path_root_imports_it_everywhere(running: Lab, pve: ProxmoxAPI) -> None:
    image = pve.nodes("pve1").storage("local")("download-url")
    ended(running, image.post(url=running.env["ISO_URL"], content="iso", filename="noble.img"))
    source = "/var/lib/vz/template/iso/noble.img"
    made = ssh(running, f"root@{address(running)}", f"qm create 100 --scsi0 local-lvm:0,import-from={source}")
    assert made.returncode == 0, made.stderr
    assert pve.nodes("pve1").qemu(100).config.get()["scsi0"] == "local-lvm:vm-100-disk-0,size=3584M"


def test_an_imported_disk_is_given_its_place_since_8_3(running: Lab, pve: ProxmoxAPI) -> None:
    ended(running, pve.nodes("pve1").qemu.post(vmid=100))
    image = pve.nodes("pve1").storage("local")("download-url")
    ended(running, image.post(url=running.env["ISO_URL"], content="iso", filename="noble.img"))
    words = "100 /var/lib/vz/template/iso/noble.img local-lvm --target-disk scsi1"
    done = ssh(running, f"root@{address(running)}", f"qm disk import {words}")
    if release(running) == "8.2":
        assert (done.returncode, done.stderr.splitlines()[0]) == (255, "Unknown option: target-disk")
    else:
        assert (done.returncode, "scsi1" in pve.nodes("pve1").qemu(100).config.get()) == (0, True)


@pytest.mark.parametrize(
    ("option", "value", "known_by"),
    [
        ("allow-ksm", "1", {"9.2"}),
        ("amd-sev", "type=std", {"9.2", "8.4"}),
        ("virtiofs0", "dirid=share", {"9.2", "8.4"}),
        ("ciupgrade", "0", set(ALL)),
    ],
)
def test_an_option_is_known_since_the_release_that_brought_it(
    running: Lab, pve: ProxmoxAPI, option: str, value: str, known_by: set[str]
) -> None:
    call = pve.nodes("pve1").qemu.post
    try:
        call(vmid=100, **{option: value})
        is_known = True
    except ResourceException as refused:
        is_known = "not defined in schema" not in str(refused.errors)
    assert is_known == (release(running) in known_by)


def test_a_new_disk_of_another_format_is_refused_at_the_releases_own_line(running: Lab, pve: ProxmoxAPI) -> None:
    ended_with = ended(running, pve.nodes("pve1").qemu.post(vmid=100, scsi0="local-lvm:1,format=qcow2"))
    line = {"9.2": 102, "8.4": 89, "8.2": 87}[release(running)]
    assert ended_with.endswith(f"LvmThinPlugin.pm line {line}.")


def test_the_network_is_listed_as_the_release_lists_it(running: Lab, pve: ProxmoxAPI) -> None:
    kinds = {one["type"] for one in pve.cluster.resources.get()}
    assert ("network" in kinds, "sdn" in kinds) == (release(running) == "9.2", release(running) != "9.2")


def test_a_release_that_is_not_emulated_is_refused() -> None:
    with pytest.raises(NoSuchVersion, match=r"no Proxmox VE '7\.4' here, only 9\.2, 8\.4, 8\.2"):
        LabSpec(pve_version="7.4")
