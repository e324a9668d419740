"""The kinds of objects that the lab's Kubernetes API serves, as discovery names them."""

from __future__ import annotations

from dataclasses import dataclass

RBAC = "rbac.authorization.k8s.io"
READ = ("get", "list", "watch")
CHANGE = (*READ, "delete", "patch", "update")
ALL = ("create", *CHANGE)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource; `fields` are those that a field selector may name besides name and namespace."""

    plural: str
    kind: str
    short: tuple[str, ...] = ()
    group: str = ""
    version: str = "v1"
    is_namespaced: bool = True
    verbs: tuple[str, ...] = ALL
    subresources: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def singular(self) -> str:
        """As one names a single object of it."""
        return self.kind.lower()

    @property
    def qualified(self) -> str:
        """The plural as error messages give it: daemonsets.apps."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def shown(self) -> str:
        """As kubectl names one before its name: node, daemonset.apps."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    @property
    def api_version(self) -> str:
        """apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def names(self) -> tuple[str, ...]:
        """Every word that means it on a command line."""
        dotted = (f"{self.qualified}", f"{self.singular}.{self.group}") if self.group else ()
        return (self.plural, self.singular, *self.short, *dotted)


_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP")
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_EVENT_FIELDS = (*(f"involvedObject.{name}" for name in _INVOLVED), "reason", "type", "source")
RESOURCES = (
    Resource("configmaps", "ConfigMap", ("cm",)),
    Resource("events", "Event", ("ev",), fields=_EVENT_FIELDS),
    Resource(
        "namespaces", "Namespace", ("ns",), is_namespaced=False, subresources=("status",), fields=("status.phase",)
    ),
    Resource(
        "nodes",
        "Node",
        ("no",),
        is_namespaced=False,
        verbs=CHANGE,
        subresources=("status",),
        fields=("spec.unschedulable",),
    ),
    Resource("persistentvolumeclaims", "PersistentVolumeClaim", ("pvc",), subresources=("status",)),
    Resource("persistentvolumes", "PersistentVolume", ("pv",), is_namespaced=False, subresources=("status",)),
    Resource(
        "pods",
        "Pod",
        ("po",),
        verbs=CHANGE,
        subresources=("eviction", "log", "status"),
        categories=("all",),
        fields=_POD_FIELDS,
    ),
    Resource("secrets", "Secret", fields=("type",)),
    Resource("serviceaccounts", "ServiceAccount", ("sa",), subresources=("token",)),
    Resource("services", "Service", ("svc",), subresources=("status",), categories=("all",)),
    Resource("daemonsets", "DaemonSet", ("ds",), "apps", verbs=READ, categories=("all",)),
    Resource("deployments", "Deployment", ("deploy",), "apps", verbs=READ, categories=("all",)),
    Resource("replicasets", "ReplicaSet", ("rs",), "apps", verbs=READ, categories=("all",)),
    Resource("statefulsets", "StatefulSet", ("sts",), "apps", verbs=READ, categories=("all",)),
    Resource("cronjobs", "CronJob", ("cj",), "batch", verbs=READ, categories=("all",)),
    Resource("jobs", "Job", group="batch", verbs=READ, categories=("all",)),
    Resource("leases", "Lease", group="coordination.k8s.io", verbs=("get", "list")),
    Resource("ingresses", "Ingress", ("ing",), "networking.k8s.io", verbs=READ),
    Resource("poddisruptionbudgets", "PodDisruptionBudget", ("pdb",), "policy", subresources=("status",)),
    Resource("clusterrolebindings", "ClusterRoleBinding", group=RBAC, is_namespaced=False),
    Resource("clusterroles", "ClusterRole", group=RBAC, is_namespaced=False),
    Resource("rolebindings", "RoleBinding", group=RBAC),
    Resource("roles", "Role", group=RBAC),
    Resource("storageclasses", "StorageClass", ("sc",), "storage.k8s.io", is_namespaced=False, verbs=READ),
)
GROUPS = tuple(dict.fromkeys((one.group, one.version) for one in RESOURCES if one.group))
"""(group, version) of what is not in the core."""
_BY_PLURAL = {one.plural: one for one in RESOURCES}
_BY_WORD = {word: one for one in RESOURCES for word in one.names}


def resource(plural: str) -> Resource:
    """The resource of that name. Raises KeyError."""
    return _BY_PLURAL[plural]


def named(word: str) -> Resource | None:
    """What a word of the command line means: node, nodes, no; None if nothing."""
    return _BY_WORD.get(word.lower())


def served(group: str, version: str, plural: str) -> Resource | None:
    """The resource at a path of the API, if it is served there."""
    found = _BY_PLURAL.get(plural)
    return found if found and (found.group, found.version) == (group, version) else None
