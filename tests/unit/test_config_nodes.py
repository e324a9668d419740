"""The numbered keys: which nodes there are, and which drop out."""

from __future__ import annotations

from pathlib import Path

import pytest

from homelab.config import parse
from homelab.config.dotenv_file import LocalFiles
from homelab.errors import ConfigError
from homelab.settings import Config, Role, Via

TOKEN = {"API_TOKEN": "root@pam!homelab=secret-canary"}
TWO_NODES = {"NODE_1": "pve", "STORAGE_1": "local-zfs", "NODE_2": "fun-bedbug", "STORAGE_2": "local"}
NOWHERE = Path("/nonexistent")


def read(*parts: dict[str, str]) -> Config:
    values = {key: value for part in (TOKEN, *parts) for key, value in part.items()}
    return parse(values, home=NOWHERE, via=Via.AUTO, files=LocalFiles())


def refused(*parts: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        read(*parts)
    return [problem.what for problem in error.value.problems]


def test_four_lines_make_a_node() -> None:
    four_lines = {"NODE_3": "new-node", "STORAGE_3": "local-zfs", "CPU_RATIO_3": "0.8", "MEMORY_RATIO_3": "0.8"}
    config = read(TWO_NODES, four_lines)
    node = config.nodes[2]
    assert (node.number, node.name, node.vm_name) == (3, "new-node", "k3s-vm-new-node")
    assert (node.cpu_ratio, node.memory_ratio) == (0.8, 0.8)
    assert (node.storage, node.disk_storage, node.bridges) == ("local-zfs", "local-zfs", ("vmbr0",))
    assert config.warnings == ()


def test_missing_optional_keys_have_their_defaults() -> None:
    node = read(TWO_NODES).nodes[0]
    assert (node.cpu_ratio, node.memory_ratio, node.cores, node.memory_mib) == (0.5, 0.5, None, None)
    assert (node.is_enabled, node.host, node.api_port, node.ssh_port, node.fingerprint) == (True, None, 8006, 22, None)
    assert (node.image_storage, node.vmid, node.disk_bytes) == (None, None, 200 * 1024**3)
    assert (node.ip_config, node.role) == ("ip=dhcp", Role.AUTO)


def test_every_key_of_a_node_is_read() -> None:
    own = {
        "NODE_ENABLED_1": "no",
        "NODE_HOST_1": "192.168.4.11:443",
        "SSH_PORT_1": "2222",
        "PROXMOX_FINGERPRINT_1": "AB" * 32,
        "IMG_STORAGE_1": "tank",
        "ISO_STORAGE_1": "nas",
        "NETWORK_IFACES_1": "vmbr0, vmbr1",
        "VMID_1": "107",
        "VM_NAME_1": "K3S_gpu",
        "VM_CORES_1": "10",
        "VM_MEMORY_1": "32768",
        "VM_DISK_SIZE_1": "1800G",
        "CLOUD_IP_CONFIG_1": "ip=192.168.4.50/24,gw=192.168.4.1",
        "K3S_ROLE_1": "agent",
        "K3S_LABELS_1": "disk=ssd, example.com/rack=2,spare=",
    }
    node = read(TWO_NODES, own).nodes[0]
    assert (node.is_enabled, node.host, node.api_port, node.ssh_port) == (False, "192.168.4.11", 443, 2222)
    assert node.fingerprint == ":".join(["AB"] * 32)
    assert (node.storage, node.disk_storage, node.image_storage) == ("local-zfs", "tank", "nas")
    assert (node.bridges, node.vmid, node.vm_name) == (("vmbr0", "vmbr1"), 107, "k3s-gpu")
    assert (node.cores, node.memory_mib, node.disk_bytes) == (10, 32768, 1800 * 1024**3)
    assert (node.ip_config, node.role) == ("ip=192.168.4.50/24,gw=192.168.4.1", Role.AGENT)
    assert node.labels == (("disk", "ssd"), ("example.com/rack", "2"), ("spare", ""))


@pytest.mark.parametrize(
    "label",
    [
        *("node.kubernetes.io/pool=a", "a.node.kubernetes.io/x=1", "kubelet.kubernetes.io/x=1"),
        *("topology.kubernetes.io/zone=rack1", "topology.kubernetes.io/region=home"),
    ],
)
def test_labels_of_kubernetes_that_a_kubelet_may_set_are_taken(label: str) -> None:
    key, _, value = label.partition("=")
    assert read(TWO_NODES, {"K3S_LABELS_2": label}).nodes[1].labels == ((key, value),)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("node-role.kubernetes.io/worker=true", "a VM may not give itself that label"),
        ("kubernetes.io/hostname=x", "a VM may not give itself that label"),
        ("node-restriction.kubernetes.io/x=1", "a VM may not give itself that label"),
        ("a.k8s.io/x=1", "a VM may not give itself that label"),
        ("disk", "a label in it has no ="),
        ("=ssd", "the key of a label is none"),
        ("disk-=ssd", "the key of a label is none"),
        ("Example.com/disk=ssd", "the key of a label is none"),
        ("/disk=ssd", "the key of a label is none"),
        ("disk=fast one", "the value of a label"),
        ("disk=" + "s" * 64, "the value of a label"),
        ("disk=ssd,disk=hdd", "a label stands in it twice"),
        (",", "it holds no label"),
    ],
)
def test_labels_that_kubernetes_would_refuse_drop_the_node(labels: str, why: str) -> None:
    config = read(TWO_NODES, {"K3S_LABELS_2": labels})
    (problem,) = config.dropped[0].problems
    assert why in problem.why
    assert problem.cure.startswith("set K3S_LABELS_2 to labels")


