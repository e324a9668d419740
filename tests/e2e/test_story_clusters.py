"""Stories: a node of `.env` is in another cluster, or stands there twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.conftest import Homelab
from e2e.world import nodes_with_running_vm, uuids
from pvelab.lab import Lab
from pvelab.spec import LabSpec, nodes_called
from pvelab.state import World
from support.clock import SteppingClock


@pytest.fixture
def other_lab(lab: Lab, shared_clock: SteppingClock, tmp_path: Path) -> Iterator[Lab]:
    """A cluster of one node that knows the same token."""
    userid, _, name_and_secret = lab.env["API_TOKEN"].partition("!")
    name, _, secret = name_and_secret.partition("=")

    def accept_token(world: World) -> None:
        (token,) = world.tokens.values()
        world.tokens[f"{userid}!{name}"] = replace(token, userid=userid, name=name, secret=secret)

    with Lab(LabSpec(nodes=nodes_called("pve4")), folder=tmp_path / "other", clock=shared_clock) as other:
        other.look(accept_token)
        yield other


def test_host_outside_the_cluster_gets_no_vm_and_the_others_theirs(
    lab: Lab, other_lab: Lab, homelab: Homelab, tmp_path: Path
) -> None:
    bundle = tmp_path / "both.pem"
    bundle.write_text("".join(Path(one.env["PROXMOX_CA_BUNDLE"]).read_text() for one in (lab, other_lab)))
    settings = {
        "PROXMOX_CA_BUNDLE": str(bundle),
        "NODE_4": "pve4",
        "NODE_HOST_4": other_lab.env["PVE_IPS"],
        "STORAGE_4": other_lab.env["STORAGE_1"],
        "K3S_EXISTING_NODE_IP": None,
    }
    run = homelab("--via", "api", **settings)
    assert run.exit_code == 3
    assert "node NODE_4=pve4 is not in the cluster" in run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    assert other_lab.snapshot()["vms"] == {}


def test_node_that_stands_there_twice_gets_one_vm(lab: Lab, homelab: Homelab, via: str) -> None:
    address = lab.env["PVE_IPS"].split(",")[0]
    settings = {"NODE_4": address, "STORAGE_4": "local", "VM_NAME_4": "second", "K3S_EXISTING_NODE_IP": None}
    run = homelab("--via", via, **settings)
    assert run.exit_code == 3
    assert "node pve1 is configured twice" in run.text
    assert nodes_with_running_vm(lab) == ["pve1", "pve2", "pve3"]
    before = uuids(lab)
    assert homelab("--via", via, **settings).exit_code == 3
    assert uuids(lab) == before
