"""What `k3s agent` and `k3s server` do when systemd starts them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pvelab.guest.k3s_cluster import Server
from pvelab.guest.k3s_join import Refusal, agent_log, server_log
from pvelab.guest.k3s_node import K3sNode
from pvelab.guest.k3s_reach import has_peers, reach
from pvelab.guest.k3s_settings import DATA_FOLDER, SettingsProblem, read_settings
from pvelab.guest.k3s_start import why_not
from pvelab.guest.k3s_tokens import ca_hash

if TYPE_CHECKING:
    from pvelab.guest.etcd import Member
    from pvelab.guest.k3s_cluster import Cluster
    from pvelab.guest.systemd import Program, Run

CONTACT_S = 1.0
CONFIGURED_S = 4.0
JOIN_S = 5.0
UP_S = 5.0
RETRY_S = 5.0
_CRASH = "panic: runtime error: invalid memory address or nil pointer dereference"
_OTHER_TOKEN = (
    "Error: preparing server: failed to bootstrap cluster data: failed to reconcile with local datastore: "
    "bootstrap data already found and encrypted with different token"
)
_REMOVED = "the member has been permanently removed from the cluster"


def k3s_program(run: Run) -> Program | None:
    """The program behind a unit's ExecStart, if that is k3s; None for a file that is no k3s binary."""
    version = run.guest.k3s_version(run.argv[0])
    command = run.argv[1] if len(run.argv) > 1 else ""
    if version is None or command not in ("agent", "server"):
        return None
    if run.guest.crashes_k3s():
        return Failing(run, _CRASH, 2)
    trouble = why_not(run.guest, version, DATA_FOLDER)
    if trouble:
        return Failing(run, trouble, 1)
    try:
        settings = read_settings(run.guest.files, run.guest.hostname, run.argv[2:], run.env)
    except SettingsProblem as problem:
        return Failing(run, f"Error: {problem}", 1)
    node = K3sNode(run, settings, version, is_server=command == "server")
    return ServerProgram(node) if node.is_server else AgentProgram(node)


class Failing:
    """A k3s that ends at once."""

    def __init__(self, run: Run, text: str, status: int) -> None:
        self._run, self._text, self._status = run, text, status

    def start(self) -> None:
        """Say why, and end a moment later."""
        self._run.log(self._text)
        self._run.after(CONTACT_S, lambda: self._run.exited(self._status))

    def stop(self) -> None:
        """Nothing runs."""

    def pause(self) -> None:
        """Nothing runs."""

    def resume(self) -> None:
        """Nothing runs."""


class AgentProgram:
    """`k3s agent`: asks a server for its configuration until it gets it, then runs a kubelet."""

    def __init__(self, node: K3sNode) -> None:
        self._node = node
        self._run = node.run

    def start(self) -> None:
        """Begin to ask."""
        settings = self._node.settings
        self._node.say_version()
        if not settings.server:
            self._node.fatal("Error: --server is required")
        elif not settings.token and not self._node.files.has_certificate:
            self._node.fatal("Error: --token is required")
        else:
            self._run.after(CONTACT_S, self._ask)

    def stop(self) -> None:
        """The kubelet ends."""
        self._node.silence()

    def pause(self) -> None:
        """The kubelet stands still."""
        self._node.silence()

    def resume(self) -> None:
        """The kubelet reports again."""
        self._node.go_on()

    def _ask(self) -> None:
        url, reached = self._first_reached()
        refusal = reached if isinstance(reached, Refusal) else self._refusal(reached, url)
        if isinstance(refusal, Refusal) or isinstance(reached, Refusal):
            level, text = agent_log(refusal, url) if refusal else ("info", "")
            self._node.log(level, text)
            self._run.after(RETRY_S, self._ask)
            return
        self._run.after(CONFIGURED_S, partial(self._configured, reached))

    def _first_reached(self) -> tuple[str, Cluster | Refusal]:
        """The server that was named, else one that the load balancer remembers."""
        named = self._node.settings.server
        others = self._node.files.known_servers if self._node.files.has_certificate else []
        for url in (named, *others):
            reached = reach(self._run.guest, url)
            if not isinstance(reached, Refusal):
                return url, reached
        return named, reach(self._run.guest, named)

    def _refusal(self, cluster: Cluster, url: str) -> Refusal | None:
        request = self._node.request(url)
        is_known = self._node.files.has_certificate and cluster.store.find("nodes", self._node.name)
        return cluster.refuse_node(request) if is_known else cluster.refuse_agent(request)

    def _configured(self, cluster: Cluster) -> None:
        if not cluster.is_available:
            self._run.after(RETRY_S, self._ask)
            return
        if self._node.register(cluster):
            self._node.log("info", "k3s agent is up and running")
            self._run.ready()


