"""What storages, their volumes and pvesm refuse, and in which words."""

from __future__ import annotations

import pytest

from replay.stage import Stage

STORAGES = "/nodes/pve1/storage"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"path": "/var/lib/x", "server": "192.0.2.9"}, "unexpected property 'server'"),
        ({}, "missing value for required option 'path'"),
    ],
)
def test_options_of_a_new_storage_fit_its_type(stage: Stage, params: dict[str, str], reason: str) -> None:
    reply = stage.ask("POST", "/storage", params={"storage": "extra", "type": "dir", **params})
    assert (reply.status, reply.reason) == (500, reason)


def test_path_of_a_storage_is_absolute(stage: Stage) -> None:
    reply = stage.ask("POST", "/storage", params={"storage": "extra", "type": "dir", "path": "var/lib"})
    assert reply.json["errors"] == {"path": "invalid format - value does not look like a valid absolute path\n"}


def test_type_that_the_lab_has_no_rules_for_takes_any_option(stage: Stage) -> None:
    given = {"storage": "far", "type": "iscsi", "portal": "192.0.2.9", "target": "iqn.2001-05.com.example:x"}
    assert stage.ask("POST", "/storage", params=given).status == 200
    assert stage.ask("PUT", "/storage/far", params={"delete": "nodes"}).status == 200


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"delete": "path"}, "unable to delete required option 'path'"),
        ({"delete": "nonsense"}, "no such option 'nonsense'"),
        ({"delete": "content", "content": "iso"}, "cannot set and delete property 'content' at the same time!"),
        ({"server": "192.0.2.9"}, "unexpected property 'server'"),
    ],
)
def test_options_of_a_storage_that_cannot_be_changed(stage: Stage, params: dict[str, str], reason: str) -> None:
    reply = stage.ask("PUT", "/storage/local", params=params)
    assert (reply.status, reply.reason) == (500, f"update storage failed: {reason}")


@pytest.mark.parametrize(("option", "kind"), [("path", "required"), ("base", "fixed")])
def test_what_a_storage_was_made_with_stays(stage: Stage, option: str, kind: str) -> None:
    made = {"path": "nfs", "base": "lvm"}[option]
    given = {"nfs": {"server": "192.0.2.9", "export": "/srv"}, "lvm": {"vgname": "group"}}[made]
    assert stage.ask("POST", "/storage", params={"storage": "extra", "type": made, **given}).status == 200
    reply = stage.ask("PUT", "/storage/extra", params={"delete": option})
    assert reply.reason == f"update storage failed: unable to delete {kind} option '{option}'"


def test_storages_are_listed_for_another_node_and_with_their_formats(stage: Stage) -> None:
    assert stage.ask("GET", STORAGES, params={"target": "elsewhere"}).json["data"] == []
    (shown,) = stage.ask("GET", STORAGES, params={"format": "1", "target": "pve1"}).json["data"]
    assert shown["formats"] == {"default": "raw", "supported": ["qcow2", "raw", "subvol", "vmdk"]}
    assert shown["format"] == [{"qcow2": 1, "raw": 1, "subvol": 1, "vmdk": 1}, "raw"]


def test_storage_is_listed_if_it_holds_one_of_the_content_types(stage: Stage) -> None:
    stage.ask("POST", "/storage", params={"storage": "isos", "type": "dir", "path": "/isos", "content": "iso"})
    shown = stage.ask("GET", STORAGES, params={"content": "iso,images"}).json["data"]
    assert {one["storage"] for one in shown} == {"local", "isos"}


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("pvesm apiinfo", 0, "APIVER 15\nAPIAGE 6\n", ""),
        ("pvesm alloc local 100 vm-100-disk-7 4M", 255, "", "unable to parse volume filename 'vm-100-disk-7'\n"),
        (
            "pvesm alloc local 100 '' 4M",
            0,
            "Formatting '/var/lib/vz/images/100/vm-100-disk-0.raw', fmt=raw size=4194304 preallocation=off\n"
            "successfully created 'local:100/vm-100-disk-0.raw'\n",
            "",
        ),
        (
            "pvesm alloc local 100 vm-100-disk-0.vmdk 4M",
            0,
            "Formatting '/var/lib/vz/images/100/vm-100-disk-0.vmdk', fmt=vmdk size=4194304 compat6=off"
            " hwversion=undefined\nsuccessfully created 'local:100/vm-100-disk-0.vmdk'\n",
            "",
        ),
        (
            "pvesm free import/disk.qcow2 --storage local --delay 5",
            0,
            "Removed volume 'local:import/disk.qcow2'\n",
            "",
        ),
        (
            "pvesm free import/disk.qcow2",
            255,
            "",
            "400 Parameter verification failed.\nvolume: no storage specified - incomplete volume ID\n"
            "pvesm free <volume> [OPTIONS]\n",
        ),
    ],
)
def test_pvesm_at_the_edges(stage: Stage, line: str, code: int, out: str, err: str) -> None:
    ran = stage.line(line)
    assert (ran.exit_code, ran.out, ran.err) == (code, out, err)


def test_base_of_a_linked_clone_is_not_freed_and_pvesm_tells_so_on_standard_error_only(stage: Stage) -> None:
    stage.as_root("POST", "/nodes/pve1/qemu", {"vmid": "100", "scsi0": "local:1"})
    stage.as_root("POST", "/nodes/pve1/qemu/100/template", {})
    stage.as_root("POST", "/nodes/pve1/qemu/100/clone", {"newid": "101"})
    ran = stage.shell(["pvesm", "free", "local:100/base-100-disk-0.raw"])
    text = "base volume '100/base-100-disk-0.raw' is still in use by linked clones\n"
    assert (ran.exit_code, ran.out, ran.err) == (0, "", text)
