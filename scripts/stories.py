"""The stories of `scripts/demo`: what a user meets, what they type, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dotenv import dotenv_values

from stage import PROJECT, Stage

AGENT_NODE = "pve3"
SERVER_NODES = ("pve1", "pve2")
ENV_FILES = PROJECT / "tests" / "e2e"
NOT_IN_AN_OLD_FILE = (
    "PVE_IPS",
    "PROXMOX_PORT",
    "PROXMOX_CA_BUNDLE",
    "SSH_PORT",
    "SSH_KNOWN_HOSTS",
    "VM_SSH_PORT",
    "ISO_URL",
    "IMAGE_SIGNING_KEY",
    "IMAGE_SIGNING_FINGERPRINT",
    "K3S_EXISTING_NODE_IP",
    "K3S_INSTALL_URL",
    "K3S_ARTIFACT_URL",
)
"""Addresses, ports, sources and trust: what a lab on loopback has of its own."""


@dataclass(frozen=True, slots=True)
class Story:
    """A story: its name, the state the lab starts in, and how it is told. The first line of `tell` is its promise."""

    name: str
    tell: Callable[[Stage], None]
    seed: str

    @property
    def promise(self) -> str:
        return (self.tell.__doc__ or "").splitlines()[0]


STORIES: dict[str, Story] = {}


def story(name: str, seed: str = "fresh") -> Callable[[Callable[[Stage], None]], None]:
    """Put the decorated function into STORIES."""

    def add(tell: Callable[[Stage], None]) -> None:
        STORIES[name] = Story(name, tell, seed)

    return add


@story("fresh")
def _fresh(stage: Stage) -> None:
    """No VM exists: the image comes to all nodes, each gets its VM, all join; a second run changes nothing."""
    stage.narrate("No node has a VM yet.")
    stage.homelab()
    _all_are_members(stage)
    stage.narrate("The same command again: there is nothing to do.")
    _changes_nothing(stage)


@story("healthy", seed="healthy")
def _healthy(stage: Stage) -> None:
    """Everything is right: the run says so, writes nothing and downloads nothing."""
    stage.narrate("Every node has its VM, and every VM is a Ready member of the cluster.")
    _changes_nothing(stage)


@story("stuck", seed="stopped")
def _stuck(stage: Stage) -> None:
    """An agent VM is stopped: it is deleted, made again with proper config, and is a Ready member again."""
    stage.narrate(f"The VM of {AGENT_NODE} is stopped.")
    _is_replaced(stage)


@story("paused", seed="paused")
def _paused(stage: Stage) -> None:
    """An agent VM is paused, which Proxmox shows as running: it is replaced like a stopped one."""
    stage.narrate(f"The VM of {AGENT_NODE} is paused: `status` says running, `qmpstatus` says paused.")
    _is_replaced(stage)


@story("unknown", seed="unknown")
def _unknown(stage: Stage) -> None:
    """A VM is in a state that cannot be judged: it is kept and reported."""
    stage.narrate(f"The VM of {AGENT_NODE} has an I/O error.")
    before = stage.vms()
    stage.homelab(exit_code=3, says=["io-error"])
    stage.promise(stage.vms() == before, "no VM was touched")


@story("new-node")
def _new_node(stage: Stage) -> None:
    """Four lines in .env add a node: it gets its VM, which joins; the others stay untouched."""
    stage.narrate(f"The cluster has a node {AGENT_NODE} that .env does not name yet.")
    keys = ("NODE_3", "STORAGE_3", "CPU_RATIO_3", "MEMORY_RATIO_3")
    added = {key: stage.env[key] for key in keys}
    stage.change_env(**dict.fromkeys((key for key in stage.env if key.endswith("_3")), None))
    stage.homelab()
    before = stage.vms()
    stage.narrate("Four lines are added.")
    stage.change_env(**added)
    stage.homelab(says=["is healthy, skipping", "already in cluster, skipping"])
    stage.promise(all(stage.vms()[node] == vm for node, vm in before.items()), "the VMs that were there are untouched")
    _all_are_members(stage)


@story("tls")
def _tls(stage: Stage) -> None:
    """A certificate that cannot be trusted, or an API that refuses: the whole run goes over SSH instead."""
    if stage.via != "ssh":
        stage.narrate("The nodes show certificates that nobody vouches for.")
        _falls_back(stage, "bad-certificate")
    if stage.via is None:
        stage.begin("fresh")
    if stage.via != "api":
        stage.narrate("The API refuses every connection; SSH answers.")
        _falls_back(stage, "api-down")


@story("join-fails")
def _join_fails(stage: Stage) -> None:
    """The join token cannot be read: the VMs are made, the summary says what to fix; then the next run joins them."""
    stage.narrate("The user whom the tool logs in as may not read the token on the existing k3s server.")
    stage.lab.fault("join-fails", how="token-unreadable")
    stage.homelab(exit_code=3)
    _all_are_running(stage)
    stage.narrate("The right is given, and K3S_EXISTING_NODE_IP is wrong instead.")
    stage.lab.clear_faults()
    address = stage.env["K3S_EXISTING_NODE_IP"]
    stage.change_env(K3S_EXISTING_NODE_IP=address.rpartition(".")[0] + ".99")
    stage.homelab(exit_code=3, says=["K3S_EXISTING_NODE_IP"])
    stage.narrate("Both are right now.")
    stage.change_env(K3S_EXISTING_NODE_IP=address)
    stage.homelab()
    _all_are_members(stage)


@story("no-join")
def _no_join(stage: Stage) -> None:
    """K3S_EXISTING_NODE_IP is not set: the VMs are made and nothing joins, which is no error."""
    stage.change_env(K3S_EXISTING_NODE_IP=None)
    stage.homelab(says=["K3S_EXISTING_NODE_IP not set, skipping k3s join"])
    _all_are_running(stage)


@story("doctor")
def _doctor(stage: Stage) -> None:
    """doctor looks at everything that a run needs, names what is amiss with its cure, and changes nothing."""
    stage.narrate("Nothing is wrong.")
    stage.homelab("doctor", says=["nothing is amiss"])
    stage.narrate("A bridge is missing, a storage is full, and one node's SSH does not answer.")
    stage.lab.fault("bridge-missing", node="pve1", bridge="vmbr1")
    stage.lab.fault("storage-full", node="pve2", storage="local-zfs")
    stage.lab.fault("ssh-refused", node="pve3")
    stage.homelab("doctor", exit_code=1, says=["vmbr1 is missing", "local-zfs is full", "systemctl status ssh"])
    stage.promise(not stage.lab.writes, "nothing was written")


@story("bridge-missing")
def _bridge_missing(stage: Stage) -> None:
    """A node lacks its bridge: it gets no VM, reason and cure are shown, the other nodes are finished."""
    stage.narrate(f"{AGENT_NODE} has no vmbr0.")
    stage.lab.fault("bridge-missing", node=AGENT_NODE)
    stage.homelab(exit_code=3, says=["vmbr0"])
    _only_servers_are_members(stage)


@story("node-down")
def _node_down(stage: Stage) -> None:
    """A node does not answer: it is reported, the other nodes are finished."""
    stage.narrate(f"{AGENT_NODE} is switched off.")
    stage.lab.fault("node-down", node=AGENT_NODE)
    stage.homelab(exit_code=3, says=[AGENT_NODE])
    _only_servers_are_members(stage)


@story("node-join-fails")
def _node_join_fails(stage: Stage) -> None:
    """k3s does not start on one VM: its node is reported, the other nodes are finished."""
    stage.narrate(f"k3s crashes on the VM of {AGENT_NODE}.")
    stage.lab.fault("join-fails", how="k3s-crash", vm=f"k3s-vm-{AGENT_NODE}")
    stage.homelab(exit_code=3, says=[f"k3s-vm-{AGENT_NODE}"])
    _all_are_running(stage)
    _are_ready(stage, SERVER_NODES)


@story("power-cut", seed="power-cut")
def _power_cut(stage: Stage) -> None:
    """The power failed and all VMs are stopped: all are started, none is deleted, all are Ready again."""
    stage.narrate("The hosts have been up for 20 minutes; every VM is stopped since.")
    before = stage.vms()
    stage.homelab()
    stage.promise(_identities(stage) == {n: (v.vmid, v.created_at) for n, v in before.items()}, "no VM was deleted")
    _all_are_members(stage)


@story("delete", seed="healthy")
def _delete(stage: Stage) -> None:
    """A VM is deleted by hand with scripts/delete_vm.py; the next run brings it back."""
    before = stage.vms()[AGENT_NODE]
    stage.delete_vm(AGENT_NODE, before.vmid, "--yes")
    stage.promise(AGENT_NODE not in stage.vms(), "the VM is gone")
    stage.homelab()
    _all_are_members(stage)


@story("old-env", seed="old-env")
def _old_env(stage: Stage) -> None:
    """A .env of the older script runs unchanged; addresses, ports, sources and trust come from the environment."""
    path = ENV_FILES / "old.env"
    stage.variables = {key: stage.env[key] for key in NOT_IN_AN_OLD_FILE}
    stage.env_path = path
    stage.accept_token(str(dotenv_values(path)["API_TOKEN"]))
    stage.narrate(f"The .env is {path.relative_to(PROJECT)}; the environment sets {', '.join(stage.variables)}.")
    stage.homelab()
    _all_are_members(stage)


@story("bad-env")
def _bad_env(stage: Stage) -> None:
    """Each of twenty broken .env files gives its list of problems and exit 2, before anything is contacted."""
    stage.via = None
    requests = len(stage.lab.requests)
    for path in sorted((ENV_FILES / "bad_env").glob("*.env")):
        stage.env_path = path
        stage.homelab(exit_code=2, says=path.with_suffix(".problems").read_text().splitlines())
    stage.promise(len(stage.lab.requests) == requests, "nothing was contacted")


def _changes_nothing(stage: Stage) -> None:
    writes = len(stage.lab.writes)
    stage.homelab(says=["is healthy, skipping", "already in cluster, skipping"])
    stage.promise(len(stage.lab.writes) == writes, "nothing was written")


def _is_replaced(stage: Stage) -> None:
    before = _identities(stage)
    stage.homelab()
    after = _identities(stage)
    replaced = [node for node in before if after.get(node) != before[node]]
    stage.promise(replaced == [AGENT_NODE], f"the VM of {AGENT_NODE} is a new one, the others are not")
    _all_are_members(stage)


def _falls_back(stage: Stage, fault: str) -> None:
    stage.lab.fault(fault)
    via, stage.via = stage.via, "auto"
    ended = stage.homelab()
    stage.via = via
    stage.promise("using CLI fallback" in ended.stderr, "`using CLI fallback` stands on stderr")
    _all_are_members(stage)


def _identities(stage: Stage) -> dict[str, tuple[int, float]]:
    return {node: (vm.vmid, vm.created_at) for node, vm in stage.vms().items()}


def _all_are_running(stage: Stage) -> None:
    states = {node.name: stage.vms()[node.name].state for node in stage.lab.spec.nodes if node.name in stage.vms()}
    stage.promise(
        len(states) == len(stage.lab.spec.nodes) and set(states.values()) == {"running"},
        "every node has its VM running",
    )


def _all_are_members(stage: Stage) -> None:
    _all_are_running(stage)
    _are_ready(stage, [node.name for node in stage.lab.spec.nodes])


def _only_servers_are_members(stage: Stage) -> None:
    stage.promise(sorted(stage.vms()) == sorted(SERVER_NODES), f"there is no VM on {AGENT_NODE}")
    _are_ready(stage, SERVER_NODES)


def _are_ready(stage: Stage, nodes: Sequence[str]) -> None:
    members = stage.members()
    names = [f"k3s-vm-{node}" for node in nodes]
    stage.promise(all(members.get(name) for name in names), f"{', '.join(names)} are Ready members of the cluster")