def test_disk_storage_alone_is_enough() -> None:
    node = read({"NODE_1": "pve", "IMG_STORAGE_1": "local-zfs"}).nodes[0]
    assert (node.storage, node.disk_storage) == (None, "local-zfs")


def test_node_keys_override_general_keys() -> None:
    general = {"PROXMOX_PORT": "443", "SSH_PORT": "2222", "VM_DISK_SIZE": "20G", "CLOUD_IP_CONFIG": "ip=dhcp,ip6=auto"}
    config = read(TWO_NODES, general, {"SSH_PORT_2": "22", "VM_DISK_SIZE_2": "30G", "CLOUD_IP_CONFIG_2": "dhcp"})
    first, second = config.nodes
    assert (first.api_port, first.ssh_port, first.disk_bytes, first.ip_config) == (
        443,
        2222,
        20 * 1024**3,
        "ip=dhcp,ip6=auto",
    )
    assert (second.api_port, second.ssh_port, second.disk_bytes, second.ip_config) == (443, 22, 30 * 1024**3, "ip=dhcp")


def test_gap_in_the_numbers_is_warned_about_and_later_nodes_are_read() -> None:
    config = read(TWO_NODES, {"NODE_4": "a", "STORAGE_4": "local", "NODE_9": "b", "STORAGE_9": "local"})
    assert [node.number for node in config.nodes] == [1, 2, 4, 9]
    assert config.warnings == (
        "NODE_3 is missing; the nodes after that are read all the same",
        "NODE_5 to NODE_8 are missing; the nodes after that are read all the same",
    )


def test_keys_of_a_number_without_a_node_are_warned_about() -> None:
    config = read(
        TWO_NODES, {"STORAGE_3": "local", "CPU_RATIO_3": "0.5", "VMID_4": "100", "OTHER_5": "x", "NODE_6": ""}
    )
    assert config.warnings == (
        "NODE_3 is not set, so CPU_RATIO_3, STORAGE_3 are not used",
        "NODE_4 is not set, so VMID_4 is not used",
    )


def test_node_key_with_an_odd_number_is_warned_about() -> None:
    config = read(TWO_NODES, {"NODE_0": "a", "NODE_03": "b", "NODE_" + "9" * 5000: "c"})
    assert len(config.nodes) == 2
    assert [warning.split(" ", 1)[1] for warning in config.warnings] == [
        "is not read: numbers count from 1 and have no leading zero"
    ] * 3


def test_unknown_keys_are_ignored_without_a_word() -> None:
    unknown = {"MAAS_API_KEY": "canary", "NODE_ENV": "production", "HA_TOKEN": "canary", "NODE_OPTIONS": "x"}
    assert read(TWO_NODES, unknown) == read(TWO_NODES)


def test_bad_keys_of_one_node_drop_that_node_only() -> None:
    config = read(TWO_NODES, {"CPU_RATIO_2": "1.5", "K3S_ROLE_2": "boss", "SSH_PORT_2": "ssh"})
    assert [node.name for node in config.nodes] == ["pve"]
    (dropped,) = config.dropped
    assert (dropped.number, dropped.name) == (2, "fun-bedbug")
    assert [problem.what for problem in dropped.problems] == [
        "SSH_PORT_2='ssh' cannot be used",
        "CPU_RATIO_2='1.5' cannot be used",
        "K3S_ROLE_2='boss' cannot be used",
    ]
    assert all("_2" in problem.cure for problem in dropped.problems)


