"""Answers and outputs that make no sense: said to be so, and nothing is written that rests on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homelab import json_text
from homelab.errors import Misunderstood
from homelab.k3s_manager import answers as k3s_answers
from homelab.k3s_manager.flags import shared
from homelab.proxmox import answers, sizes
from homelab.proxmox.remote_files import place_bytes
from homelab.proxmox.ssh import Ssh
from homelab.shell import HostKey, Result
from support.fake_shell import FakeShell, done

WHERE = "ubuntu@192.0.2.9"
HALF_A_PAIR = r'{"name": "\ud800"}'

# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!DOCTYPE html>",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[NaN]",
        "[-Infinity]",
        "[1e999]",
        HALF_A_PAIR,
        HALF_A_PAIR.encode(),
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        b"\xff\xfe[\x00]\x00",
        "9" * 5000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_text_that_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        json_text.read(text)


def test_json_is_read_whatever_is_escaped_in_it() -> None:
    written = json.dumps({"name": "Gr\u00fc\u00dfe \U0001f600", "share": 0.5, "size": 2**70})
    assert json_text.read(written) == json_text.read(written.encode()) == json.loads(written)


@settings(derandomize=True, max_examples=200, deadline=None, database=None)
@given(st.one_of(st.binary(max_size=60), st.text(st.characters(exclude_categories=[]), max_size=60)))
def test_any_text_is_json_that_can_be_written_again_or_a_value_error(text: str | bytes) -> None:
    try:
        document = json_text.read(text)
    except ValueError:
        return
    json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"vmid": 99},
        {"vmid": -1},
        {"vmid": True},
        {"vmid": 10**9},
        {"vmid": 1e300},
        {"vmid": "1e3"},
        {"vmid": "9" * 5000},
        {"vmid": [100]},
        {},
        {"vmid": 100, "type": "-"},
        {"vmid": 100, "type": {}},
        {"vmid": 100, "node": ["pve1"]},
        {"vmid": 100, "name": {"a": 1}},
    ],
    ids=str,
)
def test_row_with_a_senseless_field_is_misunderstood_not_left_out(row: dict[str, Any]) -> None:
    with pytest.raises(Misunderstood) as said:
        answers.cluster_vms([{"type": "qemu", "node": "pve1", "name": "a", **row}])
    assert len(said.value.why) < 200


def test_name_that_no_vm_can_have_is_one_that_is_not_known() -> None:
    names = ["", "-", "a b", "x" * 300, "k3s\ufffd", "k3s-vm-pve1", "a", "A.b"]
    data = [{"type": "qemu", "vmid": 100, "node": "pve1", "name": name} for name in names]
    assert [row.name for row in answers.cluster_vms(data)] == ["", "", "", "", "", "k3s-vm-pve1", "a", "A.b"]


@pytest.mark.parametrize("value", ["-", 2, "yes", [1], -1])
def test_flag_that_is_neither_yes_nor_no_is_misunderstood(value: object) -> None:
    node = {"type": "node", "name": "pve1", "online": value}
    with pytest.raises(Misunderstood, match="online"):
        answers.cluster_status([node])


@pytest.mark.parametrize("value", ["-", "pve1", "192.0.2.1/24", "192.0.2.1\n", "\0", "x" * 100_000, 1, ["192.0.2.1"]])
def test_address_that_is_none_is_misunderstood(value: object) -> None:
    with pytest.raises(Misunderstood, match="the field 'ip'"):
        answers.cluster_status([{"type": "node", "name": "pve1", "ip": value}])
    with pytest.raises(Misunderstood, match="the field 'ip-address'"):
        answers.agent_interfaces({"result": [{"name": "eth0", "ip-addresses": [{"ip-address": value}]}]})


@pytest.mark.parametrize("value", ["", "192.0.2.1", "fd00::1", "fe80::1%eth0"])
def test_address_is_as_it_is_written(value: str) -> None:
    (member,) = answers.cluster_status([{"type": "node", "name": "pve1", "ip": value}]).members
    assert member.address == value


@pytest.mark.parametrize("ctime", ["\u00b2", "9" * 5000, "-1", "", "x"])
def test_vm_whose_making_has_a_senseless_time_counts_as_without_one(ctime: str) -> None:
    assert answers.vm_config({"meta": f"creation-qemu=9.0,ctime={ctime}"}).created_at == 0


@pytest.mark.parametrize("size", ["", "G", "-1G", "1e9", "9" * 5000, "\u0663G", "1.G", "x" * 100_000])
def test_disk_size_that_is_none_is_misunderstood(size: str) -> None:
    with pytest.raises(Misunderstood, match="a disk size") as said:
        sizes.parse(size)
    assert len(said.value.why) < 200


FIELDS = (
    *("vmid", "name", "node", "status", "qmpstatus", "type", "ip", "online", "local", "quorate", "uptime", "lock"),
    *("tags", "digest", "scsi0", "smbios1", "net0", "storage", "content", "active", "enabled", "avail", "total"),
    *("shared", "volid", "size", "iface", "upid", "starttime", "endtime", "cpuinfo", "cpus", "memory", "free", "used"),
    *("pveversion", "result", "hardware-address", "ip-addresses", "ip-address", "items", "metadata", "labels"),
    *("nodeInfo", "systemUUID", "kubeletVersion", "bootID", "conditions", "addresses", "address", "members", "id"),
    *("user", "ha", "managed", "mem"),
)
PARSERS: dict[str, Callable[[Any], object]] = {
    "cluster status": answers.cluster_status,
    "VMs of the cluster": answers.cluster_vms,
    "VMs of a node": lambda data: answers.node_vms(data, "pve1"),
    "host": answers.host_status,
    "VM status": answers.vm_status,
    "VM config": answers.vm_config,
    "storages": lambda data: answers.storages(data, "pve1"),
    "volumes": lambda data: answers.volumes(data, "local"),
    "bridges": lambda data: answers.bridges(data, "pve1"),
    "tasks": lambda data: answers.tasks(data, "pve1"),
    "interfaces in the guest": answers.agent_interfaces,
    "Nodes": lambda data: k3s_answers.parse_nodes(json.dumps(data), WHERE),
    "etcd members": lambda data: k3s_answers.parse_members(json.dumps(data), WHERE),
}
leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)),
    st.sampled_from(("1e9", "qemu", "node", "100", 2**70)),
)
rows = st.dictionaries(st.sampled_from(FIELDS), leaves, max_size=6)
documents = st.recursive(
    st.one_of(leaves, rows),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)),
    max_leaves=12,
)
shaped = st.one_of(rows, st.lists(rows, max_size=3), st.fixed_dictionaries({"items": st.lists(documents, max_size=2)}))


@settings(derandomize=True, max_examples=400, deadline=None, database=None)
@given(st.sampled_from(sorted(PARSERS)), st.one_of(shaped, documents))
def test_a_parser_understands_an_answer_or_says_what_it_does_not(parser: str, document: Any) -> None:
    try:
        PARSERS[parser](document)
    except Misunderstood as said:
        assert said.what
        assert said.cure


# --- k3s -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "item",
    [
        {"metadata": {"name": ["a"]}},
        {"metadata": {"labels": "node-role.kubernetes.io/control-plane"}},
        {"status": {"nodeInfo": {"systemUUID": 7, "kubeletVersion": "v1"}}},
        {"status": {"nodeInfo": []}},
        {"status": []},
    ],
    ids=str,
)
def test_node_object_with_a_senseless_field_is_misunderstood(item: dict[str, Any]) -> None:
    sound: dict[str, Any] = {
        "metadata": {"name": "a"},
        "status": {"nodeInfo": {"systemUUID": "U", "kubeletVersion": "v1"}},
    }
    (node,) = k3s_answers.parse_nodes(json.dumps({"items": [sound]}), WHERE)
    assert (node.name, node.system_uuid, node.boot_id) == ("a", "u", "")

    merged = {key: {**sound[key], **item.get(key, {})} if item.get(key) != [] else [] for key in sound}
    with pytest.raises(Misunderstood, match="the list of Nodes is not understood"):
        k3s_answers.parse_nodes(json.dumps({"items": [merged]}), WHERE)


@pytest.mark.parametrize("text", ["[" * 1200, "disable: 2024-99-99", "a: !!int x", "\x00", "[1]", "a: b: c"])
def test_config_of_a_server_that_makes_no_sense_is_misunderstood(text: str) -> None:
    with pytest.raises(Misunderstood, match="config is not understood") as said:
        shared({"config": text}, "")
    assert said.value.cure


# --- outputs of commands ---------------------------------------------------------------------------------------------


def node(printed: dict[str, str]) -> tuple[Ssh, FakeShell]:
    """A node whose commands print this, by their first word."""

    def respond(line: str, _: bytes) -> Result:
        return done(printed.get(line.split()[0], ""))

    shell = FakeShell(respond)
    return Ssh("pve1", shell, "root"), shell


SHA256_OF_X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.mark.parametrize("odd", ["", "x", "-", "12 bytes", "<html>", "\ufffd"])
@pytest.mark.parametrize("command", ["stat", "sha256sum"])
def test_file_whose_check_prints_nonsense_is_removed_and_not_put_in_place(command: str, odd: str) -> None:
    ssh, shell = node({"stat": "1\n", "sha256sum": f"{SHA256_OF_X}  /x\n", command: odd})

    with pytest.raises(Misunderstood):
        place_bytes(ssh, "/var/lib/vz/snippets/v.yaml", b"x")

    assert [line.split()[0] for line in shell.commands][-1] == "rm"
    assert not any(line.startswith("mv") for line in shell.commands)


@pytest.mark.parametrize("odd", ["", "var/lib", "/a\n/b", "/\x00", "/\ufffd", "rbd:pool/x"])
def test_volume_whose_path_is_none_is_not_written(odd: str) -> None:
    ssh, _ = node({"pvesm": odd})
    with pytest.raises(Misunderstood, match=r"pvesm path local:snippets/v\.yaml"):
        ssh.path_of("local:snippets/v.yaml")


def test_output_of_pvesh_that_is_not_utf_8_is_misunderstood() -> None:
    ssh = Ssh("pve1", FakeShell(lambda *_: Result(0, '{"a": "\ufffd"}', "", b'{"a": "\xff"}')), "root")
    with pytest.raises(Misunderstood):
        ssh.call("GET", "/nodes/pve1/qemu")


@pytest.mark.parametrize("line", ["", "a", "a b", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==", "ssh-ed25519 <html>", "ü ü"])
def test_line_that_is_no_public_key_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        HostKey.parse(line)
