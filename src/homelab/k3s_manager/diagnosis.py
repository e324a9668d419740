"""What the journal of a k3s service that does not join is saying, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import Problem


@dataclass(frozen=True, slots=True)
class Trouble:
    """A text in the journal, and its cause and cure. A final one does not end by itself."""

    text: str
    cause: str
    cure: str

    def problem(self, name: str) -> Problem:
        """As it is told of the machine of that name."""
        return Problem(f"{name} does not join", self.cause, self.cure.format(name=name))


TROUBLES = (
    Trouble(
        "Node password rejected",
        "the cluster still holds the password of an earlier machine of this name",
        "on a server: k3s kubectl -n kube-system delete secret {name}.node-password.k3s, then run again",
    ),
    Trouble(
        "duplicate node name found",
        "etcd still has a member of an earlier machine of this name",
        "on a server: k3s kubectl delete node {name}, and wait until the member is gone",
    ),
    Trouble(
        "token CA hash does not match",
        "the token and the server belong to different clusters",
        "check K3S_EXISTING_NODE_IP",
    ),
    Trouble(
        "not authorized",
        "the server refuses the token",
        "on the server: sudo cat /var/lib/rancher/k3s/server/node-token; was it rotated? then run again",
    ),
    Trouble(
        "401 Unauthorized",
        "the server refuses the token",
        "on the server: sudo cat /var/lib/rancher/k3s/server/node-token; was it rotated? then run again",
    ),
    Trouble(
        "critical configuration",
        "this server's settings differ from those of the others",
        "compare /etc/rancher/k3s/config.yaml and the unit's flags on all servers",
    ),
    Trouble(
        "server-bootstrap: 400",
        "the cluster keeps its data in SQLite, and takes agents only",
        "set K3S_ROLE_n=agent, or convert the first server to etcd (cluster-init)",
    ),
    Trouble(
        "bootstrap data already found and encrypted with different token",
        "the token is not the one the cluster was made with",
        "use the cluster's own server token on every server",
    ),
    Trouble(
        "panic: ",
        "k3s crashes at every start",
        "in the VM: journalctl -u k3s -u k3s-agent -n 100; check its memory, its disk and VM_CPU_TYPE",
    ),
    Trouble(
        "has been permanently removed",
        "it was a member of etcd, and was taken out",
        "make it anew: scripts/delete_vm.py with its node and VMID, then run again",
    ),
    Trouble("no default routes found", "the VM has no default route", "check CLOUD_IP_CONFIG_n (gw=) or DHCP"),
    Trouble(
        "certificate has expired or is not yet valid", "the clocks differ", "check the time on the VM and the server"
    ),
    Trouble(
        "too many learner members",
        "another server is still joining",
        "wait five minutes and run again; kubectl get nodes shows which one",
    ),
    Trouble(
        "failed to get CA certs",
        "the VM cannot reach the server on port 6443",
        "check the bridge in NETWORK_IFACES_n, and firewalls between the VM and K3S_EXISTING_NODE_IP",
    ),
)
TRANSIENT = ("too many learner members", "failed to get CA certs")


def diagnose(name: str, journal: str) -> Problem | None:
    """The newest known trouble in the journal, or None."""
    trouble = _newest(journal)
    return trouble.problem(name) if trouble else None


def hopeless(name: str, journal: str) -> Problem | None:
    """The newest known trouble if it will not end by itself, or None."""
    trouble = _newest(journal)
    return trouble.problem(name) if trouble and trouble.text not in TRANSIENT else None


def _newest(journal: str) -> Trouble | None:
    for line in reversed(journal.splitlines()):
        for trouble in TROUBLES:
            if trouble.text in line:
                return trouble
    return None
