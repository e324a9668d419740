"""Questions to the lab about what a run left behind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pvelab.guest import kube_nodes
from pvelab.guest.guests import Guests
from pvelab.guest.k3s_cluster import Cluster
from pvelab.guest.machine import GuestMachine
from pvelab.lab import Lab
from pvelab.machine import Command, Process
from pvelab.requestlog import Request
from pvelab.rules import configs, power
from pvelab.state import Acl, Token, Vm, World

NO_JOIN: dict[str, str | None] = {"K3S_EXISTING_NODE_IP": None}
"""Where the cluster has no part in the story."""

ONLY_PVE3 = {"NODE_ENABLED_1": "0", "NODE_ENABLED_2": "0"}
"""Where one VM is enough for the story; its name is NAME."""
NAME = "k3s-vm-pve3"

ALL_MEMBERS = {"k3s-server", "k3s-vm-pve1", "k3s-vm-pve2", "k3s-vm-pve3"}


def k3s(lab: Lab) -> dict[str, Any]:
    """The one cluster there is: nodes, secrets, members. A second cluster would be a grave mistake."""
    (cluster,) = lab.snapshot()["k3s"]
    return dict(cluster)


def ready_members(lab: Lab) -> set[str]:
    return {name for name, node in k3s(lab)["nodes"].items() if node["ready"]}


def servers(lab: Lab) -> set[str]:
    nodes = k3s(lab)["nodes"]
    return {name for name, node in nodes.items() if "node-role.kubernetes.io/control-plane" in node["labels"]}


def voters(lab: Lab) -> list[str]:
    """Node names of the voting etcd members."""
    return sorted(name.rpartition("-")[0] for name, kind in k3s(lab)["members"].items() if kind == "voter")


def vm_on(lab: Lab, node: str) -> tuple[int, dict[str, Any]]:
    """VMID and data of the one VM on a node."""
    ((vmid, vm),) = ((vmid, vm) for vmid, vm in lab.snapshot()["vms"].items() if vm["node"] == node)
    return int(vmid), dict(vm)


def address_of(lab: Lab, node: str) -> str:
    """Where the VM on this node is."""
    vmid, _ = vm_on(lab, node)
    return lab.look(lambda world: guests(world).machine_in(world.vms[vmid]).address)


def trusting(home: Path, *lines: str) -> None:
    """A person's ssh_config that takes every host key (the lab knows those of no VM), and whatever the lines say."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "config").write_text("\n".join([*lines, "Host *", "  StrictHostKeyChecking accept-new", ""]))


def uuid_of(vm: dict[str, Any]) -> str:
    return str(vm["config"]["smbios1"]).removeprefix("uuid=")


def uuids(lab: Lab) -> dict[int, str]:
    """The identity of every VM: it survives a start and not a replacement."""
    return {vmid: uuid_of(vm) for vmid, vm in lab.snapshot()["vms"].items()}


def work_on(lab: Lab) -> list[Request]:
    """Everything that was written, but for the mark that tells other machines of the run."""
    return [one for one in lab.writes if "/pools" not in one.what]


def nodes_with_running_vm(lab: Lab) -> list[str]:
    return sorted(vm["node"] for vm in lab.snapshot()["vms"].values() if vm["status"] == "running")


def machine(lab: Lab, name: str) -> GuestMachine:
    """The machine in the VM of that name; look at it or change it by `lab.look` only."""

    def find(world: World) -> GuestMachine:
        (vm,) = (vm for vm in world.vms.values() if vm.name == name)
        return guests(world).machine_in(vm)

    return lab.look(find)


def guests(world: World) -> Guests:
    """The machines in VMs, and the k3s server outside."""
    assert isinstance(world.guests, Guests)
    return world.guests


