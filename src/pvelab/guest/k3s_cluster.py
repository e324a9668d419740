"""One k3s cluster: who may join, its Nodes and their secrets, its etcd, and the controllers that tidy up.

Nothing here knows machines; running servers and kubelets report to it, and time comes from a timer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from pvelab.clock import Callback
from pvelab.guest import kube_nodes, kube_rbac
from pvelab.guest.etcd import Etcd, EtcdRefusal, Member
from pvelab.guest.k3s_join import (
    CRITICAL_MISMATCH,
    DOWN_LEVEL,
    DUPLICATE_MEMBER,
    PASSWORD_REJECTED,
    TOKEN_MISMATCH,
    JoinRequest,
    Refusal,
    Stage,
)
from pvelab.guest.k3s_release import kubernetes_minor
from pvelab.guest.k3s_tokens import Role, TokenProblem, Tokens, parse_token
from pvelab.guest.kube_nodes import Kubelet
from pvelab.guest.kube_objects import Document, ObjectStore
from pvelab.guest.kube_rbac import ServiceTokens

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
GRACE_S = 40.0
"""How long a silent kubelet keeps its Node Ready."""
CONTROLLER_S = 1.0
RETRY_S = 5.0
PROMOTION_S = 15.0
EVICTION_S = 300.0
NODE_LOST_S = 10.0
"""How long an agent whose Node was deleted runs on before it ends."""
_LOCAL = "https://127.0.0.1:6444"
_VOTER = ("True", "MemberNotLearner", "Node is a voting member of the etcd cluster")
_LEARNER = ("False", "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster")


class Timer(Protocol):
    """The part of the lab's clock that a cluster needs."""

    def now(self) -> float: ...

    def after(self, delay_s: float, callback: Callback) -> None: ...


@dataclass(frozen=True, slots=True)
class Server:
    """A k3s server whose process runs and answers on 6443."""

    node_name: str
    address: str
    version: str


@dataclass(slots=True, eq=False)
class Running:
    """A kubelet that reports, and whom to tell that its Node was deleted."""

    kubelet: Kubelet
    node_deleted: Callable[[], None]


