"""The ready `.env` is read by python-dotenv as it was meant."""

from __future__ import annotations

from pathlib import Path

import dotenv
import pytest

from pvelab.environment import Papers, dotenv_text, environment
from pvelab.network import claim_network
from pvelab.spec import LOCAL, OLD_NODES, LabSpec, NodeSpec, NoSuchNode, nodes_called

PAPERS = Papers(
    ca_path=Path("/l/ca.pem"),
    known_hosts_path=Path("/l/known_hosts"),
    key_path=Path("/l/id"),
    public_key_path=Path("/l/id.pub"),
    kubeconfig_path=Path("/l/kubeconfig"),
    token="root@pam!lab=0-1",
    image_key_path=Path("/l/image.asc"),
    image_key_fingerprint="AB" * 20,
)


def test_the_default_lab_names_every_node_with_its_storages_and_bridges() -> None:
    network = claim_network()
    network.release()
    found = environment(LabSpec(), network, PAPERS)
    assert {name: found[name] for name in found if name.endswith(("_1", "_3"))} == {
        "NODE_1": "pve1",
        "STORAGE_1": "local",
        "IMG_STORAGE_1": "local-lvm",
        "CPU_RATIO_1": "0.5",
        "MEMORY_RATIO_1": "0.5",
        "NETWORK_IFACES_1": "vmbr0, vmbr1",
        "NODE_3": "pve3",
        "STORAGE_3": "local",
        "CPU_RATIO_3": "0.5",
        "MEMORY_RATIO_3": "0.5",
        "NETWORK_IFACES_3": "vmbr0",
    }
    assert found["PVE_IPS"].split(", ") == [network.node(number) for number in (1, 2, 3)]
    assert found["K3S_EXISTING_NODE_IP"] == network.outside(1)
    assert (found["IMAGE_SIGNING_KEY"], found["IMAGE_SIGNING_FINGERPRINT"]) == ("/l/image.asc", "AB" * 20)
    assert found["ISO_URL"] == f"http://{network.sources}:8080/images/noble-server-cloudimg-amd64.img"


def test_the_written_file_reads_back_as_it_was(tmp_path: Path) -> None:
    values = {"A": "vmbr0, vmbr1", "B": "root@pam!lab=0-1", "C": "it's # not a comment", "D": "", "E": "back\\slash"}
    path = tmp_path / ".env"
    path.write_text(dotenv_text(values))
    assert dotenv.dotenv_values(path) == values


def test_nodes_are_called_by_number_or_by_name() -> None:
    assert [node.name for node in nodes_called("4")] == ["pve1", "pve2", "pve3", "pve4"]
    assert nodes_called("pve,other") == (OLD_NODES[0], nodes_called("x,other")[1])
    with pytest.raises(NoSuchNode, match="number of nodes or their names"):
        nodes_called("a,,b")


def test_a_storage_on_several_nodes_is_one_with_those_nodes() -> None:
    spec = LabSpec(nodes=(*nodes_called("1"), NodeSpec("other", 1, 1024, (LOCAL,))))
    assert {name: nodes for name, (_, nodes) in spec.storages.items()} == {
        "local": ("pve1", "other"),
        "local-lvm": ("pve1",),
    }
    assert spec.node("other").cpus == 1
    with pytest.raises(NoSuchNode, match="only pve1, other"):
        spec.node("nobody")