def before_call(lab: Lab, method: str, path: str, happens: Callable[[World], None]) -> None:
    """Have something happen in the lab just before Proxmox carries out METHOD path, by API or by a command."""
    pattern = re.compile(path)

    def by_api(_node: str, asked: str, asked_path: str, _params: Mapping[str, str]) -> None:
        if asked == method and pattern.fullmatch(asked_path):
            lab.look(happens)

    def listen(world: World) -> None:
        world.hooks.intercept = by_api
        for node in world.nodes.values():
            node.commands = {name: _watched(command, node.hostname) for name, command in node.commands.items()}

    def _watched(command: Command, node: str) -> Command:
        async def run(process: Process) -> int:
            call = command_call(process.argv, node)
            if call and call[0] == method and pattern.fullmatch(call[1]):
                lab.look(happens)
            return await command(process)

        return run

    lab.look(listen)


def command_call(argv: Sequence[str], node: str) -> tuple[str, str] | None:
    """The API call that a command of a node stands for, as far as these stories need it."""
    match list(argv[:3]):
        case ["pvesh", "get", path]:
            return "GET", path
        case ["qm", "create", _]:
            return "POST", f"/nodes/{node}/qemu"
        case ["qm", verb, vmid] if verb in ("start", "stop", "resume"):
            return "POST", f"/nodes/{node}/qemu/{vmid}/status/{verb}"
        case ["qm", "destroy", vmid]:
            return "DELETE", f"/nodes/{node}/qemu/{vmid}"
    return None


def cluster(world: World) -> Cluster:
    """The one k3s cluster from within; look at it or change it by `lab.look` only."""
    (found,) = guests(world).clusters.by_hash.values()
    return found


def take_out(lab: Lab, name: str) -> None:
    """A person takes an agent out of the cluster and stops its k3s; the VM goes on."""
    lab.shell(name, "systemctl disable --now k3s-agent")
    lab.shell("k3s-server", f"kubectl delete node {name}")
    lab.wait_until(lambda world: cluster(world).store.find("nodes", name) is None)


def when(lab: Lab, condition: Callable[[World], bool], happens: Callable[[World], None]) -> None:
    """Have something happen in the lab as soon as a condition holds; looked at every second of the lab's time."""

    def check(world: World) -> None:
        if condition(world):
            happens(world)
        else:
            world.clock.after(1.0, lambda: check(world))

    lab.look(check)


def change(lab: Lab, vmid: int, **values: str) -> None:
    """Edit a VM's configuration; an empty text removes a line."""

    def edit(world: World) -> None:
        config = world.vms[vmid].config
        config.update(values)
        world.vms[vmid].config = {key: value for key, value in config.items() if value}

    lab.look(edit)


def power_off(lab: Lab, *nodes: str) -> None:
    """The VMs on these nodes crash."""

    def crash(world: World) -> None:
        for vm in world.vms.values():
            if vm.node in nodes:
                power.switch_off(world, vm)

    lab.look(crash)


def assert_untouched(lab: Lab, before: dict[str, Any]) -> None:
    assert lab.snapshot()["vms"] == before["vms"]
    assert lab.writes == []


def twin(lab: Lab, vmid: int, node: str, name: str) -> None:
    """Another VM of that name appears on a node."""

    def add(world: World) -> None:
        vm = Vm(vmid, node, {"name": name, "memory": "512", "meta": "creation-qemu=10.0.13"}, world.clock.now())
        configs.add(world, vm)

    lab.look(add)


def limited_token(lab: Lab, without: str) -> str:
    """A token that may do what a run needs, but for one path."""
    roles = {
        "/": "PVEAuditor",
        "/vms": "PVEVMAdmin",
        "/storage/local": "PVEDatastoreAdmin",
        "/sdn/zones/localnetwork": "PVESDNUser",
    }

    def give(world: World) -> None:
        world.tokens["root@pam!lim"] = Token("root@pam", "lim", "s3cretsecretsecret", is_separated=True)
        world.acls.update(Acl(path, "root@pam!lim", role) for path, role in roles.items() if path != without)

    lab.look(give)
    return "root@pam!lim=s3cretsecretsecret"


def password_of_another(world: World) -> None:
    """A secret is there that keeps a machine of that name out."""
    cluster(world).store.create("secrets", kube_nodes.password_secret(NAME, "of another machine"))


def server_of(lab: Lab, name: str) -> str:
    """The URL that a member was told to join at."""
    return str(yaml.safe_load(lab.shell(name, "cat /etc/rancher/k3s/config.yaml"))["server"])