def test_node_without_storage_is_dropped_naming_the_missing_key() -> None:
    config = read(TWO_NODES, {"NODE_3": "new-node"})
    assert [problem.what for problem in config.dropped[0].problems] == ["STORAGE_3 is not set"]


def test_node_with_an_impossible_name_is_dropped_with_all_its_other_problems() -> None:
    config = read(TWO_NODES, {"NODE_3": "https://x:8006", "STORAGE_3": "local", "CPU_RATIO_3": "2"})
    (dropped,) = config.dropped
    assert dropped.name == "NODE_3"
    assert [problem.what for problem in dropped.problems] == [
        "NODE_3='https://x:8006' cannot be used",
        "CPU_RATIO_3='2' cannot be used",
    ]


@pytest.mark.parametrize(
    ("later", "whats"),
    [
        ({"NODE_2": "PVE"}, ["NODE_2 repeats a node"]),
        ({"NODE_2": "pve.maas"}, ["NODE_2 repeats a VM name"]),
        ({"VM_NAME_2": "k3s-vm-pve"}, ["VM_NAME_2 repeats a VM name"]),
        ({"VMID_1": "107", "VMID_2": "107"}, ["VMID_2 repeats a VMID"]),
        (
            {"CLOUD_IP_CONFIG_1": "ip=10.0.0.5/24", "CLOUD_IP_CONFIG_2": "ip=10.0.0.5/16"},
            ["CLOUD_IP_CONFIG_2 repeats a static address"],
        ),
        (
            {"CLOUD_IP_CONFIG": "ip=10.0.0.5/24", "CLOUD_IP_CONFIG_2": "ip=10.0.0.5/24"},
            ["CLOUD_IP_CONFIG_2 repeats a static address"],
        ),
    ],
)
def test_what_only_one_node_can_have_drops_the_later_node(later: dict[str, str], whats: list[str]) -> None:
    config = read(TWO_NODES, later)
    assert [node.number for node in config.nodes] == [1]
    assert [problem.what for problem in config.dropped[0].problems] == whats


def test_bad_vm_name_of_a_node_is_not_replaced_by_the_template() -> None:
    config = read(TWO_NODES, {"VM_NAME_2": "k3s.gpu"})
    assert [problem.what for problem in config.dropped[0].problems] == ["VM_NAME_2='k3s.gpu' cannot be used"]


def test_node_whose_name_is_too_long_for_a_vm_name_is_told_to_set_one() -> None:
    config = read(TWO_NODES, {"NODE_3": "n" * 60, "STORAGE_3": "local"})
    (problem,) = config.dropped[0].problems
    assert problem.what == f"NODE_3='{'n' * 60}' gives no VM name"
    assert problem.cure.startswith("set VM_NAME_3 to")


def test_one_static_address_for_several_vms_is_refused() -> None:
    assert refused(TWO_NODES, {"CLOUD_IP_CONFIG": "ip=10.0.0.5/24"}) == [
        "CLOUD_IP_CONFIG='ip=10.0.0.5/24' cannot be used"
    ]


def test_one_static_address_is_enough_where_only_one_vm_uses_it() -> None:
    general = {"CLOUD_IP_CONFIG": "ip=10.0.0.5/24"}
    assert len(read(TWO_NODES, general, {"NODE_ENABLED_2": "0", "CLOUD_IP_CONFIG_2": "dhcp"}).nodes) == 2
    assert len(read(TWO_NODES, general, {"CLOUD_IP_CONFIG_2": "ip=10.0.0.6/24"}).nodes) == 2


def test_template_without_node_is_refused_for_several_nodes_and_good_for_one() -> None:
    assert refused(TWO_NODES, {"VM_NAME_TEMPLATE": "k3s"}) == ["VM_NAME_TEMPLATE='k3s' cannot be used"]
    config = read(TWO_NODES, {"VM_NAME_TEMPLATE": "k3s", "VM_NAME_2": "other"})
    assert [node.vm_name for node in config.nodes] == ["k3s", "other"]


def test_no_node_at_all_is_one_problem_that_names_the_first_key() -> None:
    assert refused() == ["NODE_1 is not set"]


def test_no_node_left_is_refused_with_the_problems_of_all() -> None:
    assert refused({"NODE_1": "a", "NODE_2": "b"}) == ["STORAGE_1 is not set", "STORAGE_2 is not set"]


def test_general_problem_is_told_together_with_those_of_single_nodes() -> None:
    assert refused(TWO_NODES, {"VM_DISK_SIZE": "200", "CPU_RATIO_2": "0"}) == [
        "VM_DISK_SIZE='200' cannot be used",
        "CPU_RATIO_2='0' cannot be used",
    ]