class ServerProgram:
    """`k3s server`: founds a cluster, joins one, or goes on with the data on its disk."""

    def __init__(self, node: K3sNode) -> None:
        self._node = node
        self._run = node.run
        self._clusters = node.run.guest.surroundings.clusters
        self._cluster: Cluster | None = None
        self._member: Member | None = None
        self._is_up = False

    def start(self) -> None:
        """Begin with whatever the disk says."""
        self._node.say_version()
        files = self._node.files
        if files.set_tombstoned_aside(self._run.guest.clock.now()):
            self._node.log("warning", "Moved etcd database files aside because of a tombstone")
        if files.has_etcd or files.has_sqlite:
            self._run.after(CONTACT_S, self._go_on)
        elif self._node.settings.server:
            self._run.after(JOIN_S, self._join)
        else:
            self._run.after(CONTACT_S, self._found)

    def stop(self) -> None:
        """End the datastore, the API and the kubelet of this machine."""
        self._go_down()
        if self._cluster and self._removed in self._cluster.etcd.removed:
            self._cluster.etcd.removed.remove(self._removed)

    def pause(self) -> None:
        """Nothing of it answers."""
        self._go_down()

    def resume(self) -> None:
        """All of it answers again."""
        if self._cluster and self._member in (None, *self._cluster.etcd.members):
            self._come_up(self._cluster)
            self._node.go_on()

    def _found(self) -> None:
        settings = self._node.settings
        datastore = "etcd" if settings.is_cluster_init else "sqlite"
        cluster = self._clusters.found(datastore, dict(settings.critical))
        if settings.token:
            cluster.tokens.server_password = self._password
        cluster.tokens.agent_password = settings.agent_token.rpartition(":")[2]
        if cluster.has_etcd:
            name = self._node.files.member_name(self._node.name)
            self._member = cluster.etcd.found(name, self._node.address)
        self._belong(cluster)

    def _join(self) -> None:
        url = self._node.settings.server
        reached = reach(self._run.guest, url)
        name = self._node.files.member_name(self._node.name)
        if isinstance(reached, Refusal):
            self._refused(reached)
            return
        refusal = reached.refuse_server(self._node.request(url), name)
        if refusal:
            self._refused(refusal)
            return
        self._member = reached.etcd.find(name)
        self._node.log("info", f"Adding member {name}=https://{self._node.address}:2380 to etcd cluster")
        self._belong(reached)

    def _refused(self, refusal: Refusal) -> None:
        for name in refusal.settings:
            self._node.log("warning", f"critical configuration mismatched: {name}")
        level, text = server_log(refusal)
        if level == "fatal":
            self._node.fatal(text)
        else:
            self._node.log(level, text)
            self._run.after(RETRY_S, self._join)

    def _go_on(self) -> None:
        cluster = self._clusters.by_hash.get(ca_hash(self._node.files.server_ca))
        if cluster is None:
            self._node.fatal("Error: preparing server: failed to load the cluster's certificates")
            return
        if self._node.settings.token and self._password != cluster.tokens.server_password:
            self._node.fatal(_OTHER_TOKEN)
            return
        if cluster.has_etcd and not self._is_member(cluster):
            return
        self._come_up_with(cluster)

    def _is_member(self, cluster: Cluster) -> bool:
        """Is this disk's member still one? If not, k3s ends."""
        name = self._node.files.member_name(self._node.name)
        self._member = cluster.etcd.find(name)
        if self._member is None:
            self._node.fatal(_REMOVED)
            return False
        return True

    @property
    def _password(self) -> str:
        """What the settings' token proves, whether it is whole or bare."""
        return self._node.settings.token.rpartition(":")[2]

    @property
    def _has_moved(self) -> bool:
        """Has the machine another address than its etcd member, so that the others do not find it?"""
        return self._member is not None and self._member.address != self._node.address

    def _belong(self, cluster: Cluster) -> None:
        self._node.files.keep_server(cluster, self._node.settings, self._clusters.kubeconfig(cluster))
        self._come_up_with(cluster)

    def _come_up_with(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.etcd.removed.append(self._removed)
        self._come_up(cluster)
        self._run.after(UP_S, self._wait_for_datastore)

    def _come_up(self, cluster: Cluster) -> None:
        self._is_up = True
        names = (self._node.name, *self._node.settings.tls_sans)
        self._clusters.open(cluster, self._node.address, names, self._run.guest.now)
        self._take_part(cluster)

    def _take_part(self, cluster: Cluster) -> None:
        """Be one of the servers, unless the members of etcd do not find one another."""
        is_alone = self._has_moved or not has_peers(self._run.guest, cluster)
        if self._member:
            self._member.is_up = not is_alone
        if not is_alone:
            cluster.server_started(Server(self._node.name, self._node.address, self._node.version))

    def _go_down(self) -> None:
        self._node.silence()
        if not self._is_up or not self._cluster:
            return
        self._is_up = False
        if self._member:
            self._member.is_up = False
        self._cluster.server_stopped(self._node.address)
        self._clusters.close(self._node.address)

    def _wait_for_datastore(self) -> None:
        cluster = self._cluster
        if cluster and cluster.is_available and self._node.address in cluster.servers:
            self._node.log("info", "k3s is up and running")
            self._run.ready()
            self._configure()
            return
        self._node.log(*self._why_waiting(cluster))
        self._run.after(RETRY_S, self._wait_for_datastore)
        if cluster and self._is_up and self._node.address not in cluster.servers:
            self._take_part(cluster)

    def _why_waiting(self, cluster: Cluster | None) -> tuple[str, str]:
        member = self._member
        if cluster and member and self._has_moved:
            found = " ".join(f"{one.name}=https://{one.address}:2380" for one in cluster.etcd.members)
            expected = f"{member.name}=https://{self._node.address}:2380"
            text = f"this server is a not a member of the etcd cluster. Found [{found}], expect: {expected}"
            return "info", f"Failed to test data store connection: {text}"
        if cluster and not has_peers(self._run.guest, cluster):
            return "error", "Failed to check local etcd status for learner management: context deadline exceeded"
        return "info", "Waiting for etcd server to become available"

    def _configure(self) -> None:
        if not self._cluster:
            return
        refusal = self._cluster.refuse_node(self._node.request(f"https://{self._node.address}:6443"))
        if refusal:
            self._node.log(*server_log(refusal))
            self._run.after(RETRY_S, self._configure)
        else:
            self._node.register(self._cluster)

    def _removed(self, member: Member) -> None:
        if member is self._member:
            self._node.log("error", _REMOVED)
            self._run.after(CONTACT_S, lambda: self._run.exited(1))
