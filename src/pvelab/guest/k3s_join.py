"""What a k3s server asks of somebody who wants to join, and the words in which it is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

TOKEN_MISMATCH = "token CA hash does not match the Cluster CA certificate hash: {} != {}"
DUPLICATE_MEMBER = "etcd cluster join failed: duplicate node name found, please use a unique name for this node"
PASSWORD_REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match "
    "server node-passwd entry, try enabling a unique node name with the --with-node-id flag"
)
DOWN_LEVEL = "incompatible down-level server detected"
CRITICAL_MISMATCH = "failed to validate server configuration: critical configuration value mismatch between servers"


class Stage(Enum):
    """How far a join came before it was refused; it decides what is logged and whether k3s ends."""

    CONNECTION = "connection"
    BOOTSTRAP = "bootstrap"
    ETCD_FATAL = "etcd-fatal"
    ETCD_WAIT = "etcd-wait"
    CONFIGURATION = "configuration"
    SETTINGS = "settings"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a join goes no further for now; `settings` are those that differ from the servers'."""

    stage: Stage
    text: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What an agent or server brings along; `url` is the server it was told to join."""

    node_name: str
    node_password: str
    token: str
    url: str
    version: str
    address: str = ""
    critical: Mapping[str, str] = field(default_factory=dict)


def agent_log(refusal: Refusal, url: str) -> tuple[str, str]:
    """(level, text) as k3s's agent logs it; an agent never ends by itself because of a refusal."""
    if refusal.stage is Stage.CONNECTION:
        return "error", f"Failed to validate connection to cluster at {url}: {refusal.text}"
    return "info", f"Waiting to retrieve agent configuration; server is not ready: {refusal.text}"


def server_log(refusal: Refusal) -> tuple[str, str]:
    """(level, text) as k3s's server logs it; after `fatal` the process ends."""
    bootstrap = "Error: preparing server: failed to bootstrap cluster data: "
    match refusal.stage:
        case Stage.CONNECTION:
            check = "failed to check if bootstrap data has been initialized: failed to validate token: "
            return "fatal", f"{bootstrap}{check}{refusal.text}"
        case Stage.BOOTSTRAP:
            return "fatal", f"{bootstrap}{refusal.text}"
        case Stage.SETTINGS:
            return "fatal", f"{bootstrap}{refusal.text}"
        case Stage.ETCD_FATAL:
            return "fatal", refusal.text
        case Stage.ETCD_WAIT:
            return "info", f"Waiting for other members to finish joining etcd cluster: {refusal.text}"
        case Stage.CONFIGURATION:
            return "info", f"Waiting to retrieve agent configuration; server is not ready: {refusal.text}"
