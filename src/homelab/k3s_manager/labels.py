"""The labels of a VM's Node: where it stands, and what K3S_LABELS_n says. Pure."""

from __future__ import annotations

from homelab.models import K3sNode
from homelab.settings import ZONE_LABEL, NodeConfig


def at_registration(config: NodeConfig, node: str) -> tuple[str, ...]:
    """As key=value: the Proxmox node that the VM is on as its zone, unless K3S_LABELS_n names another one."""
    return tuple(f"{key}={value}" for key, value in {ZONE_LABEL: node, **dict(config.labels)}.items())


def lacking(config: NodeConfig, node: K3sNode) -> tuple[str, ...]:
    """Those of K3S_LABELS_n that a Node does not bear, as key=value.

    A kubelet sets its labels only when it registers. The zone of a Node that is there is left as it is.
    """
    return tuple(f"{key}={value}" for key, value in config.labels if node.labels.get(key) != value)
