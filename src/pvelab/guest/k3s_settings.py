"""How k3s is told what to be: flags of the unit, environment, /etc/rancher/k3s/config.yaml and its drop-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pvelab.shell.files import FileSystem

CONFIG_FILE = "/etc/rancher/k3s/config.yaml"
DATA_FOLDER = "/var/lib/rancher/k3s"
CRITICAL = (
    "cluster-cidr",
    "service-cidr",
    "cluster-dns",
    "cluster-domain",
    "disable-cloud-controller",
    "disable-helm-controller",
    "disable-kube-proxy",
    "disable-network-policy",
    "egress-selector-mode",
    "embedded-registry",
    "flannel-backend",
    "flannel-external-ip",
    "flannel-ipv6-masq",
    "secrets-encryption",
    "secrets-encryption-provider",
)
_REPEATED = frozenset(
    {"node-label", "node-taint", "tls-san", "disable", "kubelet-arg", "kube-apiserver-arg", "node-ip"}
    | {"kube-controller-manager-arg", "kube-proxy-arg", "etcd-arg", "node-external-ip"}
)
_FLAGS = frozenset(
    {"cluster-init", "debug", "with-node-id", "selinux", "protect-kernel-defaults", "docker", "rootless"}
    | {"disable-cloud-controller", "disable-helm-controller", "disable-kube-proxy", "disable-network-policy"}
    | {"embedded-registry", "flannel-external-ip", "flannel-ipv6-masq", "secrets-encryption", "tls-san-security"}
    | {"etcd-expose-metrics", "disable-etcd", "disable-apiserver", "disable-agent", "prefer-bundled-bin"}
)
_VALUES = frozenset(
    {"server", "token", "token-file", "agent-token", "agent-token-file", "node-name", "data-dir", "node-ip"}
    | {"flannel-iface", "flannel-backend", "write-kubeconfig", "write-kubeconfig-mode", "write-kubeconfig-group"}
    | {"cluster-cidr", "service-cidr", "cluster-dns", "cluster-domain", "egress-selector-mode", "bind-address"}
    | {"advertise-address", "advertise-port", "https-listen-port", "datastore-endpoint", "snapshotter", "v", "vmodule"}
    | {"resolv-conf", "private-registry", "log", "etcd-snapshot-schedule-cron", "etcd-snapshot-retention"}
    | {
        "secrets-encryption-provider",
        "etcd-snapshot-dir",
        "default-local-storage-path",
        "service-node-port-range",
        "lb-server-port",
    }
)
_SHORT = {"-s": "--server", "-t": "--token", "-d": "--data-dir"}
_ENVIRONMENT = {
    "K3S_URL": "server",
    "K3S_TOKEN": "token",
    "K3S_TOKEN_FILE": "token-file",
    "K3S_AGENT_TOKEN": "agent-token",
    "K3S_AGENT_TOKEN_FILE": "agent-token-file",
    "K3S_NODE_NAME": "node-name",
    "K3S_DATA_DIR": "data-dir",
    "K3S_KUBECONFIG_MODE": "write-kubeconfig-mode",
    "K3S_CLUSTER_INIT": "cluster-init",
}
_ALLOWED_KUBELET_LABELS = ("kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch")
_ALLOWED_SUFFIXES = ("node.kubernetes.io", "kubelet.kubernetes.io")
_ALLOWED_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class SettingsProblem(Exception):
    """What makes k3s end before it does anything, in its words."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that the lab's k3s heeds."""

    server: str
    token: str
    agent_token: str
    node_name: str
    node_ip: str
    data_dir: str
    kubeconfig_mode: int
    is_cluster_init: bool
    labels: Mapping[str, str]
    taints: tuple[str, ...]
    tls_sans: tuple[str, ...]
    critical: Mapping[str, str]


