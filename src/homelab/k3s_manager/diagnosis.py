"""What the journal of a k3s service that does not join is saying, and what to do about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from homelab.errors import Problem


@dataclass(frozen=True, slots=True)
class Trouble:
    """A text in the journal, and its cause and cure. One that is passing may end by itself."""

    text: str
    cause: str
    cure: str
    is_passing: bool = False

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
        "server-bootstrap: 400",
        "the cluster keeps its data in SQLite, and takes agents only",
        "set K3S_ROLE_n=agent, or convert the first server to etcd (cluster-init)",
    ),
    Trouble(
        "server-bootstrap: 403",
        "the token is one of agents, and it was to become a server",
        "on the server: sudo ls -l /var/lib/rancher/k3s/server/node-token; it has to lead to the file token beside it",
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
        "no space left on device",
        "its disk is full",
        "in the VM: df -h /; give it a larger VM_DISK_SIZE_n and make it anew: scripts/delete_vm.py, then run again",
    ),
    Trouble(
        "failed to find memory cgroup",
        "its kernel runs without the memory cgroup",
        "in the VM: cat /proc/cmdline; boot without cgroup_disable=memory",
    ),
    Trouble(
        "containerd exited",
        "containerd ends whenever k3s starts it",
        "in the VM: sudo tail /var/lib/rancher/k3s/agent/containerd/containerd.log",
        is_passing=True,
    ),
    Trouble(
        "has been permanently removed",
        "it was a member of etcd, and was taken out",
        "make it anew: scripts/delete_vm.py with its node and VMID, then run again",
    ),
    Trouble(
        "not a member of the etcd cluster",
        "its address is not the one under which it joined etcd",
        "give it that address again (CLOUD_IP_CONFIG_n, or a reservation in DHCP), or make it anew: "
        "scripts/delete_vm.py with its node and VMID, then run again",
        is_passing=True,
    ),
    Trouble("no default routes found", "the VM has no default route", "check CLOUD_IP_CONFIG_n (gw=) or DHCP"),
    Trouble(
        "certificate has expired or is not yet valid", "the clocks differ", "check the time on the VM and the server"
    ),
    Trouble(
        "x509: certificate is valid for",
        "the server's certificate does not name the address at which it is reached",
        "on every server: add that address to tls-san in /etc/rancher/k3s/config.yaml and restart k3s; "
        "or name a server by an address of its own in K3S_EXISTING_NODE_IP",
    ),
    Trouble(
        "incompatible down-level server",
        "its k3s is newer than that of a server",
        "set K3S_VERSION to the version of the oldest server (kubectl get nodes) or remove it, then make the VM anew",
    ),
    Trouble(
        "nodes is forbidden",
        "its k3s is too old for the servers, so that it gets no network",
        "set K3S_VERSION to the version of the servers (kubectl get nodes) or remove it, then make the VM anew",
        is_passing=True,
    ),
    Trouble(
        "open /run/flannel/subnet.env",
        "its k3s is too old for the servers, so that it gets no network",
        "set K3S_VERSION to the version of the servers (kubectl get nodes) or remove it, then make the VM anew",
        is_passing=True,
    ),
    Trouble(
        "labels specified with --node-labels",
        "it is given a label that no Node may give itself",
        "take it out of node-label in /etc/rancher/k3s/config.yaml; then: kubectl label node {name} KEY=VALUE",
    ),
    Trouble(
        "too many learner members",
        "another server is still joining",
        "wait five minutes and run again; kubectl get nodes shows which one",
        is_passing=True,
    ),
    Trouble(
        "etcdserver: unhealthy cluster",
        "etcd takes no new server while one of its members is down",
        "on a server: curl -sk https://127.0.0.1:6443/db/info lists them; bring that server back, or take it out: "
        "k3s kubectl delete node with its name",
        is_passing=True,
    ),
    Trouble(
        "local etcd status for learner management",
        "the VM and etcd on the other servers do not reach one another",
        "open ports 2379 and 2380 between the servers, in both directions (Proxmox firewall, ufw)",
        is_passing=True,
    ),
    Trouble(
        "503 Service Unavailable",
        "the server it asked has no working datastore: etcd has lost its quorum, or that server is just starting",
        "kubectl get nodes; bring the other servers back, then run again",
        is_passing=True,
    ),
    Trouble(
        '/cacerts\\": dial tcp: lookup',
        "the VM cannot look up the server's name",
        "give K3S_EXISTING_NODE_IP as an address, or set CLOUD_NAMESERVER and make the VM anew",
        is_passing=True,
    ),
    Trouble(
        "failed to get CA certs",
        "the VM cannot reach the server on port 6443",
        "check the bridge in NETWORK_IFACES_n, and firewalls between the VM and K3S_EXISTING_NODE_IP",
        is_passing=True,
    ),
)
"""Where a line holds the texts of several, the first counts."""


def diagnose(name: str, journal: str) -> Problem | None:
    """The newest known trouble in the journal, or None."""
    trouble = _newest(journal)
    return trouble.problem(name) if trouble else None


def hopeless(name: str, journal: str) -> Problem | None:
    """The newest known trouble if it will not end by itself, or None."""
    trouble = _newest(journal)
    return trouble.problem(name) if trouble and not trouble.is_passing else None


def _newest(journal: str) -> Trouble | None:
    for line in reversed(journal.splitlines()):
        for trouble in TROUBLES:
            if trouble.text in line:
                return trouble
    return None