@dataclass(slots=True, eq=False, repr=False)
class Cluster:
    """The state that k3s's servers share."""

    timer: Timer
    tokens: Tokens
    ca_pem: bytes
    datastore: str = "etcd"
    critical: dict[str, str] = field(default_factory=dict)
    etcd: Etcd = field(default_factory=Etcd)
    servers: dict[str, Server] = field(default_factory=dict)
    kubelets: dict[str, Running] = field(default_factory=dict)
    service_tokens: ServiceTokens = field(default_factory=ServiceTokens)
    store: ObjectStore = field(init=False)
    founded_at: float = field(init=False)
    forgets_removals_s: float = 0.0
    """For so long after a member was removed it comes back when a server stops."""
    _last_removed: tuple[Member, float] | None = None
    _pod_number: int = 0
    _silences: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = ObjectStore(self.timer.now)
        self.founded_at = self.timer.now()
        for name in NAMESPACES:
            namespace = {"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}
            status = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
            self.store.create("namespaces", {"apiVersion": "v1", "kind": "Namespace"} | namespace | status)
        kube_rbac.bootstrap(self.store)
        self.store.listeners.append(self._control)
        self.etcd.removed.append(self._member_removed)

    @property
    def has_etcd(self) -> bool:
        """Embedded etcd, not SQLite."""
        return self.datastore == "etcd"

    @property
    def is_available(self) -> bool:
        """Does the Kubernetes API answer: a server runs, and etcd has its quorum?"""
        return bool(self.servers) and (not self.has_etcd or self.etcd.has_quorum)

    @property
    def lowest_version(self) -> str:
        """The version of the oldest running server."""
        return min((server.version for server in self.servers.values()), key=kubernetes_minor)

    # --- joining ---

    def refuse_agent(self, request: JoinRequest) -> Refusal | None:
        """Why this agent gets no configuration; None: it does, and its node password is remembered."""
        refusal = self._refuse_token(request, Role.AGENT)
        return refusal or self.refuse_node(request)

    def refuse_server(self, request: JoinRequest, member_name: str) -> Refusal | None:
        """Why this server may not join the datastore; None: it is in as a learner."""
        refusal = self._refuse_token(request, Role.SERVER)
        if refusal:
            return refusal
        if not self.has_etcd:
            return Refusal(Stage.BOOTSTRAP, f"{request.url}/v1-k3s/server-bootstrap: 400 Bad Request")
        names = self.critical.keys() | request.critical.keys()
        differing = sorted(name for name in names if self.critical.get(name) != request.critical.get(name))
        if differing:
            return Refusal(Stage.SETTINGS, CRITICAL_MISMATCH, tuple(differing))
        if any(member.name != member_name for member in self.etcd.of_node(request.node_name)):
            return Refusal(Stage.ETCD_FATAL, DUPLICATE_MEMBER)
        return self._refuse_member(request, member_name)

    def refuse_node(self, request: JoinRequest) -> Refusal | None:
        """Why the node of this name is not that host; a name that is free is bound to its password."""
        if not self.is_available:
            text = f"failed to retrieve configuration from server: {_LOCAL}/v1-k3s/config: 503 Service Unavailable"
            return Refusal(Stage.CONFIGURATION, text)
        if kubernetes_minor(request.version) > kubernetes_minor(self.lowest_version):
            return Refusal(Stage.CONFIGURATION, DOWN_LEVEL)
        name = kube_nodes.secret_name(request.node_name)
        held = self.store.find("secrets", name, kube_nodes.SECRETS)
        if held and not kube_nodes.password_matches(held, request.node_password):
            return Refusal(Stage.CONFIGURATION, PASSWORD_REJECTED)
        if not held:
            secret = kube_nodes.password_secret(request.node_name, request.node_password)
            self.store.create("secrets", secret)
        return None

    def _refuse_token(self, request: JoinRequest, wanted: Role) -> Refusal | None:
        try:
            token = parse_token(request.token)
        except TokenProblem as problem:
            return Refusal(Stage.CONNECTION, str(problem))
        if token.ca_hash and token.ca_hash != self.tokens.ca_hash:
            return Refusal(Stage.CONNECTION, TOKEN_MISMATCH.format(token.ca_hash, self.tokens.ca_hash))
        role = self.tokens.role_of(token, self.timer.now())
        if wanted is Role.AGENT and role is None:
            text = f"failed to retrieve configuration from server: {_LOCAL}/v1-k3s/config: 401 Unauthorized"
            return Refusal(Stage.CONFIGURATION, text)
        if wanted is Role.SERVER and role is not Role.SERVER:
            status = "403 Forbidden" if role else "401 Unauthorized"
            return Refusal(Stage.BOOTSTRAP, f"{request.url}/v1-k3s/server-bootstrap: {status}")
        return None

    def _refuse_member(self, request: JoinRequest, member_name: str) -> Refusal | None:
        if self.etcd.find(member_name):
            return None
        try:
            member = self.etcd.add_learner(member_name, request.address)
        except EtcdRefusal as refusal:
            return Refusal(Stage.ETCD_WAIT, str(refusal))
        self.timer.after(PROMOTION_S, lambda: self._promote(member))
        self.timer.after(EVICTION_S, lambda: self._evict(member))
        return None

    def _promote(self, member: Member) -> None:
        if member not in self.etcd.members or not member.is_learner:
            return
        if self.etcd.promote(member):
            self._tell_voter(member, _VOTER)
        else:
            self.timer.after(PROMOTION_S, lambda: self._promote(member))

    def _evict(self, member: Member) -> None:
        if member.is_learner and not member.is_up and self._can_change(member):
            self.etcd.remove(member)

    def _can_change(self, member: Member) -> bool:
        return member in self.etcd.members and self.etcd.has_quorum

    def _tell_voter(self, member: Member, texts: tuple[str, str, str]) -> None:
        name = member.name.rpartition("-")[0]
        if self.store.find("nodes", name):
            self.store.change("nodes", name, lambda node: kube_nodes.mark_voter(node, texts, self.timer.now()))

    # --- servers ---

    def server_started(self, server: Server) -> None:
        """A server's process answers on 6443."""
        self.servers[server.address] = server
        self.timer.after(GRACE_S, self._look_for_silent)

    def server_stopped(self, address: str) -> None:
        """A server's process is gone."""
        self.servers.pop(address, None)
        if self._last_removed and self.timer.now() - self._last_removed[1] < self.forgets_removals_s:
            self.etcd.members.append(self._last_removed[0])
            self._last_removed = None

    # --- kubelets ---

    def kubelet_started(self, kubelet: Kubelet, node_deleted: Callable[[], None]) -> None:
        """A kubelet registers its Node, or reports for the one it has."""
        now = self.timer.now()
        self.kubelets[kubelet.node_name] = Running(kubelet, node_deleted)
        self._silences.pop(kubelet.node_name, None)
        if self.store.find("nodes", kubelet.node_name):
            self.store.change("nodes", kubelet.node_name, lambda node: kube_nodes.report(node, kubelet, now))
        else:
            self.store.create("nodes", kube_nodes.new_node(kubelet, self._pod_number, now))
            self._pod_number += 1
        if kubelet.is_server and self.has_etcd:
            self.store.change("nodes", kubelet.node_name, lambda node: self._name_member(node, kubelet))

    def kubelet_ready(self, kubelet: Kubelet) -> None:
        """The kubelet's network is up; its Node becomes Ready unless the versions are too far apart."""
        running = self.kubelets.get(kubelet.node_name)
        if not running or running.kubelet is not kubelet or not self.store.find("nodes", kubelet.node_name):
            return
        if not self.is_available:
            self.timer.after(RETRY_S, lambda: self.kubelet_ready(kubelet))
            return
        if not self.is_too_old(kubelet):
            self.store.change("nodes", kubelet.node_name, lambda node: kube_nodes.mark_ready(node, self.timer.now()))

    def kubelet_unready(self, kubelet: Kubelet) -> None:
        """The kubelet lives and says that it cannot run pods."""
        texts = ("False", "KubeletNotReady", "container runtime is down")
        if self.kubelets.get(kubelet.node_name) and self.store.find("nodes", kubelet.node_name):
            now = self.timer.now()
            self.store.change("nodes", kubelet.node_name, lambda node: kube_nodes.mark_not_ready(node, texts, now))

    def is_too_old(self, kubelet: Kubelet) -> bool:
        """May the kubelet not list nodes, so that it gets no network?"""
        own = kubernetes_minor(kubelet.version)[1]
        return bool(self.servers) and kubernetes_minor(self.lowest_version)[1] - own > 1

    def kubelet_stopped(self, node_name: str) -> None:
        """A kubelet reports no longer, for whatever reason."""
        if self.kubelets.pop(node_name, None) is None:
            return
        silence = self._silences[node_name] = object()
        self.timer.after(GRACE_S, lambda: self._mark_silent(node_name, silence))

    def _name_member(self, node: Document, kubelet: Kubelet) -> None:
        members = self.etcd.of_node(kubelet.node_name)
        if not members:
            return
        metadata = node["metadata"]
        metadata["labels"][kube_nodes.ETCD_LABEL] = "true"
        metadata["annotations"][kube_nodes.MEMBER_NAME] = members[0].name
        metadata["annotations"][kube_nodes.MEMBER_ADDRESS] = members[0].address
        if kube_nodes.ETCD_FINALIZER not in metadata["finalizers"] and "deletionTimestamp" not in metadata:
            metadata["finalizers"].append(kube_nodes.ETCD_FINALIZER)
        kube_nodes.mark_voter(node, _LEARNER if members[0].is_learner else _VOTER, self.timer.now())

    def _mark_silent(self, node_name: str, silence: object) -> None:
        if self._silences.get(node_name) is silence and self.is_available:
            self._silences.pop(node_name)
            self._mark_unreachable(node_name)

    def _look_for_silent(self) -> None:
        for node in self.store.list("nodes") if self.is_available else []:
            name = node["metadata"]["name"]
            if name not in self.kubelets and kube_nodes.is_ready(node):
                self._mark_unreachable(name)

    def _mark_unreachable(self, node_name: str) -> None:
        if self.store.find("nodes", node_name):
            self.store.change("nodes", node_name, lambda node: kube_nodes.mark_unreachable(node, self.timer.now()))

    # --- controllers ---

    def _control(self, event: str, resource: str, document: Document) -> None:
        if resource != "nodes":
            return
        metadata = document["metadata"]
        name = metadata["name"]
        if event == "DELETED":
            self.timer.after(CONTROLLER_S, lambda: self._node_gone(name))
        elif "deletionTimestamp" in metadata:
            self.timer.after(CONTROLLER_S, lambda: self._finalize(name))
        elif metadata["annotations"].get(kube_nodes.REMOVE_MEMBER, "").lower() == "true":
            self.timer.after(CONTROLLER_S, lambda: self._remove_member_of(name))

    def _node_gone(self, name: str) -> None:
        if self.store.find("nodes", name):
            return
        if self.store.find("secrets", kube_nodes.secret_name(name), kube_nodes.SECRETS):
            self.store.delete("secrets", kube_nodes.secret_name(name), kube_nodes.SECRETS)
        running = self.kubelets.get(name)
        if running:
            self.timer.after(NODE_LOST_S, lambda: self._end_kubelet(name, running))

    def _end_kubelet(self, name: str, running: Running) -> None:
        if self.kubelets.get(name) is running:
            running.node_deleted()

    def _finalize(self, name: str) -> None:
        node = self.store.find("nodes", name)
        if not node or "deletionTimestamp" not in node["metadata"]:
            return
        if not self.is_available or not self._let_member_go(node):
            self.timer.after(RETRY_S, lambda: self._finalize(name))
            return
        self.store.change("nodes", name, lambda found: found["metadata"].update(finalizers=[]))

    def _let_member_go(self, node: Document) -> bool:
        """Remove the Node's etcd member; False while that is not possible and the Node stays."""
        metadata = node["metadata"]
        is_managed = kube_nodes.ETCD_FINALIZER in metadata["finalizers"]
        if not is_managed or kube_nodes.ETCD_LABEL not in metadata["labels"]:
            return True
        annotations = metadata["annotations"]
        if annotations.get(kube_nodes.REMOVE_MEMBER, "").lower() == "true" and kube_nodes.REMOVED_MEMBER in annotations:
            return True
        if kube_nodes.MEMBER_NAME not in annotations or kube_nodes.MEMBER_ADDRESS not in annotations:
            return False
        member = self.etcd.find(annotations[kube_nodes.MEMBER_NAME])
        if not member or member.address != annotations[kube_nodes.MEMBER_ADDRESS]:
            return True
        try:
            self.etcd.remove(member)
        except EtcdRefusal:
            return False
        return True

    def _remove_member_of(self, name: str) -> None:
        node = self.store.find("nodes", name)
        if not node or kube_nodes.REMOVED_MEMBER in node["metadata"]["annotations"]:
            return
        if not self.is_available or not self._let_member_go(node):
            self.timer.after(RETRY_S, lambda: self._remove_member_of(name))
            return

        def note(found: Document) -> None:
            annotations = found["metadata"]["annotations"]
            annotations[kube_nodes.REMOVED_MEMBER] = annotations.pop(kube_nodes.MEMBER_NAME)
            del annotations[kube_nodes.MEMBER_ADDRESS]

        self.store.change("nodes", name, note)

    def _member_removed(self, member: Member) -> None:
        self._last_removed = (member, self.timer.now())
        not_a_member = ("False", "NotAMember", "Node is not a member of the etcd cluster")
        self._tell_voter(member, not_a_member)