def read_settings(files: FileSystem, hostname: str, argv: Sequence[str], env: Mapping[str, str]) -> Settings:
    """Join all sources: flags win over files, these over the environment. Raises SettingsProblem.

    Source: k3s, pkg/configfilearg/parser.go puts what files say before the flags of the command line, as flags.
    """
    values = {flag: [env[name]] for name, flag in _ENVIRONMENT.items() if env.get(name)}
    values |= _from_files(files) | _from_flags(argv)
    node_name = _one(values, "node-name") or hostname
    if _one(values, "datastore-endpoint"):
        raise SettingsProblem("the lab does not emulate datastore-endpoint")
    labels = dict(label.partition("=")[::2] for label in values.get("node-label", []))
    _refuse_labels(labels)
    return Settings(
        server=_one(values, "server").rstrip("/"),
        token=_secret(files, values, "token"),
        agent_token=_secret(files, values, "agent-token"),
        node_name=node_name.lower(),
        node_ip=_one(values, "node-ip").split(",")[0],
        data_dir=_one(values, "data-dir") or DATA_FOLDER,
        kubeconfig_mode=int(_one(values, "write-kubeconfig-mode") or "600", 8),
        is_cluster_init=_one(values, "cluster-init") == "true",
        labels=labels,
        taints=tuple(values.get("node-taint", [])),
        tls_sans=tuple(san for text in values.get("tls-san", []) for san in text.split(",")),
        critical=_critical(values),
    )


def _critical(values: Mapping[str, list[str]]) -> dict[str, str]:
    """What all servers must have alike. Source: k3s, CriticalControlArgs with the names that it gives in its log."""
    found = {name: ",".join(values[name]) for name in CRITICAL if values.get(name, ["false"]) != ["false"]}
    disabled = {name for text in values.get("disable", []) for name in text.split(",")}
    return found | ({"disable-service-lb": "true"} if "servicelb" in disabled else {})


def _from_files(files: FileSystem) -> dict[str, list[str]]:
    folder = f"{CONFIG_FILE}.d"
    dropped = files.names(folder) if files.is_folder(folder) else []
    paths = [CONFIG_FILE, *(f"{folder}/{name}" for name in dropped if name.endswith((".yaml", ".yml")))]
    values: dict[str, list[str]] = {}
    for path in paths:
        if files.is_file(path):
            for name, given in _document(path, files.read(path)).items():
                if name.endswith("+"):
                    values[name[:-1]] = [*values.get(name[:-1], []), *given]
                else:
                    values[name] = given
    known = _FLAGS | _VALUES | _REPEATED
    return {name: given for name, given in values.items() if name in known}


def _document(path: str, content: bytes) -> dict[str, list[str]]:
    try:
        document = yaml.safe_load(content)
    except yaml.YAMLError as problem:
        line = str(problem).splitlines()[0]
        raise SettingsProblem(f"failed to load config file {path}: yaml: {line}") from problem
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsProblem(f"failed to load config file {path}: yaml: unmarshal errors")
    return {str(name): _texts(value) for name, value in document.items()}


def _texts(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    return [str(value)]


def _from_flags(argv: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    left = [_SHORT.get(word, word) for word in argv]
    while left:
        word = left.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in _FLAGS | _VALUES | _REPEATED:
            raise SettingsProblem(f"flag provided but not defined: {word.partition('=')[0].replace('--', '-', 1)}")
        if name in _FLAGS:
            found[name] = [value or "true"]
        elif equals or left:
            found.setdefault(name, []).append(value if equals else left.pop(0))
        else:
            raise SettingsProblem(f"flag needs an argument: {word.replace('--', '-', 1)}")
    return found


def _one(values: Mapping[str, list[str]], name: str) -> str:
    return values.get(name, [""])[-1]


def _secret(files: FileSystem, values: Mapping[str, list[str]], name: str) -> str:
    """A file that is named wins. Source: k3s, pkg/cli/agent/agent.go."""
    path = _one(values, f"{name}-file")
    if not path:
        return _one(values, name)
    if not files.is_file(path):
        raise SettingsProblem(f"open {path}: no such file or directory")
    return files.read(path).decode().strip()


def _refuse_labels(labels: Mapping[str, str]) -> None:
    refused = []
    for name in labels:
        domain = name.rpartition("/")[0]
        is_reserved = domain.endswith(("kubernetes.io", "k8s.io"))
        is_allowed = name in _ALLOWED_KUBELET_LABELS + _ALLOWED_TOPOLOGY or domain.endswith(_ALLOWED_SUFFIXES)
        if is_reserved and not is_allowed:
            refused.append(name)
    if refused:
        names = " ".join(sorted(refused))
        raise SettingsProblem(f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{names}]")
