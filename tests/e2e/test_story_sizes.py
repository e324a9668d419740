"""The life of one VM in clusters of one, two, three and five servers, with SQLite and with etcd, over both wires."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from e2e.conftest import Homelab
from e2e.world import NAME, ONLY_PVE3, cluster, k3s, power_off, ready_members, servers, uuid_of, vm_on, voters, work_on
from pvelab.lab import Lab

CONFIG = "/etc/rancher/k3s/config.yaml"


@dataclass(frozen=True, slots=True)
class Size:
    """How many servers there are without the VM, how they keep their data, and what the VM becomes among them."""

    count: int
    datastore: str
    role: str

    @property
    def voters(self) -> int:
        """With the VM."""
        return 0 if self.datastore == "sqlite" else self.count + (self.role == "server")

    def __str__(self) -> str:
        return f"{self.count}-{self.datastore}"


SIZES = (
    Size(1, "sqlite", "agent"),
    Size(1, "etcd", "agent"),
    Size(2, "etcd", "server"),
    Size(3, "etcd", "agent"),
    Size(5, "etcd", "agent"),
)


@dataclass(frozen=True, slots=True)
class Life:
    """One VM on pve3, and what its cluster has to be like; each step is a run and what has come of it."""

    lab: Lab
    homelab: Homelab
    size: Size
    options: tuple[str, ...]
    settings: Mapping[str, str]

    def run(self, exit_code: int = 0) -> str:
        """One run; what it said."""
        ended = self.homelab(*self.options, **self.settings)
        assert ended.exit_code == exit_code, ended.text
        return ended.text

    def is_a_member(self) -> None:
        """Everybody is Ready, the VM by its own system UUID, and as many vote as should."""
        assert ready_members(self.lab) == {NAME, *self.lab.k3s_servers}
        assert k3s(self.lab)["nodes"][NAME]["uuid"] == self.uuid
        assert (NAME in servers(self.lab)) == (self.size.role == "server")
        assert len(voters(self.lab)) == self.size.voters

    @property
    def uuid(self) -> str:
        return uuid_of(vm_on(self.lab, "pve3")[1])

    @property
    def unit(self) -> str:
        return "k3s" if self.size.role == "server" else "k3s-agent"


@pytest.fixture(params=SIZES, ids=str)
def life(lab: Lab, homelab: Homelab, via: str, request: pytest.FixtureRequest) -> Life:
    """A cluster without the VM; the first address of K3S_EXISTING_NODE_IP is nobody's."""
    size: Size = request.param
    lab.reset("fresh", servers=size.count, datastore=size.datastore)
    addresses = ", ".join([lab.network.outside(77), *lab.k3s_servers.values()])
    settings = {"K3S_EXISTING_NODE_IP": addresses, "K3S_LABELS_3": "disk=ssd", **ONLY_PVE3}
    return Life(lab, homelab, size, ("--via", via), settings)


def test_vm_joins_is_kept_comes_back_joins_again_and_is_replaced(life: Life) -> None:
    joins_as_the_cluster_is(life)
    is_kept(life)
    is_started_again(life)
    if life.size.role == "agent":
        is_given_a_new_token(life)
    else:
        is_not_reinstalled_once_etcd_has_let_it_go(life)
    is_replaced(life)


def joins_as_the_cluster_is(life: Life) -> None:
    """Joined as what the cluster needs, at the first server that answers, with its version, token and labels."""
    lab = life.lab
    said = life.run()

    assert f"{NAME} joined cluster as {life.size.role}" in said
    assert said.count(f"{lab.network.outside(77)} cannot be asked") == 1
    life.is_a_member()
    node = k3s(lab)["nodes"][NAME]
    assert {"topology.kubernetes.io/zone": "pve3", "disk": "ssd"}.items() <= node["labels"].items()
    settings: dict[str, Any] = yaml.safe_load(lab.shell(NAME, f"cat {CONFIG}"))
    first = next(iter(lab.k3s_servers.values()))
    tokens = lab.look(lambda world: cluster(world).tokens)
    assert settings["server"] == f"https://{first}:6443"
    assert settings["token"].startswith(f"K10{tokens.ca_hash}::")
    assert (tokens.server_password in settings["token"]) == (life.size.role == "server")
    assert tokens.bootstrap == {}
    assert lab.shell(NAME, f"stat -c %a {CONFIG}") == "600\n"
    version = lab.shell("k3s-server", "k3s --version").split()[2]
    assert version in lab.shell(NAME, "k3s --version")


def is_kept(life: Life) -> None:
    """Ready and this very machine: nothing is written."""
    written = len(work_on(life.lab))

    assert f"{NAME} already in cluster, skipping" in life.run()

    assert len(work_on(life.lab)) == written


def is_started_again(life: Life) -> None:
    """Not Ready and this very machine: its service is started, and nothing installed."""
    uuid, lab = life.uuid, life.lab
    script_at = lab.shell(NAME, "stat -c %Y /var/lib/homelab/install-k3s.sh")
    lab.shell(NAME, f"systemctl disable --now {life.unit}")
    lab.shell("k3s-server", "sleep 60")

    assert f"{NAME} is Ready again" in life.run()

    life.is_a_member()
    assert (life.uuid, lab.shell(NAME, f"systemctl is-enabled {life.unit}")) == (uuid, "enabled\n")
    assert lab.shell(NAME, "stat -c %Y /var/lib/homelab/install-k3s.sh") == script_at


def is_given_a_new_token(life: Life) -> None:
    """No Node and this very machine: a new token and a restart, and nothing else."""
    uuid = life.uuid
    life.lab.shell("k3s-server", f"kubectl delete node {NAME}")

    assert f"{NAME} joined cluster again as agent" in life.run()

    life.is_a_member()
    assert life.uuid == uuid


def is_not_reinstalled_once_etcd_has_let_it_go(life: Life) -> None:
    """A server whose Node was deleted is no member of etcd for good: that is said, and its data are left alone."""
    uuid = life.uuid
    life.lab.shell("k3s-server", f"kubectl delete node {NAME}")

    assert f"{NAME} does not join: it was a member of etcd, and was taken out" in life.run(exit_code=3)

    assert life.uuid == uuid


def is_replaced(life: Life) -> None:
    """Off: another machine in its place, of the same VMID and role, and nobody else touched."""
    (vmid, _), uuid = vm_on(life.lab, "pve3"), life.uuid
    power_off(life.lab, "pve3")
    life.lab.shell("k3s-server", "sleep 120")

    said = life.run()

    assert f"VM {NAME} (vmid={vmid}) deleted (VM is stopped) and recreated" in said
    assert f"{NAME} joined cluster as {life.size.role}" in said
    assert life.uuid != uuid
    life.is_a_member()
